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

/// What is learnt while codes are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    /// Sum of `level * value`.
    pub level_value: f32,
    /// Sum of `level * level`.
    pub level_level: f32,
    /// Sum of `level * other`.
    pub level_other: f32,
}

/// The sums of [`Quantised`], each in [`WIDTH`] parts.
type Sums = [[f32; WIDTH]; 3];

/// `codes[d] =` the level nearest to `values[d] * inverse_scale`.
#[inline(always)]
pub(crate) fn quantise(
    [values, other]: [&[f32]; 2],
    inverse_scale: f32,
    table: &LevelTable,
    codes: &mut [u8],
) -> Quantised {
    match table.count {
        0..=1 => quantise_to::<1>([values, other], inverse_scale, table, codes),
        2..=3 => quantise_to::<3>([values, other], inverse_scale, table, codes),
        _ => quantise_to::<MAX_STEPS>([values, other], inverse_scale, table, codes),
    }
}

/// [`quantise`] where the table has up to `S` steps.
#[inline(always)]
fn quantise_to<const S: usize>(
    [values, other]: [&[f32]; 2],
    inverse_scale: f32,
    table: &LevelTable,
    codes: &mut [u8],
) -> Quantised {
    let steps: &[_; S] = table.steps.first_chunk().unwrap_or_else(|| unreachable!("a table has MAX_STEPS"));
    let mut sums = [[0.0; WIDTH]; 3];
    let ((blocks, rest), (others, other_rest)) = (values.as_chunks::<WIDTH>(), other.as_chunks::<WIDTH>());
    for ((values, other), codes) in blocks.iter().zip(others).zip(codes.chunks_exact_mut(WIDTH)) {
        codes.copy_from_slice(&block([values, other], inverse_scale, table.first, steps, &mut sums));
    }
    if !rest.is_empty() {
        let of_rest = block([&padded(rest), &padded(other_rest)], inverse_scale, table.first, steps, &mut sums);
        codes[values.len() - rest.len()..].copy_from_slice(&of_rest[..rest.len()]);
        // What the padding added is taken out again: its values are 0, its levels are not.
        let mut of_zero = table.first;
        steps.iter().filter(|&&(border, _)| 0.0 > border).for_each(|&(_, step)| of_zero += step);
        sums[1][0] -= (WIDTH - rest.len()) as f32 * of_zero * of_zero;
    }
    let [level_value, level_level, level_other] = sums.map(|parts| parts.iter().sum());
    Quantised { level_value, level_level, level_other }
}

#[inline(always)]
fn padded(rest: &[f32]) -> [f32; WIDTH] {
    let mut out = [0.0; WIDTH];
    out[..rest.len()].copy_from_slice(rest);
    out
}

/// The codes of one block of values.
///
/// The number of steps is known when compiling, and the loop over them lies inside of the one over values: the compiler
/// unrolls it and makes vectors of values. This is no closure, as one that is not inlined lacks the caller's
/// instruction set.
#[inline(always)]
fn block<const S: usize>(
    [values, other]: [&[f32; WIDTH]; 2],
    inverse_scale: f32,
    first: f32,
    steps: &[(f32, f32); S],
    sums: &mut Sums,
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
        sums[0][i] += level * values[i];
        sums[1][i] += level * level;
        sums[2][i] += level * other[i];
        codes[i] = code as u8;
    }
    codes
}

/// `out = row - centroid`; returns the sums of the squares of `out` and of `centroid`.
#[inline(always)]
pub(crate) fn residual(row: &[f32], centroid: &[f32], out: &mut [f32]) -> (f32, f32) {
    let mut sums = [[0.0; WIDTH]; 2];
    let ((rows, row_rest), (centroids, centroid_rest)) = (row.as_chunks::<WIDTH>(), centroid.as_chunks::<WIDTH>());
    for ((x, c), out) in rows.iter().zip(centroids).zip(out.chunks_exact_mut(WIDTH)) {
        out.copy_from_slice(&residual_block(x, c, &mut sums));
    }
    let left = residual_block(&padded(row_rest), &padded(centroid_rest), &mut sums);
    out[row.len() - row_rest.len()..].copy_from_slice(&left[..row_rest.len()]);
    (sums[0].iter().sum(), sums[1].iter().sum())
}

#[inline(always)]
fn residual_block(x: &[f32; WIDTH], c: &[f32; WIDTH], sums: &mut [[f32; WIDTH]; 2]) -> [f32; WIDTH] {
    let mut out = [0.0; WIDTH];
    for i in 0..WIDTH {
        out[i] = x[i] - c[i];
        sums[0][i] += out[i] * out[i];
        sums[1][i] += c[i] * c[i];
    }
    out
}

/// Instances of the two for an instruction set.
macro_rules! instance {
    ($name:ident $(, #[$attribute:meta])*) => {
        pub(crate) mod $name {
            use super::{LevelTable, Quantised};

            $(#[$attribute])*
            pub(crate) fn quantise(
                values: [&[f32]; 2],
                inverse_scale: f32,
                table: &LevelTable,
                codes: &mut [u8],
            ) -> Quantised {
                super::quantise(values, inverse_scale, table, codes)
            }

            $(#[$attribute])*
            pub(crate) fn residual(row: &[f32], centroid: &[f32], out: &mut [f32]) -> (f32, f32) {
                super::residual(row, centroid, out)
            }
        }
    };
}

instance!(scalar);
#[cfg(target_arch = "x86_64")]
instance!(avx2, #[target_feature(enable = "avx2")]);
#[cfg(target_arch = "x86_64")]
instance!(avx512, #[target_feature(enable = "avx512f,avx512bw,avx512vl")]);
