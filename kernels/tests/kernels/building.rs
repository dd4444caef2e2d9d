//! Indexes built on a device.

use std::collections::HashSet;

use cubecl::prelude::Runtime;
use latewood_engine::exact::ExactSearch;
use latewood_engine::{
    Backend, CpuBackend, DocId, Error, Index, IndexOptions, QueryEmbeddings, RamDirectory, SearchParams, Searcher,
    TokenEmbeddings,
};
use latewood_kernels::{Client, Device};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::gpus::{Test, on_every_gpu};
use crate::nearest::{backend, dot, unit_rows};
use crate::reference::rng;

pub(crate) const DIM: usize = 32;
const WORDS: usize = 300;
const K: usize = 10;
/// How much less of the exact best an index from a device may find than one from the processor, whose centroids are
/// others: of a thousand places.
const LESS_RECALL: f64 = 0.02;
/// How much farther its rows may lie from those that went in, by their mean cosine.
const LESS_COSINE: f64 = 1e-3;

/// Documents of words, each use of a word a little off; with the words' numbers.
pub(crate) struct Collection {
    pub(crate) docs: Vec<(DocId, TokenEmbeddings)>,
    pub(crate) queries: Vec<QueryEmbeddings>,
}

impl Collection {
    pub(crate) fn new(docs: u64, seed: u64) -> Self {
        let mut rng = rng(seed);
        let words = unit_rows(&mut rng, WORDS, DIM);
        let topic = |rng: &mut ChaCha8Rng| rng.random_range(0..WORDS / 10) * 10;
        let word = |topic: usize, rng: &mut ChaCha8Rng| {
            if rng.random_bool(0.5) { topic + rng.random_range(0..10) } else { rng.random_range(0..WORDS) }
        };
        let near = |word: usize, rng: &mut ChaCha8Rng| {
            let off = unit_rows(rng, 1, DIM);
            let row: Vec<f32> = words[word * DIM..][..DIM].iter().zip(off).map(|(a, b)| a + 0.5 * b).collect();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().map(move |x| x / norm)
        };
        let document = |id: u64, rng: &mut ChaCha8Rng| {
            let topic = topic(rng);
            let ids: Vec<u32> = (0..rng.random_range(10..50)).map(|_| word(topic, rng) as u32).collect();
            let rows = ids.iter().flat_map(|&id| near(id as usize, rng)).collect();
            (DocId(id), TokenEmbeddings::new(rows, DIM).unwrap().with_token_ids(ids).unwrap())
        };
        let docs = (0..docs).map(|id| document(id, &mut rng)).collect();
        let query = |rng: &mut ChaCha8Rng| {
            let topic = topic(rng);
            let rows = (0..8).flat_map(|_| near(word(topic, rng), rng).collect::<Vec<_>>()).collect();
            QueryEmbeddings::new(rows, DIM).unwrap()
        };
        let queries = (0..100).map(|_| query(&mut rng)).collect();
        Self { docs, queries }
    }

    pub(crate) fn add_to(&self, index: &Index, with_ids: bool) -> latewood_engine::Result<()> {
        let mut writer = index.writer()?;
        for (id, doc) in &self.docs {
            let plain = TokenEmbeddings::new(doc.view().values().to_vec(), DIM)?;
            writer.add(*id, if with_ids { doc.view() } else { plain.view() })?;
        }
        writer.commit(None, &()).map(drop)
    }

    /// The exact best documents of each query.
    fn best(&self) -> Vec<HashSet<DocId>> {
        let mut search = ExactSearch::new(&self.queries, K).unwrap();
        let docs: Vec<_> = self.docs.iter().map(|(id, doc)| (*id, doc.view())).collect();
        search.add(&docs).unwrap();
        search.finish().into_iter().map(|hits| hits.into_iter().map(|hit| hit.doc).collect()).collect()
    }

    fn recall(&self, searcher: &Searcher, best: &[HashSet<DocId>]) -> f64 {
        let found = self.queries.iter().zip(best).map(|(query, best)| {
            let hits = searcher.search(query, &SearchParams::new(K)).unwrap().hits;
            hits.iter().filter(|hit| best.contains(&hit.doc)).count()
        });
        found.sum::<usize>() as f64 / (K * self.queries.len()) as f64
    }

