//! An index of a folder of arrays, built part by part: a build that is killed goes on from its last part.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latewood_engine::{
    self as engine, Backend, CpuBackend, DocId, Index, IndexInfo, IndexOptions, IndexWriter, MmapDirectory, Progress,
    Sampler, TokenEmbeddings, TokenEmbeddingsRef,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::{Document, Documents};

/// How to build.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildOptions {
    /// What the index is made with.
    pub index: IndexOptions,
    /// Bytes of memory to keep to ([`IndexWriter::limit_memory`]); beyond them go some 30 for each document.
    pub memory: Option<usize>,
    /// Rows at which a part is committed; `None` for as many as one shard takes.
    pub part_rows: Option<usize>,
    /// Whether to train with the rows' vocabulary ids, where there are any.
    pub token_ids: bool,
    /// Where arithmetic runs.
    pub backend: Arc<dyn Backend>,
}

impl BuildOptions {
    /// Of an index made with `index`, by the processor: with token ids, and no limit on memory.
    pub fn new(index: IndexOptions) -> Self {
        Self { index, memory: None, part_rows: None, token_ids: true, backend: Arc::new(CpuBackend::new()) }
    }
}

/// What has been built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Built {
    /// The index's figures.
    pub info: IndexInfo,
    /// Time spent reading arrays.
    pub reading: Duration,
    /// Documents that an earlier build, killed before its end, had left.
    pub found: usize,
}

/// How far a build is, and of what: the payload of its commits until the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    unfinished_build_of: Source,
    /// Documents that are in the index.
    done: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    documents: usize,
    rows: usize,
    /// XXH3-64 of the lengths.
    lens: u64,
    dim: usize,
    bits: u32,
    fine: bool,
    seed: u64,
}

impl State {
    fn new(documents: &Documents, options: &IndexOptions) -> Self {
        let lens: Vec<u64> = documents.lens.iter().map(|&n| n as u64).collect();
        let IndexOptions { dim, bits, fine, seed, .. } = *options;
        let (lens, rows) = (xxh3_64(bytemuck::cast_slice(&lens)), documents.rows());
        Self {
            unfinished_build_of: Source { documents: documents.count(), rows, lens, dim, bits, fine, seed },
            done: 0,
        }
    }

    fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    fn to_payload(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::io("write", "the state of the build", e.into()))
    }
}

/// Whether this is the payload of an index of arrays that is not built to its end.
pub fn is_unfinished(payload: &[u8]) -> bool {
    State::from_payload(payload).is_some()
}

/// The index that [`build`] made at `path`.
///
/// # Errors
/// When there is none, it is damaged, or it is not built to its end.
pub fn built(path: &Path) -> Result<Index> {
    let index = Index::open(MmapDirectory::open(path)?)?;
    match State::from_payload(index.searcher()?.payload()) {
        None => Ok(index),
        Some(State { done, unfinished_build_of: Source { documents, .. } }) => {
            Err(Error::Unfinished { index: path.into(), done, documents })
        }
    }
}

/// Builds an index of the documents of `folder` at `path`, each known by its position, part by part; or goes on with a build
/// of the same arrays and index options that ended before its time. `read` hears of documents read.
///
/// # Errors
/// When the arrays do not read or hold no unit rows, there is another index at `path`, memory is too little, the device
/// fails, or the disk refuses. What has been committed by then is kept for the next try; where nothing has, no index is left.
pub fn build(
    folder: &Path,
    path: &Path,
    options: BuildOptions,
    progress: &dyn Progress,
    read: &dyn Fn(usize, usize),
) -> Result<Built> {
    let documents = open(folder, &options)?;
    let (new, state) = (!path.exists(), State::new(&documents, &options.index));
    let reading = Duration::ZERO;
    let mut build = Build { folder, documents, state, options, committed: 0, progress, read, reading };
    let built = build.run(path);
    if built.is_err() && new && build.committed == 0 {
        // What went wrong is told by the error; a folder that holds nothing would be in the way of other arrays.
        let _ = std::fs::remove_dir_all(path);
    }
    built
}

