//! Messages of Protocol Buffers as they are on the wire: numbered fields, without their names.
#![allow(dead_code, clippy::unwrap_used, reason = "a test fails by panicking")]

/// One message.
#[derive(Debug)]
pub(crate) struct Message<'a>(Vec<(u64, Field<'a>)>);

#[derive(Debug)]
enum Field<'a> {
    /// Also the bits of a float.
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Message<'a> {
    pub(crate) fn read(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, length))
                }
                5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, field));
        }
        Self(fields)
    }

    /// The number of its first field, as of a message that has one of several.
    pub(crate) fn field(&self) -> u64 {
        self.0.first().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn messages(&self, field: u64) -> Vec<Self> {
        self.all_bytes(field).map(Self::read).collect()
    }

    /// Empty where there is none, as everything is that has its usual value.
    pub(crate) fn bytes(&self, field: u64) -> &'a [u8] {
        self.all_bytes(field).next().unwrap_or_default()
    }

    pub(crate) fn text(&self, field: u64) -> String {
        String::from_utf8(self.bytes(field).to_vec()).unwrap()
    }

    pub(crate) fn number(&self, field: u64) -> u64 {
        let number = |(number, value): &(u64, Field<'_>)| match value {
            Field::Number(value) if *number == field => Some(*value),
            _ => None,
        };
        self.0.iter().find_map(number).unwrap_or_default()
    }

    fn all_bytes(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(number, value)| match value {
            Field::Bytes(bytes) if *number == field => Some(*bytes),
            _ => None,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 127) << (7 * place);
        if byte < 128 {
            break;
        }
    }
    value
}
