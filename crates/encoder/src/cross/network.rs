//! The part of a cross-encoder that runs on a device: a backbone and its head, `[n]` to one number a pair.

use burn::prelude::*;

use crate::backbone::{Backbone, LayerNorm, Layers, activate};
use crate::batch::{Batch, Budget, Input, Positions};
use crate::checkpoint::{Classifier, Head as Recipe, Pooled};
use crate::error::Result;
use crate::network::{Load, Run, read, wait};
use crate::ops::{Ops, Precision};
use crate::recipe::Activation;

struct Network<B: Ops> {
    backbone: Backbone<B>,
    positions: Positions,
    head: Head<B>,
    budget: Budget,
    device: B::Device,
    /// What the device is called in errors.
    name: String,
}

struct Head<B: Ops> {
    pooled: Pooled,
    dense: B::Linear,
    activation: Activation,
    norm: Option<LayerNorm<B>>,
    out: B::Linear,
}

impl Load for Classifier {
    type Made = f32;

    fn load<B: Ops>(&self, precision: Precision, device: &B::Device, name: &str) -> Result<Box<dyn Run<f32>>> {
        let precision = B::precision(precision, device)?;
        let (weights, config) = (&self.model.weights()?, &self.model.backbone);
        // The head is small, and what it gives is the score: it stays exact.
        let layers = Layers::<B> { weights, precision: Precision::F32, device };
        let network = Network::<B> {
            backbone: Backbone::load(weights, config, precision, device)?,
            positions: config.counting(),
            head: Head::load(&self.head, &layers, config.hidden_size())?,
            budget: B::budget(config.widest(), device),
            device: device.clone(),
            name: name.into(),
        };
        wait::<B>(device, name)?;
        Ok(Box::new(network))
    }
}

impl<B: Ops> Run<f32> for Network<B> {
    fn run(&self, pairs: &[&Input]) -> Result<Vec<f32>> {
        let batch = Batch::new(pairs, self.positions, &self.device);
        let logits = self.head.forward(self.backbone.forward(&batch), &batch);
        read(&self.device, &self.name, logits)
    }

    fn budget(&self) -> Budget {
        self.budget
    }

    #[cfg(feature = "gpu")]
    fn tidy(&self) {
        B::memory_cleanup(&self.device);
    }
}

impl<B: Ops> Head<B> {
    /// For hidden states of `width` values.
    fn load(recipe: &Recipe, layers: &Layers<'_, B>, width: usize) -> Result<Self> {
        let linear = |name: &str, output, bias| layers.linear(&[name.into()], [width, output], bias);
        let norm = recipe
            .norm
            .map(|(name, bias, epsilon)| LayerNorm::load(layers.weights, name, width, bias, epsilon, layers.device));
        Ok(Self {
            pooled: recipe.pooled,
            dense: linear(recipe.dense, width, recipe.dense_bias)?,
            activation: recipe.activation,
            norm: norm.transpose()?,
            out: linear(recipe.out, 1, true)?,
        })
    }

    /// Hidden states `[n, h]` to `[pairs, 1]`.
    fn forward(&self, hidden: Tensor<B, 2>, batch: &Batch<B>) -> Tensor<B, 2> {
        let x = match self.pooled {
            Pooled::First => {
                let firsts: Vec<i32> = batch.texts.iter().map(|text| text.first as i32).collect();
                let count = firsts.len();
                let firsts = Tensor::<B, 1, Int>::from_data(TensorData::new(firsts, [count]), &hidden.device());
                B::lookup(hidden, firsts)
            }
            Pooled::Mean => B::means(hidden, &batch.texts),
        };
        let x = activate(self.activation, B::linear_layer(x, &self.dense, Activation::Identity));
        let x = match &self.norm {
            Some(norm) => B::add_norm(x, None, norm),
            None => x,
        };
        B::linear_layer(x, &self.out, Activation::Identity)
    }
}
