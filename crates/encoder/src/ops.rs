//! Operations that a backend may do better than a chain of Burn's own.
//!
//! [`Ops`] is an ordinary trait over [`Backend`]: each method has a body in terms of Burn operations,
//! which is its specification, and a backend overrides what it does faster. On Flex these are the GELU,
//! whose `erf` it evaluates one element at a time, in software, and the copies before and after attention,
//! which it makes element by element: together a third of the time of encoding.

use burn::prelude::*;
use burn::tensor::{TensorPrimitive, activation};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// What the network needs of a backend.
pub(crate) trait Ops: Backend {
    /// `x * (1 + erf(x / sqrt 2)) / 2`, element by element.
    fn exact_gelu(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        activation::gelu(x)
    }

    /// Queries, keys and values side by side, `[b*s, 3h]`, to `[b, heads, s, h / heads]` each.
    fn split_heads(x: Tensor<Self, 2>, [b, s, heads]: [usize; 3]) -> [Tensor<Self, 4>; 3] {
        let width = x.dims()[1] / (3 * heads);
        let x = x.reshape([b, s, 3, heads, width]);
        [0, 1, 2].map(|part| x.clone().narrow(2, part, 1).squeeze_dim::<4>(2).swap_dims(1, 2))
    }

    /// `[b, heads, s, h / heads]` to `[b*s, h]`.
    fn merge_heads(x: Tensor<Self, 4>) -> Tensor<Self, 2> {
        let [b, heads, s, width] = x.dims();
        x.swap_dims(1, 2).reshape([b * s, heads * width])
    }
}

impl Ops for Flex {
    fn exact_gelu(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let mut x = contiguous(x);
        let values: &mut [f32] = x.storage_mut();
        values.par_chunks_mut(1 << 14).for_each(gelu);
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }

    fn split_heads(x: Tensor<Self, 2>, [b, s, heads]: [usize; 3]) -> [Tensor<Self, 4>; 3] {
        let columns = x.dims()[1];
        let width = columns / (3 * heads);
        let x = contiguous(x);
        let x: &[f32] = x.storage();
        [0, 1, 2].map(|part| {
            let mut out = Vec::with_capacity(b * s * heads * width);
            for (text, head) in (0..b).flat_map(|text| (0..heads).map(move |head| (text, head))) {
                let column = (part * heads + head) * width;
                for token in text * s..(text + 1) * s {
                    out.extend_from_slice(&x[token * columns + column..][..width]);
                }
            }
            Tensor::from_data(TensorData::new(out, [b, heads, s, width]), &Default::default())
        })
    }

    fn merge_heads(x: Tensor<Self, 4>) -> Tensor<Self, 2> {
        let [b, heads, s, width] = x.dims();
        let x = contiguous(x);
        let x: &[f32] = x.storage();
        let mut out = Vec::with_capacity(x.len());
        for (text, token) in (0..b).flat_map(|text| (0..s).map(move |token| (text, token))) {
            for head in 0..heads {
                out.extend_from_slice(&x[((text * heads + head) * s + token) * width..][..width]);
            }
        }
        Tensor::from_data(TensorData::new(out, [b * s, heads * width]), &Default::default())
    }
}

/// The primitive of `x`, its storage the values of `x` and nothing else; no copy if it is so already.
fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let values = x.shape().num_elements();
    let x = x.into_primitive().tensor();
    let whole = x.is_contiguous() && x.layout().start_offset() == 0 && x.storage::<f32>().len() == values;
    if whole { x } else { x.to_contiguous() }
}

