//! Rows coded on a device: against a plain coder in `f64`, and against the processor's.

use std::fmt;
use std::sync::{Arc, Mutex};

use cubecl::prelude::Runtime;
use latewood_engine::{
    Backend, CodedTokens, CpuBackend, DocId, Index, IndexOptions, Plan, QueryEmbeddings, RamDirectory, Ranking,
    ResidualCodec, Result, SearchParams, Searchable, Shard, TokenEmbeddings,
};
use latewood_kernels::{Client, Codec, CodecParts, Coder, CoderParts, Device, encode, rotate};
use latewood_simd::{FINE_BITS, FINE_MIDDLE, FineSteps, MAX_LEVEL, SCALES, code_bytes, unpack_codes, unpack_factors};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::gpus::{Test, on_every_gpu};
use crate::nearest::{backend, tolerance, unit_rows};
use crate::reference::rng;

/// How far a value of a row may be off once it is rotated: rows have unit length.
const ROUNDING: f64 = 2e-6;
/// How near the wanted scale lies to the border of two scales where either may be chosen: as a share of it.
const BORDER: f64 = 1e-3;

/// All that a codec says of coding.
#[derive(Clone)]
struct Coding {
    dim: usize,
    bits: u32,
    levels: [i8; 16],
    scales: [f32; SCALES],
    centroids: Vec<u8>,
    centroid_scales: Vec<f32>,
    rotation: Vec<f32>,
    scale_per_rms: f32,
    fine: Option<FineSteps>,
}

impl fmt::Debug for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.centroid_scales.len();
        write!(f, "{} dimensions of {} bits, {count} centroids, fine {}", self.dim, self.bits, self.fine.is_some())
    }
}

impl Coding {
    fn random(rng: &mut ChaCha8Rng, dim: usize, bits: u32, count: usize, fine: bool) -> Self {
        let levels = match bits {
            1 => vec![-40, 42],
            2 => vec![-63, -19, 20, 60],
            // Two are the same: neither training nor the format forbid it.
            _ => vec![-63, -49, -38, -29, -21, -14, -8, -3, 3, 3, 14, 21, 29, 38, 49, 62],
        };
        let mut all = [0; 16];
        all[..levels.len()].copy_from_slice(&levels);
        let scale_per_rms = 2.4 / f32::from(MAX_LEVEL);
        let largest = (2.0 / dim as f32).sqrt() * scale_per_rms;
        let scale = |i: usize| if i == 0 { 0.0 } else { largest * ((i as f32 - 63.0) / 8.0).exp2() };
        let steps = std::array::from_fn(|code| if code == 0 { 255 } else { 100 + code as u8 });
        let mut centroids = Vec::new();
        let mut centroid_scales = Vec::new();
        for row in unit_rows(rng, count, dim).chunks_exact(dim) {
            let most = row.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            let scale = most / f32::from(MAX_LEVEL);
            centroids.extend(row.iter().map(|x| ((x / scale).round() as i32 + 64) as u8));
            // Centroids are means: shorter than rows.
            centroid_scales.push(scale * 0.9);
        }
        Self {
            dim,
            bits,
            levels: all,
            scales: std::array::from_fn(scale),
            centroids,
            centroid_scales,
            rotation: orthogonal(rng, dim),
            scale_per_rms,
            fine: fine.then_some(FineSteps { steps, unit: 0.01 / bits as f32 }),
        }
    }

    fn of(codec: &ResidualCodec) -> Self {
        let (centroids, centroid_scales) = codec.centroids();
        Self {
            dim: codec.dim(),
            bits: codec.bits(),
            levels: *codec.levels(),
            scales: *codec.scales(),
            centroids: centroids.to_vec(),
            centroid_scales: centroid_scales.to_vec(),
            rotation: codec.rotation().to_vec(),
            scale_per_rms: codec.scale_per_rms(),
            fine: codec.fine().copied(),
        }
    }

