//! What the centroids of a codec score with a query's rows, without a product with all of them.
//!
//! In a large codec a query meets the means of the centroids' groups, and then the centroids of the groups that come
//! first for any of its rows: those are what it probes. A token of another centroid is ranked by the mean of that
//! centroid's group, which is what its members score on average; before it is scored, its centroid is met
//! ([`CentroidScores::meet`]). So what a search costs grows with what it looks at, and scores do not depend on it.

use std::ops::Range;

use latewood_simd::QueryI8;

use super::CpuBackend;
use crate::codec::{ResidualCodec, SEARCHED_BY_GROUPS};

/// The dot products of centroids with a query's rows, in units of its scales.
#[derive(Debug, Default)]
pub(crate) struct CentroidScores {
    lanes: usize,
    /// `[r, lanes]`: of the groups' means, if any are met, and of the centroids met since.
    table: Vec<f32>,
    /// `[c]`: the row of the table that stands for each centroid, its group's while it is not met itself. Empty where the
    /// rows are the centroids.
    slots: Vec<u16>,
    /// Number of groups in the table.
    means: usize,
    /// The runs of centroids that were met first. Their rows lie one after the other, behind the means.
    probed: Vec<Range<u32>>,
}

impl CentroidScores {
    /// Meets the centroids of the `visits` groups that are nearest to each row of `query`; all, where they are few.
    pub(super) fn refill(&mut self, backend: &CpuBackend, codec: &ResidualCodec, query: &QueryI8, visits: usize) {
        let (offsets, _) = codec.groups();
        let (count, groups) = (codec.centroid_count(), offsets.len() - 1);
        // A slot has 16 bits.
        if count < SEARCHED_BY_GROUPS || visits >= groups || groups + count > 1 << 16 {
            self.meet_all(backend, codec, query);
        } else {
            self.meet_groups(backend, codec, query, visits);
        }
    }

    /// Meets the centroids of the `visits` groups, fewer than there are, that are nearest to each row.
    fn meet_groups(&mut self, backend: &CpuBackend, codec: &ResidualCodec, query: &QueryI8, visits: usize) {
        let (offsets, (means, mean_scales)) = codec.groups();
        let (bytes, scales) = codec.centroids();
        self.clear(query.lanes(), offsets.len() - 1);
        self.append(backend, query, means, mean_scales);
        for (group, run) in (0..).zip(offsets.windows(2)) {
            self.slots.resize(run[1] as usize, group);
        }
        for group in self.nearest_groups(query.rows(), visits) {
            let run = offsets[group] as usize..offsets[group + 1] as usize;
            let row = self.rows() as u16;
            self.append(backend, query, &bytes[run.start * query.dim()..run.end * query.dim()], &scales[run.clone()]);
            self.slots[run].iter_mut().zip(row..).for_each(|(slot, row)| *slot = row);
            self.probed.push(offsets[group]..offsets[group + 1]);
        }
    }

    /// Meets every centroid.
    pub(super) fn meet_all(&mut self, backend: &CpuBackend, codec: &ResidualCodec, query: &QueryI8) {
        let (bytes, scales) = codec.centroids();
        self.clear(query.lanes(), 0);
        self.append(backend, query, bytes, scales);
        self.probed.push(0..codec.centroid_count() as u32);
    }

