//! What networks are made of: linear layers, norms, activations.
//!
//! Stored matrices are `[out, in]`; in memory they are `[in, out]`. A transposed view would do, but the products
//! of a short query, a few rows, would take twice as long.

use burn::prelude::*;
use burn::tensor::{TensorPrimitive, activation, module};

use crate::error::Result;
use crate::ops::Ops;
use crate::recipe::Activation;
use crate::weights::Weights;

/// `y = x W + b`.
pub(crate) struct Linear<B: Backend> {
    /// `[in, out]`
    weight: Tensor<B, 2>,
    /// `[out]`
    bias: Option<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// The linear layers `names`, each `[out, in]`, side by side: `[in, names * out]`.
    pub(crate) fn load(
        weights: &Weights,
        names: &[String],
        [input, output]: [usize; 2],
        bias: bool,
        device: &B::Device,
    ) -> Result<Self> {
        let mut biases = Vec::with_capacity(names.len() * output);
        for name in names.iter().filter(|_| bias) {
            weights.find(&format!("{name}.bias"), &[output])?.append_rows(0..output, &mut biases)?;
        }
        let bias = bias.then(|| Tensor::from_data(TensorData::new(biases, [names.len() * output]), device));
        let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        Ok(Self { weight: transposed(weights, &names, [output, input], device)?, bias })
    }

    /// The matrix `name`, `[out, in]`, without a bias.
    pub(crate) fn load_matrix(
        weights: &Weights,
        name: &str,
        [input, output]: [usize; 2],
        device: &B::Device,
    ) -> Result<Self> {
        Ok(Self { weight: transposed(weights, &[name.into()], [output, input], device)?, bias: None })
    }

    /// `[n, in]` to `[n, out]`.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        module::linear(x, self.weight.clone(), self.bias.clone())
    }
}

/// The stored matrices `names`, each `[rows, columns]`, one below the other, as a tensor `[columns, names * rows]`.
fn transposed<B: Backend>(
    weights: &Weights,
    names: &[String],
    [rows, columns]: [usize; 2],
    device: &B::Device,
) -> Result<Tensor<B, 2>> {
    /// Rows taken together: what they write at a time is a cache line.
    const TILE: usize = 16;
    let all_rows = names.len() * rows;
    let (mut out, mut tile) = (vec![0.0; all_rows * columns], Vec::with_capacity(TILE * columns));
    for (at, name) in names.iter().enumerate() {
        let stored = weights.find(name, &[rows, columns])?;
        for first in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - first);
            tile.clear();
            stored.append_rows(first..first + height, &mut tile)?;
            for column in 0..columns {
                let line = &mut out[column * all_rows + at * rows + first..][..height];
                for (to, row) in line.iter_mut().zip(tile.chunks_exact(columns)) {
                    *to = row[column];
                }
            }
        }
    }
    Ok(Tensor::from_data(TensorData::new(out, [columns, all_rows]), device))
}

/// Normalises each row to mean 0 and variance 1, then scales and shifts it.
pub(crate) struct LayerNorm<B: Backend> {
    gamma: Tensor<B, 1>,
    beta: Option<Tensor<B, 1>>,
    epsilon: f64,
}

impl<B: Backend> LayerNorm<B> {
    /// The norm `name` of rows of `width` values.
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        width: usize,
        bias: bool,
        epsilon: f64,
        device: &B::Device,
    ) -> Result<Self> {
        let read = |part: &str| -> Result<Tensor<B, 1>> {
            let values = weights.read(&format!("{name}.{part}"), [width])?;
            Ok(Tensor::from_data(TensorData::new(values, [width]), device))
        };
        Ok(Self { gamma: read("weight")?, beta: bias.then(|| read("bias")).transpose()?, epsilon })
    }

    /// `[n, h]` to `[n, h]`, through the backend's fused operation.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        Tensor::from_primitive(TensorPrimitive::Float(B::layer_norm(
            x.into_primitive().tensor(),
            self.gamma.clone().into_primitive().tensor(),
            self.beta.clone().map(|beta| beta.into_primitive().tensor()),
            self.epsilon,
        )))
    }
}

/// `activation` of each value.
pub(crate) fn activate<B: Ops>(activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => B::exact_gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::Relu => activation::relu(x),
        Activation::LeakyRelu => activation::leaky_relu(x, 0.01),
        Activation::Silu => activation::silu(x),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightFile;
    use burn_flex::Flex;
    use safetensors::tensor::{Dtype, TensorView};

    #[test]
    fn stored_matrices_are_transposed_side_by_side_whatever_their_shape() {
        for [rows, columns] in [[1, 1], [16, 3], [17, 5], [40, 16], [3, 40]] {
            let values: Vec<f32> = (0..2 * rows * columns).map(|i| i as f32).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let views = ["a", "b"].into_iter().zip(bytes.chunks_exact(bytes.len() / 2));
            let views =
                views.map(|(name, data)| (name, TensorView::new(Dtype::F32, vec![rows, columns], data).unwrap()));
            let bytes = safetensors::serialize(views, None).unwrap().into();
            let file = [WeightFile { name: "model.safetensors".into(), bytes }];
            let (weights, names) = (Weights::parse(&file).unwrap(), ["a".into(), "b".into()]);
            let found = transposed::<Flex>(&weights, &names, [rows, columns], &Default::default()).unwrap();
            let expected = TensorData::new(values, [2 * rows, columns]);
            let expected = Tensor::<Flex, 2>::from_data(expected, &Default::default()).transpose();
            assert_eq!(found.dims(), [columns, 2 * rows]);
            assert_eq!((found - expected).abs().max().into_scalar(), 0.0, "{rows} x {columns}");
        }
    }
}
