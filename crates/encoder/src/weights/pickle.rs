//! `pytorch_model.bin`: what `torch.save` writes of a state dict, without running what a pickle could ask for.
//!
//! A pickle is a program for a small stack machine. A state dict needs few of its instructions and a handful of names
//! (tensors, storages, ordered dicts); every other instruction and name is refused, so nothing is ever executed.
//! Tensors are slices of the file: their values are not copied here.

use std::collections::HashMap;
use std::rc::Rc;

use safetensors::tensor::Dtype;

use super::archive;

/// How deep values may be nested; a state dict has four levels.
const DEEPEST: usize = 16;

/// A tensor, row-major.
#[derive(Debug, Clone)]
pub(super) struct Tensor<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: &'a [u8],
}

/// The tensors of the state dict in `bytes`, with their names.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Tensor<'_>)>, String> {
    let entries = archive::entries(bytes)?;
    let (folder, program) = entries
        .iter()
        .find_map(|(name, data)| Some((name.strip_suffix("data.pkl")?, *data)))
        .ok_or("the archive has no data.pkl")?;
    if entries.get(format!("{folder}byteorder").as_str()).is_some_and(|order| *order != b"little") {
        return Err("the values are not little-endian".into());
    }
    let storage = |key: &str| entries.get(format!("{folder}data/{key}").as_str()).copied();
    let Value::Dict(items, _) = Machine::new(program).run(&storage)? else {
        return Err("data.pkl holds no state dict".into());
    };
    let tensor = |(name, value)| match (name, value) {
        (Value::Text(name), Value::Tensor(tensor)) => Ok((name.to_string(), tensor)),
        (name, value) => Err(format!("the state dict holds {value:?} as {name:?}, which is no tensor")),
    };
    items.into_iter().map(tensor).collect()
}

/// What may stand on the stack. Cloning is cheap, as values may be used again.
#[derive(Debug, Clone)]
enum Value<'a> {
    None,
    Bool,
    Int(usize),
    Text(Rc<str>),
    /// Items, and how deep they are nested.
    Tuple(Rc<[Value<'a>]>, usize),
    Dict(Vec<(Value<'a>, Value<'a>)>, usize),
    Name(Name),
    Storage(Dtype, &'a [u8]),
    Tensor(Tensor<'a>),
}

/// The names that a state dict may use.
#[derive(Debug, Clone, Copy)]
enum Name {
    OrderedDict,
    Tensor,
    Parameter,
    Storage(Dtype),
}

impl Name {
    fn parse(module: &str, name: &str) -> Result<Self, String> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            _ => return Err(format!("data.pkl asks for {module}.{name}, which no state dict needs")),
        })
    }
}

impl<'a> Value<'a> {
    fn depth(&self) -> usize {
        match self {
            Self::Tuple(_, depth) | Self::Dict(_, depth) => *depth,
            _ => 0,
        }
    }

    fn tuple(items: Vec<Self>) -> Result<Self, String> {
        let depth = deeper(items.iter().map(Self::depth).max().unwrap_or(0))?;
        Ok(Self::Tuple(items.into(), depth))
    }
}

fn deeper(depth: usize) -> Result<usize, String> {
    if depth < DEEPEST { Ok(depth + 1) } else { Err(format!("data.pkl nests values deeper than {DEEPEST} levels")) }
}

/// The state of a run.
struct Machine<'p, 'a> {
    program: &'p [u8],
    stack: Vec<Value<'a>>,
    /// Heights of the stack that the program marked.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

const ENDED: &str = "data.pkl is cut short";
const EMPTY: &str = "data.pkl takes more values than there are";

impl<'p, 'a> Machine<'p, 'a> {
    fn new(program: &'p [u8]) -> Self {
        Self { program, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs the program to its end; `storage` gives the bytes of a storage.
    fn run(mut self, storage: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Value<'a>, String> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                0x80 => drop(self.byte()?), // protocol
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'q' => self.keep(u32::from)?,
                b'r' => {
                    let at = self.u32()?;
                    self.memo.insert(at, self.top()?.clone());
                }
                b'h' => {
                    let at = self.byte()?.into();
                    self.recall(at)?;
                }
                b'j' => {
                    let at = self.u32()?;
                    self.recall(at)?;
                }
                b'Q' => self.persistent(storage)?,
                b'R' => self.reduce()?,
                b'b' => self.build()?,
                b's' | b'u' => self.set_items(opcode == b's')?,
                _ => {
                    let value = self.value(opcode)?;
                    self.stack.push(value);
                }
            }
        }
    }

