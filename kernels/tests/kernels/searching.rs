//! Whole searches on a GPU beside the processor's, over the same index.

use cubecl::prelude::Runtime;
use latewood_engine::{
    DocId, Hit, Index, IndexOptions, Prefilter, QueryEmbeddings, RamDirectory, SearchParams, SearchResult, Searcher,
    TokenEmbeddings,
};
use latewood_kernels::{Client, Device, GpuBackend, GpuOptions};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use roaring::RoaringTreemap;

use crate::gpus::{Test, on_every_gpu};
use crate::reference::rng;

/// How far scores may lie apart, for each row of a query: the processor rounds a query's rows to bytes.
const TOLERANCE: f32 = 0.006;
/// So long are the rows of queries at most.
const HEAVIEST: f32 = 1.5;

fn row(dim: usize, around: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut row: Vec<f32> = (0..dim).map(|_| rng.random_range(-0.6..0.6) / (dim as f32).sqrt() * 3.0).collect();
    row[around % dim] += 1.0;
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / norm).collect()
}

fn rows(dim: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).flat_map(|_| row(dim, rng.random_range(0..1000), rng)).collect()
}

/// An index of several commits, so of several shards, with some documents deleted.
pub(crate) fn index(options: IndexOptions, dim: usize) -> Index {
    let index = Index::create(RamDirectory::new(), options).unwrap();
    let mut rng = rng(3);
    let mut writer = index.writer().unwrap();
    for commit in 0..3u64 {
        add(&mut writer, commit * 1000..commit * 1000 + 250, dim, &mut rng);
        writer.commit(None, &()).unwrap();
    }
    (0..50).for_each(|id| assert!(writer.delete(DocId(1000 + id * 3))));
    writer.commit(None, &()).unwrap();
    drop(writer);
    index
}

fn add(writer: &mut latewood_engine::IndexWriter, ids: std::ops::Range<u64>, dim: usize, rng: &mut ChaCha8Rng) {
    for id in ids {
        // One of many tokens, and some of one.
        let tokens = if id == 7 { 900 } else { rng.random_range(1..30) };
        let doc = TokenEmbeddings::new(rows(dim, tokens, rng), dim).unwrap();
        writer.add(DocId(id), doc.view()).unwrap();
    }
}

pub(crate) fn queries(dim: usize) -> Vec<QueryEmbeddings> {
    let mut rng = rng(4);
    let weighed = |count, rng: &mut ChaCha8Rng| {
        let mut values = rows(dim, count, rng);
        values.iter_mut().take(dim).for_each(|x| *x *= HEAVIEST);
        QueryEmbeddings::new(values, dim).unwrap()
    };
    [1, 5, 15, 32, 33, 70].map(|count| weighed(count, &mut rng)).into()
}

fn on<R: Runtime>(index: &Index, client: &Client<R>, budget: u64) -> (Searcher, GpuBackend) {
    let gpu = Device::Cpu.resolve().unwrap();
    let mut options = GpuOptions::new(Device::Wgpu(0));
    options.budget = Some(budget);
    let backend = GpuBackend::connect(client.clone(), &gpu, &options).unwrap();
    (index.clone().with_backend(backend.clone()).searcher().unwrap(), backend)
}

/// Both rankings hold the same documents in the same order, but for those whose scores lie so near each other that
/// rounding may exchange them.
pub(crate) fn assert_alike(found: &[Hit], expected: &[Hit], rows: usize) {
    let tolerance = TOLERANCE * HEAVIEST * rows as f32;
    assert_eq!(found.len(), expected.len());
    for (place, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a.score - b.score).abs() <= tolerance, "place {place}: {a:?} and {b:?}");
        if let Some(same) = expected.iter().find(|hit| hit.doc == a.doc) {
            assert!((a.score - same.score).abs() <= tolerance, "{a:?} and {same:?}");
        }
    }
    let last = expected.last().map_or(0.0, |hit| hit.score);
    for hit in expected.iter().filter(|hit| hit.score > last + 2.0 * tolerance) {
        assert!(found.iter().any(|other| other.doc == hit.doc), "{hit:?} is missing");
    }
}

pub(crate) fn params(k: usize, exhaustive: bool, filter: Prefilter) -> SearchParams {
    let mut params = SearchParams::new(k);
    (params.exhaustive, params.filter) = (exhaustive, filter);
    params
}

