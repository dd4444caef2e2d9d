//! Vectors whose first value begins a cache line: a register's worth is then never on two.

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Values of `T`, which is a plain number.
pub(super) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    kind: std::marker::PhantomData<T>,
}

/// `a * b`, also where overflow is not checked: sizes that the unsafe code of kernels relies on.
pub(super) fn product(a: usize, b: usize) -> usize {
    let (product, overflows) = a.overflowing_mul(b);
    assert!(!overflows, "{a} x {b} is more than can be counted");
    product
}

/// Numbers of which every pattern of bits is one, no larger than a line.
pub(super) trait Number: Copy {}
impl Number for f32 {}
impl Number for i8 {}
impl Number for u8 {}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// When an address space does not hold them: `deref` relies on it that their bytes were counted right.
    pub(super) fn zeros(len: usize) -> Self {
        let lines = product(len, size_of::<T>()).div_ceil(size_of::<Line>());
        Self { lines: vec![Line([0; 64]); lines], len, kind: std::marker::PhantomData }
    }

    /// Makes it at least `len` long; what it holds then is of no meaning.
    pub(super) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }
}

impl<T: Number> Default for Aligned<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the lines are initialised, hold at least `len` numbers, and are aligned for any.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; any bytes are a number.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
