//! What a fuzzer's bytes do to a sound file.

/// The fuzzer's bytes, taken from the front; what is not there is 0.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end
    }

    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Overwrites, removes or inserts a few bytes, or replaces all by all that is left.
    pub(crate) fn patch(&mut self, bytes: &mut Vec<u8>) {
        let how = self.byte();
        let len = usize::from(how >> 4) + 1;
        let at = self.below(bytes.len() + 1);
        let end = bytes.len().min(at + len);
        match how & 15 {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, self.take(len).iter().copied())),
            3 => *bytes = self.take(usize::MAX).to_vec(),
            _ => bytes[at..end].iter_mut().zip(self.take(len)).for_each(|(old, new)| *old = *new),
        }
    }
}
