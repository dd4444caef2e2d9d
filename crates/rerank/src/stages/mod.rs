//! Stages that need no model.

pub(crate) mod fusion;
pub(crate) mod signals;

use crate::pipeline::Normalise;

/// `values` made comparable.
pub(crate) fn normalised(values: &[f32], how: Normalise) -> Vec<f32> {
    let count = values.len().max(1) as f32;
    match how {
        Normalise::None => values.to_vec(),
        Normalise::MinMax => {
            let least = values.iter().copied().fold(f32::INFINITY, f32::min);
            let range = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least;
            // Where all are alike, none is better.
            values.iter().map(|value| if range > 0.0 { (value - least) / range } else { 0.0 }).collect()
        }
        Normalise::Z => {
            let (values, count) = (values.iter().map(|value| f64::from(*value)), f64::from(count));
            let mean = values.clone().sum::<f64>() / count;
            let deviation = (values.clone().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
            values.map(|value| if deviation > 0.0 { ((value - mean) / deviation) as f32 } else { 0.0 }).collect()
        }
        Normalise::Rank => {
            let below = |value: &f32| values.iter().filter(|other| *other < value).count() as f32;
            values.iter().map(|value| if values.len() > 1 { below(value) / (count - 1.0) } else { 0.0 }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_comparable() {
        let values = [4.0, 2.0, 8.0];
        assert_eq!(normalised(&values, Normalise::MinMax), [1.0 / 3.0, 0.0, 1.0]);
        assert_eq!(normalised(&values, Normalise::Rank), [0.5, 0.0, 1.0]);
        assert_eq!(normalised(&values, Normalise::None), values);
        let z = normalised(&values, Normalise::Z);
        assert!((z.iter().sum::<f32>()).abs() < 1e-6 && (z.iter().map(|z| z * z).sum::<f32>() - 3.0).abs() < 1e-5);
        for how in [Normalise::MinMax, Normalise::Z, Normalise::Rank] {
            assert_eq!(normalised(&[3.0, 3.0], how), [0.0, 0.0], "{how:?}");
            assert!(normalised(&[], how).is_empty() && normalised(&[7.0], how) == [0.0]);
        }
    }
}
