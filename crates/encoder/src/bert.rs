//! The network: BERT (Devlin et al. 2019, arXiv:1810.04805), encoder only, for inference.
//!
//! Token ids `[b, s]` go in, one hidden state for each token comes out, `[b, s, h]`. Each layer is
//! post-norm: `x = norm(x + attention(x)); x = norm(x + down(gelu(up(x))))`. Linear layers see the
//! tokens of a batch as one matrix `[b*s, h]`; only attention knows where a text begins. The three
//! projections of attention are one matrix, `[h, 3h]`, so that they are one product.
//!
//! Stored matrices are `[out, in]`; in memory they are `[in, out]`. A transposed view would do, but the products
//! of a short query, a few rows, would take twice as long.

use burn::prelude::*;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{TensorPrimitive, module};
use rayon::prelude::*;

use crate::config::BertConfig;
use crate::error::Result;
use crate::ops::Ops;
use crate::weights::Weights;

/// `y = x W + b`.
pub(crate) struct Linear<B: Backend> {
    /// `[in, out]`
    weight: Tensor<B, 2>,
    /// `[out]`
    bias: Option<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// The linear layers `names`, each `[out, in]` with a bias, side by side: `[in, names * out]`.
    fn load(weights: &Weights, names: &[String], [input, output]: [usize; 2], device: &B::Device) -> Result<Self> {
        let mut bias = Vec::with_capacity(names.len() * output);
        for name in names {
            weights.find(&format!("{name}.bias"), &[output])?.append_rows(0..output, &mut bias)?;
        }
        let bias = Some(Tensor::from_data(TensorData::new(bias, [names.len() * output]), device));
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
struct LayerNorm<B: Backend> {
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f64,
}

impl<B: Backend> LayerNorm<B> {
    fn load(weights: &Weights, name: &str, config: &BertConfig, device: &B::Device) -> Result<Self> {
        let read = |part: &str| -> Result<Tensor<B, 1>> {
            let values = weights.read(&format!("{name}.{part}"), [config.hidden_size])?;
            Ok(Tensor::from_data(TensorData::new(values, [config.hidden_size]), device))
        };
        Ok(Self { gamma: read("weight")?, beta: read("bias")?, epsilon: config.layer_norm_eps })
    }

    /// `[n, h]` to `[n, h]`, through the backend's fused operation.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        Tensor::from_primitive(TensorPrimitive::Float(B::layer_norm(
            x.into_primitive().tensor(),
            gamma.into_primitive().tensor(),
            Some(beta.into_primitive().tensor()),
            self.epsilon,
        )))
    }
}

/// What a token starts from: its word, its position, and text type 0.
struct Embeddings<B: Backend> {
    /// `[vocabulary, h]`
    word: Tensor<B, 2>,
    /// `[positions, h]`, the vector of type 0 added to each.
    position: Tensor<B, 2>,
    norm: LayerNorm<B>,
}

impl<B: Backend> Embeddings<B> {
    fn load(weights: &Weights, config: &BertConfig, device: &B::Device) -> Result<Self> {
        let h = config.hidden_size;
        let read = |name: &str, rows: usize| -> Result<Tensor<B, 2>> {
            let values = weights.read(&format!("embeddings.{name}_embeddings.weight"), [rows, h])?;
            Ok(Tensor::from_data(TensorData::new(values, [rows, h]), device))
        };
        let types = read("token_type", config.type_vocab_size)?;
        Ok(Self {
            word: read("word", config.vocab_size)?,
            position: read("position", config.max_position_embeddings)? + types.narrow(0, 0, 1),
            norm: LayerNorm::load(weights, "embeddings.LayerNorm", config, device)?,
        })
    }

    /// Ids `[b, s]` to `[b*s, h]`.
    fn forward(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        let [b, s] = ids.dims();
        let words = module::embedding(self.word.clone(), ids);
        let x = words + self.position.clone().narrow(0, 0, s).unsqueeze::<3>();
        let h = x.dims()[2];
        self.norm.forward(x.reshape([b * s, h]))
    }
}

/// One layer: attention, then two linear layers with a GELU between, each added to its input and normalised.
struct Layer<B: Backend> {
    query_key_value: Linear<B>,
    attention_out: Linear<B>,
    attention_norm: LayerNorm<B>,
    up: Linear<B>,
    down: Linear<B>,
    norm: LayerNorm<B>,
    heads: usize,
}

