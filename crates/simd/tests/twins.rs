//! Every twin against the scalar kernels, on random ragged inputs.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use half::f16;
use latewood_simd::{Isa, Kernels, LANES, MAX_LEVEL, QueryF32, QueryI8, ResidualTokens, code_bytes};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The twins that this processor runs; says which it does not.
fn twins() -> Vec<&'static Kernels> {
    let mut found = Vec::new();
    for &isa in Isa::ALL {
        match Kernels::for_isa(isa) {
            Some(_) if isa == Isa::Scalar => {}
            Some(kernels) => found.push(kernels),
            None => eprintln!("not tested here: the processor has no {}", isa.name()),
        }
    }
    found
}

fn scalar() -> &'static Kernels {
    Kernels::for_isa(Isa::Scalar).expect("always there")
}

fn random(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn close(a: &[f32], b: &[f32], dim: usize) {
    for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
        assert!(x == y || (x - y).abs() <= 1e-6 * dim as f32, "{i}: {x} and {y}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn f32_kernels_agree(seed: u64, q in 1usize..40, n in 0usize..30, eighths in 1usize..20) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dim = eighths * 8;
        let query = QueryF32::new(&random(&mut rng, q * dim), dim);
        let rows = random(&mut rng, n * dim);
        let lanes = query.lanes();
        for twin in twins() {
            let (mut want, mut got) = (vec![0.0; n * lanes], vec![0.0; n * lanes]);
            scalar().dots(&rows, &query, &mut want);
            twin.dots(&rows, &query, &mut got);
            close(&want, &got, dim);

            let (mut want_max, mut got_max) = (vec![0.0; lanes], vec![0.0; lanes]);
            scalar().max_dots(&rows, &query, &mut want_max);
            twin.max_dots(&rows, &query, &mut got_max);
            close(&want_max, &got_max, dim);

            let (mut best, mut best_dot) = (vec![7; lanes], vec![f32::NEG_INFINITY; lanes]);
            twin.nearest(&rows, 100, &query, &mut best, &mut best_dot);
            for lane in 0..lanes {
                if n == 0 {
                    prop_assert_eq!(best[lane], 7);
                } else {
                    let row = best[lane] as usize - 100;
                    prop_assert_eq!(got[row * lanes + lane], got_max[lane]);
                }
            }

            let ids: Vec<u32> = (0..n).map(|_| rng.random_range(0..n as u32)).collect();
            scalar().max_rows(&ids, &want, &mut want_max);
            twin.max_rows(&ids, &want, &mut got_max);
            prop_assert_eq!(&want_max, &got_max);
        }
    }

    /// Integers inside, floats in one order: the same bits.
    #[test]
    fn residual_kernels_agree(
        seed: u64, bits in prop::sample::select(vec![1u32, 2, 4]), q in 1usize..40, n in 0usize..20, eighths in 1usize..20,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dim = eighths * 8;
        let rows = random(&mut rng, q * dim);
        let query = QueryI8::new(&rows, dim);
        let c = 5;
        let table = random(&mut rng, c * query.lanes());
        let mut levels = [0i8; 16];
        levels.fill_with(|| rng.random_range(-MAX_LEVEL..=MAX_LEVEL));
        let half = |rng: &mut ChaCha8Rng| f16::from_f32(rng.random_range(0.0..1.0));
        let centroids: Vec<u32> = (0..n).map(|_| rng.random_range(0..c as u32)).collect();
        let scales: Vec<f16> = (0..n).map(|_| half(&mut rng)).collect();
        let inverse_norms: Vec<f16> = (0..n).map(|_| half(&mut rng)).collect();
        let codes: Vec<u8> = (0..n * code_bytes(dim, bits)).map(|_| rng.random()).collect();
        let tokens = ResidualTokens {
            bits, dim, levels: &levels, centroids: &centroids, scales: &scales, inverse_norms: &inverse_norms, codes: &codes,
        };
        let mut want = vec![0.0; query.lanes()];
        scalar().max_residual_dots(&tokens, &query, &table, &mut want);
        for twin in twins() {
            let mut got = vec![0.0; query.lanes()];
            twin.max_residual_dots(&tokens, &query, &table, &mut got);
            prop_assert_eq!(&want, &got, "{}", twin.isa().name());
        }
    }
}

/// The largest levels against the largest query values: no sum saturates.
#[test]
fn extremes_do_not_saturate() {
    let dim = 1024;
    let query = QueryI8::new(&vec![1.0; dim], dim);
    let mut levels = [MAX_LEVEL; 16];
    levels[0] = -MAX_LEVEL;
    let codes = [vec![0xff; dim / 2], vec![0; dim / 2]].concat();
    let one = [f16::ONE; 2];
    let tokens = ResidualTokens {
        bits: 4,
        dim,
        levels: &levels,
        centroids: &[0, 0],
        scales: &one,
        inverse_norms: &one,
        codes: &codes,
    };
    let table = vec![0.0; LANES];
    for &isa in Isa::ALL {
        let Some(kernels) = Kernels::for_isa(isa) else { continue };
        let mut max = vec![0.0; LANES];
        kernels.max_residual_dots(&tokens, &query, &table, &mut max);
        let want = dim as f32 * f32::from(MAX_LEVEL);
        assert!((max[0] - want).abs() < 1e-3 * want, "{}: {} and not {want}", isa.name(), max[0]);
    }
}