    fn parts(&self) -> CoderParts<'_> {
        let codec = CodecParts {
            dim: self.dim,
            bits: self.bits,
            levels: &self.levels,
            scales: &self.scales,
            centroids: &self.centroids,
            centroid_scales: &self.centroid_scales,
            weights: &[1.0; SCALES],
            leans: &[0.0; SCALES],
        };
        let (rotation, scale_per_rms, fine) = (&self.rotation[..], self.scale_per_rms, self.fine.as_ref());
        CoderParts { codec, rotation, scale_per_rms, fine }
    }

    fn upload<R: Runtime>(&self, client: &Client<R>) -> Coder {
        let parts = self.parts();
        Coder::new(client, &Codec::new(client, &parts.codec).unwrap(), &parts).unwrap()
    }

    /// Unit rows near centroids, as they would come.
    fn rows(&self, rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
        let dim = self.dim;
        let mut rows = Vec::new();
        for _ in 0..count {
            let far = rng.random_range(0.02..1.2) / (dim as f64).sqrt();
            let centroid = self.centroid(rng.random_range(0..self.centroid_scales.len()));
            let turned: Vec<f64> = centroid.iter().map(|c| c + far * rng.random_range(-1.7..1.7)).collect();
            let norm = turned.iter().map(|x| x * x).sum::<f64>().sqrt();
            rows.extend(self.turn_back(&turned).into_iter().map(|x| (x / norm) as f32));
        }
        rows
    }

    fn centroid(&self, id: usize) -> Vec<f64> {
        let scale = f64::from(self.centroid_scales[id]);
        self.centroids[id * self.dim..][..self.dim].iter().map(|&byte| (f64::from(byte) - 64.0) * scale).collect()
    }

    fn turn(&self, row: &[f32]) -> Vec<f64> {
        self.rotation.chunks_exact(self.dim).map(|of| crate::nearest::dot(of, row)).collect()
    }

    fn turn_back(&self, turned: &[f64]) -> Vec<f64> {
        let mut row = vec![0.0; self.dim];
        for (x, of) in turned.iter().zip(self.rotation.chunks_exact(self.dim)) {
            row.iter_mut().zip(of).for_each(|(y, &r)| *y += x * f64::from(r));
        }
        row
    }

    /// The codes of `values` under `scale`.
    fn quantised(&self, values: &[f64], scale: f64) -> Vec<usize> {
        let levels = &self.levels[..1 << self.bits];
        let code = |x: f64| levels.windows(2).filter(|l| x > (f64::from(l[0]) + f64::from(l[1])) / 2.0).count();
        values.iter().map(|value| if scale > 0.0 { code(value / scale) } else { code(0.0) }).collect()
    }

    /// The scale that a residual wants.
    fn wanted(&self, residual: &[f64]) -> f64 {
        let square = residual.iter().map(|r| r * r).sum::<f64>();
        let guess = (square / self.dim as f64).sqrt() * f64::from(self.scale_per_rms);
        let codes = self.quantised(residual, guess);
        let levels: Vec<f64> = codes.iter().map(|&code| f64::from(self.levels[code])).collect();
        let level_level: f64 = levels.iter().map(|l| l * l).sum();
        let level_value: f64 = levels.iter().zip(residual).map(|(l, r)| l * r).sum();
        if level_level > 0.0 { level_value / level_level } else { 0.0 }
    }

    /// Whether scale `number` is the nearest to `wanted`, give or take a little.
    fn is_nearest_scale(&self, number: usize, wanted: f64) -> bool {
        let scale = |i: usize| f64::from(self.scales[i]);
        let border = |i: usize| (scale(i - 1) * scale(i)).sqrt();
        let above = number == 0 || wanted >= border(number) * (1.0 - BORDER);
        above && (number + 1 == SCALES || wanted <= border(number + 1) * (1.0 + BORDER))
    }

    /// Checks coded rows, and returns how many codes lie on the other side of a border than they should.
    fn check(&self, rows: &[f32], coded: &CodedTokens, off: f64) -> usize {
        let n = rows.len() / self.dim;
        let (plane, fine_plane) = (code_bytes(self.dim, self.bits), code_bytes(self.dim, FINE_BITS));
        let fine = if self.fine.is_some() { n * fine_plane } else { 0 };
        let sizes = [coded.centroids.len(), coded.factors.len(), coded.codes.len(), coded.fine.len()];
        assert_eq!(sizes, [n, n, n * plane, fine], "{self:?}");
        let centroids: Vec<Vec<f64>> = (0..self.centroid_scales.len()).map(|id| self.centroid(id)).collect();
        let mut astray = 0;
        for (at, row) in rows.chunks_exact(self.dim).enumerate() {
            let turned = self.turn(row);
            let id = usize::from(coded.centroids[at]);
            let dot = |centroid: &Vec<f64>| centroid.iter().zip(&turned).map(|(a, b)| a * b).sum::<f64>();
            let best = centroids.iter().map(dot).fold(f64::MIN, f64::max);
            assert!(dot(&centroids[id]) >= best - off, "row {at} of {n}, {self:?}: not the nearest");
            let residual: Vec<f64> = turned.iter().zip(&centroids[id]).map(|(x, c)| x - c).collect();
            astray += self.check_codes(&residual, &centroids[id], at, coded);
        }
        astray
    }

    fn check_codes(&self, residual: &[f64], centroid: &[f64], at: usize, coded: &CodedTokens) -> usize {
        let what = format!("row {at} of {}, {self:?}", coded.factors.len());
        let wanted = self.wanted(residual);
        let number = usize::from(coded.factors[at] >> 10);
        assert!(self.is_nearest_scale(number, wanted), "{what}: scale {number} for {wanted}");
        let scale = f64::from(self.scales[number]);
        let codes = self.unpacked(&coded.codes, at, self.bits);
        let right = self.quantised(residual, scale);
        let mut astray = 0;
        for ((&code, &right), &r) in codes.iter().zip(&right).zip(residual) {
            if code != right {
                let level = |code: usize| f64::from(self.levels[code]) * scale;
                let off = (r - level(code)).abs() - (r - level(right)).abs();
                assert!(off <= 2.0 * ROUNDING, "{what}: code {code}, not {right}, for {r} at scale {scale}");
                astray += usize::from(level(code) != level(right));
            }
        }
        let values = codes.iter().zip(centroid).map(|(&code, c)| c + f64::from(self.levels[code]) * scale);
        let square = values.map(|x| x * x).sum::<f64>();
        let inverse_norm = if square > 1e-6 { 1.0 / square.sqrt() } else { 1.0 };
        let steps = ((inverse_norm - 0.5) * 1024.0).clamp(0.0, 1023.0);
        let off = (f64::from(coded.factors[at] & 1023) - steps).abs();
        assert!(off <= 0.502, "{what}: {} steps of the norm, not {steps}", coded.factors[at] & 1023);
        let Some(fine) = &self.fine else { return astray };
        for ((fine_code, &code), r) in self.unpacked(&coded.fine, at, FINE_BITS).into_iter().zip(&codes).zip(residual) {
            let step = f64::from(f32::from(fine.steps[code]) * fine.unit);
            let x = if scale > 0.0 { r / scale } else { 0.0 };
            let exact = ((x - f64::from(self.levels[code])) / step + f64::from(FINE_MIDDLE)).clamp(0.0, 15.0);
            let slack = if scale > 0.0 { ROUNDING / scale / step } else { 0.0 } + 1e-4;
            assert!((fine_code as f64 - exact).abs() <= 0.5 + slack, "{what}: fine code {fine_code}, not {exact}");
        }
        astray
    }

    fn unpacked(&self, packed: &[u8], at: usize, bits: u32) -> Vec<usize> {
        let (plane, mut codes) = (code_bytes(self.dim, bits), vec![0; self.dim]);
        unpack_codes(&packed[at * plane..][..plane], bits, &mut codes);
        codes.into_iter().map(usize::from).collect()
    }

    /// The mean cosine of rows and what their codes stand for; with fine codes where there are some.
    fn mean_cosine(&self, rows: &[f32], coded: &CodedTokens) -> f64 {
        let cosines = rows.chunks_exact(self.dim).enumerate().map(|(at, row)| {
            let (scale, _) = unpack_factors(coded.factors[at], &self.scales);
            let codes = self.unpacked(&coded.codes, at, self.bits);
            let fine = self.fine.as_ref().map(|fine| (fine, self.unpacked(&coded.fine, at, FINE_BITS)));
            let level = |(i, &code): (usize, &usize)| {
                let more = fine.as_ref().map_or(0.0, |(steps, fine)| {
                    (fine[i] as f32 - FINE_MIDDLE) * f32::from(steps.steps[code]) * steps.unit
                });
                f64::from(f32::from(self.levels[code]) + more)
            };
            let centroid = self.centroid(usize::from(coded.centroids[at]));
            let levels = codes.iter().enumerate().map(level);
            let values: Vec<f64> = levels.zip(centroid).map(|(l, c)| c + f64::from(scale) * l).collect();
            let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            self.turn(row).iter().zip(&values).map(|(a, b)| a * b).sum::<f64>() / norm
        });
        cosines.sum::<f64>() / (rows.len() / self.dim) as f64
    }
}

