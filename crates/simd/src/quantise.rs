//! Choosing the codes of residual values.
//!
//! One body, compiled for each instruction set: its loops have a fixed width, so that the compiler makes vectors of
//! them, and sums are kept in as many parts everywhere, so that all twins give the same bits.

/// Values taken together.
const WIDTH: usize = 16;

/// The levels of a codec and where one becomes nearer than the next.
#[derive(Debug, Clone)]
pub struct LevelTable {
    first: f32,
    /// Border and step to the next level, for each level but the first.
    steps: Vec<(f32, f32)>,
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
        Self { first: f32::from(levels[0]), steps: levels.windows(2).map(step).collect() }
    }
}

/// `codes[d] =` the level nearest to `values[d] * inverse_scale`; returns the sums of `level * value` and `level^2`.
#[inline(always)]
pub(crate) fn quantise(values: &[f32], inverse_scale: f32, table: &LevelTable, codes: &mut [u8]) -> (f32, f32) {
    let (mut dot, mut square) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
    let mut block = |values: &[f32; WIDTH], codes: &mut [u8]| {
        let mut level = [table.first; WIDTH];
        let mut code = [0u32; WIDTH];
        for &(border, step) in &table.steps {
            for i in 0..WIDTH {
                let beyond = values[i] * inverse_scale > border;
                level[i] += if beyond { step } else { 0.0 };
                code[i] += u32::from(beyond);
            }
        }
        for i in 0..WIDTH {
            dot[i] += level[i] * values[i];
            square[i] += level[i] * level[i];
        }
        codes.iter_mut().zip(code).for_each(|(out, code)| *out = code as u8);
    };
    let (blocks, rest) = values.as_chunks::<WIDTH>();
    for (values, codes) in blocks.iter().zip(codes.chunks_exact_mut(WIDTH)) {
        block(values, codes);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; WIDTH];
        padded[..rest.len()].copy_from_slice(rest);
        block(&padded, &mut codes[values.len() - rest.len()..]);
        // What the padding added is taken out again: its values are 0, its levels are not.
        let mut of_zero = table.first;
        table.steps.iter().filter(|&&(border, _)| 0.0 > border).for_each(|&(_, step)| of_zero += step);
        square[0] -= (WIDTH - rest.len()) as f32 * of_zero * of_zero;
    }
    (dot.iter().sum(), square.iter().sum())
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
