//! From hidden states to token embeddings: the encoder proper.
//!
//! ```text
//! texts -> ids -> batches -> hidden states [b, s, h] -> projection [b*s, d] -> rows kept -> unit rows
//! ```
//!
//! The projection of a batch is one product; rows are chosen and normalised afterwards, on the host.

use std::path::Path;

use burn::prelude::*;
use burn_flex::Flex;
use latewood_engine::{QueryEmbeddings, TokenEmbeddings};
use rayon::prelude::*;

use crate::batch::{self, Batch};
use crate::bert::{Bert, Linear};
use crate::config::BertConfig;
use crate::description::Description;
use crate::error::{Error, Result};
use crate::files::{ModelFiles, ModelId};
use crate::ops::Ops;
use crate::tokenize::{TextTokenizer, TokenSet, Tokens};
use crate::weights::Weights;
use crate::{EncodedDocument, EncodedQuery, Encoder, POOLED_TOKEN};

/// A ColBERT encoder: a BERT, a projection, and the rules of its `latewood.json`.
pub struct ColbertEncoder {
    id: ModelId,
    description: Description,
    tokenizer: TextTokenizer,
    query_dropped: TokenSet,
    document_dropped: TokenSet,
    network: Network<Flex>,
}

impl ColbertEncoder {
    /// Loads the model in the folder `dir`: `config.json`, `latewood.json`, `tokenizer.json`, `model.safetensors`.
    ///
    /// # Errors
    /// When a file is missing, damaged, or disagrees with another; the error says which and how.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::from_files(ModelFiles::read(dir)?)
    }

    /// The default model, compiled in.
    ///
    /// # Errors
    /// As [`Self::from_files`].
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Result<Self> {
        Self::from_files(ModelFiles::embedded())
    }

    /// Loads a model from the bytes of its files.
    ///
    /// # Errors
    /// When a file is damaged or disagrees with another; the error says which and how.
    pub fn from_files(files: ModelFiles) -> Result<Self> {
        let config = BertConfig::parse(&files.config)?;
        let description = Description::parse(&files.description)?;
        let (tokenizer, (network, digest)) = rayon::join(
            || TextTokenizer::parse(&files.tokenizer),
            || (Network::load(&files.weights, &config, &description, &Default::default()), files.digest()),
        );
        let tokenizer = tokenizer?;
        description.check_against(&config, &tokenizer)?;
        let set = |tokens: &[String]| tokens.iter().filter_map(|token| tokenizer.id(token)).collect();
        Ok(Self {
            id: ModelId::new(&description.name, &digest),
            query_dropped: set(&description.query.drop_tokens),
            document_dropped: set(&description.document.drop_tokens),
            network: network?,
            description,
            tokenizer,
        })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The rules of the model.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Tokenises `texts` to `max` tokens, runs them through the network, and finishes each.
    fn encode<T: Send>(
        &self,
        texts: &[&str],
        max: usize,
        finish: impl Fn(&Tokens, Rows) -> Result<T, latewood_engine::Error> + Sync,
    ) -> Result<Vec<T>> {
        let tokens = self.tokenizer.encode_all(texts, max)?;
        let lens: Vec<usize> = tokens.iter().map(|t| t.ids.len()).collect();
        let batches = batch::plan(&lens, batch::BUDGET);
        let encode_batch = |batch: &Vec<usize>| -> Result<Vec<(usize, T)>> {
            let ids: Vec<&[u32]> = batch.iter().map(|&i| tokens[i].ids.as_slice()).collect();
            let finish = |(&text, rows)| match finish(&tokens[text], rows) {
                Ok(encoded) => Ok((text, encoded)),
                Err(source) => Err(Error::Embeddings { text, source }),
            };
            batch.iter().zip(self.network.run(&ids)?).map(finish).collect()
        };
        let encoded = batches.par_iter().map(encode_batch).collect::<Result<Vec<_>>>()?;
        let mut encoded: Vec<(usize, T)> = encoded.into_iter().flatten().collect();
        encoded.sort_unstable_by_key(|(text, _)| *text);
        Ok(encoded.into_iter().map(|(_, encoded)| encoded).collect())
    }

    /// The rows of a text that the rules of its role keep, pooled rows last, all of unit norm, and their tokens.
    fn keep(&self, tokens: &Tokens, rows: Rows, dropped: &TokenSet) -> (Vec<f32>, Vec<u32>) {
        let dim = self.description.dim;
        let keep_all = tokens.ids.iter().all(|id| dropped.contains(*id));
        let mut values = Vec::with_capacity(rows.tokens.len() + rows.pooled.len());
        let mut token_ids = Vec::with_capacity(tokens.ids.len() + rows.pooled.len() / dim);
        for (id, row) in tokens.ids.iter().zip(rows.tokens.chunks_exact(dim)) {
            if keep_all || !dropped.contains(*id) {
                values.extend(row);
                token_ids.push(*id);
            }
        }
        values.extend(&rows.pooled);
        token_ids.resize(values.len() / dim, POOLED_TOKEN);
        values.chunks_exact_mut(dim).for_each(|row| scale_to(row, 1.0));
        (values, token_ids)
    }

    fn finish_query(&self, tokens: &Tokens, rows: Rows) -> Result<EncodedQuery, latewood_engine::Error> {
        let dim = self.description.dim;
        let (mut values, token_ids) = self.keep(tokens, rows, &self.query_dropped);
        if let Some(pooled) = &self.description.pooled_rows {
            let (words, pooled_rows) = values.split_at_mut((token_ids.len() - pooled.rows) * dim);
            let norm = pooled.query_weight * (words.len() / dim) as f32 / pooled.rows as f32;
            pooled_rows.iter_mut().for_each(|x| *x *= norm);
        }
        let embeddings = QueryEmbeddings::new(values, dim)?;
        Ok(EncodedQuery { embeddings, token_ids, tokens: tokens.total, truncated: tokens.truncated() })
    }

    fn finish_document(&self, tokens: &Tokens, rows: Rows) -> Result<EncodedDocument, latewood_engine::Error> {
        let (values, token_ids) = self.keep(tokens, rows, &self.document_dropped);
        let embeddings = TokenEmbeddings::new(values, self.description.dim)?;
        Ok(EncodedDocument { embeddings, token_ids, tokens: tokens.total, truncated: tokens.truncated() })
    }
}