/// An orthogonal matrix `[dim, dim]`: some reflections one after the other.
fn orthogonal(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let mut matrix: Vec<f64> = (0..dim * dim).map(|at| f64::from(u8::from(at / dim == at % dim))).collect();
    for mirror in unit_rows(rng, 3, dim).chunks_exact(dim) {
        let square = crate::nearest::dot(mirror, mirror);
        for row in matrix.chunks_exact_mut(dim) {
            let dot: f64 = row.iter().zip(mirror).map(|(x, &m)| x * f64::from(m)).sum();
            row.iter_mut().zip(mirror).for_each(|(x, &m)| *x -= 2.0 * dot / square * f64::from(m));
        }
    }
    matrix.into_iter().map(|x| x as f32).collect()
}

struct Case {
    coding: Coding,
    rows: Vec<f32>,
}

impl Case {
    fn new(dim: usize, bits: u32, count: usize, fine: bool, rows: usize) -> Self {
        let mut rng = rng((dim * 16 + bits as usize * 2 + count + rows) as u64);
        let coding = Coding::random(&mut rng, dim, bits, count, fine);
        Self { rows: coding.rows(&mut rng, rows), coding }
    }
}

impl Test for Case {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let coder = self.coding.upload(client);
        let rows = client.upload("rows", &self.rows).unwrap();
        let rotated = client.read(&rotate(client, &coder, &rows).unwrap()).unwrap();
        let exact = self.rows.chunks_exact(self.coding.dim).flat_map(|row| self.coding.turn(row));
        let off = rotated.iter().zip(exact).map(|(&x, y)| (f64::from(x) - y).abs()).fold(0.0, f64::max);
        assert!(off <= ROUNDING / 2.0, "rotated, off by {off}, {:?}", self.coding);
        let mut coded = CodedTokens::default();
        encode(client, &coder, &rows).unwrap().read(client, &mut coded).unwrap();
        let astray = self.coding.check(&self.rows, &coded, tolerance(client));
        let codes = self.rows.len();
        assert!(astray <= 2 + codes / 2000, "{astray} of {codes} codes astray, {:?}", self.coding);
    }
}

