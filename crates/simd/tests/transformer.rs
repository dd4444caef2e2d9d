//! Kernels of a transformer: every twin against the scalar kernels, and these against what they are to compute.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use std::convert::Infallible;

use latewood_simd::{Activation, AttentionScratch, Block, ByteRows, Heads, Isa, Sight, TransformerKernels};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `n`, or a few where Miri interprets the test: two panels of AVX2 and a tile more than whole.
const fn most(n: usize) -> usize {
    if cfg!(miri) && n > 19 { 19 } else { n }
}

/// The kernels that this processor runs, scalar ones first; says which it does not.
fn all() -> Vec<&'static TransformerKernels> {
    let absent = |isa: &&Isa| TransformerKernels::for_isa(**isa).is_none();
    for isa in Isa::ALL.iter().filter(absent) {
        eprintln!("not tested here: the processor has no {}", isa.name());
    }
    Isa::ALL.iter().filter_map(|&isa| TransformerKernels::for_isa(isa)).collect()
}

fn random(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-2.0..2.0)).collect()
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (x, y)) in found.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance, "{at}: {x}, expected {y}");
    }
}

fn gelu(x: f32) -> f32 {
    // Abramowitz and Stegun 7.1.26: another approximation than the kernels', to 1.5e-7.
    let z = f64::from(x.abs()) * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = series.iter().fold(0.0, |sum, c| (sum + c) * t) * (-z * z).exp();
    let phi = if x < 0.0 { tail / 2.0 } else { 1.0 - tail / 2.0 };
    (f64::from(x) * phi) as f32
}

/// Weights of one output after the other, `[output, input]`.
fn reader(weights: &[f32], input: usize) -> impl FnMut(usize, &mut [f32]) -> Result<(), Infallible> {
    move |output, to| {
        to.copy_from_slice(&weights[output * input..][..input]);
        Ok(())
    }
}

