//! Random codecs, documents and queries, and what their scores should be.

use latewood_kernels::{CodecParts, ShardParts};
use latewood_simd::{
    LEVEL_OFFSET, MAX_LEVEL, SCALES, code_bytes, pack_codes, pack_factors, unpack_codes, unpack_factors,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A codec, and documents coded with it.
pub(crate) struct Coded {
    pub(crate) dim: usize,
    pub(crate) bits: u32,
    pub(crate) levels: [i8; 16],
    pub(crate) scales: [f32; SCALES],
    pub(crate) centroids: Vec<u8>,
    pub(crate) centroid_scales: Vec<f32>,
    pub(crate) weights: [f32; SCALES],
    pub(crate) leans: [f32; SCALES],
    pub(crate) offsets: Vec<u32>,
    pub(crate) ids: Vec<u16>,
    pub(crate) factors: Vec<u16>,
    pub(crate) codes: Vec<u8>,
}

impl Coded {
    /// Documents of `lens` tokens.
    pub(crate) fn random(rng: &mut ChaCha8Rng, dim: usize, bits: u32, count: usize, lens: &[usize]) -> Self {
        let tokens: usize = lens.iter().sum();
        let mut levels = [0i8; 16];
        levels[..1 << bits].fill_with(|| rng.random_range(-MAX_LEVEL..=MAX_LEVEL));
        levels[..1 << bits].sort_unstable();
        let mut packed = vec![0; code_bytes(dim, bits)];
        let mut codes = Vec::new();
        for _ in 0..tokens {
            let token: Vec<u8> = (0..dim).map(|_| rng.random_range(0..1 << bits)).collect();
            pack_codes(&token, bits, &mut packed);
            codes.extend_from_slice(&packed);
        }
        let ends = lens.iter().scan(0, |end, &len| {
            *end += len as u32;
            Some(*end)
        });
        Self {
            dim,
            bits,
            levels,
            scales: std::array::from_fn(|i| i as f32 * 0.0003),
            centroids: (0..count * dim).map(|_| rng.random_range(1..=127)).collect(),
            centroid_scales: (0..count).map(|_| rng.random_range(0.001..0.003)).collect(),
            weights: std::array::from_fn(|i| 1.0 - i as f32 * 0.01),
            leans: std::array::from_fn(|i| i as f32 * 0.004),
            offsets: std::iter::once(0).chain(ends).collect(),
            ids: (0..tokens).map(|_| rng.random_range(0..count) as u16).collect(),
            factors: (0..tokens)
                .map(|_| pack_factors(rng.random_range(0..SCALES), rng.random_range(0.5..1.5)))
                .collect(),
            codes,
        }
    }

    pub(crate) fn codec(&self) -> CodecParts<'_> {
        CodecParts {
            dim: self.dim,
            bits: self.bits,
            levels: &self.levels,
            scales: &self.scales,
            centroids: &self.centroids,
            centroid_scales: &self.centroid_scales,
            weights: &self.weights,
            leans: &self.leans,
        }
    }

    pub(crate) fn shard(&self) -> ShardParts<'_> {
        ShardParts { offsets: &self.offsets, centroids: &self.ids, factors: &self.factors, codes: &self.codes }
    }

    pub(crate) fn tokens_of(&self, doc: usize) -> std::ops::Range<usize> {
        self.offsets[doc] as usize..self.offsets[doc + 1] as usize
    }

    pub(crate) fn centroid(&self, id: usize) -> Vec<f64> {
        let scale = f64::from(self.centroid_scales[id]);
        let bytes = &self.centroids[id * self.dim..][..self.dim];
        bytes.iter().map(|&byte| scale * f64::from(i32::from(byte) - LEVEL_OFFSET)).collect()
    }

    fn token(&self, t: usize) -> Vec<f64> {
        let bytes = code_bytes(self.dim, self.bits);
        let mut codes = vec![0; self.dim];
        unpack_codes(&self.codes[t * bytes..][..bytes], self.bits, &mut codes);
        let (scale, inverse_norm) = unpack_factors(self.factors[t], &self.scales);
        let (scale, inverse_norm) = (f64::from(scale), f64::from(inverse_norm));
        let mut token = self.centroid(usize::from(self.ids[t]));
        for (x, &code) in token.iter_mut().zip(&codes) {
            *x = (*x + scale * f64::from(self.levels[usize::from(code)])) * inverse_norm;
        }
        token
    }

    /// MaxSim of a document.
    pub(crate) fn score(&self, doc: usize, query: &[f32]) -> Score {
        let tokens: Vec<Vec<f64>> = self.tokens_of(doc).map(|t| self.token(t)).collect();
        max_sim(&tokens, query, self.dim)
    }

    /// How far a document's score may be off by its rows having 11 bits, and its centroids' scores 16.
    pub(crate) fn rounding(&self, doc: usize, query: &[f32]) -> f64 {
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        // Half a step, at most 1 / 32766 of the product of the lengths, and half a one for rows that share a word.
        let reach = (0..self.centroid_scales.len()).map(|id| length(&mut self.centroid(id).into_iter()));
        let reach = reach.fold(0.0, f64::max);
        let rows = query.chunks_exact(self.dim).map(|row| {
            let near = reach * length(&mut row.iter().map(|&x| f64::from(x))) / 16383.0;
            let most = row.iter().map(|&x| f64::from(x.abs())).sum::<f64>() * f64::from(MAX_LEVEL) / 2048.0;
            let tokens = self.tokens_of(doc).map(|t| unpack_factors(self.factors[t], &self.scales));
            let off = tokens.map(|(scale, inverse)| (near + most * f64::from(scale)) * f64::from(inverse));
            off.fold(0.0, f64::max)
        });
        rows.sum()
    }

    /// How far a score by outlines may be off by centroids' scores being bytes, and guesses having 11 bits.
    pub(crate) fn guessing(&self, query: &[f32]) -> f64 {
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let reach = (0..self.centroid_scales.len()).map(|id| length(&mut self.centroid(id).into_iter()));
        let reach = reach.fold(0.0, f64::max);
        let largest = |values: &[f32]| f64::from(values.iter().fold(0.0, |most: f32, x| most.max(x.abs())));
        let (weight, lean) = (largest(&self.weights), largest(&self.leans));
        let off = reach * weight / 254.0 + (reach * weight + lean) / 1024.0;
        let rows = query.chunks_exact(self.dim).map(|row| length(&mut row.iter().map(|&x| f64::from(x))) * off);
        rows.sum()
    }

    /// A document's score by its outlines.
    pub(crate) fn outline(&self, doc: usize, query: &[f32]) -> Score {
        let rows = query.chunks_exact(self.dim).map(|row| {
            let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let guesses = self.tokens_of(doc).map(|t| {
                let scale = usize::from(self.factors[t] >> 10);
                let near = product(&self.centroid(usize::from(self.ids[t])), row);
                let lean = length * f64::from(self.leans[scale]);
                (near.0 * f64::from(self.weights[scale]) + lean, near.1 + lean)
            });
            guesses.fold((f64::MIN, 0.0f64), |a, b| (a.0.max(b.0), a.1.max(b.1)))
        });
        rows.fold(Score::default(), Score::plus)
    }
}