#[test]
fn every_shape_is_coded() {
    // Each is a kernel of its own, which takes long to compile. Of 136 and 392 dimensions some units have one less.
    for (dim, widths) in [
        (8, &[1, 2, 4][..]),
        (24, &[1, 4]),
        (64, &[2]),
        (96, &[1, 2, 4]),
        (128, &[4]),
        (136, &[2, 4]),
        (384, &[2]),
        (392, &[1]),
        (768, &[1]),
        (1024, &[4]),
    ] {
        for &bits in widths {
            on_every_gpu(&Case::new(dim, bits, 33, dim != 24, 65));
        }
    }
}

#[test]
fn any_number_of_rows_is_coded() {
    for (rows, count) in [(0, 3), (1, 1), (31, 3), (32, 600), (33, 4096), (64, 4097), (3000, 70)] {
        on_every_gpu(&Case::new(32, 4, count, true, rows));
        on_every_gpu(&Case::new(24, 1, count, false, rows));
    }
    on_every_gpu(&Case::new(128, 2, 601, true, 1000));
}

struct Odd;

impl Test for Odd {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        for bits in [1, 2, 4] {
            let mut coding = Coding::random(&mut rng(3), 16, bits, 5, true);
            // Rows that are their centroids, and one of nothing.
            let exact: Vec<f32> =
                (0..5).flat_map(|id| coding.turn_back(&coding.centroid(id))).map(|x| x as f32).collect();
            let rows = [exact, vec![0.0; 16]].concat();
            for flat in [false, true] {
                if flat {
                    // What training finds where nothing is left of any row.
                    (coding.levels, coding.scales, coding.scale_per_rms) = ([0; 16], [0.0; SCALES], 0.0);
                }
                let uploaded = client.upload("rows", &rows).unwrap();
                let mut coded = CodedTokens::default();
                encode(client, &coding.upload(client), &uploaded).unwrap().read(client, &mut coded).unwrap();
                let centroids: Vec<u16> = coded.centroids.clone();
                assert_eq!(centroids[..5], [0, 1, 2, 3, 4]);
                assert_eq!(centroids[5], 0, "of equals the first");
                if flat {
                    assert!(coded.factors.iter().all(|factors| factors >> 10 == 0));
                    coding.check(&rows, &coded, tolerance(client));
                }
            }
        }
    }
}

