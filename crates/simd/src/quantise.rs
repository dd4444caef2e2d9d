//! Choosing the codes of residual values.
//!
//! One body, compiled for each instruction set: its loops have fixed widths, so that the compiler makes vectors of them,
//! and sums are kept in as many parts everywhere, so that all twins give the same bits.

/// Values taken together.
const WIDTH: usize = 16;

/// Steps between the levels that codes of 4 bits can name.
const MAX_STEPS: usize = 15;

/// The levels of a codec and where one becomes nearer than the next.
#[derive(Debug, Clone)]
pub struct LevelTable {
    first: f32,
    /// Number of levels but the first.
    count: usize,
    /// Border and step to the next level, for each level but the first; then borders that nothing is beyond.
    steps: [(f32, f32); MAX_STEPS],
}

impl LevelTable {
    /// A table of ascending levels.
    ///
    /// # Panics
    /// When there are none, or more than codes of 4 bits can name.
    pub fn new(levels: &[i8]) -> Self {
        assert!((1..=16).contains(&levels.len()), "{} levels", levels.len());
        let step = |pair: &[i8]| {
            let (a, b) = (f32::from(pair[0]), f32::from(pair[1]));
            ((a + b) / 2.0, b - a)
        };
        let mut steps = [(f32::INFINITY, 0.0); MAX_STEPS];
        steps.iter_mut().zip(levels.windows(2)).for_each(|(out, pair)| *out = step(pair));
        Self { first: f32::from(levels[0]), count: levels.len() - 1, steps }
    }
}

/// The sums of `level * value` and of `level^2`, in [`WIDTH`] parts.
type Sums = [[f32; WIDTH]; 2];

/// `codes[d] =` the level nearest to `values[d] * inverse_scale`; returns the sums of `level * value` and `level^2`.
#[inline(always)]
pub(crate) fn quantise(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    match table.count {
        0..=1 => quantise_to::<1>(values, inverse_scale, table, codes),
        2..=3 => quantise_to::<3>(values, inverse_scale, table, codes),
        _ => quantise_to::<MAX_STEPS>(values, inverse_scale, table, codes),
    }
}

/// [`quantise`] where the table has up to `S` steps.
#[inline(always)]
fn quantise_to<const S: usize>(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    let steps: &[_; S] = table.steps.first_chunk().unwrap_or_else(|| unreachable!("a table has MAX_STEPS"));
    let mut sums = [[0.0; WIDTH]; 2];
    let (blocks, rest) = values.as_chunks::<WIDTH>();
    for (values, codes) in blocks.iter().zip(codes.chunks_exact_mut(WIDTH)) {
        codes.copy_from_slice(&block(values, inverse_scale, table.first, steps, &mut sums));
    }
    if !rest.is_empty() {
        let mut padded = [0.0; WIDTH];
        padded[..rest.len()].copy_from_slice(rest);
        let of_rest = block(&padded, inverse_scale, table.first, steps, &mut sums);
        codes[values.len() - rest.len()..].copy_from_slice(&of_rest[..rest.len()]);
        // What the padding added is taken out again: its values are 0, its levels are not.
        let mut of_zero = table.first;
        steps.iter().filter(|&&(border, _)| 0.0 > border).for_each(|&(_, step)| of_zero += step);
        sums[1][0] -= (WIDTH - rest.len()) as f32 * of_zero * of_zero;
    }
    let [dot, square] = sums;
    (dot.iter().sum(), square.iter().sum())
}

/// The codes of one block of values.
///
/// The number of steps is known when compiling, and the loop over them lies inside of the one over values: the compiler
/// unrolls it and makes vectors of values. This is no closure, as one that is not inlined lacks the caller's
/// instruction set.
#[inline(always)]
fn block<const S: usize>(
    values: &[f32; WIDTH],
    inverse_scale: f32,
    first: f32,
    steps: &[(f32, f32); S],
    [dot, square]: &mut Sums,
) -> [u8; WIDTH] {
    let mut codes = [0; WIDTH];
    for i in 0..WIDTH {
        let x = values[i] * inverse_scale;
        let (mut level, mut code) = (first, 0u32);
        for &(border, step) in steps {
            let beyond = x > border;
            level += if beyond { step } else { 0.0 };
            code += u32::from(beyond);
        }
        dot[i] += level * values[i];
        square[i] += level * level;
        codes[i] = code as u8;
    }
    codes
}

/// [`quantise`] without instructions that not every processor has.
pub(crate) fn scalar(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    quantise(values, inverse_scale, table, codes)
}

/// [`quantise`] with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    quantise(values, inverse_scale, table, codes)
}

/// [`quantise`] with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn avx512(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    quantise(values, inverse_scale, table, codes)
}
