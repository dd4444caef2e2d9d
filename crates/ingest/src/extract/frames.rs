//! What a worker and its employer say to each other, in bytes.
//!
//! A request is the format's number and the document; an answer is a word whether it went well, and then title, text
//! and pages, or what is wrong. Lengths are 64 bits, little-endian.

use std::io::{self, Read, Write};

use super::{Extracted, Format};

/// No document is longer.
#[cfg(feature = "extract")]
const MAX_DOCUMENT: u64 = 4 << 30;
/// No text is longer, nor has a document more pages: a worker that says so has lost its wits.
const MAX_ANSWER: u64 = 128 << 20;

pub(super) fn write_request(out: &mut impl Write, format: Format, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&[format.number()])?;
    write_bytes(out, bytes)?;
    out.flush()
}

/// The next document; none when there will be none any more.
#[cfg(feature = "extract")]
pub(super) fn read_request(input: &mut impl Read) -> io::Result<Option<(Format, Vec<u8>)>> {
    let mut number = [0];
    if input.read(&mut number)? == 0 {
        return Ok(None);
    }
    let format = Format::of_number(number[0]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Some((format, read_bytes(input, MAX_DOCUMENT)?)))
}

#[cfg(feature = "extract")]
pub(super) fn write_answer(out: &mut impl Write, answer: &Result<Extracted, String>) -> io::Result<()> {
    match answer {
        Ok(Extracted { title, text, pages }) => {
            out.write_all(&[0, u8::from(title.is_some())])?;
            write_bytes(out, title.as_deref().unwrap_or_default().as_bytes())?;
            write_bytes(out, text.as_bytes())?;
            out.write_all(&(pages.len() as u64).to_le_bytes())?;
            pages.iter().try_for_each(|page| out.write_all(&(*page as u64).to_le_bytes()))?;
        }
        Err(error) => {
            out.write_all(&[1])?;
            write_bytes(out, error.as_bytes())?;
        }
    }
    out.flush()
}

pub(super) fn read_answer(input: &mut impl Read) -> io::Result<Result<Extracted, String>> {
    if byte(input)? != 0 {
        return read_string(input).map(Err);
    }
    let has_title = byte(input)? != 0;
    let title = Some(read_string(input)?).filter(|_| has_title);
    let text = read_string(input)?;
    let mut pages = Vec::new();
    for _ in 0..at_most(number(input)?, MAX_ANSWER / 8)? {
        pages.push(number(input)? as usize);
    }
    Ok(Ok(Extracted { title, text, pages }))
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn at_most(number: u64, most: u64) -> io::Result<u64> {
    if number > most { Err(io::ErrorKind::InvalidData.into()) } else { Ok(number) }
}

fn read_bytes(input: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let len = at_most(number(input)?, most)?;
    let mut bytes = Vec::new();
    // What was said to come is not believed before it is there.
    let read = input.take(len).read_to_end(&mut bytes)?;
    if read as u64 != len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

fn read_string(input: &mut impl Read) -> io::Result<String> {
    String::from_utf8(read_bytes(input, MAX_ANSWER)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn byte(input: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(all(test, feature = "extract"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let mut bytes = Vec::new();
        write_request(&mut bytes, Format::Epub, b"book").unwrap();
        let mut input = &bytes[..];
        assert_eq!(read_request(&mut input).unwrap(), Some((Format::Epub, b"book".to_vec())));
        assert_eq!(read_request(&mut input).unwrap(), None);
        let text = Extracted { title: Some("T".into()), text: "# žluť\n".into(), pages: vec![0, 3] };
        for answer in [Ok(text), Ok(Extracted::default()), Err("broken".to_owned())] {
            let mut bytes = Vec::new();
            write_answer(&mut bytes, &answer).unwrap();
            assert_eq!(read_answer(&mut &bytes[..]).unwrap(), answer);
            for len in 0..bytes.len() {
                assert!(read_answer(&mut &bytes[..len]).is_err(), "cut off at {len}");
            }
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let bytes = [1, 255, 255, 255, 255, 255, 255, 255, 127, b'x'];
        assert!(read_answer(&mut &bytes[..]).is_err());
    }
}
