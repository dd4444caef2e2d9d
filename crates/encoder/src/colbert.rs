//! From texts to token embeddings: the encoder proper.
//!
//! ```text
//! texts -> ids -> batches [n] -> hidden states [n, h] -> projection [n, d] -> rows kept -> unit rows
//! ```
//!
//! The projection of a batch is one product; rows are chosen and normalised afterwards, on the host.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use latewood_engine::{QueryEmbeddings, TokenEmbeddings};
use rayon::prelude::*;

use crate::agreement;
use crate::batch::{self, Input};
use crate::checkpoint::Checkpoint;
use crate::device::{Compute, EncoderDevice};
use crate::error::{Error, Result};
use crate::files::{ModelFiles, ModelId};
#[cfg(feature = "hub")]
use crate::hub::{self, HubEvent, HubName, HubOptions};
use crate::network::{Rows, Run};
use crate::options::EncoderOptions;
use crate::pool;
use crate::recipe::{Norm, Recipe};
use crate::role::{Prepared, Role};
use crate::team;
use crate::tokenize::TextTokenizer;
use crate::{EncodedDocument, EncodedQuery, Encoder, POOLED_TOKEN, RawRows, Side};

/// A ColBERT encoder: a network, a projection, and the rules of its [`Recipe`].
pub struct ColbertEncoder {
    id: ModelId,
    recipe: Recipe,
    /// The two as the model has them, before there were options.
    own: (ModelId, Recipe),
    /// Tokens that the network takes.
    positions: usize,
    /// What the network is, for people.
    summary: String,
    tokenizer: TextTokenizer,
    query: Role,
    document: Role,
    device: EncoderDevice,
    network: Box<dyn Run<Rows>>,
}

