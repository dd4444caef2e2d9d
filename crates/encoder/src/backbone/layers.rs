//! What networks are made of: linear layers, norms, activations.

use burn::prelude::*;
use burn::tensor::activation;

use crate::error::Result;
use crate::ops::{LinearSource, Ops, Precision};
use crate::recipe::Activation;
use crate::weights::{Stored, Weights};

/// Where linear layers come from, and how they are packed.
pub(crate) struct Layers<'a, B: Backend> {
    pub(crate) weights: &'a Weights<'a>,
    pub(crate) precision: Precision,
    pub(crate) device: &'a B::Device,
}

impl<B: Ops> Layers<'_, B> {
    /// The linear layers `names`, each `[input, output]`, side by side.
    pub(crate) fn linear(&self, names: &[String], shape: [usize; 2], bias: bool) -> Result<B::Linear> {
        self.first_times(1.0, names, shape, bias)
    }

    /// [`Self::linear`], what the first of the layers gives times `factor`.
    pub(crate) fn first_times(
        &self,
        factor: f32,
        names: &[String],
        [input, output]: [usize; 2],
        bias: bool,
    ) -> Result<B::Linear> {
        let mut biases = Vec::with_capacity(names.len() * output);
        for name in names.iter().filter(|_| bias) {
            self.weights.find(&format!("{name}.bias"), &[output])?.append_rows(0..output, &mut biases)?;
        }
        biases.iter_mut().take(output).for_each(|bias| *bias *= factor);
        let names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        self.pack(factor, &names, [input, output], bias.then_some(biases))
    }

    /// The matrix `name`, without a bias.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<B::Linear> {
        self.pack(1.0, &[name.into()], shape, None)
    }

    /// Matrices are stored `[output, input]`.
    fn pack(
        &self,
        factor: f32,
        names: &[String],
        [input, output]: [usize; 2],
        bias: Option<Vec<f32>>,
    ) -> Result<B::Linear> {
        let find = |name: &String| self.weights.find(name, &[output, input]);
        let stored: Vec<Stored<'_>> = names.iter().map(find).collect::<Result<_>>()?;
        let mut read = |at: usize, to: &mut [f32]| {
            stored[at / output].read_row(at % output, to)?;
            if at < output && factor != 1.0 {
                to.iter_mut().for_each(|weight| *weight *= factor);
            }
            Ok(())
        };
        let shape = [input, names.len() * output];
        B::pack(LinearSource { shape, bias, precision: self.precision, read: &mut read }, self.device)
    }
}

/// Normalises each row to mean 0 and variance 1, then scales and shifts it.
pub(crate) struct LayerNorm<B: Backend> {
    /// `[h]`
    pub(crate) gamma: Tensor<B, 1>,
    /// `[h]`
    pub(crate) beta: Tensor<B, 1>,
    pub(crate) epsilon: f64,
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
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [width]), device);
        let read = |part: &str| weights.read(&format!("{name}.{part}"), [width]).map(tensor);
        let beta = if bias { read("bias")? } else { tensor(vec![0.0; width]) };
        Ok(Self { gamma: read("weight")?, beta, epsilon })
    }
}

/// `activation` of each value.
pub(crate) fn activate<B: Backend>(activation: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::Relu => activation::relu(x),
        Activation::LeakyRelu => activation::leaky_relu(x, 0.01),
        Activation::Silu => activation::silu(x),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}