    /// Meets those of the centroids `ids` that were not met before.
    pub(super) fn meet<'a>(
        &mut self,
        backend: &CpuBackend,
        codec: &ResidualCodec,
        query: &QueryI8,
        ids: impl Iterator<Item = &'a u16>,
    ) {
        if self.slots.is_empty() {
            return;
        }
        let (bytes, scales) = codec.centroids();
        let (mut new_bytes, mut new_scales) = (Vec::new(), Vec::new());
        let mut next = self.rows();
        for &id in ids {
            let (id, slot) = (usize::from(id), &mut self.slots[usize::from(id)]);
            if usize::from(*slot) < self.means {
                *slot = next as u16;
                next += 1;
                new_bytes.extend_from_slice(&bytes[id * query.dim()..][..query.dim()]);
                new_scales.push(scales[id]);
            }
        }
        self.append(backend, query, &new_bytes, &new_scales);
    }

    /// Whether there are centroids that no row was near.
    pub(crate) fn is_partial(&self) -> bool {
        !self.slots.is_empty()
    }

    /// How many centroids can be probed.
    pub(crate) fn probed_len(&self) -> usize {
        self.probed.iter().map(ExactSizeIterator::len).sum()
    }

    /// The centroids to probe, in runs: the first one's number, and the rows of the table `[run, lanes]`.
    pub(crate) fn probed(&self) -> impl Iterator<Item = (u32, &[f32])> {
        let mut rest = &self.table[self.means * self.lanes..];
        self.probed.iter().map(move |run| {
            let (scores, others) = rest.split_at(run.len() * self.lanes);
            rest = others;
            (run.start, scores)
        })
    }

    /// Number of query rows, padding included.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The table, and the rows of it that stand for the centroids `ids`; `room` is for these.
    pub(super) fn rows_of<'a>(&'a self, ids: &'a [u16], room: &'a mut Vec<u16>) -> (&'a [f32], &'a [u16]) {
        if self.slots.is_empty() {
            return (&self.table, ids);
        }
        room.clear();
        room.extend(ids.iter().map(|&id| self.slots[usize::from(id)]));
        (&self.table, room)
    }

    fn clear(&mut self, lanes: usize, means: usize) {
        (self.lanes, self.means) = (lanes, means);
        self.table.clear();
        self.slots.clear();
        self.probed.clear();
    }

    fn rows(&self) -> usize {
        self.table.len() / self.lanes.max(1)
    }

    fn append(&mut self, backend: &CpuBackend, query: &QueryI8, bytes: &[u8], scales: &[f32]) {
        let start = self.table.len();
        self.table.resize(start + scales.len() * self.lanes, 0.0);
        backend.byte_dots(bytes, scales, query, &mut self.table[start..]);
    }

    /// The groups, ascending, whose means are among the `visits` nearest to one of the `rows` first lanes.
    fn nearest_groups(&self, rows: usize, visits: usize) -> Vec<usize> {
        let mut is_near = vec![false; self.means];
        let mut order: Vec<usize> = (0..self.means).collect();
        for lane in 0..rows {
            let score = |group: usize| self.table[group * self.lanes + lane];
            order.select_nth_unstable_by(visits, |&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
            order[..visits].iter().for_each(|&group| is_near[group] = true);
        }
        (0..self.means).filter(|&group| is_near[group]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Sample, Shape, train};
    use crate::directory::RamDirectory;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const DIM: usize = 16;

    fn rows(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows: Vec<f32> = (0..count * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let unit = |row: &[f32]| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / norm).collect::<Vec<f32>>()
        };
        rows.chunks_exact(DIM).flat_map(unit).collect()
    }

    fn codec(backend: &CpuBackend) -> std::sync::Arc<ResidualCodec> {
        let sample = Sample { rows: rows(6000, 1), token_ids: None };
        let shape = Shape { dim: DIM, bits: 4, fine: false };
        let parts = train(sample, shape, 6000, 1, backend, |_, _| true).unwrap();
        let directory = RamDirectory::new();
        ResidualCodec::write(&directory, "codec-000001.lwc", &parts).unwrap();
        ResidualCodec::open(&directory, "codec-000001.lwc").unwrap()
    }

    /// The scores that stand for the centroids `ids`, `[ids, lanes]`.
    fn scores(of: &CentroidScores, ids: &[u16]) -> Vec<f32> {
        let mut room = Vec::new();
        let (table, rows) = of.rows_of(ids, &mut room);
        rows.iter().flat_map(|&row| &table[usize::from(row) * of.lanes..][..of.lanes]).copied().collect()
    }

    #[test]
    fn what_is_met_scores_what_it_scores_among_all() {
        let backend = CpuBackend::new();
        let codec = codec(&backend);
        let query = QueryI8::new(&rows(5, 2), DIM);
        let (groups, _) = codec.groups();
        let ids: Vec<u16> = (0..codec.centroid_count() as u16).collect();
        let (mut some, mut all) = (CentroidScores::default(), CentroidScores::default());
        all.meet_all(&backend, &codec, &query);
        // Twice, as rooms are used again.
        for visits in [3, 2] {
            some.meet_groups(&backend, &codec, &query, visits);
            let (lanes, probed) = (all.lanes, some.probed_len());
            assert!(some.is_partial() && probed < ids.len() && some.probed.len() >= visits, "{probed}");
            assert!(some.probed.iter().all(|run| groups.contains(&run.start)));
            for (first, table) in some.probed() {
                let run: Vec<u16> = (first as u16..).take(table.len() / lanes).collect();
                assert_eq!((table, &scores(&some, &run)[..]), (&scores(&all, &run)[..], table));
            }
            // A group's mean is the mean, up to what is rounded to bytes.
            let group = (0..groups.len() - 1).find(|&g| some.probed.iter().all(|run| run.start != groups[g])).unwrap();
            let members: Vec<u16> = (groups[group] as u16..groups[group + 1] as u16).collect();
            let (guessed, exact) = (scores(&some, &members), scores(&all, &members));
            for lane in 0..query.rows() {
                let mean = |scores: &[f32]| {
                    scores.iter().skip(lane).step_by(lanes).sum::<f32>() / members.len() as f32 * query.scales()[lane]
                };
                assert!((mean(&guessed) - mean(&exact)).abs() < 0.03, "{} {}", mean(&guessed), mean(&exact));
            }
            some.meet(&backend, &codec, &query, members.iter().chain(&members));
            assert_eq!(scores(&some, &members), exact);
            some.meet(&backend, &codec, &query, ids.iter());
            assert_eq!(scores(&some, &ids), scores(&all, &ids));
        }
        some.refill(&backend, &codec, &query, 1);
        assert!(!some.is_partial(), "few centroids are met whole");
        assert_eq!(scores(&some, &ids), scores(&all, &ids));
    }
}
