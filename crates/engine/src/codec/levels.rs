//! Levels that minimise the squared error of a residual's values (Lloyd 1982, "Least squares quantization in PCM").

use latewood_simd::{FINE_MIDDLE, FineSteps, Kernels, LevelTable, MAX_LEVEL};

const ITERATIONS: usize = 60;

/// Finds `2^bits` ascending integer levels for `values`, residual values in units of their token's root mean square.
///
/// Returns the levels, each times the returned unit being the value it stands for, padded with zeros.
pub(super) fn train(mut values: Vec<f32>, bits: u32) -> ([i8; 16], f32) {
    let count = 1usize << bits;
    values.sort_by(f32::total_cmp);
    let points = if values.is_empty() { vec![0.0; count] } else { lloyd(&values, count) };
    let largest = points.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    if largest == 0.0 {
        return ([0; 16], 0.0);
    }
    let unit = largest / f32::from(MAX_LEVEL);
    let mut levels = [0; 16];
    for (level, point) in levels.iter_mut().zip(&points) {
        *level = (point / unit).round() as i8;
    }
    // Two points that are all but equal may have changed places in rounding.
    levels[..count].sort_unstable();
    (levels, unit)
}

/// Lloyd's iteration over sorted `values`, from quantiles: a cell's point is its mean, a border the middle of two points.
fn lloyd(values: &[f32], count: usize) -> Vec<f32> {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(values.iter().scan(0.0, |sum, &x| {
            *sum += f64::from(x);
            Some(*sum)
        }))
        .collect();
    let quantile = |i: usize| values[((2 * i + 1) * values.len() / (2 * count)).min(values.len() - 1)];
    let mut points: Vec<f32> = (0..count).map(quantile).collect();
    for _ in 0..ITERATIONS {
        let mut start = 0;
        for i in 0..count {
            let end = match points.get(i + 1) {
                Some(next) => values.partition_point(|&x| x < (points[i] + next) / 2.0).max(start),
                None => values.len(),
            };
            if end > start {
                points[i] = ((sums[end] - sums[start]) / (end - start) as f64) as f32;
            }
            start = end;
        }
    }
    points
}

/// The steps of fine codes that keep best what the levels leave of `values`, code by code: beyond the outer levels there
/// is more left.
pub(super) fn fine_steps(values: &[f32], levels: &[i8], unit: f32) -> FineSteps {
    let mut left: Vec<Vec<f32>> = vec![Vec::new(); levels.len()];
    if unit > 0.0 {
        let scaled: Vec<f32> = values.iter().map(|x| x / unit).collect();
        let mut codes = vec![0; values.len()];
        Kernels::detect().quantise(&scaled, &scaled, 1.0, &LevelTable::new(levels), &mut codes);
        for (x, code) in scaled.iter().zip(codes) {
            left[usize::from(code)].push((x - f32::from(levels[usize::from(code)])).abs());
        }
    }
    let steps: Vec<f32> = left.into_iter().map(best_step).collect();
    let unit = steps.iter().fold(0.0f32, |a, &x| a.max(x)) / 255.0;
    let mut out = [1; 16];
    for (out, step) in out.iter_mut().zip(&steps) {
        *out = (step / unit).round().clamp(1.0, 255.0) as u8;
    }
    FineSteps { steps: out, unit }
}

/// The step that keeps best what is left of values, `left` without its signs.
fn best_step(mut left: Vec<f32>) -> f32 {
    left.sort_by(f32::total_cmp);
    // Codes reach 7.5 steps to either side: the candidates reach as far as a share of what is left.
    let reach = |share: f64| left.get((share * left.len().saturating_sub(1) as f64) as usize).copied().unwrap_or(0.0);
    let steps = [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0].map(|share| reach(share).max(1e-2) / FINE_MIDDLE);
    let error = |step: f32| -> f64 {
        left.iter().map(|x| f64::from((x - (f32::from(fine_code(*x, step)) - FINE_MIDDLE) * step).powi(2))).sum()
    };
    steps.into_iter().min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(1.0)
}

/// The fine code of what is left of a value, both in levels.
pub(super) fn fine_code(left: f32, step: f32) -> u8 {
    (left / step + FINE_MIDDLE).round().clamp(0.0, 15.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_get_even_levels() {
        let values = (0..10_000).map(|i| i as f32 / 5_000.0 - 1.0).collect();
        let (levels, unit) = train(values, 2);
        assert_eq!(&levels[..4], &[-63, -21, 21, 63]);
        assert!((f32::from(levels[3]) * unit - 0.75).abs() < 1e-2, "{unit}");
    }

    #[test]
    fn nothing_to_train_on_gives_zero_levels() {
        assert_eq!(train(vec![], 4), ([0; 16], 0.0));
        assert_eq!(train(vec![0.0; 10], 4), ([0; 16], 0.0));
    }
}
