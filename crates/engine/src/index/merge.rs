//! Joining shards: which ones, and how.
//!
//! Shards of one codec join without loss, coded tokens being copied. Many small commits would otherwise leave
//! many small shards; a shard of mostly deleted documents would keep its dead weight.

use latewood_simd::ResidualTokens;

use super::{LiveShard, Progress, Stage};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::{DocId, DocOrd};
use crate::shard::ShardWriter;

/// As many shards of one codec may stand side by side.
const MAX_SHARDS: usize = 8;
/// A merge makes no shard of more tokens.
const MAX_MERGED_TOKENS: usize = 8 << 20;

/// When shards are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// When there are many of them, the smallest; when most of one is dead.
    Tiered,
    /// Wherever it leaves fewer shards or fewer dead documents.
    Compact,
}

/// Which shards to rewrite together, as positions in `shards`.
pub(super) fn plan(shards: &[LiveShard], policy: Policy) -> Vec<Vec<usize>> {
    let mut codecs: Vec<u64> = shards.iter().map(|s| s.entry.codec).collect();
    codecs.sort_unstable();
    codecs.dedup();
    codecs
        .into_iter()
        .flat_map(|codec| {
            let mut own: Vec<usize> = (0..shards.len()).filter(|&i| shards[i].entry.codec == codec).collect();
            own.sort_by_key(|&i| shards[i].shard.token_count());
            match policy {
                Policy::Tiered => tiered(shards, &own),
                Policy::Compact => compact(shards, &own),
            }
        })
        .collect()
}

/// Of the shards `own` of one codec, by size: the smallest together if there are too many, the sparse each alone.
fn tiered(shards: &[LiveShard], own: &[usize]) -> Vec<Vec<usize>> {
    let joined = if own.len() > MAX_SHARDS { fill(shards, &own[..MAX_SHARDS]).remove(0) } else { Vec::new() };
    let joined = if joined.len() > 1 { joined } else { Vec::new() };
    let sparse = |i: &&usize| !joined.contains(i) && shards[**i].live_docs() * 2 < shards[**i].shard.doc_count();
    let mut groups: Vec<Vec<usize>> = own.iter().filter(sparse).map(|&i| vec![i]).collect();
    if !joined.is_empty() {
        groups.push(joined);
    }
    groups
}

/// All of them, in groups as large as a shard may be; not those that are alone and whole.
fn compact(shards: &[LiveShard], own: &[usize]) -> Vec<Vec<usize>> {
    let mut groups = fill(shards, own);
    groups.retain(|group| group.len() > 1 || shards[group[0]].live_docs() < shards[group[0]].shard.doc_count());
    groups
}

/// Puts shards together, in order, as long as they make no shard that is too large; there is at least one group.
fn fill(shards: &[LiveShard], own: &[usize]) -> Vec<Vec<usize>> {
    let (mut groups, mut tokens) = (vec![Vec::new()], 0);
    for &i in own {
        tokens += shards[i].shard.token_count();
        match groups.last_mut() {
            Some(group) if group.is_empty() || tokens <= MAX_MERGED_TOKENS => group.push(i),
            _ => {
                tokens = shards[i].shard.token_count();
                groups.push(vec![i]);
            }
        }
    }
    groups
}

/// Writes the live documents of `shards`, which share a codec, as the file `name`.
pub(super) fn merge(
    directory: &dyn Directory,
    name: &str,
    shards: &[&LiveShard],
    progress: &dyn Progress,
) -> Result<()> {
    let codec = shards[0].shard.codec().clone();
    let mut docs: Vec<(u64, usize, DocOrd)> = Vec::new();
    for (at, live) in shards.iter().enumerate() {
        docs.extend(live.docs().map(|ord| (live.shard.doc_id(ord).0, at, ord)));
    }
    docs.sort_unstable();
    if let Some(twice) = docs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(shards[twice[1].1].alive_twice(DocId(twice[1].0)));
    }
    let mut writer = ShardWriter::create(directory, name, codec)?;
    let total = docs.len() as u64;
    for (done, &(_, at, ord)) in docs.iter().enumerate() {
        if done % 1024 == 0 {
            progress.report(Stage::Merge, done as u64, total);
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
        }
        let shard = &shards[at].shard;
        let tokens: ResidualTokens<'_> = shard.fine_tokens(ord)?;
        writer.add(shard.doc_id(ord), &tokens)?;
    }
    progress.report(Stage::Merge, total, total);
    writer.finish(directory)
}
