//! Scores of several stages as one.

use super::normalised;
use crate::candidate::Candidate;
use crate::pipeline::{FusionMethod, FusionStage};

/// The fused score of each candidate. One that a stage did not see counts as its last.
pub(crate) fn score(stage: &FusionStage, candidates: &[Candidate]) -> Vec<f32> {
    let mut sums = vec![0.0; candidates.len()];
    for (at, name) in stage.of.iter().enumerate() {
        let weight = stage.weights.get(at).copied().unwrap_or(1.0);
        let scores: Vec<Option<f32>> = candidates.iter().map(|candidate| candidate.scores.get(name).copied()).collect();
        // Where the stage was left out, all are alike.
        let least = scores.iter().flatten().copied().reduce(f32::min).unwrap_or_default();
        let scores: Vec<f32> = scores.into_iter().map(|score| score.unwrap_or(least)).collect();
        let parts = match stage.method {
            FusionMethod::Rrf => ranks(&scores).into_iter().map(|rank| 1.0 / (stage.k + rank as f32)).collect(),
            FusionMethod::Sum => normalised(&scores, stage.normalise),
        };
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += weight * part);
    }
    sums
}

/// The rank of each score, from 1; equals are in the order given.
fn ranks(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut ranks = vec![0; scores.len()];
    order.into_iter().zip(1..).for_each(|(at, rank)| ranks[at] = rank);
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Pipeline, StageKind};

    fn fused(stage: &str, scores: &[(f32, Option<f32>)]) -> Vec<f32> {
        let text = format!(
            "[[stages]]\ntype = \"keyword\"\n[[stages]]\ntype = \"fusion\"\nof = [\"retrieve\", \"keyword\"]\n{stage}"
        );
        let pipeline = Pipeline::parse_toml(&text).unwrap();
        let StageKind::Fusion(stage) = &pipeline.stages[1].kind else { panic!("a fusion") };
        let candidate = |&(first, second): &(f32, Option<f32>)| {
            let mut candidate = Candidate::new("x", "", first);
            candidate.scores.insert("retrieve".into(), first);
            candidate.scores.extend(second.map(|score| ("keyword".into(), score)));
            candidate
        };
        score(stage, &scores.iter().map(candidate).collect::<Vec<_>>())
    }

    #[test]
    fn ranks_and_scores_are_fused_by_hand() {
        let scores = [(0.9, Some(1.0)), (0.8, Some(7.0)), (0.1, None)];
        let near = |found: Vec<f32>, expected: [f32; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} and {expected:?}");
        };
        near(fused("k = 10.0", &scores), [1.0 / 11.0 + 1.0 / 12.0, 1.0 / 12.0 + 1.0 / 11.0, 1.0 / 13.0 + 1.0 / 13.0]);
        near(fused("method = \"sum\"\nweights = [2.0, 1.0]", &scores), [2.0, 2.0 * 0.875 + 1.0, 0.0]);
    }
}
