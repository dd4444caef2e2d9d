//! Rotary positions (Su et al. 2021, arXiv:2104.09864): queries and keys are turned by angles that grow with the place
//! of their token, so that their product depends on how far apart two tokens are.
//!
//! The first half of a head's values goes with the second, as in GPT-NeoX, not each with its neighbour.

use burn::prelude::*;

/// Cosines and sines for `s` places and heads of `width` values.
pub(crate) struct Rotary<B: Backend> {
    /// `[1, 1, s, width]`
    cos: Tensor<B, 4>,
    /// `[1, 1, s, width]`
    sin: Tensor<B, 4>,
}

impl<B: Backend> Rotary<B> {
    /// Place `p` turns pair `i` of `width / 2` by `p / base^(2 i / width)`.
    pub(crate) fn new(base: f64, [s, width]: [usize; 2], device: &B::Device) -> Self {
        let half = width / 2;
        // In f32, as the references do: at far places the rounding of an angle shows.
        let speeds: Vec<f32> = (0..half).map(|i| 1.0 / (base as f32).powf((2 * i) as f32 / width as f32)).collect();
        let angles: Vec<f32> = (0..s)
            .flat_map(|place| (0..width).map(move |i| (place, i % half)))
            .map(|(p, i)| p as f32 * speeds[i])
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|angle| f(*angle)).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, s, width]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// `x`, `[b, heads, s, width]`, turned.
    pub(crate) fn turn(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let half = x.dims()[3] / 2;
        let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        x * self.cos.clone() + turned * self.sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn a_product_depends_on_the_distance_alone() {
        let rotary = Rotary::<Flex>::new(100.0, [9, 4], &Default::default());
        let row = |values: [f32; 4]| {
            let values = values.repeat(9);
            Tensor::<Flex, 4>::from_data(TensorData::new(values, [1, 1, 9, 4]), &Default::default())
        };
        let (q, k) = (rotary.turn(row([1.0, 2.0, -1.0, 0.5])), rotary.turn(row([0.3, -1.0, 2.0, 1.0])));
        let products = q.matmul(k.swap_dims(2, 3)).into_data().to_vec::<f32>().unwrap();
        for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
            assert!((products[i * 9 + j] - products[(i + 1) * 9 + j + 1]).abs() < 1e-5, "{i} {j}");
        }
        assert!((products[0] - products[1]).abs() > 0.1);
    }
}