/// Runs `part` over two parts of `panels`, cut at `cut`, each writing its columns of `[n, width]`.
fn in_two(
    [n, width]: [usize; 2],
    panels: usize,
    cut: usize,
    columns: impl Fn(std::ops::Range<usize>) -> std::ops::Range<usize>,
    mut part: impl FnMut(std::ops::Range<usize>, Block<'_>),
) -> Vec<f32> {
    let mut out = vec![f32::NAN; n * width];
    let cut = cut.min(panels);
    let (left, right) = Block::new(&mut out, width).split_columns(columns(0..cut).end);
    part(cut..panels, right);
    part(0..cut, left);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 150 }))]

    #[test]
    fn linear_layers(seed: u64, n in 1..most(40), input in 1..most(70), output in 1..2 * most(40), cut in 0usize..4, gelus: bool) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (x, weights) = (random(&mut rng, n * input), random(&mut rng, input * output));
        let bias = random(&mut rng, output);
        let activation = if gelus { Activation::Gelu } else { Activation::Identity };
        let dot = |row: usize, column: usize| -> f64 {
            let weights = &weights[column * input..][..input];
            x[row * input..][..input].iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
        };
        let expected: Vec<f32> = (0..n * output)
            .map(|at| (dot(at / output, at % output) + f64::from(bias[at % output])) as f32)
            .map(|y| if gelus { gelu(y) } else { y })
            .collect();
        let mut bytes: Option<Vec<f32>> = None;
        for kernels in all() {
            let Ok(matrix) = kernels.pack([input, output], Some(&bias), reader(&weights, input));
            let found = in_two([n, output], matrix.panels(), cut, |p| matrix.columns(p), |panels, out| {
                kernels.linear(&x, &matrix, panels, activation, out);
            });
            close(&found, &expected, 2e-6 * (4.0 * input as f32 + 4.0));

            let Ok(matrix) = kernels.pack_bytes([input, output], Some(&bias), reader(&weights, input));
            let mut rows = ByteRows::default();
            kernels.quantise(&random(&mut rng, 3), 3, &mut rows);
            kernels.quantise(&x, input, &mut rows);
            let found = in_two([n, output], matrix.panels(), cut, |p| matrix.columns(p), |panels, out| {
                kernels.byte_linear(&rows, &matrix, panels, activation, out);
            });
            // Half a step of 2/127 in either factor of each product, the errors of which partly cancel.
            close(&found, &expected, 0.04 * (input as f32).sqrt() + 0.02);
            close(&found, bytes.get_or_insert_with(|| found.clone()), 1e-5 * (1.0 + input as f32));
        }
    }

    #[test]
    fn attention(seed: u64, s in 0..most(70), count in 1usize..4, width in 1..most(40), attended in 0..most(80), window in prop_oneof![Just(usize::MAX), 0..most(90)], adds: bool) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let heads = Heads { count, width };
        let x = random(&mut rng, s * 3 * heads.columns());
        let added = if adds { random(&mut rng, count * s * s) } else { Vec::new() };
        let sight = Sight { attended, window, added: &added };
        let mut expected: Option<Vec<f32>> = None;
        for kernels in all() {
            let mut scratch = AttentionScratch::default();
            let found = in_two([s, heads.columns()], count, count / 2, |h| h.start * width..h.end * width, |which, out| {
                let added = if adds { &added[which.start * s * s..which.end * s * s] } else { &[] };
                kernels.attention(&x, heads, which, Sight { added, ..sight }, out, &mut scratch);
            });
            close(&found, expected.get_or_insert_with(|| found.clone()), 2e-5);
            // The weights of what is seen sum up to 1; a token that sees nothing has zeros.
            let mut ones = x.clone();
            for token in ones.chunks_exact_mut(3 * heads.columns()) {
                token[2 * heads.columns()..].fill(1.0);
            }
            let mut sums = vec![f32::NAN; s * heads.columns()];
            kernels.attention(&ones, heads, 0..count, sight, Block::new(&mut sums, heads.columns()), &mut scratch);
            for (token, row) in sums.chunks_exact(heads.columns()).enumerate() {
                let sees = token.saturating_sub(window) < attended.min(s);
                close(row, &vec![if sees { 1.0 } else { 0.0 }; row.len()], 1e-5);
            }
        }
    }

    #[test]
    fn rows(seed: u64, n in 1usize..9, half in 1..most(40)) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let width = 2 * half;
        let (x, added) = (random(&mut rng, n * width), random(&mut rng, n * width));
        let (gamma, beta) = (random(&mut rng, width), random(&mut rng, width));
        let angles = random(&mut rng, half);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut expected: Option<[Vec<f32>; 5]> = None;
        for kernels in all() {
            let [mut plain, mut sum, mut gelus, mut turned] = [(); 4].map(|()| x.clone());
            kernels.add_norm(&mut plain, &[], &gamma, &beta, 1e-5);
            kernels.add_norm(&mut sum, &added, &gamma, &beta, 1e-5);
            kernels.gelu(&mut gelus);
            kernels.rotate(&mut turned, &cos, &sin);
            let mut gated = vec![f32::NAN; n * half];
            kernels.gelu_gate(&x, half, &mut gated);
            let found = [plain, sum, gelus, turned, gated];
            let expected = expected.get_or_insert_with(|| found.clone());
            // A row whose values are nearly one has a variance near 0, whose rounding shows.
            found.iter().zip(expected.iter()).for_each(|(found, expected)| close(found, expected, 1e-3));
            found[2..].iter().zip(&expected[2..]).for_each(|(found, expected)| close(found, expected, 2e-6));
            for (row, x) in found[1].chunks_exact(width).zip(x.chunks_exact(width).zip(added.chunks_exact(width))) {
                let sums: Vec<f64> = x.0.iter().zip(x.1).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
                let norm = |at: usize| (sums[at] - mean) / (variance + 1e-5).sqrt();
                let expected: Vec<f32> =
                    (0..width).map(|at| (norm(at) * f64::from(gamma[at]) + f64::from(beta[at])) as f32).collect();
                close(row, &expected, 1e-3);
            }
        }
    }
}

#[test]
fn gelu_is_exact_to_a_millionth() {
    let steps = if cfg!(miri) { 100 } else { 80_000 };
    let x: Vec<f32> = (-steps..=steps).map(|i| 8.0 * i as f32 / steps as f32).collect();
    for kernels in all() {
        let mut y = x.clone();
        kernels.gelu(&mut y);
        for (x, y) in x.iter().zip(&y) {
            assert!((y - gelu(*x)).abs() <= 1.2e-6_f32.max(5e-7 * x.abs()), "gelu({x}) = {y}, exact {}", gelu(*x));
        }
        let mut ends = [0.0, 1e4, -1e4, f32::NAN];
        kernels.gelu(&mut ends);
        assert!(ends[0] == 0.0 && (ends[1] - 1e4).abs() < 1e-2 && ends[2].abs() < 1e-2 && ends[3].is_nan(), "{ends:?}");
    }
}

/// What is no number does not become one by rounding to bytes.
#[test]
fn bytes_hide_no_overflow() {
    for kernels in all() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 32] {
                let mut x = vec![0.5_f32; 2 * 33];
                x[at] = odd;
                let Ok(matrix) = kernels.pack_bytes([33, 5], None, |_, to: &mut [f32]| {
                    to.fill(0.1);
                    Ok::<(), Infallible>(())
                });
                let (mut rows, mut out) = (ByteRows::default(), vec![0.0; 10]);
                kernels.quantise(&x, 33, &mut rows);
                let block = Block::new(&mut out, 5);
                kernels.byte_linear(&rows, &matrix, 0..matrix.panels(), Activation::Identity, block);
                assert!(out[..5].iter().all(|y| !y.is_finite()), "{odd} at {at}: {out:?}");
                assert!(out[5..].iter().all(|y| (y - 1.65).abs() < 0.02), "{out:?}");
            }
        }
    }
}