impl<B: Ops> Layer<B> {
    fn load(weights: &Weights, at: usize, config: &BertConfig, device: &B::Device) -> Result<Self> {
        let (h, wide) = (config.hidden_size, config.intermediate_size);
        let prefix = format!("encoder.layer.{at}");
        let linear = |name: &str, shape| Linear::load(weights, &[format!("{prefix}.{name}")], shape, device);
        let norm = |name: &str| LayerNorm::load(weights, &format!("{prefix}.{name}"), config, device);
        let attention = ["query", "key", "value"].map(|name| format!("{prefix}.attention.self.{name}"));
        Ok(Self {
            query_key_value: Linear::load(weights, &attention, [h, h], device)?,
            attention_out: linear("attention.output.dense", [h, h])?,
            attention_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", [h, wide])?,
            down: linear("output.dense", [wide, h])?,
            norm: norm("output.LayerNorm")?,
            heads: config.num_attention_heads,
        })
    }

    /// `x` is `[b*s, h]`, `mask` `[b, 1, s, s]`.
    fn forward(&self, x: Tensor<B, 2>, [b, s]: [usize; 2], mask: Option<Tensor<B, 4, Bool>>) -> Tensor<B, 2> {
        let a = self.attention(x.clone(), [b, s], mask);
        let x = self.attention_norm.forward(self.attention_out.forward(a) + x);
        let wide = B::exact_gelu(self.up.forward(x.clone()));
        self.norm.forward(self.down.forward(wide) + x)
    }

    /// `softmax(q k^T / sqrt(h / heads)) v` in each head; `[b*s, h]` to `[b*s, h]`.
    fn attention(&self, x: Tensor<B, 2>, [b, s]: [usize; 2], mask: Option<Tensor<B, 4, Bool>>) -> Tensor<B, 2> {
        let [q, k, v] = B::split_heads(self.query_key_value.forward(x), [b, s, self.heads]);
        B::merge_heads(module::attention(q, k, v, mask, None, AttentionModuleOptions::default()))
    }
}

/// The network.
pub(crate) struct Bert<B: Backend> {
    embeddings: Embeddings<B>,
    layers: Vec<Layer<B>>,
}

impl<B: Ops> Bert<B> {
    /// Reads the tensors that `config` implies, under their Hugging Face names.
    pub(crate) fn load(weights: &Weights, config: &BertConfig, device: &B::Device) -> Result<Self> {
        let layer = |at| Layer::load(weights, at, config, device);
        let (embeddings, layers) = rayon::join(
            || Embeddings::load(weights, config, device),
            || (0..config.num_hidden_layers).into_par_iter().map(layer).collect::<Result<_>>(),
        );
        Ok(Self { embeddings: embeddings?, layers: layers? })
    }

    /// Hidden states `[b, s, h]` of the ids `[b, s]`, `s` at most the number of positions.
    ///
    /// `padding` `[b, s]` is true where a text has ended; none when all texts have `s` tokens. No token
    /// attends to padding; the rows at padding are values without meaning.
    pub(crate) fn forward(&self, ids: Tensor<B, 2, Int>, padding: Option<Tensor<B, 2, Bool>>) -> Tensor<B, 3> {
        let [b, s] = ids.dims();
        let mask = padding.map(|p| p.reshape([b, 1, 1, s]).expand([b, 1, s, s]));
        let x = self.embeddings.forward(ids);
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, [b, s], mask.clone()));
        let h = x.dims()[1];
        x.reshape([b, s, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let file = safetensors::serialize(views, None).unwrap();
            let (weights, names) = (Weights::parse(&file).unwrap(), ["a".into(), "b".into()]);
            let found = transposed::<Flex>(&weights, &names, [rows, columns], &Default::default()).unwrap();
            let expected = TensorData::new(values, [2 * rows, columns]);
            let expected = Tensor::<Flex, 2>::from_data(expected, &Default::default()).transpose();
            assert_eq!(found.dims(), [columns, 2 * rows]);
            assert_eq!((found - expected).abs().max().into_scalar(), 0.0, "{rows} x {columns}");
        }
    }
}
