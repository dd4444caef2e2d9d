//! In which order a kernel meets the dimensions of a token.
//!
//! Codes are packed in planes: with `b` bits a code and `m = dim * b / 8` bytes a token, the code of dimension `p * m +
//! j` is in byte `j`, bits `p * b` and up. A kernel reads whole words and takes the codes from the lowest up, so that
//! it meets dimension `j`, `m + j`, `2 * m + j`, ... of byte `j = 0`, then those of byte 1, and so on. Where a token's
//! bytes do not fill its last word, it meets codes that are none: the query has zeros there.

use latewood_simd::code_bytes;

use crate::cube::LANES;

/// Words that a token's codes take.
pub(crate) fn code_words(dim: usize, bits: u32) -> usize {
    code_bytes(dim, bits).div_ceil(4)
}

/// For each code of a token's words, from the lowest up, the dimension that it is of, or `None` where there is none.
pub(crate) fn coded_order(dim: usize, bits: u32) -> Vec<Option<usize>> {
    let plane = code_bytes(dim, bits);
    let planes = 8 / bits as usize;
    let of_byte = |byte: usize| (0..planes).map(move |p| (byte < plane).then_some(p * plane + byte));
    (0..code_words(dim, bits) * 4).flat_map(of_byte).collect()
}

/// Rows of `bytes` bytes each as rows of whole words, the rest of the last being 0.
pub(crate) fn pad_rows(rows: &[u8], bytes: usize) -> Vec<u32> {
    let words = bytes.div_ceil(4);
    let mut out = vec![0u32; rows.len() / bytes * words];
    for (row, out) in rows.chunks_exact(bytes).zip(out.chunks_exact_mut(words)) {
        for (chunk, word) in row.chunks(4).zip(out) {
            let mut four = [0; 4];
            four[..chunk.len()].copy_from_slice(chunk);
            *word = u32::from_le_bytes(four);
        }
    }
    out
}

/// Rows `[n, dim]` as blocks `[order, LANES]`, the dimensions in the given order and zeros where there is none.
pub(crate) fn in_lanes(rows: &[f32], dim: usize, order: &[Option<usize>]) -> Vec<f32> {
    let count = rows.len() / dim;
    let mut out = vec![0.0; count.div_ceil(LANES) * order.len() * LANES];
    for (block, rows) in out.chunks_exact_mut(order.len() * LANES).zip(rows.chunks(LANES * dim)) {
        for (lanes, &dimension) in block.chunks_exact_mut(LANES).zip(order) {
            let Some(dimension) = dimension else { continue };
            for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(dim)) {
                *lane = row[dimension];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use latewood_simd::pack_codes;

    #[test]
    fn the_order_finds_every_code() {
        for (dim, bits) in [(8, 1), (8, 4), (24, 1), (24, 2), (40, 2), (96, 1), (128, 4), (1024, 2)] {
            let codes: Vec<u8> = (0..dim).map(|d| (d * 7 + d / 5) as u8 & ((1 << bits) - 1) as u8).collect();
            let mut packed = vec![0; code_bytes(dim, bits)];
            pack_codes(&codes, bits, &mut packed);
            let words = pad_rows(&packed, packed.len());
            let order = coded_order(dim, bits);
            let per_word = 32 / bits as usize;
            assert_eq!(order.len(), words.len() * per_word);
            for (at, dimension) in order.iter().enumerate() {
                let code = words[at / per_word] >> (at % per_word * bits as usize) & ((1 << bits) - 1);
                assert_eq!(code, dimension.map_or(0, |d| u32::from(codes[d])), "code {at} of {dim} of {bits} bits");
            }
            let mut met: Vec<usize> = order.into_iter().flatten().collect();
            met.sort_unstable();
            assert_eq!(met, (0..dim).collect::<Vec<_>>());
        }
    }
}
