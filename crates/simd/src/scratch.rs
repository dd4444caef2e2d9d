//! Room for kernels to expand codes in, kept between calls.

/// Bytes behind what was asked for: kernels write whole registers.
const SPARE: usize = 64;

/// Working memory of [`crate::Kernels::max_residual_dots`]; one for each thread, reused.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    /// Empty; grows to what is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// At least `len` bytes, and a register more. What they hold is left from before.
    pub(crate) fn bytes(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + SPARE {
            self.bytes.resize(len + SPARE, 0);
        }
        &mut self.bytes
    }
}
