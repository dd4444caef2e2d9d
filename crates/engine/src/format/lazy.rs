//! Sections that are checked as they are read, block by block: so that opening a file takes no longer the larger it is.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::AnyBitPattern;
use xxhash_rust::xxh3::xxh3_64;

use super::{BLOCK, Container, Located};
use crate::error::Result;

/// Which blocks of a container have been found sound.
#[derive(Debug, Default)]
pub(super) struct Checked(Vec<AtomicU64>);

impl Checked {
    pub(super) fn new(blocks: usize) -> Self {
        Self((0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn get(&self, block: usize) -> bool {
        // The file does not change: whoever sees the bit may read, and who does not checks once more.
        self.0[block / 64].load(Ordering::Relaxed) >> (block % 64) & 1 == 1
    }

    fn set(&self, block: usize) {
        self.0[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
    }
}

/// What else must hold of the values of a block.
type Valid<T> = Box<dyn Fn(&[T]) -> bool + Send + Sync>;

/// A section whose values are checked when first read.
pub(crate) struct Lazy<T> {
    name: &'static str,
    located: Located<T>,
    valid: Valid<T>,
}

impl Container {
    /// Makes a section one that is checked as it is read; `valid` says what must hold of its values.
    pub(crate) fn lazy<T: AnyBitPattern>(
        &self,
        name: &'static str,
        located: Located<T>,
        valid: impl Fn(&[T]) -> bool + Send + Sync + 'static,
    ) -> Result<Lazy<T>> {
        // A short section has been checked already, but not what its values are.
        if located.blocks().is_none() && !valid(self.at(&located)) {
            return Err(self.damaged(name, "a value is out of range".into()));
        }
        Ok(Lazy { name, located, valid: Box::new(valid) })
    }

    /// Values of a section.
    ///
    /// # Errors
    /// When they are not in the section, or a block that they are in is damaged.
    #[inline]
    pub(crate) fn get<T: AnyBitPattern>(&self, lazy: &Lazy<T>, range: Range<usize>) -> Result<&[T]> {
        let values = self.at(&lazy.located);
        let Some(values) = values.get(range.clone()) else {
            let detail = format!("values {range:?} of {}", values.len());
            return Err(self.damaged(lazy.name, detail));
        };
        if let (Some(first), false) = (lazy.located.blocks(), values.is_empty()) {
            let (start, end) = (range.start * size_of::<T>(), range.end * size_of::<T>());
            for block in start / BLOCK..=(end - 1) / BLOCK {
                if !self.checked.get(first + block) {
                    self.check_lazy(lazy, first, block)?;
                }
            }
        }
        Ok(values)
    }

    /// Where values lie, without reading them: for asking the processor to bring them near.
    #[inline]
    pub(crate) fn unread<T: AnyBitPattern>(&self, lazy: &Lazy<T>, range: Range<usize>) -> &[T] {
        self.at(&lazy.located).get(range).unwrap_or_default()
    }

    #[cold]
    fn check_lazy<T: AnyBitPattern>(&self, lazy: &Lazy<T>, first: usize, block: usize) -> Result<()> {
        let bytes = self.block(&lazy.located.range, block);
        if !self.block_is_sound(first + block, bytes) {
            return Err(self.damaged(lazy.name, format!("the checksum of block {block} does not match")));
        }
        if !(lazy.valid)(bytemuck::cast_slice(bytes)) {
            return Err(self.damaged(lazy.name, format!("a value in block {block} is out of range")));
        }
        self.checked.set(first + block);
        Ok(())
    }

    /// Block `block` of a section that lies at `range`.
    pub(super) fn block(&self, range: &Range<usize>, block: usize) -> &[u8] {
        let section = &self.bytes[range.clone()];
        &section[block * BLOCK..section.len().min((block + 1) * BLOCK)]
    }

    /// Whether `bytes` are those of block `number`, counted over the whole file.
    pub(super) fn block_is_sound(&self, number: usize, bytes: &[u8]) -> bool {
        let sum = self.bytes[self.sums.clone()].get(number * 8..number * 8 + 8);
        sum == Some(&xxh3_64(bytes).to_le_bytes())
    }
}