    /// The mean cosine of the rows that went in and those that are in the index.
    fn cosine(&self, searcher: &Searcher) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for (id, doc) in &self.docs {
            let kept = searcher.embeddings(*id).unwrap().unwrap();
            for (a, b) in doc.view().values().chunks_exact(DIM).zip(kept.chunks_exact(DIM)) {
                sum += dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                count += 1;
            }
        }
        sum / f64::from(count)
    }
}

pub(crate) fn empty(options: &IndexOptions, backend: impl Backend + 'static) -> Index {
    Index::create(RamDirectory::new(), options.clone()).unwrap().with_backend(backend)
}

struct Built;

impl Test for Built {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let collection = Collection::new(500, 1);
        let best = collection.best();
        for (bits, fine, with_ids) in [(4, false, false), (4, true, true), (2, false, true)] {
            let options = IndexOptions::new(DIM).bits(bits).fine(fine);
            let gpu = backend(client, Device::Wgpu(0));
            let (there, here) = (empty(&options, gpu.clone()), empty(&options, CpuBackend::new()));
            collection.add_to(&there, with_ids).unwrap();
            collection.add_to(&here, with_ids).unwrap();
            assert_eq!(gpu.status().failure, None);
            assert!(gpu.status().resident > 0, "it was not asked");
            assert_eq!(there.verify(&()).len(), 0);
            // Both searched by the processor: only what made them differs.
            let there = there.with_backend(CpuBackend::new()).searcher().unwrap();
            let here = here.searcher().unwrap();
            let [a, b] = [&there, &here].map(|searcher| collection.recall(searcher, &best));
            let [c, d] = [&there, &here].map(|searcher| collection.cosine(searcher));
            let what = format!("{bits} bits, fine {fine}, token ids {with_ids}");
            eprintln!("{what}: recall {a:.4} and the processor's {b:.4}, cosine {c:.6} and {d:.6}");
            assert!(a >= b - LESS_RECALL && c >= d - LESS_COSINE, "{what}: {a} and {b}, {c} and {d}");
        }
    }
}

#[test]
fn an_index_from_a_device_finds_as_much() {
    on_every_gpu(&Built);
}

struct Again;

impl Test for Again {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let collection = Collection::new(400, 2);
        let built = || {
            let index = empty(&IndexOptions::new(DIM), backend(client, Device::Wgpu(0)));
            collection.add_to(&index, true).unwrap();
            let searcher = index.searcher().unwrap();
            collection.docs.iter().map(|(id, _)| searcher.embeddings(*id).unwrap().unwrap()).collect::<Vec<_>>()
        };
        assert!(built() == built(), "the same rows, another index");
    }
}

#[test]
fn one_device_makes_one_index_of_the_same() {
    on_every_gpu(&Again);
}

struct Failing;

impl Test for Failing {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let collection = Collection::new(400, 3);
        let options = IndexOptions::new(DIM);
        // No block of centroids fits one allocation.
        let small = client.clone().with_allocations_up_to(256);
        let own = empty(&options, CpuBackend::new());
        let (named, auto) = (backend(&small, Device::Wgpu(0)), backend(&small, Device::Auto));
        let (failing, falling) = (empty(&options, named), empty(&options, auto.clone()));
        let few = Collection { docs: vec![(DocId(9999), collection.docs[0].1.clone())], queries: Vec::new() };
        for index in [&own, &failing, &falling] {
            few.add_to(index, true).unwrap();
        }
        let error = collection.add_to(&failing, true).unwrap_err();
        assert!(matches!(error, Error::Device { .. }) && error.to_string().contains("in one piece"), "{error}");
        assert_eq!(failing.searcher().unwrap().documents(), [DocId(9999)], "the last commit stays");
        assert_eq!(failing.verify(&()).len(), 0);
        // Whoever opens it elsewhere goes on.
        collection.add_to(&failing.with_backend(CpuBackend::new()), true).unwrap();

        collection.add_to(&falling, true).unwrap();
        assert!(auto.status().failure.is_some_and(|reason| reason.contains("in one piece")));
        collection.add_to(&own, true).unwrap();
        let (own, falling) = (own.searcher().unwrap(), falling.searcher().unwrap());
        for (id, _) in &collection.docs {
            assert_eq!(own.embeddings(*id).unwrap(), falling.embeddings(*id).unwrap(), "the processor's index");
        }
    }
}

#[test]
fn a_build_whose_device_fails() {
    on_every_gpu(&Failing);
}