    /// The value that the instruction `opcode` pushes.
    fn value(&mut self, opcode: u8) -> Result<Value<'a>, String> {
        Ok(match opcode {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                Value::Int(usize::try_from(value).map_err(|_| format!("data.pkl holds the number {value}"))?)
            }
            0x8a => self.long()?,
            b'X' => {
                let len = self.u32()? as usize;
                Value::Text(text(self.bytes(len)?)?.into())
            }
            b'}' => Value::Dict(Vec::new(), 1),
            b')' => Value::tuple(Vec::new())?,
            b't' => Value::tuple(self.marked()?)?,
            0x85..=0x87 => {
                let at = self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or(EMPTY)?;
                Value::tuple(self.stack.split_off(at))?
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Name(Name::parse(module, name)?)
            }
            _ => return Err(format!("data.pkl has the instruction {opcode:#04x}, which no state dict needs")),
        })
    }

    /// Calls a name with its arguments.
    fn reduce(&mut self) -> Result<(), String> {
        let (Value::Tuple(arguments, _), Value::Name(name)) = (self.pop()?, self.pop()?) else {
            return Err("data.pkl calls what is no name".into());
        };
        let value = match (name, &*arguments) {
            (Name::OrderedDict, []) => Value::Dict(Vec::new(), 1),
            (Name::Parameter, [tensor @ Value::Tensor(_), ..]) => tensor.clone(),
            (Name::Tensor, [Value::Storage(dtype, data), Value::Int(offset), size, stride, ..]) => {
                Value::Tensor(tensor(*dtype, data, *offset, &numbers(size)?, &numbers(stride)?)?)
            }
            _ => return Err(format!("data.pkl calls {name:?} with arguments that it does not take")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// A storage: `("storage", type, key, place, length)`.
    fn persistent(&mut self, storage: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<(), String> {
        if let Value::Tuple(items, _) = self.pop()?
            && let [Value::Text(kind), Value::Name(Name::Storage(dtype)), Value::Text(key), ..] = &*items
            && &**kind == "storage"
        {
            let data = storage(key).ok_or_else(|| format!("the archive has no data/{key}"))?;
            self.stack.push(Value::Storage(*dtype, data));
            return Ok(());
        }
        Err("data.pkl refers to something that is no storage".into())
    }

    /// Attributes of a dict, `_metadata` of a state dict: nothing that a tensor depends on.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top()? {
            Value::Dict(..) => Ok(()),
            _ => Err("data.pkl sets attributes of what is no dict".into()),
        }
    }

    fn set_items(&mut self, one: bool) -> Result<(), String> {
        let mut added = if one {
            let at = self.stack.len().checked_sub(2).ok_or(EMPTY)?;
            self.stack.split_off(at)
        } else {
            self.marked()?
        };
        let Some(Value::Dict(items, depth)) = self.stack.last_mut() else {
            return Err("data.pkl sets items of what is no dict".into());
        };
        *depth = deeper(added.iter().map(Value::depth).max().unwrap_or(0))?.max(*depth);
        while let Some(value) = added.pop() {
            items.push((added.pop().ok_or(EMPTY)?, value));
        }
        Ok(())
    }

    fn keep(&mut self, at: impl Fn(u8) -> u32) -> Result<(), String> {
        let at = at(self.byte()?);
        self.memo.insert(at, self.top()?.clone());
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        match self.memo.get(&at) {
            // The memo has the dict as it was when it was new.
            Some(Value::Dict(..)) => Err("data.pkl uses a dict twice".into()),
            Some(value) => {
                self.stack.push(value.clone());
                Ok(())
            }
            None => Err(format!("data.pkl refers to its value {at}, which it does not have")),
        }
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn top(&self) -> Result<&Value<'a>, String> {
        self.stack.last().ok_or_else(|| EMPTY.into())
    }

    fn marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let at = self.marks.pop().filter(|at| *at <= self.stack.len()).ok_or(EMPTY)?;
        Ok(self.stack.split_off(at))
    }

    /// A number of up to eight bytes.
    fn long(&mut self) -> Result<Value<'a>, String> {
        let len = self.byte()?.into();
        let bytes = self.bytes(len)?;
        if len > 8 || bytes.last().is_some_and(|b| *b > 127) {
            return Err("data.pkl holds a number that is negative or of more than 64 bits".into());
        }
        let value = bytes.iter().rev().fold(0_u64, |value, b| value << 8 | u64::from(*b));
        Ok(Value::Int(usize::try_from(value).map_err(|_| "data.pkl holds a number that is too large")?))
    }

    fn bytes(&mut self, len: usize) -> Result<&'p [u8], String> {
        let (bytes, rest) = self.program.split_at_checked(len).ok_or(ENDED)?;
        self.program = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| ENDED.into())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn line(&mut self) -> Result<&'p str, String> {
        let len = self.program.iter().position(|b| *b == b'\n').ok_or(ENDED)?;
        let line = self.bytes(len)?;
        self.byte()?;
        text(line)
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "data.pkl holds a text that is no UTF-8".into())
}

fn numbers(value: &Value) -> Result<Vec<usize>, String> {
    let number = |value: &Value| if let Value::Int(n) = value { Some(*n) } else { None };
    match value {
        Value::Tuple(items, _) => items.iter().map(number).collect::<Option<_>>(),
        _ => None,
    }
    .ok_or_else(|| "data.pkl has a shape that is no tuple of numbers".into())
}

