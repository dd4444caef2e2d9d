//! Every twin against the scalar kernels, on random ragged inputs.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use latewood_simd::{
    Estimates, FINE_BITS, FineSteps, Isa, Kernels, LANES, LARGEST, LEVEL_OFFSET, LevelTable, MAX_LEVEL, QueryF32,
    QueryI8, QueryI16, ResidualTokens, SCALES, Scratch, code_bytes, pack_factors,
};
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

/// Miri interprets, a thousand times slower.
const CASES: u32 = if cfg!(miri) { 2 } else { 200 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn f32_kernels_agree(seed: u64, q in 1usize..40, n in 0usize..30, dim in 1usize..160) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
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
        }
    }

    /// Rows of bytes may have any dimension that is a multiple of 4.
    #[test]
    fn byte_dots_agree(seed: u64, q in 1usize..60, n in 0usize..30, quarters in 1usize..40) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dim = quarters * 4;
        let query = QueryI8::new(&random(&mut rng, q * dim), dim);
        let bytes: Vec<u8> = (0..n * dim).map(|_| rng.random_range(1..128)).collect();
        let scales = random(&mut rng, n);
        let mut want = vec![0.0; n * query.lanes()];
        scalar().byte_dots(&bytes, &scales, &query, &mut want);
        for twin in twins() {
            let mut got = vec![0.0; n * query.lanes()];
            twin.byte_dots(&bytes, &scales, &query, &mut got);
            prop_assert_eq!(&want, &got, "{}", twin.isa().name());
            let (mut best, mut ids) = (vec![7.0; query.lanes()], vec![7; query.lanes()]);
            twin.byte_nearest(&bytes, &scales, &query, &mut best, &mut ids);
            for lane in 0..query.lanes() {
                let dots = || want.iter().skip(lane).step_by(query.lanes());
                let largest = dots().copied().fold(f32::NEG_INFINITY, f32::max);
                let first = dots().position(|&dot| dot == largest).unwrap_or(0);
                prop_assert_eq!((best[lane], ids[lane] as usize), (largest, first), "{}", twin.isa().name());
            }
        }
    }

    /// Integers inside, floats in one order: the same bits.
    #[test]
    fn integer_kernels_agree(
        seed: u64, bits in prop::sample::select(vec![1u32, 2, 4]), q in 1usize..60, n in 0usize..40, eighths in 1usize..20,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dim = eighths * 8;
        let rows = random(&mut rng, q * dim);
        let query = QueryI8::new(&rows, dim);
        let (c, lanes) = (30, query.lanes());
        let weights = std::array::from_fn(|_| rng.random_range(0.0..1.0));
        let estimates = Estimates::new(weights, random(&mut rng, SCALES * lanes));
        let bytes: Vec<u8> = (0..c * dim).map(|_| rng.random_range(1..128)).collect();
        let byte_scales = random(&mut rng, c);
        let mut table = vec![0.0; c * lanes];
        scalar().byte_dots(&bytes, &byte_scales, &query, &mut table);
        let mut levels = [0i8; 16];
        levels.fill_with(|| rng.random_range(-MAX_LEVEL..=MAX_LEVEL));
        let scales: [f32; SCALES] = std::array::from_fn(|_| rng.random_range(0.0..0.01));
        let centroids: Vec<u16> = (0..n).map(|_| rng.random_range(0..c as u16)).collect();
        let factors: Vec<u16> = (0..n).map(|_| rng.random()).collect();
        let codes: Vec<u8> = (0..n * code_bytes(dim, bits)).map(|_| rng.random()).collect();
        let fine: Vec<u8> = (0..n * code_bytes(dim, FINE_BITS)).map(|_| rng.random()).collect();
        let tokens = ResidualTokens {
            bits, dim, levels: &levels, scales: &scales, centroids: &centroids, factors: &factors, codes: &codes, fine: &fine,
        };
        let (mut want, mut scratch) = (vec![0.0; lanes], Scratch::new());
        scalar().max_residual_dots(&tokens, &query, &table, &mut scratch, &mut want);
        for twin in twins() {
            let mut got_table = vec![0.0; c * lanes];
            twin.byte_dots(&bytes, &byte_scales, &query, &mut got_table);
            prop_assert_eq!(&table, &got_table, "{}", twin.isa().name());
            let mut got = vec![0.0; lanes];
            twin.max_residual_dots(&tokens, &query, &table, &mut scratch, &mut got);
            prop_assert_eq!(&want, &got, "{}", twin.isa().name());
            let steps = FineSteps { steps: std::array::from_fn(|i| i as u8 * 17), unit: 0.01 };
            let (mut want_rows, mut got_rows) = (vec![0; n * dim], vec![1; n * dim]);
            scalar().decode_fine(&tokens, &steps, (&bytes, &byte_scales), &mut scratch, &mut want_rows);
            twin.decode_fine(&tokens, &steps, (&bytes, &byte_scales), &mut scratch, &mut got_rows);
            prop_assert_eq!(&want_rows, &got_rows, "{}", twin.isa().name());
            let words = QueryI16::new(&rows, dim);
            let (mut want_dots, mut got_dots) = (vec![0; lanes], vec![1; lanes]);
            scalar().max_word_dots(&want_rows, &words, &mut want_dots);
            twin.max_word_dots(&want_rows, &words, &mut got_dots);
            prop_assert_eq!(want_dots, got_dots, "{}", twin.isa().name());
            scalar().max_estimates(&centroids, &factors, &estimates, &table, &mut want);
            twin.max_estimates(&centroids, &factors, &estimates, &table, &mut got);
            prop_assert_eq!(&want, &got, "{}", twin.isa().name());
            scalar().max_residual_dots(&tokens, &query, &table, &mut scratch, &mut want);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_largest_are_found(seed: u64, n in 0usize..40, lanes in 1usize..5) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let lanes = lanes * LANES;
        let dots = random(&mut rng, n * lanes);
        for &isa in Isa::ALL {
            let Some(kernels) = Kernels::for_isa(isa) else { continue };
            let mut ids = vec![7; LARGEST * lanes];
            kernels.largest(&dots, &mut ids);
            for lane in 0..lanes {
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by(|&a, &b| dots[b * lanes + lane].total_cmp(&dots[a * lanes + lane]));
                order.resize(n.max(LARGEST), 0);
                for rank in 0..LARGEST {
                    prop_assert_eq!(ids[rank * lanes + lane] as usize, order[rank], "{}", isa.name());
                }
            }
        }
    }

    /// Codes are the nearest levels, and all twins return the same sums.
    #[test]
    fn quantising_finds_the_nearest_level(seed: u64, levels in 1usize..=16, d in 1usize..70, inverse_scale in 0.0f32..200.0) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut levels: Vec<i8> = (0..levels).map(|_| rng.random_range(-MAX_LEVEL..=MAX_LEVEL)).collect();
        levels.sort_unstable();
        levels.dedup();
        let table = LevelTable::new(&levels);
        let (values, other) = (random(&mut rng, d), random(&mut rng, d));
        let (mut want, mut want_residual) = (vec![0; d], vec![0.0; d]);
        let sums = scalar().quantise(&values, &other, inverse_scale, &table, &mut want);
        let squares = scalar().residual(&values, &other, &mut want_residual);
        let (mut dot, mut square, mut other_dot) = (0.0, 0.0, 0.0);
        for ((&code, x), y) in want.iter().zip(&values).zip(&other) {
            let level = f32::from(levels[usize::from(code)]);
            let distance = |level: &i8| (f32::from(*level) - x * inverse_scale).abs();
            let nearest = levels.iter().map(distance).fold(f32::INFINITY, f32::min);
            prop_assert!(distance(&levels[usize::from(code)]) <= nearest + 1e-4);
            dot += level * x;
            square += level * level;
            other_dot += level * y;
        }
        prop_assert!((sums.level_value - dot).abs() < 0.1 && (sums.level_other - other_dot).abs() < 0.1, "{sums:?}");
        prop_assert!((sums.level_level - square).abs() < 1.0, "{sums:?}, not {square}");
        for ((r, x), y) in want_residual.iter().zip(&values).zip(&other) {
            prop_assert_eq!(*r, x - y);
        }
        let of_residual: f32 = want_residual.iter().map(|r| r * r).sum();
        prop_assert!((squares.0 - of_residual).abs() < 1e-3, "{squares:?}, not {of_residual}");
        for twin in twins() {
            let (mut got, mut got_residual) = (vec![0; d], vec![0.0; d]);
            prop_assert_eq!(twin.quantise(&values, &other, inverse_scale, &table, &mut got), sums);
            prop_assert_eq!(twin.residual(&values, &other, &mut got_residual), squares);
            prop_assert_eq!((&got, &got_residual), (&want, &want_residual));
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
    let tokens = ResidualTokens {
        bits: 4,
        dim,
        levels: &levels,
        scales: &[1.0; SCALES],
        centroids: &[0, 0],
        factors: &[pack_factors(0, 1.0); 2],
        codes: &codes,
        fine: &[],
    };
    let table = vec![0.0; LANES];
    let largest = vec![(i32::from(MAX_LEVEL) + LEVEL_OFFSET) as u8; dim];
    let want = dim as f32 * f32::from(MAX_LEVEL) * 127.0;
    for &isa in Isa::ALL {
        let Some(kernels) = Kernels::for_isa(isa) else { continue };
        let mut max = vec![0.0; LANES];
        kernels.max_residual_dots(&tokens, &query, &table, &mut Scratch::new(), &mut max);
        assert_eq!(max[0], want, "{}", isa.name());
        kernels.byte_dots(&largest, &[1.0], &query, &mut max);
        assert_eq!(max[0], want, "{}", isa.name());
    }
}

/// Dot products of 16-bit values are those of the floats, to four digits.
#[test]
fn words_are_near_the_floats() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let unit = |row: Vec<f32>| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(move |x| x / norm).collect::<Vec<_>>()
    };
    for dim in [8, 128, 1024] {
        let (token, query) = (unit(random(&mut rng, dim)), random(&mut rng, dim));
        let weight = query.iter().map(|x| x * x).sum::<f32>().sqrt();
        let words: Vec<i16> = token.iter().map(|x| (x * 16384.0).round() as i16).collect();
        let rows = QueryI16::new(&query, dim);
        let mut max = vec![0; rows.lanes()];
        scalar().max_word_dots(&words, &rows, &mut max);
        let want: f32 = token.iter().zip(&query).map(|(a, b)| a * b).sum();
        assert!((rows.sum(&max) - want).abs() < 1e-3 * weight, "{} and {want}", rows.sum(&max));
    }
}
