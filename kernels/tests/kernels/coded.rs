//! Compressed documents: centroids, outlines and codes.

use cubecl::prelude::Runtime;
use latewood_kernels::{Client, Codec, CodecParts, GpuError, LANES, Queries, Shard, outline, residual, table};
use latewood_simd::{Estimates, Isa, Kernels, QueryI8, ResidualTokens, SCALES, Scratch, code_bytes};
use rand::RngExt;

use crate::gpus::{Test, on_every_gpu};
use crate::reference::{Coded, Score, product, query, rng};

/// Documents of a shard, which of them are scored, and with which queries.
struct Case {
    coded: Coded,
    docs: Vec<u32>,
    queries: Vec<Vec<f32>>,
}

impl Case {
    fn new(seed: u64, dim: usize, bits: u32, lens: &[usize], rows: &[usize]) -> Self {
        let mut rng = rng(seed);
        let coded = Coded::random(&mut rng, dim, bits, 70, lens);
        let mut docs: Vec<u32> = (0..lens.len() as u32).collect();
        docs.reverse();
        docs.push(rng.random_range(0..lens.len()) as u32);
        let queries = rows.iter().map(|&rows| query(&mut rng, rows, dim)).collect();
        Self { coded, docs, queries }
    }

    fn what(&self, kernel: &str, doc: u32, q: usize) -> String {
        let rows = self.queries[q].len() / self.coded.dim;
        let tokens = self.coded.tokens_of(doc as usize).len();
        let Coded { dim, bits, .. } = self.coded;
        format!("{kernel}, {dim} dimensions of {bits} bits, {tokens} tokens, query {q} of {rows} rows")
    }

    /// Compares `[queries, docs]` with what `reference` and `twin` say of a document and a query.
    fn check(
        &self,
        kernel: &str,
        got: &[f32],
        reference: impl Fn(usize, &[f32]) -> Score,
        twin: impl Fn(usize, &QueryI8) -> f32,
    ) {
        assert_eq!(got.len(), self.queries.len() * self.docs.len());
        for (q, (query, got)) in self.queries.iter().zip(got.chunks(self.docs.len().max(1))).enumerate() {
            let bytes = QueryI8::new(query, self.coded.dim);
            for (&doc, &got) in self.docs.iter().zip(got) {
                let want = reference(doc as usize, query);
                want.check(got, || self.what(kernel, doc, q));
                want.check(twin(doc as usize, &bytes), || self.what(&format!("the processor's {kernel}"), doc, q));
            }
        }
    }
}

impl Case {
    fn upload<R: Runtime>(&self, client: &Client<R>) -> (Codec, Shard) {
        let codec = Codec::new(client, &self.coded.codec()).unwrap();
        let shard = Shard::new(client, &codec, &self.coded.shard()).unwrap();
        (codec, shard)
    }

    fn score<R: Runtime>(&self, client: &Client<R>, codec: &Codec, shard: &Shard) {
        let coded = &self.coded;
        let rows: Vec<&[f32]> = self.queries.iter().map(Vec::as_slice).collect();
        let queries = Queries::rotated(client, codec, &rows).unwrap();
        let docs = client.upload("documents", &self.docs).unwrap();

        let table = table(client, codec, &queries).unwrap();
        let scores: Vec<f32> = table.pieces().flat_map(|piece| client.read(piece).unwrap()).collect();
        check_table(coded, &rows.concat(), &scores);

        let plain = client.clone().without_matrix_units();
        let got = plain.read(&outline(&plain, codec, shard, &queries, &table, &docs).unwrap()).unwrap();
        let twin = |doc: usize, query: &QueryI8| twin_outline(coded, doc, query);
        self.check("outline", &got, |doc, query| coded.outline(doc, query), twin);

        let got = plain.read(&residual(&plain, codec, shard, &queries, &table, &docs).unwrap()).unwrap();
        self.check("residual", &got, |doc, query| coded.score(doc, query), |doc, query| twin_score(coded, doc, query));

        if let Err(reason) = client.matrix_units() {
            return eprintln!("NOT TESTED, matrix units: {reason}");
        }
        let got = client.read(&outline(client, codec, shard, &queries, &table, &docs).unwrap()).unwrap();
        let rounded = |doc: usize, query: &[f32]| coded.outline(doc, query).with_slack(coded.guessing(query));
        self.check("outline by planes", &got, rounded, twin);
        let got = client.read(&residual(client, codec, shard, &queries, &table, &docs).unwrap()).unwrap();
        self.check(
            "residual with matrix units",
            &got,
            |doc, query| coded.score(doc, query).with_slack(coded.rounding(doc, query)),
            |doc, query| twin_score(coded, doc, query),
        );
    }
}

impl Test for Case {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let (codec, shard) = self.upload(client);
        self.score(client, &codec, &shard);
    }
}

/// `got` is `[blocks, centroids, LANES]`.
fn check_table(coded: &Coded, rows: &[f32], got: &[f32]) {
    let count = coded.centroid_scales.len();
    for (i, row) in rows.chunks_exact(coded.dim).enumerate() {
        for c in 0..count {
            let (value, size) = product(&coded.centroid(c), row);
            let got = got[(i / LANES * count + c) * LANES + i % LANES];
            assert!((f64::from(got) - value).abs() <= 3e-6 * size, "row {i}, centroid {c}: {got}, not {value}");
        }
    }
}