impl Encoder for ColbertEncoder {
    fn dim(&self) -> usize {
        self.description.dim
    }

    fn model_id(&self) -> &ModelId {
        &self.id
    }

    fn max_query_tokens(&self) -> usize {
        self.description.query.max_tokens
    }

    fn max_document_tokens(&self) -> usize {
        self.description.document.max_tokens
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.tokenizer.count(text)
    }

    fn encode_queries(&self, texts: &[&str]) -> Result<Vec<EncodedQuery>> {
        self.encode(texts, self.max_query_tokens(), |tokens, rows| self.finish_query(tokens, rows))
    }

    fn encode_documents(&self, texts: &[&str]) -> Result<Vec<EncodedDocument>> {
        self.encode(texts, self.max_document_tokens(), |tokens, rows| self.finish_document(tokens, rows))
    }
}

impl std::fmt::Debug for ColbertEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColbertEncoder")
            .field("id", &self.id.as_str())
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// The projected rows of one text, of any norm.
struct Rows {
    /// `[s, d]`, one for each token.
    tokens: Vec<f32>,
    /// `[p, d]`, empty if the model has no pooled rows.
    pooled: Vec<f32>,
}

/// The part that runs on a device.
struct Network<B: Backend> {
    bert: Bert<B>,
    /// `[h, d]`
    projection: Linear<B>,
    /// `[h, p*d]`, for the mean of a text's hidden states.
    pooled_projection: Option<Linear<B>>,
    device: B::Device,
}

impl<B: Ops> Network<B> {
    fn load(weights: &[u8], config: &BertConfig, description: &Description, device: &B::Device) -> Result<Self> {
        let weights = &Weights::parse(weights)?;
        let matrix = |name: &str, rows| Linear::load_matrix(weights, name, [config.hidden_size, rows], device);
        let pooled = description.pooled_rows.as_ref().map(|p| matrix(&p.projection, p.rows * description.dim));
        Ok(Self {
            bert: Bert::load(weights, config, device)?,
            projection: matrix(&description.projection, description.dim)?,
            pooled_projection: pooled.transpose()?,
            device: device.clone(),
        })
    }

    /// The rows of each of `texts`.
    fn run(&self, texts: &[&[u32]]) -> Result<Vec<Rows>> {
        let Batch { ids, padding } = Batch::new(texts, &self.device);
        let hidden = self.bert.forward(ids, padding.clone());
        let [b, s, h] = hidden.dims();
        let pooled = match &self.pooled_projection {
            Some(projection) => read(projection.forward(unit(mean(hidden.clone(), padding))))?,
            None => Vec::new(),
        };
        let rows = read(self.projection.forward(hidden.reshape([b * s, h])))?;
        let (dim, width) = (rows.len() / (b * s), pooled.len() / b);
        let text_rows = |(at, ids): (usize, &&[u32])| Rows {
            tokens: rows[at * s * dim..][..ids.len() * dim].to_vec(),
            pooled: pooled[at * width..][..width].to_vec(),
        };
        Ok(texts.iter().enumerate().map(text_rows).collect())
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

/// Scales `row` to the norm `norm`; a row of zeros stays one.
fn scale_to(row: &mut [f32], norm: f32) {
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    row.iter_mut().for_each(|x| *x *= norm / length);
}