struct Everything;

impl Test for Everything {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        for (dim, bits, fine) in [(16, 4, false), (24, 1, false), (96, 2, false), (128, 4, true)] {
            let index = index(IndexOptions::new(dim).bits(bits).fine(fine), dim);
            let (queries, cpu) = (queries(dim), index.searcher().unwrap());
            let (gpu, backend) = on(&index, client, 1 << 30);
            let some: RoaringTreemap = (0..3000).step_by(7).collect();
            for filter in [Prefilter::None, Prefilter::Only(some.clone()), Prefilter::Except(some)] {
                for k in [1, 10, 2000] {
                    let params = params(k, true, filter.clone());
                    let together = gpu.search_batch(&queries, &params).unwrap();
                    for (query, together) in queries.iter().zip(together) {
                        let (found, expected) =
                            (gpu.search(query, &params).unwrap(), cpu.search(query, &params).unwrap());
                        let rows = query.values().len() / dim;
                        assert_alike(&found.hits, &expected.hits, rows);
                        assert_alike(&together.hits, &expected.hits, rows);
                        assert_eq!(found.candidates, expected.candidates);
                        assert!(found.exact_among_candidates || fine);
                    }
                }
            }
            assert_eq!(backend.status().copied, index.searcher().unwrap().info().shards.len() as u64, "copied once");
            assert!(!backend.status().streamed);
        }
    }
}

#[test]
fn rankings_are_those_of_the_processor() {
    on_every_gpu(&Everything);
}

struct Budgets;

impl Test for Budgets {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let index = index(IndexOptions::new(32), 32);
        let (queries, cpu) = (queries(32), index.searcher().unwrap());
        let (gpu, _) = on(&index, client, 1 << 30);
        let mut params = params(20, false, Prefilter::None);
        params.rescored = 100;
        let first = |result: SearchResult| result.hits[0];
        for query in &queries {
            let found = gpu.search(query, &params).unwrap();
            assert_eq!((found.rescored, found.hits.len(), found.exact_among_candidates), (100, 20, false));
            let rows = query.values().len() / 32;
            // What outlines have chosen: the best is found by either.
            let expected = first(cpu.search(query, &params).unwrap());
            assert!((found.hits[0].score - expected.score).abs() <= TOLERANCE * HEAVIEST * rows as f32);
        }
        // Filters that leave fewer than are scored.
        params.filter = Prefilter::Only((0..40).collect());
        let found = gpu.search(&queries[2], &params).unwrap();
        assert!(found.exact_among_candidates && found.rescored == 40);
        params.filter = Prefilter::Only([99_999].into());
        assert!(gpu.search(&queries[2], &params).unwrap().hits.is_empty());
    }
}

#[test]
fn outlines_choose_what_is_scored() {
    on_every_gpu(&Budgets);
}

struct Residency;

impl Test for Residency {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let index = index(IndexOptions::new(64), 64);
        let queries = queries(64);
        let params = params(10, true, Prefilter::None);
        let (whole, backend) = on(&index, client, 1 << 30);
        let expected = whole.search_batch(&queries, &params).unwrap();
        let shards = backend.status().copied;
        assert!(shards >= 3 && backend.status().resident > 0);
        // A new commit: its shard alone is copied.
        let mut writer = index.writer().unwrap();
        add(&mut writer, 5000..5100, 64, &mut rng(5));
        writer.commit(None, &()).unwrap();
        let newer = index.clone().with_backend(backend.clone()).searcher().unwrap();
        let added = newer.info().shards.len() as u64;
        newer.search(&queries[0], &params).unwrap();
        assert!(backend.status().copied <= shards + 1, "{} after {shards}, of {added}", backend.status().copied);
        // Room for one shard and a half, for none, and for parts of one.
        let bytes = backend.status().resident;
        for (budget, client) in [(bytes / 2, client.clone()), (0, client.clone().with_allocations_up_to(1 << 16))] {
            let (searcher, backend) = {
                let gpu = Device::Cpu.resolve().unwrap();
                let mut options = GpuOptions::new(Device::Wgpu(0));
                options.budget = Some(budget);
                let backend = GpuBackend::connect(client, &gpu, &options).unwrap();
                (whole_of(&index, &backend), backend)
            };
            for _ in 0..2 {
                let found = searcher.search_batch(&queries, &params).unwrap();
                assert!(backend.status().streamed && backend.status().resident <= bytes);
                assert!(searcher.backend().name().contains("copied for each search"), "{}", searcher.backend().name());
                for (found, expected) in found.iter().zip(&expected) {
                    let old: Vec<&Hit> = found.hits.iter().filter(|hit| hit.doc.0 < 5000).collect();
                    let wanted: Vec<&Hit> = expected.hits.iter().take(old.len()).collect();
                    assert_eq!(old, wanted, "to the bit: the same kernels on the same codes");
                }
            }
        }
    }
}

