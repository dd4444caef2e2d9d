//! Operations that a backend may do better than a chain of Burn's own.
//!
//! [`Ops`] is an ordinary trait over [`Backend`]: each method has a body in terms of Burn operations,
//! which is its specification, and a backend overrides what it does faster. On Flex that is the GELU:
//! its own evaluates `erf` one element at a time, in software, which is a fifth of the time of encoding.

use burn::prelude::*;
use burn::tensor::{TensorPrimitive, activation, ops::FloatTensor};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// What the network needs of a backend.
pub(crate) trait Ops: Backend {
    /// `x * (1 + erf(x / sqrt 2)) / 2`, element by element.
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = Tensor::<Self, 2>::from_primitive(TensorPrimitive::Float(x));
        activation::gelu(x).into_primitive().tensor()
    }
}

impl Ops for Flex {
    fn exact_gelu(x: FlexTensor) -> FlexTensor {
        // A fresh tensor is contiguous and its own only owner: then neither of these copies.
        let mut x = if x.is_contiguous() && x.layout().start_offset() == 0 { x } else { x.to_contiguous() };
        let values: &mut [f32] = x.storage_mut();
        values.par_chunks_mut(1 << 14).for_each(gelu);
        x
    }
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

    #[test]
    fn a_shared_or_transposed_tensor_is_left_alone() {
        let x = Tensor::<Flex, 2>::from_data([[1.0, -2.0, 3.0], [0.5, 0.25, -8.0]], &Default::default());
        let y = x.clone().transpose();
        let got = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(Flex::exact_gelu(
            y.clone().into_primitive().tensor(),
        )));
        let want = activation::gelu(y);
        assert!((got - want).abs().max().into_scalar() < 1e-6);
        assert_eq!(x.into_data().to_vec::<f32>().unwrap(), [1.0, -2.0, 3.0, 0.5, 0.25, -8.0]);
    }
}
