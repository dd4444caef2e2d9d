//! From bytes to UTF-8.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::SkipReason;

/// A file's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// The text, without a byte order mark.
    pub(crate) text: String,
    /// The name of the encoding it was in.
    pub(crate) encoding: &'static str,
    /// How many bytes of the file stand before the text, where the text is the file's own bytes.
    pub(crate) offset: Option<usize>,
}

/// Whether the bytes begin with the mark of an encoding in which NUL bytes are nothing unusual.
pub(crate) fn has_utf16_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

/// Decodes a text file. A mark decides; without one, bytes that are valid UTF-8 are UTF-8; then an
/// HTML or XML file is believed what it declares; the rest is guessed.
pub(crate) fn decode(bytes: Vec<u8>, declares: bool) -> Result<Decoded, SkipReason> {
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Err(SkipReason::UnknownEncoding);
    }
    if has_utf16_mark(&bytes) {
        let encoding = if bytes[0] == 0xff { UTF_16LE } else { UTF_16BE };
        return Ok(transcode(&bytes[2..], encoding));
    }
    let offset = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            text.drain(..offset);
            Ok(Decoded { text, encoding: UTF_8.name(), offset: Some(offset) })
        }
        Err(error) => {
            let bytes = &error.as_bytes()[offset..];
            let declared = if declares { declared(bytes) } else { None };
            let encoding = match declared {
                _ if offset > 0 || mostly_utf8(bytes) => UTF_8,
                // Declared, and wrong: the bytes are not valid UTF-8.
                Some(encoding) if encoding != UTF_8 => encoding,
                _ => guess(bytes),
            };
            Ok(transcode(bytes, encoding))
        }
    }
}

fn transcode(bytes: &[u8], encoding: &'static Encoding) -> Decoded {
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    Decoded { text: text.into_owned(), encoding: encoding.name(), offset: None }
}

/// The encoding that the text is most likely in, UTF-8 being ruled out.
fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny)
}

/// Whether this is UTF-8 with a few bytes damaged: a guess would turn every letter that is not
/// ASCII into two wrong ones for the sake of those few.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut valid, mut invalid) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        valid += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    valid > 8 * invalid
}

/// The encoding that an HTML or XML file names in its first kilobytes.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(2048)].to_ascii_lowercase();
    ["charset=", "encoding="].iter().find_map(|key| {
        let at = head.windows(key.len()).position(|window| window == key.as_bytes())?;
        let value = head[at + key.len()..].trim_ascii_start();
        let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
        let end = value.iter().position(|b| !b.is_ascii_alphanumeric() && !b"-_.:".contains(b))?;
        Encoding::for_label(&value[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Decoded {
        decode(bytes.to_vec(), false).unwrap()
    }

    #[test]
    fn utf8_is_kept_as_it_is() {
        let plain = decoded("čaj\n".as_bytes());
        assert_eq!((plain.text.as_str(), plain.encoding, plain.offset), ("čaj\n", "UTF-8", Some(0)));
        let marked = decoded("\u{feff}čaj".as_bytes());
        assert_eq!((marked.text.as_str(), marked.offset), ("čaj", Some(3)));
    }

    #[test]
    fn utf16_by_its_mark() {
        let little: Vec<u8> = "\u{feff}hi – ok".encode_utf16().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = "\u{feff}hi – ok".encode_utf16().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(decoded(&little).text, "hi – ok");
        assert_eq!(decoded(&little).encoding, "UTF-16LE");
        assert_eq!(decoded(&big).text, "hi – ok");
        assert_eq!(decoded(&big).encoding, "UTF-16BE");
        // An odd byte at the end must not be the end of the file.
        assert_eq!(decoded(b"\xff\xfea\0b").text, "a\u{fffd}");
    }

    #[test]
    fn utf32_is_said_to_be_unknown() {
        assert_eq!(decode(b"\xff\xfe\0\0a\0\0\0".to_vec(), false), Err(SkipReason::UnknownEncoding));
    }

    #[test]
    fn old_encodings_are_guessed() {
        let text = "Die Größe der Tür überrascht: fünf Füße, schöne Äpfel, müde Bären.";
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(text);
        let guessed = decoded(&bytes);
        assert_eq!((guessed.text.as_str(), guessed.encoding), (text, "windows-1252"));
        assert_eq!(guessed.offset, None);
        let text = "これは日本語の文章です。文字コードを推測します。";
        let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode(text);
        assert_eq!(decoded(&bytes).text, text);
    }

    #[test]
    fn a_declared_encoding_wins_over_a_guess() {
        let page = "<meta charset=\"iso-8859-2\"><p>Příliš žluťoučký kůň";
        let (bytes, _, _) = encoding_rs::ISO_8859_2.encode(page);
        let read = decode(bytes.to_vec(), true).unwrap();
        assert_eq!((read.text.as_str(), read.encoding), (page, "ISO-8859-2"));
    }

    #[test]
    fn a_few_damaged_bytes_do_not_change_the_encoding() {
        let mut bytes = "žluťoučký kůň příliš úpěl ďábelské ódy".as_bytes().to_vec();
        bytes.push(0xff);
        let read = decoded(&bytes);
        assert_eq!(read.encoding, "UTF-8");
        assert!(read.text.ends_with("ódy\u{fffd}"));
    }
}
