//! What a device is asked that searches by itself, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::DocOrd;
use crate::search::Allowed;
use crate::shard::Shard;

/// A shard, and which of its documents may be found.
#[derive(Debug, Clone, Copy)]
pub struct Searchable<'a> {
    pub(crate) shard: &'a Arc<Shard>,
    pub(crate) allowed: &'a Allowed,
}

impl<'a> Searchable<'a> {
    /// The shard.
    pub fn shard(&self) -> &'a Arc<Shard> {
        self.shard
    }

    /// How many documents may be found.
    pub fn count(&self) -> usize {
        self.allowed.count()
    }

    /// Their positions, ascending.
    pub fn docs(&self) -> impl Iterator<Item = DocOrd> + 'a {
        self.allowed.docs()
    }
}

/// How much of what may be found is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Documents wanted, at least 1.
    pub keep: usize,
    /// Documents scored on their compressed tokens, those best by their outlines; `usize::MAX` for all.
    pub rescored: usize,
}

/// A document and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Which of the shards it is in.
    pub shard: usize,
    /// Where.
    pub doc: DocOrd,
    /// MaxSim on its compressed tokens.
    pub score: f32,
}

/// The answer to one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// Best first, equal ones in the order of shards and positions.
    pub best: Vec<Ranked>,
    /// Documents scored on their compressed tokens.
    pub rescored: usize,
    /// Time spent choosing what to score, and scoring it; in a batch, that of the batch.
    pub prune: Duration,
    /// See there.
    pub rescore: Duration,
}