fn scalar() -> &'static Kernels {
    Kernels::for_isa(Isa::Scalar).unwrap()
}

fn twin_table(coded: &Coded, query: &QueryI8) -> Vec<f32> {
    let mut table = vec![0.0; coded.centroid_scales.len() * query.lanes()];
    scalar().byte_dots(&coded.centroids, &coded.centroid_scales, query, &mut table);
    table
}

fn in_units(query: &QueryI8, maxima: &[f32]) -> f32 {
    maxima.iter().zip(query.scales()).take(query.rows()).map(|(x, unit)| x * unit).sum()
}

fn twin_outline(coded: &Coded, doc: usize, query: &QueryI8) -> f32 {
    let lengths = query.lengths();
    let bonuses = (0..SCALES).flat_map(|scale| lengths.iter().map(move |length| length * coded.leans[scale]));
    let estimates = Estimates::new(coded.weights, bonuses.collect());
    let tokens = coded.tokens_of(doc);
    let (ids, factors) = (&coded.ids[tokens.clone()], &coded.factors[tokens]);
    let mut maxima = vec![0.0; query.lanes()];
    scalar().max_estimates(ids, factors, &estimates, &twin_table(coded, query), &mut maxima);
    in_units(query, &maxima)
}

fn twin_score(coded: &Coded, doc: usize, query: &QueryI8) -> f32 {
    let tokens = coded.tokens_of(doc);
    let bytes = code_bytes(coded.dim, coded.bits);
    let residual = ResidualTokens {
        bits: coded.bits,
        dim: coded.dim,
        levels: &coded.levels,
        scales: &coded.scales,
        centroids: &coded.ids[tokens.clone()],
        factors: &coded.factors[tokens.clone()],
        codes: &coded.codes[tokens.start * bytes..tokens.end * bytes],
        fine: &[],
    };
    let mut maxima = vec![0.0; query.lanes()];
    scalar().max_residual_dots(&residual, query, &twin_table(coded, query), &mut Scratch::new(), &mut maxima);
    in_units(query, &maxima)
}

const LENS: &[usize] = &[1, 40, 1, 5, 31, 32, 33, 65, 1];

#[test]
fn every_dimension_and_width() {
    for (seed, dim) in (0..).zip([8, 24, 96, 128, 384, 768, 1024]) {
        for bits in [1, 2, 4] {
            on_every_gpu(&Case::new(seed, dim, bits, LENS, &[33]));
        }
    }
}

#[test]
fn queries_of_every_length_alone() {
    for rows in [1, 15, 32, 33, 100] {
        on_every_gpu(&Case::new(rows as u64, 24, 4, LENS, &[rows]));
    }
}

#[test]
fn queries_in_a_batch() {
    on_every_gpu(&Case::new(1, 24, 2, LENS, &[1, 15, 32, 33, 100, 1, 1, 1, 29, 64, 3]));
    on_every_gpu(&Case::new(2, 8, 4, &[3, 50], &[1; 200]));
    on_every_gpu(&Case::new(3, 8, 1, &[3, 50], &[latewood_kernels::MAX_ROWS, 7]));
}

/// A device that takes the table of two blocks of rows at a time.
struct InPieces(Case);

impl Test for InPieces {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        self.0.run(&client.clone().with_allocations_up_to(20_000));
    }
}

#[test]
fn a_table_in_pieces() {
    on_every_gpu(&InPieces(Case::new(4, 24, 4, LENS, &[40, 90, 20])));
}

/// One shard, searched by several threads at once.
struct Together(Case);

impl Test for Together {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let (codec, shard) = &self.0.upload(client);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| (0..4).for_each(|_| self.0.score(client, codec, shard)));
            }
        });
    }
}

#[test]
fn searches_at_the_same_time() {
    on_every_gpu(&Together(Case::new(5, 24, 2, LENS, &[20, 33])));
}

#[test]
fn a_huge_document() {
    on_every_gpu(&Case::new(1, 24, 4, &[2, 12_345, 1], &[9]));
}

#[test]
fn no_document() {
    let mut case = Case::new(1, 24, 4, LENS, &[9, 1]);
    case.docs.clear();
    on_every_gpu(&case);
}

/// Documents whose tokens name centroids that a codec lacks.
struct Fewer(Case);

impl Test for Fewer {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let (_, shard) = self.0.upload(client);
        let coded = &self.0.coded;
        let count = coded.centroid_scales.len() - 1;
        let (centroids, centroid_scales) = (&coded.centroids[..count * coded.dim], &coded.centroid_scales[..count]);
        let fewer = Codec::new(client, &CodecParts { centroids, centroid_scales, ..coded.codec() }).unwrap();
        let queries = Queries::rotated(client, &fewer, &[&self.0.queries[0]]).unwrap();
        let (table, docs) = (table(client, &fewer, &queries).unwrap(), client.upload("documents", &[0u32]).unwrap());
        let refused = residual(client, &fewer, &shard, &queries, &table, &docs);
        assert!(matches!(refused, Err(GpuError::Mismatch(_))), "{refused:?}");
        let refused = outline(client, &fewer, &shard, &queries, &table, &docs);
        assert!(matches!(refused, Err(GpuError::Mismatch(_))), "{refused:?}");
    }
}

#[test]
fn a_codec_without_all_centroids_is_refused() {
    on_every_gpu(&Fewer(Case::new(6, 24, 4, &[3, 50], &[9])));
}