fn open(folder: &Path, options: &BuildOptions) -> Result<Documents> {
    let documents = Documents::open(folder)?;
    if options.token_ids { documents.with_token_ids(folder) } else { Ok(documents) }
}

struct Build<'a> {
    folder: &'a Path,
    documents: Documents,
    state: State,
    options: BuildOptions,
    /// Documents that a commit holds.
    committed: usize,
    progress: &'a dyn Progress,
    read: &'a dyn Fn(usize, usize),
    reading: Duration,
}

impl Build<'_> {
    fn run(&mut self, path: &Path) -> Result<Built> {
        let payload = self.state.to_payload()?;
        let directory = MmapDirectory::create(path)?;
        let (index, found) = match Index::create(directory, self.options.index.clone().payload(payload)) {
            Ok(index) => (index, 0),
            Err(exists @ engine::Error::IndexExists { .. }) => self.resume(path, exists)?,
            Err(e) => return Err(e.into()),
        };
        let index = index.with_backend(self.options.backend.clone());
        (self.state.done, self.committed) = (found, found);
        let mut writer = index.writer()?;
        self.options.memory.map_or(Ok(()), |bytes| writer.limit_memory(bytes))?;
        if found == 0 {
            self.train(&mut writer)?;
        }
        self.documents.skip(found)?;
        loop {
            self.add_part(&mut writer)?;
            let whole = self.state.done == self.documents.count();
            let payload = if whole { Vec::new() } else { self.state.to_payload()? };
            writer.commit(Some(&payload), self.progress)?;
            self.committed = self.state.done;
            if whole {
                break;
            }
        }
        Ok(Built { info: index.searcher()?.info(), reading: self.reading, found })
    }

    /// The index at `path` and how many documents it has, if it is a build of the same that has not ended; `exists` is
    /// the error if it is none at all.
    fn resume(&self, path: &Path, exists: engine::Error) -> Result<(Index, usize)> {
        let index = Index::open(MmapDirectory::open(path)?)?;
        let Some(state) = State::from_payload(index.searcher()?.payload()) else { return Err(exists.into()) };
        if state.unfinished_build_of != self.state.unfinished_build_of {
            return Err(Error::OtherBuild { index: path.into() });
        }
        Ok((index, state.done))
    }

    /// Trains the codec for all that is to come on rows from everywhere in it, and commits it.
    fn train(&mut self, writer: &mut IndexWriter) -> Result<()> {
        let start = Instant::now();
        let (mut documents, dim) = (open(self.folder, &self.options)?, self.documents.dim());
        let mut sampler = writer.sampler(documents.rows() as u64);
        let (mut sample, mut token_ids) = (Vec::new(), Vec::new());
        while let Some(len) = documents.next_len() {
            let taken = taken(&mut sampler, len);
            if taken.is_empty() {
                documents.skip(1)?;
            } else if let Some(document) = documents.next_document()? {
                check(self.folder, &document, dim)?;
                taken.iter().for_each(|&row| sample.extend_from_slice(&document.values[row * dim..][..dim]));
                token_ids.extend(document.token_ids.iter().flat_map(|ids| taken.iter().map(|&row| ids[row])));
            }
        }
        self.reading += start.elapsed();
        if !sample.is_empty() {
            let mut sample = TokenEmbeddings::new(sample, dim)?;
            if !token_ids.is_empty() {
                sample = sample.with_token_ids(token_ids)?;
            }
            writer.train(sample, documents.rows() as u64, self.progress)?;
        }
        writer.commit(Some(&self.state.to_payload()?), self.progress)?;
        Ok(())
    }

    /// Adds documents until they make a part.
    fn add_part(&mut self, writer: &mut IndexWriter) -> Result<()> {
        // A part has a document at least.
        let (mut rows, part_rows) = (0, self.options.part_rows.unwrap_or(writer.shard_tokens()).max(1));
        while rows < part_rows {
            let start = Instant::now();
            let next = self.documents.next_document()?;
            self.reading += start.elapsed();
            let Some(document) = next else { break };
            let embeddings = check(self.folder, &document, self.documents.dim())?;
            rows += embeddings.len();
            writer.add(DocId(document.position), embeddings)?;
            if document.position % 1024 == 0 {
                (self.read)(document.position as usize, self.documents.count());
            }
            self.state.done = document.position as usize + 1;
        }
        Ok(())
    }
}

