//! The part of an encoder that runs on a device: a backbone and its projection, `[b, s]` to `[b*s, d]`.

use burn::prelude::*;

use crate::backbone::{Backbone, Linear, activate};
use crate::batch::{Batch, Input, Positions};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::ops::Ops;
use crate::recipe::{Activation, Dense as Recipe, Place};
use crate::weights::Weights;

/// The projected rows of one text, of any norm.
pub(crate) struct Rows {
    /// `[s, d]`, one for each token.
    pub(crate) tokens: Vec<f32>,
    /// `[p, d]`, empty if the model has no pooled rows.
    pub(crate) pooled: Vec<f32>,
}

pub(crate) struct Network<B: Backend> {
    backbone: Backbone<B>,
    positions: Positions,
    projection: Vec<Dense<B>>,
    /// `[h, p*d]`, for the mean of a text's hidden states.
    pooled_projection: Option<Linear<B>>,
    device: B::Device,
}

impl<B: Ops> Network<B> {
    pub(crate) fn load(checkpoint: &Checkpoint, device: &B::Device) -> Result<Self> {
        let (weights, recipe, config) = (&checkpoint.weights()?, &checkpoint.recipe, &checkpoint.backbone);
        let pooled = recipe.pooled_rows.as_ref().map(|pooled| {
            Linear::load_matrix(weights, &pooled.projection, [config.hidden_size(), pooled.rows * recipe.dim], device)
        });
        let dense = |dense: &Recipe| match &dense.place {
            Place::Tensor(name) => Dense::of_tensor(weights, name, dense, device),
            Place::Folder(at) => Dense::of_folder(&checkpoint.weights_at(at)?, dense, device),
        };
        Ok(Self {
            backbone: Backbone::load(weights, config, device)?,
            positions: config.counting(),
            projection: recipe.projection.iter().map(dense).collect::<Result<_>>()?,
            pooled_projection: pooled.transpose()?,
            device: device.clone(),
        })
    }

    /// The rows of each of `texts`.
    pub(crate) fn run(&self, texts: &[&Input]) -> Result<Vec<Rows>> {
        let batch = Batch::new(texts, self.positions, &self.device);
        let hidden = self.backbone.forward(&batch);
        let [b, s, h] = hidden.dims();
        let pooled = match &self.pooled_projection {
            Some(projection) => read(projection.forward(unit(mean(hidden.clone(), batch.padding))))?,
            None => Vec::new(),
        };
        let rows = self.projection.iter().fold(hidden.reshape([b * s, h]), |x, dense| dense.forward(x));
        let rows = read(rows)?;
        let (dim, width) = (rows.len() / (b * s), pooled.len() / b);
        let text_rows = |(at, text): (usize, &&Input)| Rows {
            tokens: rows[at * s * dim..][..text.ids.len() * dim].to_vec(),
            pooled: pooled[at * width..][..width].to_vec(),
        };
        Ok(texts.iter().enumerate().map(text_rows).collect())
    }
}

/// `y = act(x W + b)`, to which `x` may be added.
struct Dense<B: Backend> {
    linear: Linear<B>,
    activation: Activation,
    residual: Residual<B>,
}

/// What is added.
enum Residual<B: Backend> {
    Nothing,
    Input,
    /// The input times a matrix.
    Projected(Linear<B>),
}

impl<B: Ops> Dense<B> {
    fn of_tensor(weights: &Weights, name: &str, recipe: &Recipe, device: &B::Device) -> Result<Self> {
        let linear = Linear::load_matrix(weights, name, [recipe.input, recipe.output], device)?;
        Ok(Self { linear, activation: recipe.activation, residual: Residual::Nothing })
    }

    fn of_folder(weights: &Weights, recipe: &Recipe, device: &B::Device) -> Result<Self> {
        let shape = [recipe.input, recipe.output];
        let residual = match recipe.residual {
            false => Residual::Nothing,
            true if recipe.input == recipe.output => Residual::Input,
            true => Residual::Projected(Linear::load_matrix(weights, "residual.weight", shape, device)?),
        };
        let linear = Linear::load(weights, &["linear".into()], shape, recipe.bias, device)?;
        Ok(Self { linear, activation: recipe.activation, residual })
    }

    /// `[n, in]` to `[n, out]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = activate(self.activation, self.linear.forward(x.clone()));
        match &self.residual {
            Residual::Nothing => y,
            Residual::Input => y + x,
            Residual::Projected(linear) => y + linear.forward(x),
        }
    }
}

/// Each row of `x`, `[n, h]`, scaled to unit norm.
fn unit<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

/// The mean over the tokens of each text, `[b, s, h]` to `[b, h]`, padding left out.
fn mean<B: Backend>(hidden: Tensor<B, 3>, padding: Option<Tensor<B, 2, Bool>>) -> Tensor<B, 2> {
    match padding {
        None => hidden.mean_dim(1).squeeze_dim(1),
        Some(padding) => {
            let real = padding.bool_not().float();
            let weight = real.clone() / real.sum_dim(1);
            weight.unsqueeze_dim::<3>(1).matmul(hidden).squeeze_dim(1)
        }
    }
}

/// The values of a tensor, row-major, on the host.
fn read<B: Backend>(x: Tensor<B, 2>) -> Result<Vec<f32>> {
    let data = x.try_into_data().map_err(|e| Error::Device { detail: format!("{e:?}") })?;
    data.into_vec().map_err(|e| Error::Device { detail: format!("{e:?}") })
}