/// Largest values in all places: sums of pairs that are added up in 16 bits must not overflow there.
#[test]
fn the_largest_bytes_fit() {
    let input = if cfg!(miri) { 64 } else { 1536 };
    for kernels in all() {
        for sign in [1.0, -1.0] {
            let Ok(matrix) = kernels.pack_bytes([input, 3], None, |_, to: &mut [f32]| {
                to.fill(sign);
                Ok::<(), Infallible>(())
            });
            let (mut rows, mut out) = (ByteRows::default(), vec![0.0; 6]);
            kernels.quantise(&[vec![1.0; input], vec![-1.0; input]].concat(), input, &mut rows);
            let block = Block::new(&mut out, 3);
            kernels.byte_linear(&rows, &matrix, 0..matrix.panels(), Activation::Identity, block);
            close(&out[..3], &[sign * input as f32; 3], 1e-2);
            close(&out[3..], &[-sign * input as f32; 3], 1e-2);
        }
    }
}

#[test]
fn a_reader_that_fails_is_heard() {
    for kernels in all() {
        let packed = kernels.pack([4, 40], None, |at, _| if at < 35 { Ok(()) } else { Err(at) });
        assert_eq!(packed.unwrap_err(), 35);
    }
}

#[test]
#[should_panic(expected = "packed for these kernels")]
fn a_matrix_of_other_kernels_is_refused() {
    let [first, .., last] = all()[..] else { panic!("packed for these kernels: nothing to compare with here") };
    let Ok(matrix) = first.pack([2, 2], None, |_, to: &mut [f32]| {
        to.fill(1.0);
        Ok::<(), Infallible>(())
    });
    last.linear(&[1.0, 2.0], &matrix, 0..1, Activation::Identity, Block::new(&mut [0.0; 2], 2));
}

#[test]
#[should_panic(expected = "quantised for these kernels")]
fn rows_of_other_kernels_are_refused() {
    let [first, .., last] = all()[..] else { panic!("quantised for these kernels: nothing to compare with here") };
    let Ok(matrix) = last.pack_bytes([4, 2], None, |_, to: &mut [f32]| {
        to.fill(1.0);
        Ok::<(), Infallible>(())
    });
    let mut rows = ByteRows::default();
    first.quantise(&[1.0; 4], 4, &mut rows);
    last.byte_linear(&rows, &matrix, 0..1, Activation::Identity, Block::new(&mut [0.0; 2], 2));
}

/// Nor does it become weights of 0, as of a token that sees nothing.
#[test]
fn attention_hides_no_overflow() {
    let heads = Heads { count: 1, width: 5 };
    for kernels in all() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0_f32; 3 * 3 * 5];
            x[2] = odd;
            let mut out = vec![0.0; 3 * 5];
            let sight = Sight { attended: 2, window: usize::MAX, added: &[] };
            let block = Block::new(&mut out, 5);
            kernels.attention(&x, heads, 0..1, sight, block, &mut AttentionScratch::default());
            assert!(out[..5].iter().all(|y| y.is_nan()), "{odd}: {out:?}");
            close(&out[5..], &[1.0; 10], 1e-5);
        }
    }
}

/// A key that is added as much to as nothing else is all that a token sees.
#[test]
fn what_is_added_decides() {
    let (s, heads) = (37, Heads { count: 2, width: 3 });
    for kernels in all() {
        let x: Vec<f32> = (0..s * 18).map(|at| (at / 18) as f32 / 10.0).collect();
        let mut added = vec![0.0; 2 * s * s];
        // In the first head each token sees the next, in the second the one before.
        for token in 0..s {
            added[token * s + (token + 1) % s] = 1e3;
            added[(s + token) * s + (token + s - 1) % s] = 1e3;
        }
        let (mut out, sight) = (vec![0.0; s * 6], Sight { attended: s, window: usize::MAX, added: &added });
        let block = Block::new(&mut out, 6);
        kernels.attention(&x, heads, 0..2, sight, block, &mut AttentionScratch::default());
        for (token, row) in out.chunks_exact(6).enumerate() {
            let [next, before] = [(token + 1) % s, (token + s - 1) % s].map(|key| [key as f32 / 10.0; 3]);
            close(row, &[next, before].concat(), 1e-5);
        }
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    for kernels in all() {
        let packed = std::panic::catch_unwind(|| kernels.pack([4096, 1 << 50], None, |at, _| Err::<(), usize>(at)));
        assert!(packed.is_err());
        let attended = std::panic::catch_unwind(|| {
            // Two columns, if what does not fit were cut off.
            let heads = Heads { count: (1 << 63) + 1, width: 2 };
            let (mut out, sight) = ([0.0; 8], Sight { attended: 1, window: usize::MAX, added: &[] });
            let block = Block::new(&mut out, 2);
            kernels.attention(&[0.0; 24], heads, 5..6, sight, block, &mut AttentionScratch::default());
        });
        assert!(attended.is_err());
    }
}
