//! When shards are rewritten, and which ones together.
//!
//! Many small commits would leave many small shards, a shard of mostly deleted documents keeps its dead weight, and
//! documents unlike those that a codec was trained on lie far from its centroids: they have drifted, probing misses
//! them, and they are worth a codec of their own.

use super::LiveShard;
use crate::codec::ResidualCodec;
use crate::error::Result;

/// As many shards of one codec may stand side by side.
const MAX_SHARDS: usize = 8;
/// Tokens have drifted when they lie this many times as far from their centroids as those of the training sample.
const DRIFT: f64 = 1.2;
/// A codec trained on fewer tokens knows too little for that to be told, and is outgrown soon.
pub(super) const DRIFT_TOKENS: u64 = 4096;

/// When shards are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// When there are many of them, the smallest; when most of one is dead.
    Tiered,
    /// Wherever it leaves fewer shards or fewer dead documents, and all that have drifted.
    Compact,
}

/// Shards to rewrite together: they share a codec.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) shards: Vec<LiveShard>,
    /// Whether they have drifted and get a new codec.
    pub(super) drifted: bool,
}

/// Which of `shards` to rewrite together, into shards of up to `limit` tokens.
///
/// # Errors
/// When a shard is damaged.
pub(super) fn plan(shards: &[LiveShard], policy: Policy, limit: usize) -> Result<Vec<Group>> {
    let mut codecs: Vec<u64> = shards.iter().map(|s| s.entry.codec).collect();
    codecs.sort_unstable();
    codecs.dedup();
    let mut plan = Vec::new();
    for codec in codecs {
        let mut own: Vec<&LiveShard> = shards.iter().filter(|s| s.entry.codec == codec).collect();
        own.sort_by_key(|s| s.shard.token_count());
        match policy {
            Policy::Tiered => plan.extend(tiered(&own, limit)?),
            Policy::Compact => plan.extend(compact(&own, limit)?),
        }
    }
    Ok(plan)
}

/// Of the shards of one codec, by size: the smallest together if there are too many, the sparse each alone.
fn tiered(own: &[&LiveShard], limit: usize) -> Result<Vec<Group>> {
    let joined = if own.len() > MAX_SHARDS { fill(&own[..MAX_SHARDS], limit).remove(0) } else { Vec::new() };
    let joined = if joined.len() > 1 { joined } else { Vec::new() };
    let rest = own.iter().filter(|s| !joined.iter().any(|j| j.entry.file == s.entry.file));
    let sparse = rest.filter(|s| s.live_docs() * 2 < s.shard.doc_count()).map(|&s| vec![s]);
    let groups = sparse.chain((!joined.is_empty()).then_some(joined.clone()));
    groups.map(|group| Ok(Group { drifted: drifted(&group)?, shards: group.into_iter().cloned().collect() })).collect()
}

/// All of them, in groups as large as a shard may be; not those that are alone and whole. What has drifted gets one new
/// codec, however much it is.
fn compact(own: &[&LiveShard], limit: usize) -> Result<Vec<Group>> {
    let (mut steady, mut strayed) = (Vec::new(), Vec::new());
    for &live in own {
        if drifted(&[live])? { strayed.push(live) } else { steady.push(live) }
    }
    let worth = |group: &Vec<&LiveShard>| match group[..] {
        [] => false,
        [alone] => alone.live_docs() < alone.shard.doc_count(),
        _ => true,
    };
    let group = |shards: Vec<&LiveShard>, drifted| Group { shards: shards.into_iter().cloned().collect(), drifted };
    let steady = fill(&steady, limit).into_iter().filter(worth).map(|shards| group(shards, false));
    Ok(steady.chain((!strayed.is_empty()).then(|| group(strayed, true))).collect())
}

/// Puts shards together, in order, as long as they make no shard of more than `limit` tokens; there is at least one group.
fn fill<'a>(own: &[&'a LiveShard], limit: usize) -> Vec<Vec<&'a LiveShard>> {
    let (mut groups, mut tokens) = (vec![Vec::new()], 0);
    for &live in own {
        tokens += live.shard.token_count();
        match groups.last_mut() {
            Some(group) if group.is_empty() || tokens <= limit => group.push(live),
            _ => {
                tokens = live.shard.token_count();
                groups.push(vec![live]);
            }
        }
    }
    groups
}

/// Whether the tokens of shards of one codec, taken together, have drifted.
fn drifted(shards: &[&LiveShard]) -> Result<bool> {
    let Some(codec) = shards.first().map(|live| live.shard.codec()) else { return Ok(false) };
    let (mut sum, mut tokens) = (0.0, 0);
    for live in shards {
        sum += live.shard.scale_sum()?;
        tokens += live.shard.token_count();
    }
    Ok(has_drifted(codec, sum, tokens))
}

/// Whether `tokens` tokens lie far from the centroids of `codec`, `sum` being the sum of the scales it gave them.
pub(super) fn has_drifted(codec: &ResidualCodec, sum: f64, tokens: usize) -> bool {
    codec.trained_on() >= DRIFT_TOKENS && sum > DRIFT * f64::from(codec.mean_scale()) * tokens as f64
}
