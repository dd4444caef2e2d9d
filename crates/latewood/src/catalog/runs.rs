//! Which document each passage belongs to.

use latewood_engine::DocId;

use super::{Catalog, FileRecord};

/// The passages of all documents, by their ids.
#[derive(Debug)]
pub(crate) struct Runs(Vec<Run>);

/// The passages of one document.
#[derive(Debug)]
struct Run {
    start: u64,
    end: u64,
    place: (u32, u32),
}

impl Runs {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let run = |(place, file): (_, &FileRecord)| Run {
            start: file.first_doc,
            end: file.first_doc + file.passages.len() as u64,
            place,
        };
        let mut runs: Vec<Run> = catalog.files.places().map(run).collect();
        runs.sort_unstable_by_key(|run| (run.start, run.end));
        Self(runs)
    }

    /// The document and the position in it of a passage.
    pub(crate) fn find<'c>(&self, catalog: &'c Catalog, doc: DocId) -> Option<(&'c FileRecord, usize)> {
        let after = self.0.partition_point(|run| run.start <= doc.0);
        let run = self.0[..after].last().filter(|run| doc.0 < run.end)?;
        Some((catalog.files.at(run.place), (doc.0 - run.start) as usize))
    }

    /// An id that belongs to two documents.
    pub(super) fn shared(&self) -> Option<u64> {
        self.0.windows(2).find(|pair| pair[0].end > pair[1].start).map(|pair| pair[1].start)
    }
}