/// The tensor of `shape` that begins `offset` values into `storage`; its rows must follow each other.
fn tensor<'a>(
    dtype: Dtype,
    storage: &'a [u8],
    offset: usize,
    shape: &[usize],
    stride: &[usize],
) -> Result<Tensor<'a>, String> {
    let too_large = || format!("data.pkl has a tensor of shape {shape:?} that its storage does not hold");
    let mut values = 1_usize;
    for (at, size) in shape.iter().enumerate().rev() {
        if *size > 1 && stride.get(at) != Some(&values) {
            return Err(format!("data.pkl has a tensor of shape {shape:?} whose values do not lie row by row"));
        }
        values = values.checked_mul(*size).ok_or_else(too_large)?;
    }
    let width = dtype.bitsize() / 8;
    let range = offset.checked_mul(width).zip(values.checked_mul(width));
    let data = range.and_then(|(start, len)| storage.get(start..start.checked_add(len)?)).ok_or_else(too_large)?;
    Ok(Tensor { dtype, shape: shape.into(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state dict as PyTorch 2.15 wrote it.
    const REAL: &[u8] = include_bytes!("../../tests/golden/models/stanford-bin/pytorch_model.bin");

    /// Runs a program that needs no storage but `0`, 16 bytes.
    fn run(program: &[u8]) -> Result<String, String> {
        let value = Machine::new(program).run(&|key| (key == "0").then_some(&[0; 16][..]))?;
        Ok(format!("{value:?}"))
    }

    /// A program that rebuilds a tensor of the size and the stride given.
    fn rebuild(offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
        let tuple = |numbers: &[u8]| {
            [b"(".as_slice(), &numbers.iter().flat_map(|n| [b'K', *n]).collect::<Vec<_>>(), b"t"].concat()
        };
        [
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000"
                .as_slice(),
            b"X\x03\0\0\0cpuK\x04tQK",
            &[offset],
            &tuple(size),
            &tuple(stride),
            b"\x89ccollections\nOrderedDict\n)RtR.",
        ]
        .concat()
    }

    #[test]
    fn a_real_file_is_read() {
        let tensors = read(REAL).unwrap();
        let (_, linear) = tensors.iter().find(|(name, _)| name == "linear.weight").unwrap();
        assert_eq!((linear.dtype, linear.shape.as_slice(), linear.data.len()), (Dtype::F32, &[8, 32][..], 1024));
        assert!(tensors.iter().any(|(_, tensor)| tensor.dtype == Dtype::I64));
    }

    #[test]
    fn a_file_cut_short_or_changed_is_an_error_or_a_state_dict() {
        for len in (0..REAL.len()).step_by(97).chain(REAL.len() - 300..REAL.len()) {
            assert!(read(&REAL[..len]).is_err(), "{len}");
        }
        let directory = REAL.len() - 4000..REAL.len();
        for at in (0..5000).chain(directory) {
            for bit in [0, 3, 7] {
                let mut bytes = REAL.to_vec();
                bytes[at] ^= 1 << bit;
                let _ = read(&bytes); // must return
            }
        }
    }

    #[test]
    fn what_no_state_dict_needs_is_refused_by_name() {
        for (program, expected) in [
            (b"cos\nsystem\n(X\x02\0\0\0lstR.".as_slice(), "asks for os.system"),
            (b"cbuiltins\neval\n.", "asks for builtins.eval"),
            (b"]q\0.", "instruction 0x5d"),
            (b"\x81.", "instruction 0x81"),
            (b"t.", "takes more values"),
            (b"R.", "takes more values"),
            (b"Nb.", "takes more values"),
            (b"K\x01K\x02s.", "sets items of what is no dict"),
            (b"h\x05.", "its value 5"),
            (b"}q\0h\0.", "a dict twice"),
            (b"K\x01", "cut short"),
            (b"X\xff\xff\xff\xffabc", "cut short"),
            (b"J\xff\xff\xff\xff.", "the number -1"),
            (b"\x8a\x09\0\0\0\0\0\0\0\0\x01.", "more than 64 bits"),
            (b"(K\x01tQ.", "no storage"),
        ] {
            let text = run(program).unwrap_err();
            assert!(text.contains(expected), "{text}, not {expected}");
        }
        let deep = [b")".as_slice(), &[0x85; 100_000], b"."].concat();
        assert!(run(&deep).unwrap_err().contains("deeper than 16"));
    }

    #[test]
    fn a_tensor_must_lie_within_its_storage_row_by_row() {
        assert!(run(&rebuild(0, &[2, 2], &[2, 1])).is_ok());
        assert!(run(&rebuild(1, &[1, 3], &[9, 1])).is_ok());
        assert!(run(&rebuild(1, &[2, 2], &[2, 1])).unwrap_err().contains("does not hold"));
        assert!(run(&rebuild(0, &[255; 16], &[1; 16])).unwrap_err().contains("row by row"));
        assert!(run(&rebuild(0, &[2, 2], &[1, 2])).unwrap_err().contains("row by row"));
    }
}
