//! The part of an encoder that runs on a device: a backbone and its projection, `[n]` to `[n, d]`.

use burn::prelude::*;

use crate::backbone::{Backbone, Layers};
use crate::batch::{Batch, Budget, Input, Positions, Span};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::ops::{Ops, Precision};
use crate::recipe::{Activation, Dense as Recipe, Place};
use crate::weights::Weights;

/// The projected rows of one text, of any norm.
pub(crate) struct Rows {
    /// `[s, d]`, one for each token.
    pub(crate) tokens: Vec<f32>,
    /// `[p, d]`, empty if the model has no pooled rows.
    pub(crate) pooled: Vec<f32>,
}

/// A network, wherever it computes; of each text it makes a `T`.
pub(crate) trait Run<T>: Send + Sync {
    /// What the network makes of each of `texts`.
    ///
    /// # Errors
    /// When the device fails.
    fn run(&self, texts: &[&Input]) -> Result<Vec<T>>;

    /// How texts are best put together.
    fn budget(&self) -> Budget;

    /// Gives back the memory that is kept for the next batch.
    #[cfg(feature = "gpu")]
    fn tidy(&self) {}
}

/// What a network is loaded from.
pub(crate) trait Load: Send + Sync + 'static {
    /// What the network makes of a text.
    type Made: Send + 'static;

    /// The network on `device`, which errors call `name`.
    fn load<B: Ops>(&self, precision: Precision, device: &B::Device, name: &str) -> Result<Box<dyn Run<Self::Made>>>;
}

impl Load for Checkpoint {
    type Made = Rows;

    fn load<B: Ops>(&self, precision: Precision, device: &B::Device, name: &str) -> Result<Box<dyn Run<Rows>>> {
        let network = Network::<B>::load(self, precision, device, name)?;
        wait::<B>(device, name)?;
        Ok(Box::new(network))
    }
}

/// A network on a backend.
pub(crate) struct Network<B: Ops> {
    backbone: Backbone<B>,
    positions: Positions,
    projection: Vec<Dense<B>>,
    /// `[h, p*d]`, for the mean of a text's hidden states.
    pooled_projection: Option<B::Linear>,
    budget: Budget,
    device: B::Device,
    /// What the device is called in errors.
    name: String,
}

impl<B: Ops> Network<B> {
    /// Loads the network of `checkpoint` to `device`, which errors call `name`.
    pub(crate) fn load(checkpoint: &Checkpoint, precision: Precision, device: &B::Device, name: &str) -> Result<Self> {
        let precision = B::precision(precision, device)?;
        let (weights, recipe, config) = (&checkpoint.model.weights()?, &checkpoint.recipe, &checkpoint.model.backbone);
        // What makes rows of hidden states is small, and of few values each: it stays exact.
        fn exact<'a, B: Ops>(weights: &'a Weights, device: &'a B::Device) -> Layers<'a, B> {
            Layers { weights, precision: Precision::F32, device }
        }
        let pooled = recipe.pooled_rows.as_ref().map(|pooled| {
            let shape = [config.hidden_size(), pooled.rows * recipe.dim];
            exact::<B>(weights, device).matrix(&pooled.projection, shape)
        });
        let dense = |dense: &Recipe| match &dense.place {
            Place::Tensor(name) => Dense::of_tensor(&exact(weights, device), name, dense),
            Place::Folder(at) => Dense::of_folder(&exact(&checkpoint.model.weights_at(at)?, device), dense),
        };
        Ok(Self {
            backbone: Backbone::load(weights, config, precision, device)?,
            positions: config.counting(),
            projection: recipe.projection.iter().map(dense).collect::<Result<_>>()?,
            pooled_projection: pooled.transpose()?,
            budget: B::budget(config.widest(), device),
            device: device.clone(),
            name: name.into(),
        })
    }
}

impl<B: Ops> Run<Rows> for Network<B> {
    fn budget(&self) -> Budget {
        self.budget
    }

    #[cfg(feature = "gpu")]
    fn tidy(&self) {
        B::memory_cleanup(&self.device);
    }

    fn run(&self, texts: &[&Input]) -> Result<Vec<Rows>> {
        let batch = Batch::new(texts, self.positions, &self.device);
        let hidden = self.backbone.forward(&batch);
        let n = hidden.dims()[0];
        let pooled = self.pooled_projection.as_ref().map(|projection| {
            let means = unit(B::means(hidden.clone(), &batch.texts));
            B::linear_layer(means, projection, Activation::Identity)
        });
        let rows = self.projection.iter().fold(hidden, |x, dense| dense.forward(x));
        // All is under way before anyone waits.
        let rows = read(&self.device, &self.name, rows)?;
        let pooled = pooled.map(|pooled| read(&self.device, &self.name, pooled)).transpose()?.unwrap_or_default();
        let (dim, width) = (rows.len() / n, pooled.len() / texts.len());
        let text_rows = |(at, text): (usize, &Span)| Rows {
            tokens: rows[text.first * dim..][..text.len * dim].to_vec(),
            pooled: pooled[at * width..][..width].to_vec(),
        };
        Ok(batch.texts.iter().enumerate().map(text_rows).collect())
    }
}

/// Waits for all that the device, which errors call `name`, was given to do.
pub(crate) fn wait<B: Ops>(device: &B::Device, name: &str) -> Result<()> {
    B::sync(device).map_err(|e| Error::Device { device: name.into(), detail: e.to_string() })
}

/// The values of a tensor, row-major, on the host; errors call the device `name`.
pub(crate) fn read<B: Ops>(device: &B::Device, name: &str, x: Tensor<B, 2>) -> Result<Vec<f32>> {
    let failed = |detail: String| Error::Device { device: name.into(), detail };
    // Reading alone would not do: a GPU that did not run a kernel says so here only, and gives what was there before.
    wait::<B>(device, name)?;
    let data = x.try_into_data().map_err(|e| failed(e.to_string()))?;
    data.into_vec().map_err(|e| failed(format!("{e:?}")))
}

/// `y = act(x W + b)`, to which `x` may be added.
struct Dense<B: Ops> {
    linear: B::Linear,
    activation: Activation,
    residual: Residual<B>,
}

/// What is added.
enum Residual<B: Ops> {
    Nothing,
    Input,
    /// The input times a matrix.
    Projected(B::Linear),
}

impl<B: Ops> Dense<B> {
    fn of_tensor(layers: &Layers<B>, name: &str, recipe: &Recipe) -> Result<Self> {
        let linear = layers.matrix(name, [recipe.input, recipe.output])?;
        Ok(Self { linear, activation: recipe.activation, residual: Residual::Nothing })
    }

    fn of_folder(layers: &Layers<B>, recipe: &Recipe) -> Result<Self> {
        let shape = [recipe.input, recipe.output];
        let residual = match recipe.residual {
            false => Residual::Nothing,
            true if recipe.input == recipe.output => Residual::Input,
            true => Residual::Projected(layers.matrix("residual.weight", shape)?),
        };
        let linear = layers.linear(&["linear".into()], shape, recipe.bias)?;
        Ok(Self { linear, activation: recipe.activation, residual })
    }

    /// `[n, in]` to `[n, out]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = B::linear_layer(x.clone(), &self.linear, self.activation);
        match &self.residual {
            Residual::Nothing => y,
            Residual::Input => y + x,
            Residual::Projected(linear) => y + B::linear_layer(x, linear, Activation::Identity),
        }
    }
}

/// Each row of `x`, `[n, h]`, scaled to unit norm.
fn unit<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