#[test]
fn rows_that_leave_nothing() {
    on_every_gpu(&Odd);
}

/// Shows the shards of an index.
#[derive(Debug, Default)]
struct Spy {
    cpu: CpuBackend,
    seen: Mutex<Vec<Arc<Shard>>>,
}

impl Backend for Spy {
    fn name(&self) -> String {
        "spy".into()
    }

    fn cpu(&self) -> &CpuBackend {
        &self.cpu
    }

    fn searches(&self) -> bool {
        true
    }

    fn search(&self, shards: &[Searchable<'_>], _: &[&QueryEmbeddings], _: Plan) -> Result<Option<Vec<Ranking>>> {
        self.seen.lock().unwrap().extend(shards.iter().map(|shard| shard.shard().clone()));
        Ok(None)
    }
}

/// The codec of an index that the processor has made of `rows`.
fn trained(rows: &[f32], options: IndexOptions) -> Arc<ResidualCodec> {
    let dim = options.dim;
    let spy = Arc::new(Spy::default());
    let index = Index::create(RamDirectory::new(), options).unwrap().with_backend(spy.clone());
    let mut writer = index.writer().unwrap();
    for (id, doc) in (0..).zip(rows.chunks(dim * 20)) {
        writer.add(DocId(id), TokenEmbeddings::new(doc.to_vec(), dim).unwrap().view()).unwrap();
    }
    writer.commit(None, &()).unwrap();
    let query = QueryEmbeddings::new(rows[..dim].to_vec(), dim).unwrap();
    index.searcher().unwrap().search(&query, &SearchParams::new(1)).unwrap();
    spy.seen.lock().unwrap()[0].codec().clone()
}

struct Processor;

impl Test for Processor {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        for (dim, bits, fine) in [(24, 1, true), (64, 2, false), (96, 4, true), (128, 4, false)] {
            let mut rng = rng(dim as u64);
            let made = Coding::random(&mut rng, dim, bits, 40, false);
            let rows = made.rows(&mut rng, 4000);
            let codec = trained(&rows, IndexOptions::new(dim).bits(bits).fine(fine));
            let (coding, own) = (Coding::of(&codec), codec.encode_on(&CpuBackend::new(), &rows));
            // In batches of any size the answer is the same.
            let code = |client: &Client<R>| {
                let coder = backend(client, Device::Wgpu(0)).coder(&codec).unwrap().unwrap();
                coder.code(&rows).unwrap().unwrap()
            };
            let coded = code(client);
            assert_eq!(coded, code(&client.clone().with_allocations_up_to(1 << 18)));
            coding.check(&rows, &coded, tolerance(client));

            let (ours, processors) = (coding.mean_cosine(&rows, &coded), coding.mean_cosine(&rows, &own));
            eprintln!("{coding:?}: mean cosine {ours:.6}, the processor's {processors:.6}");
            assert!(ours >= processors - 1e-4, "{coding:?}: {ours}, the processor's {processors}");
            let n = rows.len() / dim;
            let same: Vec<usize> = (0..n).filter(|&at| own.centroids[at] == coded.centroids[at]).collect();
            let plane = code_bytes(dim, bits);
            let codes = |of: &CodedTokens, at: usize| of.codes[at * plane..][..plane].to_vec();
            let alike =
                |at: &&usize| own.factors[**at] == coded.factors[**at] && codes(&own, **at) == codes(&coded, **at);
            let equal = same.iter().filter(alike).count();
            eprintln!("{} of {n} rows of one centroid, {equal} of them coded alike", same.len());
            assert!(same.len() * 100 >= n * 99 && equal * 100 >= same.len() * 99, "{coding:?}");
        }
    }
}

#[test]
fn codes_are_those_of_the_processor() {
    on_every_gpu(&Processor);
}
