//! Builds on a backend written outside of the engine: what it answers is used, and looked at first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Collection, DIM, collection};
use latewood_engine::{
    Backend, CodedTokens, Coder, CpuBackend, DocId, Error, Index, IndexOptions, Nearest, RamDirectory, ResidualCodec,
    Result, SearchParams,
};
use latewood_simd::{Kernels, QueryF32};

/// What a backend does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Right,
    Nothing,
    UnknownCentroid,
    TooFew,
    TooShortCodes,
    AllAlike,
    Failure,
}

#[derive(Debug)]
struct Elsewhere {
    cpu: CpuBackend,
    nearest: Answer,
    coder: Answer,
    /// Times that rows were to be assigned, and to be coded.
    asked: Arc<[AtomicUsize; 2]>,
}

struct Job {
    answer: Answer,
    centroids: Vec<f32>,
    codec: Option<Arc<ResidualCodec>>,
    asked: Arc<[AtomicUsize; 2]>,
}

impl Backend for Elsewhere {
    fn name(&self) -> String {
        "elsewhere".into()
    }

    fn cpu(&self) -> &CpuBackend {
        &self.cpu
    }

    fn nearest(&self, centroids: &[f32], dim: usize) -> Result<Option<Box<dyn Nearest>>> {
        assert_eq!((dim, centroids.len() % dim), (DIM, 0));
        let job = Job { answer: self.nearest, centroids: centroids.to_vec(), codec: None, asked: self.asked.clone() };
        Ok(Some(Box::new(job)))
    }

    fn coder(&self, codec: &Arc<ResidualCodec>) -> Result<Option<Box<dyn Coder>>> {
        let (codec, asked) = (Some(codec.clone()), self.asked.clone());
        Ok(Some(Box::new(Job { answer: self.coder, centroids: Vec::new(), codec, asked })))
    }
}

fn failure() -> Error {
    Error::Device { device: "elsewhere".into(), reason: "it burns".into() }
}

impl Nearest for Job {
    fn assign(&self, rows: &[f32]) -> Result<Option<Vec<u16>>> {
        self.asked[0].fetch_add(1, Ordering::SeqCst);
        let n = rows.len() / DIM;
        match self.answer {
            Answer::Right => {
                let block = QueryF32::new(rows, DIM);
                let (mut best, mut dots) = (vec![0; block.lanes()], vec![f32::MIN; block.lanes()]);
                Kernels::detect().nearest(&self.centroids, 0, &block, &mut best, &mut dots);
                Ok(Some(best[..n].iter().map(|&id| id as u16).collect()))
            }
            Answer::Nothing => Ok(None),
            Answer::UnknownCentroid => Ok(Some(vec![(self.centroids.len() / DIM) as u16; n])),
            Answer::TooFew | Answer::TooShortCodes => Ok(Some(vec![0; n - 1])),
            Answer::AllAlike => Ok(Some(vec![0; n])),
            Answer::Failure => Err(failure()),
        }
    }
}

impl Coder for Job {
    fn code(&self, rows: &[f32]) -> Result<Option<CodedTokens>> {
        self.asked[1].fetch_add(1, Ordering::SeqCst);
        let codec = self.codec.as_ref().unwrap();
        let mut coded = codec.encode_on(&CpuBackend::new(), rows);
        let n = coded.factors.len();
        match self.answer {
            Answer::Right => {}
            Answer::Nothing => return Ok(None),
            Answer::AllAlike => coded.codes.fill(0),
            Answer::UnknownCentroid => coded.centroids[n / 2] = codec.centroid_count() as u16,
            Answer::TooFew => drop(coded.centroids.pop()),
            Answer::TooShortCodes => drop(coded.codes.pop()),
            Answer::Failure => return Err(failure()),
        }
        Ok(Some(coded))
    }
}

fn indexed(from: &Collection, nearest: Answer, coder: Answer) -> (Index, Result<()>, [usize; 2]) {
    let asked = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let backend = Elsewhere { cpu: CpuBackend::new(), nearest, coder, asked: asked.clone() };
    let index = Index::create(RamDirectory::new(), IndexOptions::new(DIM)).unwrap().with_backend(Arc::new(backend));
    let mut writer = index.writer().unwrap();
    // Few rows are the processor's.
    writer.add(DocId(9999), from.docs[0].1.view()).unwrap();
    writer.commit(None, &()).unwrap();
    assert_eq!(asked.each_ref().map(|count| count.load(Ordering::SeqCst)), [0, 0]);
    from.docs.iter().for_each(|(id, doc)| writer.add(*id, doc.view()).unwrap());
    let built = writer.commit(None, &()).map(drop);
    (index.clone(), built, asked.each_ref().map(|count| count.load(Ordering::SeqCst)))
}

#[test]
fn what_a_device_finds_is_what_an_index_holds() {
    let from = collection(400, 20, 3);
    let (index, built, asked) = indexed(&from, Answer::Right, Answer::Nothing);
    built.unwrap();
    assert!(asked[0] >= 2 && asked[1] > 0, "{asked:?}");
    assert_eq!(index.verify(&()).len(), 0);
    let own = indexed(&from, Answer::Nothing, Answer::Nothing).0.searcher().unwrap();
    let (found, params) = (index.searcher().unwrap(), SearchParams::new(10));
    for query in &from.queries {
        let (ours, own) = (found.search(query, &params).unwrap().hits, own.search(query, &params).unwrap().hits);
        let common = ours.iter().filter(|hit| own.iter().any(|other| other.doc == hit.doc)).count();
        assert!(common >= 8, "{ours:?}, {own:?}");
    }

    // The processor's codes from elsewhere make the processor's index.
    let (index, built, asked) = indexed(&from, Answer::Nothing, Answer::Right);
    built.unwrap();
    assert!(asked[1] > 0);
    let (found, own) = (index.searcher().unwrap(), indexed(&from, Answer::Nothing, Answer::Nothing).0);
    assert_eq!(found.embeddings(DocId(1)).unwrap(), own.searcher().unwrap().embeddings(DocId(1)).unwrap());
}

#[test]
fn wrong_answers_and_failures_end_the_commit() {
    let from = collection(400, 0, 3);
    use Answer::{AllAlike, Failure, Nothing, TooFew, TooShortCodes, UnknownCentroid};
    let nearest = [UnknownCentroid, TooFew, AllAlike, Failure].map(|answer| (answer, Nothing));
    let coder = [UnknownCentroid, TooFew, TooShortCodes, AllAlike, Failure].map(|answer| (Nothing, answer));
    for (nearest, coder) in nearest.into_iter().chain(coder) {
        let (index, built, _) = indexed(&from, nearest, coder);
        let error = built.unwrap_err();
        assert!(matches!(error, Error::Device { .. }), "{nearest:?}, {coder:?}: {error}");
        assert_eq!(index.searcher().unwrap().documents(), [DocId(9999)], "the last commit stays");
        assert_eq!(index.verify(&()).len(), 0);
    }
}
