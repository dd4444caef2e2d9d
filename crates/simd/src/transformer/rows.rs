//! What is done to rows one by one: quantising, normalising, activations, rotation.

use super::matrix::ByteRows;
use super::vector::{Vector, gelu};

/// Calls `$body` for registers that cover `$n` values: `$count` values from `$at`, all lanes but for the last.
macro_rules! for_registers {
    ($v:ident, $n:expr, |$at:ident, $count:ident| $body:block) => {
        let mut $at = 0;
        while $at < $n {
            let $count = $v::LANES.min($n - $at);
            $body
            $at += $v::LANES;
        }
    };
}

/// The `n <= LANES` values at `from`; 0 behind them.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn load<V: Vector>(from: *const f32, n: usize) -> V {
    // SAFETY: the caller's.
    unsafe { if n == V::LANES { V::load(from) } else { V::load_first(from, n) } }
}

/// Stores `n <= LANES` lanes.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
pub(super) unsafe fn store<V: Vector>(values: V, to: *mut f32, n: usize) {
    // SAFETY: the caller's.
    unsafe { if n == V::LANES { values.store(to) } else { values.store_first(to, n) } }
}

/// # Safety
/// The processor has `V`; `rows` has room for `x`, `[n, width]`.
#[inline(always)]
pub(super) unsafe fn quantise<V: Vector>(x: &[f32], rows: &mut ByteRows) {
    let (width, stride) = (rows.width, rows.stride);
    let lines = rows.bytes.chunks_exact_mut(stride).zip(&mut rows.scales);
    for (row, (bytes, scale)) in x.chunks_exact(width).zip(lines) {
        let from = row.as_ptr();
        // SAFETY: `row` has `width` values, `bytes` as many and `stride - width` more.
        unsafe {
            let (mut largest, mut poison) = (V::splat(0.0), V::splat(0.0));
            for_registers!(V, width, |at, n| {
                let x = load::<V>(from.add(at), n);
                largest = largest.larger(x.abs());
                poison = x.mul_add(V::splat(0.0), poison);
            });
            let largest = largest.largest();
            // Not a number where one of the row is none or infinite: so is then what is made of it.
            *scale = largest / 127.0 + poison.sum();
            // 0 where the largest is 0, nearly 0 (its inverse overflows) or none.
            let steps = Some(127.0 / largest).filter(|steps| steps.is_finite());
            let steps = V::splat(steps.unwrap_or(0.0));
            for_registers!(V, width, |at, n| {
                load::<V>(from.add(at), n).mul(steps).store_bytes(bytes.as_mut_ptr().add(at), n);
            });
            bytes[width..].fill(V::OFFSET as u8);
        }
    }
}

/// # Safety
/// The processor has `V`; `x` is `[n, gamma.len()]`, `added` empty or as long.
#[inline(always)]
pub(super) unsafe fn add_norm<V: Vector>(x: &mut [f32], added: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) {
    let width = gamma.len();
    for (at, row) in x.chunks_exact_mut(width).enumerate() {
        let to = row.as_mut_ptr();
        let added = added.get(at * width..(at + 1) * width);
        // SAFETY: all rows have `width` values.
        unsafe {
            let mut sum = V::splat(0.0);
            for_registers!(V, width, |at, n| {
                let mut x = load::<V>(to.add(at), n);
                if let Some(added) = added {
                    x = x.add(load(added.as_ptr().add(at), n));
                    store(x, to.add(at), n);
                }
                sum = sum.add(x);
            });
            let mean = V::splat(sum.sum() / width as f32);
            let mut squares = V::splat(0.0);
            for_registers!(V, width, |at, n| {
                let distance = load::<V>(to.add(at), n).sub(mean);
                // Lanes behind the row are no values of it.
                let distance = if n == V::LANES { distance } else { first(distance, n) };
                squares = distance.mul_add(distance, squares);
            });
            let inverse = V::splat(1.0 / (squares.sum() / width as f32 + epsilon).sqrt());
            for_registers!(V, width, |at, n| {
                let scale = load::<V>(gamma.as_ptr().add(at), n).mul(inverse);
                let x = load::<V>(to.add(at), n).sub(mean);
                store(x.mul_add(scale, load(beta.as_ptr().add(at), n)), to.add(at), n);
            });
        }
    }
}

/// The first `n < LANES` lanes, and zeros.
///
/// # Safety
/// As for [`Vector`].
#[inline(always)]
unsafe fn first<V: Vector>(values: V, n: usize) -> V {
    let mut room = [0.0; 16];
    // SAFETY: the room holds a register of any instruction set.
    unsafe {
        values.store_first(room.as_mut_ptr(), n);
        V::load(room.as_ptr())
    }
}

/// # Safety
/// The processor has `V`.
#[inline(always)]
pub(super) unsafe fn gelu_all<V: Vector>(values: &mut [f32]) {
    let (len, at_first) = (values.len(), values.as_mut_ptr());
    // SAFETY: registers cover `values`.
    unsafe {
        for_registers!(V, len, |at, n| {
            store(gelu(load::<V>(at_first.add(at), n)), at_first.add(at), n);
        });
    }
}

/// # Safety
/// The processor has `V`; `x` is `[n, 2 * width]` and `out` `[n, width]`.
#[inline(always)]
pub(super) unsafe fn gelu_gate<V: Vector>(x: &[f32], width: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        // SAFETY: a row has two halves of `width` values.
        unsafe {
            for_registers!(V, width, |at, n| {
                let gate = load::<V>(x.as_ptr().add(width + at), n);
                store(gelu(load::<V>(x.as_ptr().add(at), n)).mul(gate), out.as_mut_ptr().add(at), n);
            });
        }
    }
}

/// # Safety
/// The processor has `V`; `heads` is whole heads of `2 * cos.len()` values, and `sin` as long as `cos`.
#[inline(always)]
pub(super) unsafe fn rotate<V: Vector>(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in heads.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        // SAFETY: both halves have as many values as there are cosines and sines.
        unsafe {
            for_registers!(V, half, |at, n| {
                let (a, b) = (load::<V>(low.as_ptr().add(at), n), load::<V>(high.as_ptr().add(at), n));
                let (c, s) = (load::<V>(cos.as_ptr().add(at), n), load::<V>(sin.as_ptr().add(at), n));
                store(a.mul(c).sub(b.mul(s)), low.as_mut_ptr().add(at), n);
                store(b.mul(c).add(a.mul(s)), high.as_mut_ptr().add(at), n);
            });
        }
    }
}
