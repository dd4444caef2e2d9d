//! The kernels alone, on data that stays in cache: `cargo bench -p latewood-simd`.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use latewood_simd::{
    Estimates, Isa, Kernels, LevelTable, QueryF32, QueryI8, QueryI16, ResidualTokens, SCALES, Scratch, code_bytes,
    pack_factors,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIM: usize = 128;
const CENTROIDS: usize = 4096;
const TOKENS: usize = 76;

fn kernels(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let bytes: Vec<u8> = (0..CENTROIDS * DIM).map(|_| rng.random_range(1..128)).collect();
    let byte_scales = vec![0.01; CENTROIDS];
    let levels: [i8; 16] = std::array::from_fn(|i| i as i8 * 8 - 60);
    let centroids: Vec<u16> = (0..TOKENS).map(|_| rng.random_range(0..CENTROIDS as u16)).collect();
    let factors = vec![pack_factors(40, 1.0); TOKENS];
    let floats: Vec<f32> = (0..TOKENS * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    for rows in [8, 18, 32] {
        let query: Vec<f32> = (0..rows * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let (query_i8, query_f32) = (QueryI8::new(&query, DIM), QueryF32::new(&query, DIM));
        let lanes = query_i8.lanes();
        let mut table = vec![0.0; CENTROIDS * lanes];
        let mut max = vec![0.0; lanes];
        for &isa in Isa::ALL {
            let Some(kernels) = Kernels::for_isa(isa) else { continue };
            let name =
                |kernel: &str| BenchmarkId::new(format!("{kernel}/{}", isa.name()), format!("{rows} query rows"));
            let mut group = c.benchmark_group("centroids");
            group.throughput(Throughput::Elements(CENTROIDS as u64));
            group.bench_function(name("byte_dots"), |b| {
                b.iter(|| kernels.byte_dots(black_box(&bytes), &byte_scales, &query_i8, &mut table));
            });
            group.finish();
            let mut group = c.benchmark_group("tokens");
            group.throughput(Throughput::Elements(TOKENS as u64));
            for bits in [1, 2, 4] {
                let codes: Vec<u8> = (0..TOKENS * code_bytes(DIM, bits)).map(|_| rng.random()).collect();
                let tokens = ResidualTokens {
                    bits,
                    dim: DIM,
                    levels: &levels,
                    scales: &[0.001; SCALES],
                    centroids: &centroids,
                    factors: &factors,
                    codes: &codes,
                    fine: &[],
                };
                let mut scratch = Scratch::new();
                group.bench_function(name(&format!("max_residual_dots {bits} bits")), |b| {
                    b.iter(|| kernels.max_residual_dots(black_box(&tokens), &query_i8, &table, &mut scratch, &mut max));
                });
            }
            let estimates = Estimates::new([0.9; SCALES], vec![0.1; SCALES * lanes]);
            group.bench_function(name("max_estimates"), |b| {
                b.iter(|| kernels.max_estimates(black_box(&centroids), &factors, &estimates, &table, &mut max));
            });
            let (words, mut max_words) = (QueryI16::new(&query, DIM), vec![0; lanes]);
            let decoded: Vec<i16> = (0..TOKENS * DIM).map(|_| rng.random_range(-3000..3000)).collect();
            group.bench_function(name("max_word_dots"), |b| {
                b.iter(|| kernels.max_word_dots(black_box(&decoded), &words, &mut max_words));
            });
            group.bench_function(name("max_dots f32"), |b| {
                b.iter(|| kernels.max_dots(black_box(&floats), &query_f32, &mut max));
            });
            group.finish();
        }
    }
}

fn quantise(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let values: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut codes = [0; DIM];
    let mut group = c.benchmark_group("quantise");
    group.throughput(Throughput::Elements(1));
    for (bits, levels) in [(1, 2), (2, 4), (4, 16)] {
        let levels: Vec<i8> = (0..levels).map(|i: i32| (i * 120 / levels - 60) as i8).collect();
        let table = LevelTable::new(&levels);
        for &isa in Isa::ALL {
            let Some(kernels) = Kernels::for_isa(isa) else { continue };
            group.bench_function(BenchmarkId::new(isa.name(), format!("{bits} bits")), |b| {
                b.iter(|| kernels.quantise(black_box(&values), &values, 50.0, &table, &mut codes));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, kernels, quantise);
criterion_main!(benches);
