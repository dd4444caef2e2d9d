//! Small indexes, and everything that can be asked of one.

use latewood_engine::{
    Directory, DocId, Hit, Index, IndexOptions, IndexWriter, QueryEmbeddings, RamDirectory, Result, SearchParams,
    TokenEmbeddings,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::sealed::Files;

/// Documents of [`tiny`].
const TINY_DOCS: u64 = 9;

/// Three shards of a few documents each, with fine codes, tombstones and a payload.
pub(crate) fn tiny() -> Files {
    build(IndexOptions::new(8).fine(true).model("none"), |writer| {
        add(writer, 0..5, 4, 8)?;
        writer.commit(Some(b"a payload"), &())?;
        add(writer, 5..7, 2, 8)?;
        writer.commit(None, &())?;
        add(writer, 7..TINY_DOCS, 2, 8)?;
        writer.delete(DocId(1));
        writer.commit(None, &()).map(drop)
    })
}

/// `docs` documents of 31 tokens of 16 dimensions.
pub(crate) fn larger(docs: u64, fine: bool) -> Files {
    build(IndexOptions::new(16).fine(fine), |writer| {
        add(writer, 0..docs, 31, 16)?;
        writer.commit(Some(b"a payload"), &())?;
        writer.delete(DocId(3));
        writer.commit(None, &()).map(drop)
    })
}

fn build(options: IndexOptions, commits: impl FnOnce(&mut IndexWriter) -> Result<()>) -> Files {
    let build = || -> Result<Files> {
        let index = Index::create(RamDirectory::new(), options)?;
        commits(&mut index.writer()?)?;
        files(index.directory())
    };
    build().expect("the index is built")
}

/// All that is in a folder.
pub(crate) fn files(directory: &dyn Directory) -> Result<Files> {
    directory.list()?.into_iter().map(|name| directory.open(&name).map(|file| (name, file.to_vec()))).collect()
}

fn add(writer: &mut IndexWriter, ids: std::ops::Range<u64>, tokens: usize, dim: usize) -> Result<()> {
    ids.into_iter().try_for_each(|id| {
        let mut rng = ChaCha8Rng::seed_from_u64(id);
        writer.add(DocId(id), TokenEmbeddings::new(rows(tokens, dim, &mut rng), dim)?.view())
    })
}

/// Unit rows.
fn rows(count: usize, dim: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row = |_| {
        let row: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(move |x| x / norm)
    };
    (0..count).flat_map(row).collect()
}

/// A folder of these files.
pub(crate) fn directory(files: &Files) -> RamDirectory {
    let directory = RamDirectory::new();
    files.iter().for_each(|(name, file)| directory.atomic_replace(name, file).expect("memory takes all"));
    directory
}

/// What an index answers.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    payload: Vec<u8>,
    hits: Vec<Vec<Hit>>,
}

/// Opens the index and searches it: every document, and by way of its posting lists.
pub(crate) fn ask(directory: &RamDirectory) -> Result<Answers> {
    let searcher = Index::open(directory.clone())?.searcher()?;
    let dim = searcher.info().dim;
    let mut all = SearchParams::new(10);
    all.rescored = usize::MAX;
    let mut few = SearchParams::new(2);
    (few.probes, few.shortlisted, few.rescored) = (2, 8, 4);
    let mut hits = Vec::new();
    for (seed, params) in [(1, all), (2, few)] {
        let query = QueryEmbeddings::new(rows(3, dim, &mut ChaCha8Rng::seed_from_u64(seed)), dim)?;
        hits.push(searcher.search(&query, &params)?.hits);
    }
    Ok(Answers { payload: searcher.payload().into(), hits })
}

/// Ways to have a writer read what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Deletes most of a shard, so that it is written anew.
    Sparse,
    /// Deletes all.
    Empty,
    /// Commits so often that shards are joined.
    Join,
    /// Adds so much that the codec is outgrown, and with it decodes and codes all again.
    Recode,
}

impl Change {
    pub(crate) const ALL: [Self; 4] = [Self::Sparse, Self::Empty, Self::Join, Self::Recode];

    /// Makes the change to an index that was [`tiny`] once.
    pub(crate) fn make(self, directory: &RamDirectory) -> Result<()> {
        let index = Index::open(directory.clone())?;
        let dim = index.searcher()?.info().dim;
        let mut writer = index.writer()?;
        match self {
            Self::Sparse => _ = (0..4).map(|id| writer.delete(DocId(id))).count(),
            Self::Empty => _ = (0..TINY_DOCS).map(|id| writer.delete(DocId(id))).count(),
            Self::Recode => add(&mut writer, 100..108, 12, dim)?,
            Self::Join => (100..107).try_for_each(|id| {
                add(&mut writer, id..id + 1, 1, dim)?;
                writer.commit(None, &()).map(drop)
            })?,
        }
        writer.commit(None, &()).map(drop)
    }
}
