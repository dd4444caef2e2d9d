//! Which documents have a token at a centroid.

use super::BLOCK_DOCS;

/// For each block of documents and each of `count` centroids, the documents that have a token there, ascending and once
/// each, and where each list starts: a counting sort. Document `i` has the tokens `offsets[i]..offsets[i + 1]`, of which
/// `centroids` says where they are.
pub(super) fn posting_lists(offsets: &[u32], centroids: &[u16], count: usize) -> (Vec<u32>, Vec<u16>) {
    let mut seen = vec![u32::MAX; count];
    let mut pairs: Vec<(u32, u16)> = Vec::new();
    for (doc, run) in offsets.windows(2).enumerate() {
        for &c in &centroids[run[0] as usize..run[1] as usize] {
            if std::mem::replace(&mut seen[usize::from(c)], doc as u32) != doc as u32 {
                pairs.push(((doc / BLOCK_DOCS * count) as u32 + u32::from(c), (doc % BLOCK_DOCS) as u16));
            }
        }
    }
    let blocks = (offsets.len() - 1).div_ceil(BLOCK_DOCS);
    let mut starts = vec![0u32; blocks * count + 1];
    pairs.iter().for_each(|&(list, _)| starts[list as usize + 1] += 1);
    for list in 1..starts.len() {
        starts[list] += starts[list - 1];
    }
    let mut next = starts.clone();
    let mut postings = vec![0; pairs.len()];
    for (list, doc) in pairs {
        let at = &mut next[list as usize];
        postings[*at as usize] = doc;
        *at += 1;
    }
    (starts, postings)
}