/// Which of the next `len` rows the sampler takes.
fn taken(sampler: &mut Sampler, len: usize) -> Vec<usize> {
    (0..len).filter(|_| sampler.take()).collect()
}

/// A document's rows, or what is wrong with them.
fn check<'v>(folder: &Path, document: &'v Document, dim: usize) -> Result<TokenEmbeddingsRef<'v>> {
    let rows = TokenEmbeddingsRef::new(&document.values, dim).map_err(|e| {
        let detail = format!("document {}: {e}", document.position);
        Error::Input { file: folder.join(crate::VECTORS), detail }
    })?;
    match &document.token_ids {
        Some(ids) => Ok(rows.with_token_ids(ids)?),
        None => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DOC_LENS, NpyWriter, TOKEN_IDS, VECTORS, write_lens};
    use half::f16;
    use latewood_engine::{QueryEmbeddings, SearchParams, Stage};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Cancels the build after so many parts.
    struct Parts(Cell<usize>);

    impl Progress for Parts {
        fn report(&self, stage: Stage, done: u64, total: u64) {
            if stage == Stage::Code && done == total {
                self.0.set(self.0.get().saturating_sub(1));
            }
        }

        fn cancelled(&self) -> bool {
            self.0.get() == 0
        }
    }

    fn row(at: usize) -> Vec<f32> {
        (0..8).map(|d| ((at * 37 + d * 11) % 17) as f32 - 8.0).collect()
    }

    /// 60 documents of 5 rows.
    fn arrays(dir: &Path, documents: usize) {
        let mut vectors = NpyWriter::<f16>::create(&dir.join(VECTORS), &[8]).unwrap();
        for at in 0..documents * 5 {
            let norm = row(at).iter().map(|x| x * x).sum::<f32>().sqrt();
            vectors.write(&row(at).iter().map(|x| f16::from_f32(x / norm)).collect::<Vec<_>>()).unwrap();
        }
        vectors.finish().unwrap();
        write_lens(&dir.join(DOC_LENS), &vec![5; documents]).unwrap();
    }

    /// Parts of 10 documents.
    fn options(bits: u32) -> BuildOptions {
        BuildOptions { part_rows: Some(50), ..BuildOptions::new(IndexOptions::new(8).bits(bits)) }
    }

    /// The processor, and whether it was asked for.
    #[derive(Debug, Default)]
    struct Elsewhere {
        cpu: CpuBackend,
        asked: AtomicBool,
    }

    impl Backend for Elsewhere {
        fn name(&self) -> String {
            "elsewhere".into()
        }

        fn cpu(&self) -> &CpuBackend {
            self.asked.store(true, Ordering::SeqCst);
            &self.cpu
        }
    }

    #[test]
    fn a_build_runs_where_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        arrays(dir.path(), 60);
        let backend = Arc::new(Elsewhere::default());
        let options = BuildOptions { backend: backend.clone(), ..options(4) };
        build(dir.path(), &dir.path().join("ix"), options, &(), &|_, _| ()).unwrap();
        assert!(backend.asked.load(Ordering::SeqCst));
    }

    fn hits(path: &Path) -> Vec<latewood_engine::Hit> {
        let query = QueryEmbeddings::new(row(3), 8).unwrap();
        built(path).unwrap().searcher().unwrap().search(&query, &SearchParams::new(60)).unwrap().hits
    }

    #[test]
    fn a_build_that_ended_early_goes_on_and_gives_the_same_index() {
        let dir = tempfile::tempdir().unwrap();
        let (path, whole) = (dir.path().join("ix"), dir.path().join("whole"));
        arrays(dir.path(), 60);
        let build = |path: &Path, progress: &dyn Progress| build(dir.path(), path, options(4), progress, &|_, _| ());
        assert_eq!(build(&whole, &()).unwrap().found, 0);

        // Two parts, then three more, then the rest.
        for (parts, found) in [(2, 0), (3, 20)] {
            let error = build(&path, &Parts(Cell::new(parts))).unwrap_err();
            assert!(matches!(error, Error::Engine(engine::Error::Cancelled)), "{error}");
            let text = built(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("holds {} of 60", found + parts * 10)), "{text}");
            assert!(
                Index::open(MmapDirectory::open(&path).unwrap()).unwrap().verify(&()).is_empty(),
                "what there is, is sound"
            );
        }
        let other = super::build(dir.path(), &path, options(2), &(), &|_, _| ()).unwrap_err();
        assert!(matches!(other, Error::OtherBuild { .. }), "{other}");
        assert_eq!(build(&path, &()).unwrap().found, 50);
        assert_eq!(hits(&path), hits(&whole));
        assert_eq!(hits(&path).len(), 60);
        assert!(matches!(build(&path, &()), Err(Error::Engine(engine::Error::IndexExists { .. }))));
    }

    #[test]
    fn token_ids_are_read_where_they_are_and_wanted() {
        let dir = tempfile::tempdir().unwrap();
        arrays(dir.path(), 60);
        let codec = |name: &str, options: BuildOptions| {
            let path = dir.path().join(name);
            build(dir.path(), &path, options, &(), &|_, _| ())
                .map(|_| std::fs::read(path.join("codec-000001.lwc")).unwrap())
        };
        let write = |ids: &[i64]| {
            let mut array = NpyWriter::<i64>::create(&dir.path().join(TOKEN_IDS), &[]).unwrap();
            array.write(ids).unwrap();
            array.finish().unwrap();
        };
        let without = BuildOptions { token_ids: false, ..options(4) };
        let plain = codec("plain", options(4)).unwrap();
        write(&(0..300).map(|row| row * 37 % 5 - 1).collect::<Vec<_>>());
        assert!(codec("aware", options(4)).unwrap() != plain);
        assert!(codec("unwanted", without.clone()).unwrap() == plain);
        write(&(0..300).map(|row| row << 30).collect::<Vec<_>>());
        let text = codec("large", options(4)).unwrap_err().to_string();
        assert!(text.contains(TOKEN_IDS) && text.contains("id 4294967296"), "{text}");
        write(&[1; 299]);
        let text = codec("few", options(4)).unwrap_err().to_string();
        assert!(text.contains(TOKEN_IDS) && text.contains("299 ids") && text.contains("300 rows"), "{text}");
        assert!(codec("few", without).unwrap() == plain);
    }

    #[test]
    fn a_build_within_little_memory_leaves_nothing_when_it_is_too_little() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ix");
        arrays(dir.path(), 60);
        let within = |bytes| {
            let options = BuildOptions { memory: Some(bytes), ..options(4) };
            build(dir.path(), &path, options, &(), &|_, _| ())
        };
        let text = within(1000).unwrap_err().to_string();
        assert!(text.contains("memory = 1000 bytes") && !path.exists(), "{text}");
        within(64 << 20).unwrap();
        assert_eq!(hits(&path).len(), 60);
    }

    #[test]
    fn a_build_that_ended_before_its_first_part_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ix");
        arrays(dir.path(), 60);
        let cancelled = build(dir.path(), &path, options(4), &Parts(Cell::new(0)), &|_, _| ());
        assert!(cancelled.is_err() && !path.exists());
    }
}