impl ColbertEncoder {
    /// Loads the model in the folder `dir`, in our own format or in any that [`Recipe`] knows.
    ///
    /// # Errors
    /// When a file is missing, damaged, disagrees with another, or asks for what the encoder does not do; the error
    /// says which and how.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::open(dir, Compute::default())
    }

    /// [`Self::from_dir`], computing as `compute` says: in a [`Precision`](crate::Precision), on an [`EncoderDevice`], or
    /// both.
    ///
    /// # Errors
    /// As [`Self::from_dir`]; when the device fails, or does not compute what the processor computes, which is tried.
    pub fn open(dir: &Path, compute: impl Into<Compute>) -> Result<Self> {
        Self::load(Checkpoint::open(&dir.to_path_buf())?, &compute.into())
    }

    /// Loads the model `name` of the Hugging Face hub, from its cache or, where it is not there, from the hub.
    ///
    /// # Errors
    /// As [`Self::open`], and when the model cannot be fetched.
    #[cfg(feature = "hub")]
    pub fn from_hub(
        name: &HubName,
        compute: impl Into<Compute>,
        options: &HubOptions,
        hear: &dyn Fn(HubEvent<'_>),
    ) -> Result<Self> {
        Self::load(hub::open(name, options, hear)?.0, &compute.into())
    }

    /// The default model, compiled in.
    ///
    /// # Errors
    /// As [`Self::from_files`].
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Result<Self> {
        Self::from_files(ModelFiles::embedded(), Compute::default())
    }

    /// Loads a model in our own format from the bytes of its files.
    ///
    /// # Errors
    /// When a file is damaged or disagrees with another; the error says which and how. Of the device, as [`Self::open`].
    pub fn from_files(files: ModelFiles, compute: impl Into<Compute>) -> Result<Self> {
        Self::load(Checkpoint::of_files(files)?, &compute.into())
    }

    fn load(checkpoint: Checkpoint, compute: &Compute) -> Result<Self> {
        let checkpoint = Arc::new(checkpoint);
        compute.or_else(|compute| Self::load_on(&checkpoint, compute))
    }

    fn load_on(checkpoint: &Arc<Checkpoint>, compute: &Compute) -> Result<Self> {
        let (tokenizer, (network, digest)) =
            rayon::join(|| checkpoint.model.tokenizer(), || (compute.load(checkpoint), checkpoint.digest()));
        let (tokenizer, mut recipe) = (tokenizer?, checkpoint.recipe.clone());
        checkpoint.check(&tokenizer)?;
        // Some networks take longer queries than can be searched with.
        recipe.query.max_tokens = recipe.query.max_tokens.min(recipe.most_query_tokens());
        let id = ModelId::new(&checkpoint.model.name, &digest);
        let encoder = Self {
            own: (id.clone(), recipe.clone()),
            id,
            positions: checkpoint.model.backbone.positions(),
            query: Role::new("query", &recipe.query, &tokenizer)?,
            document: Role::new("document", &recipe.document, &tokenizer)?,
            network: network?,
            device: compute.device.clone(),
            summary: checkpoint.model.backbone.summary(),
            recipe,
            tokenizer,
        };
        if encoder.device != EncoderDevice::Cpu {
            // Some failures of GPUs are silent: nothing is entrusted to one that was not seen to compute this model.
            agreement::check(&*encoder.network, checkpoint, &encoder.trial()?, &compute.name())?;
        }
        Ok(encoder)
    }

    /// Two inputs of different lengths: a query, perhaps with tokens that are not attended to, and a document.
    fn trial(&self) -> Result<[Input; 2]> {
        let query = self.query.prepare(&self.tokenizer, "how are tree rings counted?")?;
        let document = "Latewood is the denser, darker part of a growth ring: it forms late in the season.";
        Ok([query.input, self.document.prepare(&self.tokenizer, document)?.input])
    }

    /// The same model, used as `options` want it, whatever was wanted before.
    ///
    /// # Errors
    /// When the model cannot be used so; the error says how it can.
    pub fn with_options(self, options: &EncoderOptions) -> Result<Self> {
        let (id, own) = &self.own;
        let (recipe, recorded) = options.apply(own, self.tokenizer.special_tokens(), self.positions)?;
        Ok(Self {
            id: id.with(&recorded),
            query: Role::new("query", &recipe.query, &self.tokenizer)?,
            document: Role::new("document", &recipe.document, &self.tokenizer)?,
            recipe,
            ..self
        })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// What the network is, for people: `bert, 6 layers of 384, 30522 words, 512 positions`.
    pub fn network(&self) -> &str {
        &self.summary
    }

    /// Where the network was loaded to. The processor may have taken over since ([`Compute::or_processor`]).
    pub fn device(&self) -> &EncoderDevice {
        &self.device
    }

    /// What is done with a text: what the model says, but for the options.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The rows of `texts` as the model itself gives them: of unit norm only if it says so, and possibly none.
    ///
    /// This is what a model's own implementation gives; [`Encoder`] gives what can be indexed and searched.
    ///
    /// # Errors
    /// When the device fails.
    pub fn encode_raw(&self, side: Side, texts: &[&str]) -> Result<Vec<RawRows>> {
        let role = self.role(side);
        self.encode(texts, role, |text, rows| {
            let (values, token_ids) = self.keep(text, rows, role);
            let Input { ids, attended, .. } = text.input.clone();
            Ok(RawRows { values, token_ids, ids, attended })
        })
    }

    fn role(&self, side: Side) -> &Role {
        match side {
            Side::Query => &self.query,
            Side::Document => &self.document,
        }
    }

    /// Tokenises `texts` as `role` says, runs them through the network, and finishes each.
    fn encode<T: Send>(
        &self,
        texts: &[&str],
        role: &Role,
        finish: impl Fn(&Prepared, Rows) -> Result<T, latewood_engine::Error> + Sync,
    ) -> Result<Vec<T>> {
        let prepare = |text: &&str| role.prepare(&self.tokenizer, text);
        let texts = texts.par_iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let lens: Vec<usize> = texts.iter().map(|text| text.input.ids.len()).collect();
        let budget = self.network.budget();
        let batches = batch::plan(&lens, budget);
        let encode_batch = |batch: &Vec<usize>| -> Result<Vec<(usize, T)>> {
            let inputs: Vec<&Input> = batch.iter().map(|&text| &texts[text].input).collect();
            let finish = |(&text, rows)| match finish(&texts[text], rows) {
                Ok(encoded) => Ok((text, encoded)),
                Err(source) => Err(Error::Embeddings { text, source }),
            };
            batch.iter().zip(self.network.run(&inputs)?).map(finish).collect()
        };
        let encoded = match &batches[..] {
            [batch] if budget.padded => vec![encode_batch(batch)?],
            [batch] => vec![team::together(|| encode_batch(batch))?],
            // Where a device takes one after the other, rows are finished while it computes those of the next.
            batches => batches.par_iter().map(encode_batch).collect::<Result<Vec<_>>>()?,
        };
        let mut encoded: Vec<(usize, T)> = encoded.into_iter().flatten().collect();
        encoded.sort_unstable_by_key(|(text, _)| *text);
        Ok(encoded.into_iter().map(|(_, encoded)| encoded).collect())
    }

    /// The rows of a text that the rules of its role keep, pooled rows last, and their tokens.
    fn keep(&self, text: &Prepared, rows: Rows, role: &Role) -> (Vec<f32>, Vec<u32>) {
        let (width, dim) = (self.own.1.dim, self.recipe.dim);
        let mut values = Vec::with_capacity(rows.tokens.len() + rows.pooled.len());
        let mut token_ids = Vec::with_capacity(text.input.ids.len() + rows.pooled.len() / width);
        let kept = role.kept(text).into_iter().zip(&text.input.ids);
        for ((_, id), row) in kept.zip(rows.tokens.chunks_exact(width)).filter(|((kept, _), _)| *kept) {
            values.extend(&row[..dim]);
            token_ids.push(*id);
        }
        let pooling = role.recipe().pooling.as_ref();
        // Rows of which the model says nothing are compared as unit rows, and so are those to be pooled.
        if self.recipe.norm == Norm::Unit || (self.recipe.norm == Norm::Unsaid && pooling.is_some()) {
            unit(&mut values, dim);
        }
        if let Some(pooling) = pooling {
            let whole;
            (values, whole) = pool::pool(&values, dim, pooling);
            token_ids.truncate(whole);
            if pooling.normalize {
                unit(&mut values, dim);
            }
        }
        let words = values.len();
        rows.pooled.chunks_exact(width).for_each(|row| values.extend(&row[..dim]));
        if self.recipe.norm == Norm::Unit {
            unit(&mut values[words..], dim);
        }
        token_ids.resize(values.len() / dim, POOLED_TOKEN);
        (values, token_ids)
    }

    fn finish_query(&self, text: &Prepared, rows: Rows) -> Result<EncodedQuery, latewood_engine::Error> {
        let dim = self.recipe.dim;
        let (mut values, token_ids) = self.keep(text, rows, &self.query);
        if self.recipe.norm == Norm::Unsaid {
            unit(&mut values, dim);
        }
        if let Some(pooled) = &self.recipe.pooled_rows {
            let (words, pooled_rows) = values.split_at_mut((token_ids.len() - pooled.rows) * dim);
            let norm = pooled.query_weight * (words.len() / dim) as f32 / pooled.rows as f32;
            pooled_rows.iter_mut().for_each(|x| *x *= norm);
        }
        let embeddings = QueryEmbeddings::new(values, dim)?;
        Ok(EncodedQuery { embeddings, token_ids, tokens: text.total, truncated: text.truncated() })
    }

    fn finish_document(&self, text: &Prepared, rows: Rows) -> Result<EncodedDocument, latewood_engine::Error> {
        let (mut values, token_ids) = self.keep(text, rows, &self.document);
        if self.recipe.norm == Norm::Unsaid {
            unit(&mut values, self.recipe.dim);
        }
        let embeddings = TokenEmbeddings::new(values, self.recipe.dim)?;
        Ok(EncodedDocument { embeddings, token_ids, tokens: text.total, truncated: text.truncated() })
    }
}

impl Encoder for ColbertEncoder {
    fn dim(&self) -> usize {
        self.recipe.dim
    }

    fn model_id(&self) -> &ModelId {
        &self.id
    }

    fn max_query_tokens(&self) -> usize {
        self.recipe.query.max_tokens
    }

    fn max_document_tokens(&self) -> usize {
        self.recipe.document.max_tokens
    }

    fn documents_at_once(&self) -> usize {
        // Several batches of a GPU, so that texts are tokenised and rows finished while it computes.
        if self.network.budget().padded { 1024 } else { 96 }
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.tokenizer.count(text)
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        Some(&self.tokenizer)
    }

    fn places(&self, side: Side, text: &str) -> Result<Vec<Option<Range<usize>>>> {
        let role = self.role(side);
        match role.recipe().pooling {
            // Pooled rows stand for several tokens.
            Some(_) => Ok(Vec::new()),
            None => role.places(&self.tokenizer, text),
        }
    }

    fn encode_queries(&self, texts: &[&str]) -> Result<Vec<EncodedQuery>> {
        self.encode(texts, &self.query, |text, rows| self.finish_query(text, rows))
    }

    fn encode_documents(&self, texts: &[&str]) -> Result<Vec<EncodedDocument>> {
        if !self.recipe.indexable() {
            return Err(Error::NotNormalised { file: "modules.json".into() });
        }
        self.encode(texts, &self.document, |text, rows| self.finish_document(text, rows))
    }
}

impl std::fmt::Debug for ColbertEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColbertEncoder")
            .field("id", &self.id.as_str())
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

/// Scales each row of `values`, `[n, dim]`, to unit norm; a row of zeros stays one.
fn unit(values: &mut [f32], dim: usize) {
    for row in values.chunks_exact_mut(dim) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x *= 1.0 / length);
    }
}