fn whole_of(index: &Index, backend: &GpuBackend) -> Searcher {
    index.clone().with_backend(backend.clone()).searcher().unwrap()
}

#[test]
fn an_index_may_be_larger_than_the_device() {
    on_every_gpu(&Residency);
}

struct Threads;

impl Test for Threads {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let index = index(IndexOptions::new(16), 16);
        let queries = queries(16);
        let params = params(10, true, Prefilter::None);
        let (gpu, backend) = on(&index, client, 1 << 30);
        let expected: Vec<Vec<Hit>> = queries.iter().map(|q| gpu.search(q, &params).unwrap().hits).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (query, expected) in queries.iter().zip(&expected) {
                        assert_eq!(&gpu.search(query, &params).unwrap().hits, expected);
                    }
                });
            }
        });
        assert_eq!(backend.status().failure, None);
    }
}

#[test]
fn many_threads_search_at_once() {
    on_every_gpu(&Threads);
}

struct Long;

impl Test for Long {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let index = index(IndexOptions::new(8), 8);
        let params = params(5, true, Prefilter::None);
        let of_rows = |count| QueryEmbeddings::new(rows(8, count, &mut rng(6)), 8).unwrap();
        let (gpu, backend) = on(&index, client, 1 << 30);
        let cpu = index.searcher().unwrap();
        // Several batches, and at last a query of as many rows as there can be.
        let queries = [700, 700, 300, 1200].map(of_rows);
        for (query, found) in queries.iter().zip(gpu.search_batch(&queries, &params).unwrap()) {
            assert_alike(&found.hits, &cpu.search(query, &params).unwrap().hits, query.values().len() / 8);
            // Where a query's rows lie in the lanes decides in which order they are summed.
            let alone = gpu.search(query, &params).unwrap().hits;
            let same = |a: &Hit, b: &Hit| a.doc == b.doc && (a.score - b.score).abs() <= 1e-6 * b.score.abs();
            assert!(found.hits.iter().zip(&alone).all(|(a, b)| same(a, b)), "{found:?}, {alone:?}");
        }
        let longest = of_rows(latewood_kernels::MAX_ROWS);
        assert_alike(
            &gpu.search(&longest, &params).unwrap().hits,
            &cpu.search(&longest, &params).unwrap().hits,
            latewood_kernels::MAX_ROWS,
        );
        assert_eq!(backend.status().failure, None);
    }
}

#[test]
fn long_queries_do_not_cost_the_device() {
    on_every_gpu(&Long);
}

struct TooSmall;

impl Test for TooSmall {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let index = index(IndexOptions::new(16), 16);
        let query = &queries(16)[2];
        let params = params(10, true, Prefilter::None);
        let expected = index.searcher().unwrap().search(query, &params).unwrap().hits;
        // The codec alone does not fit one allocation.
        let small = client.clone().with_allocations_up_to(256);
        let open = |asked| {
            let options = GpuOptions::new(asked);
            GpuBackend::connect(small.clone(), &Device::Cpu.resolve().unwrap(), &options).unwrap()
        };
        let named = open(Device::Wgpu(0));
        let error = whole_of(&index, &named).search(query, &params).unwrap_err().to_string();
        assert!(error.contains("bytes in one piece"), "{error}");
        let auto = open(Device::Auto);
        let searcher = whole_of(&index, &auto);
        for _ in 0..2 {
            assert_eq!(searcher.search(query, &params).unwrap().hits, expected, "the processor's");
        }
        assert!(auto.status().failure.is_some_and(|reason| reason.contains("in one piece")));
        assert!(searcher.backend().name().starts_with("cpu"), "{}", searcher.backend().name());
    }
}

#[test]
fn a_device_that_fails_says_so_or_leaves_it_to_the_processor() {
    on_every_gpu(&TooSmall);
}