/// GELU in place, to 1e-6 of the exact one for `|x| <= 4`, to 3e-7 of `|x|` beyond.
///
/// `erf` as a rational function, `x P(x^2) / Q(x^2)`, fitted for the least largest error over
/// `|x| <= 3.85` (1.2e-8 before rounding); beyond, `1 - erf` is under half a unit in the last place of 1.
/// No branch and no call: the compiler turns the loop into vector instructions.
fn gelu(values: &mut [f32]) {
    const P: [f32; 6] =
        [std::f32::consts::FRAC_2_SQRT_PI, 0.189_967_17, 0.052_747_05, 0.003_762_316_7, 2.875_962_2e-4, 2.090_588_6e-6];
    const Q: [f32; 6] = [1.0, 0.501_686_04, 0.113_979_42, 0.014_959_955, 0.001_166_929_4, 3.865_122e-5];
    let horner = |c: &[f32; 6], z: f32| c.iter().rev().fold(0.0, |sum, c| sum * z + c);
    for value in values {
        let x = (*value * std::f32::consts::FRAC_1_SQRT_2).clamp(-3.85, 3.85);
        let z = x * x;
        let erf = x * horner(&P, z) / horner(&Q, z);
        *value = 0.5 * *value * (1.0 + erf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification: Burn's chain of operations on the same backend.
    fn reference(values: &[f32]) -> Vec<f32> {
        let x = Tensor::<Flex, 1>::from_data(TensorData::from(values), &Default::default());
        activation::gelu(x).into_data().to_vec().unwrap()
    }

    #[test]
    fn gelu_is_exact_to_a_millionth() {
        let x: Vec<f32> = (-80_000..=80_000).map(|i| i as f32 / 10_000.0).collect();
        let mut y = x.clone();
        gelu(&mut y);
        for ((x, y), z) in x.iter().zip(&y).zip(reference(&x)) {
            assert!((y - z).abs() <= 1e-6_f32.max(3e-7 * x.abs()), "gelu({x}) = {y}, exact {z}");
        }
        let mut ends = [0.0, 1e4, -1e4, f32::NAN];
        gelu(&mut ends);
        assert!(ends[0] == 0.0 && (ends[1] - 1e4).abs() < 1e-2 && ends[2].abs() < 1e-2 && ends[3].is_nan(), "{ends:?}");
    }

    fn largest_difference<const D: usize>(a: Tensor<Flex, D>, b: Tensor<Flex, D>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    #[test]
    fn a_shared_or_transposed_tensor_is_left_alone() {
        let x = Tensor::<Flex, 2>::from_data([[1.0, -2.0, 3.0], [0.5, 0.25, -8.0]], &Default::default());
        let y = x.clone().transpose();
        assert!(largest_difference(Flex::exact_gelu(y.clone()), activation::gelu(y)) < 1e-6);
        let part = x.clone().narrow(0, 1, 1);
        assert!(largest_difference(Flex::exact_gelu(part.clone()), activation::gelu(part)) < 1e-6);
        assert_eq!(x.into_data().to_vec::<f32>().unwrap(), [1.0, -2.0, 3.0, 0.5, 0.25, -8.0]);
    }

    /// The trait's own bodies, on the same backend.
    mod specification {
        use super::*;

        pub(super) fn split_heads(x: Tensor<Flex, 2>, [b, s, heads]: [usize; 3]) -> [Tensor<Flex, 4>; 3] {
            let width = x.dims()[1] / (3 * heads);
            let x = x.reshape([b, s, 3, heads, width]);
            [0, 1, 2].map(|part| x.clone().narrow(2, part, 1).squeeze_dim::<4>(2).swap_dims(1, 2))
        }
    }

    #[test]
    fn heads_are_split_and_merged_as_specified() {
        let (b, s, heads, width) = (3, 5, 2, 4);
        let values = Tensor::<Flex, 1, Int>::arange(0..(b * s * 3 * heads * width) as i64, &Default::default()).float();
        let x = values.reshape([b * s, 3 * heads * width]);
        let parts = Flex::split_heads(x.clone(), [b, s, heads]);
        let expected = specification::split_heads(x.clone(), [b, s, heads]);
        for (at, (part, expected)) in parts.into_iter().zip(expected).enumerate() {
            assert_eq!(largest_difference(part.clone(), expected.clone()), 0.0);
            let merged = x.clone().narrow(1, at * heads * width, heads * width);
            assert_eq!(largest_difference(Flex::merge_heads(part), merged.clone()), 0.0);
            assert_eq!(largest_difference(Flex::merge_heads(expected), merged), 0.0);
        }
    }
}
