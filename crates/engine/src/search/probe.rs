//! Probe: which centroids each query row is nearest to (PLAID, section 4.2, candidate generation).

use crate::backend::EncodedQuery;
use crate::ids::CentroidId;

/// The `probes` best centroids of each query row, all together, ascending and once each.
pub(super) fn probe(query: &EncodedQuery, probes: usize) -> Vec<CentroidId> {
    let (table, lanes) = query.centroid_scores();
    let rows = query.rows();
    // One pass over the table as it lies; each row keeps its best so far, worst last, and mostly only compares.
    let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(probes + 1); rows];
    let mut threshold = vec![f32::NEG_INFINITY; rows];
    for (centroid, scores) in table.chunks_exact(lanes).enumerate() {
        for (row, (&score, threshold)) in scores.iter().zip(&mut threshold).enumerate() {
            if score > *threshold {
                let best = &mut best[row];
                let at = best.partition_point(|&(s, _)| s >= score);
                best.insert(at, (score, centroid as u32));
                best.truncate(probes);
                if best.len() == probes {
                    *threshold = best[probes - 1].0;
                }
            }
        }
    }
    let mut ids: Vec<u32> = best.into_iter().flatten().map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(CentroidId).collect()
}
