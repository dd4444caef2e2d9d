//! Probe: which centroids each query row is nearest to (PLAID, section 4.2, candidate generation).

use crate::backend::EncodedQuery;
use crate::ids::CentroidId;

/// The centroids nearest to one query row.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    /// Best first: the centroid, and by how much its score is above the floor.
    pub(super) centroids: Vec<(CentroidId, f32)>,
    /// What a document at none of these centroids is taken to score: the score of the best centroid not among them.
    pub(super) floor: f32,
}

/// The `probes` best centroids of each query row.
pub(super) fn probe(query: &EncodedQuery, probes: usize) -> Vec<Probed> {
    let scores = &query.centroids;
    let (rows, probes) = (query.rows(), probes.min(scores.probed_len()));
    // One pass over the table as it lies; each row keeps its best so far, worst last, and mostly only compares. One more
    // than is probed says what the others cannot reach.
    let kept = probes + 1;
    let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(kept + 1); rows];
    let mut threshold = vec![f32::NEG_INFINITY; rows];
    for (first, table) in scores.probed() {
        for (centroid, scores) in (first..).zip(table.chunks_exact(scores.lanes())) {
            // No early end: so that whole registers are compared.
            if !scores.iter().zip(&threshold).fold(false, |any, (score, threshold)| any | (score > threshold)) {
                continue;
            }
            for ((&score, threshold), best) in scores.iter().zip(&mut threshold).zip(&mut best) {
                if score > *threshold {
                    let at = best.partition_point(|&(s, _)| s >= score);
                    best.insert(at, (score, centroid));
                    best.truncate(kept);
                    if best.len() == kept {
                        *threshold = best[probes].0;
                    }
                }
            }
        }
    }
    best.into_iter().zip(query.units()).map(|(best, unit)| probed(&best, probes, *unit)).collect()
}

fn probed(best: &[(f32, u32)], probes: usize, unit: f32) -> Probed {
    let floor = best.last().map_or(0.0, |&(score, _)| score);
    let above = best.iter().take(probes).map(|&(score, id)| (CentroidId(id), (score - floor) * unit));
    Probed { centroids: above.collect(), floor: floor * unit }
}
