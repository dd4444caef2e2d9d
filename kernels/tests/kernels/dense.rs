//! Documents that are not compressed.

use cubecl::prelude::Runtime;
use half::f16;
use latewood_kernels::{Client, DenseTokens, Queries, dense};
use latewood_simd::{Isa, Kernels, QueryF32};
use rand::RngExt;

use crate::gpus::{Test, on_every_gpu};
use crate::reference::{max_sim, query, rng};

struct Case {
    dim: usize,
    offsets: Vec<u32>,
    values: Vec<f16>,
    queries: Vec<Vec<f32>>,
}

impl Case {
    fn new(seed: u64, dim: usize, lens: &[usize], rows: &[usize]) -> Self {
        let mut rng = rng(seed);
        let mut offsets = vec![0];
        lens.iter().for_each(|&len| offsets.push(offsets[offsets.len() - 1] + len as u32));
        let tokens: usize = lens.iter().sum();
        let values = (0..tokens * dim).map(|_| f16::from_f32(rng.random_range(-0.2..0.2))).collect();
        let queries = rows.iter().map(|&rows| query(&mut rng, rows, dim)).collect();
        Self { dim, offsets, values, queries }
    }

    fn check(&self, got: &[f32], kind: &str) {
        let kernels = Kernels::for_isa(Isa::Scalar).unwrap();
        let docs = self.offsets.len() - 1;
        assert_eq!(got.len(), self.queries.len() * docs);
        for (query, got) in self.queries.iter().zip(got.chunks_exact(docs)) {
            let twin = QueryF32::new(query, self.dim);
            for (range, &got) in self.offsets.windows(2).zip(got) {
                let values = &self.values[range[0] as usize * self.dim..range[1] as usize * self.dim];
                if values.is_empty() {
                    assert!(got < -1e20, "no tokens: {got}");
                    continue;
                }
                let tokens: Vec<Vec<f64>> =
                    values.chunks_exact(self.dim).map(|row| row.iter().copied().map(f64::from).collect()).collect();
                let want = max_sim(&tokens, query, self.dim);
                want.check(got, || format!("{kind}, {} dimensions, tokens {range:?}", self.dim));
                let mut maxima = vec![0.0; twin.lanes()];
                let values: Vec<f32> = values.iter().map(|x| x.to_f32()).collect();
                kernels.max_dots(&values, &twin, &mut maxima);
                want.check(maxima[..twin.rows()].iter().sum(), || "the processor's".into());
            }
        }
    }
}

impl Test for Case {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let rows: Vec<&[f32]> = self.queries.iter().map(Vec::as_slice).collect();
        let queries = Queries::new(client, self.dim, &rows).unwrap();
        let docs: Vec<u32> = (0..self.offsets.len() as u32 - 1).collect();
        let docs = client.upload("documents", &docs).unwrap();

        let values: Vec<f32> = self.values.iter().map(|x| x.to_f32()).collect();
        let tokens = DenseTokens::new(client, self.dim, &self.offsets, &values).unwrap();
        self.check(&client.read(&dense(client, &tokens, &queries, &docs).unwrap()).unwrap(), "f32");

        match DenseTokens::new(client, self.dim, &self.offsets, &self.values) {
            Ok(tokens) => self.check(&client.read(&dense(client, &tokens, &queries, &docs).unwrap()).unwrap(), "f16"),
            Err(error) => eprintln!("NOT TESTED: {error}"),
        }
    }
}

#[test]
fn every_dimension() {
    for (seed, dim) in (0..).zip([8, 24, 96, 128, 384, 768, 1024]) {
        on_every_gpu(&Case::new(seed, dim, &[1, 40, 0, 1, 33, 32], &[1, 32, 33]));
    }
}

#[test]
fn a_huge_document() {
    on_every_gpu(&Case::new(7, 24, &[1, 10_001, 2], &[15]));
}
