//! Joining shards: which ones, and how.
//!
//! Shards of one codec join without loss, coded tokens being copied. Many small commits would otherwise leave
//! many small shards; a shard of mostly deleted documents would keep its dead weight.

use latewood_simd::ResidualTokens;

use super::{LiveShard, Progress, Stage};
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::ids::DocOrd;
use crate::shard::ShardWriter;

/// As many shards of one codec may stand side by side.
const MAX_SHARDS: usize = 8;
/// A merge makes no shard of more tokens.
const MAX_MERGED_TOKENS: usize = 8 << 20;

/// Which shards to rewrite together, as positions in `shards`.
pub(super) fn plan(shards: &[LiveShard]) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    let mut codecs: Vec<u64> = shards.iter().map(|s| s.entry.codec).collect();
    codecs.sort_unstable();
    codecs.dedup();
    for codec in codecs {
        let mut own: Vec<usize> = (0..shards.len()).filter(|&i| shards[i].entry.codec == codec).collect();
        own.sort_by_key(|&i| shards[i].shard.token_count());
        let (mut group, mut tokens) = (Vec::new(), 0);
        if own.len() > MAX_SHARDS {
            for &i in &own[..MAX_SHARDS] {
                tokens += shards[i].shard.token_count();
                if tokens > MAX_MERGED_TOKENS {
                    break;
                }
                group.push(i);
            }
        }
        let joined = if group.len() > 1 { group } else { Vec::new() };
        let sparse = own
            .into_iter()
            .filter(|i| !joined.contains(i) && shards[*i].live_docs() * 2 < shards[*i].shard.doc_count());
        groups.extend(sparse.map(|i| vec![i]));
        if !joined.is_empty() {
            groups.push(joined);
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
    let mut writer = ShardWriter::new(&codec);
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
        writer.add(shard.doc_id(ord), &tokens);
    }
    progress.report(Stage::Merge, total, total);
    writer.write(directory, name)
}