/// A score, and the sizes of the products it is a sum of: how far rounding may take it grows with them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    pub(crate) value: f64,
    size: f64,
    /// How far it may be off besides.
    slack: f64,
}

impl Score {
    pub(crate) fn with_slack(self, slack: f64) -> Self {
        Self { slack, ..self }
    }

    fn plus(self, (value, size): (f64, f64)) -> Self {
        Self { value: self.value + value, size: self.size + size, ..self }
    }

    pub(crate) fn check(self, got: f32, what: impl Fn() -> String) {
        let off = (f64::from(got) - self.value).abs();
        assert!(off <= 3e-6 * self.size + self.slack, "{}: {got}, not {} (sizes {})", what(), self.value, self.size);
    }
}

/// A dot product, and the same of the absolute values.
pub(crate) fn product(token: &[f64], row: &[f32]) -> (f64, f64) {
    let products = token.iter().zip(row).map(|(x, &y)| x * f64::from(y));
    products.fold((0.0, 0.0), |sum, x| (sum.0 + x, sum.1 + x.abs()))
}

/// The sum, over the rows, of the largest product with a token.
pub(crate) fn max_sim(tokens: &[Vec<f64>], query: &[f32], dim: usize) -> Score {
    let rows = query.chunks_exact(dim).map(|row| {
        let products = tokens.iter().map(|token| product(token, row));
        products.fold((f64::MIN, 0.0f64), |a, b| (a.0.max(b.0), a.1.max(b.1)))
    });
    rows.fold(Score::default(), Score::plus)
}

/// Rows that bytes express exactly: multiples of 1/1024 up to 127 of them, which each row reaches.
pub(crate) fn query(rng: &mut ChaCha8Rng, rows: usize, dim: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..rows * dim).map(|_| rng.random_range(-127i32..=127) as f32 / 1024.0).collect();
    for row in values.chunks_exact_mut(dim) {
        row[rng.random_range(0..dim)] = 127.0 / 1024.0;
    }
    values
}
