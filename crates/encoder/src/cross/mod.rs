//! Cross-encoders: one number for a query and a document that the network reads together (Nogueira and Cho 2019,
//! arXiv:1901.04085).
//!
//! Each pair goes through the whole network, and nothing of it can be kept for the next query: a cross-encoder puts in order what
//! something faster has found.

mod network;
mod pairs;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::batch;
use crate::checkpoint::Classifier;
use crate::device::{Compute, EncoderDevice};
use crate::error::{Error, Result};
use crate::files::ModelId;
#[cfg(feature = "hub")]
use crate::hub::{self, HubEvent, HubName, HubOptions};
use crate::network::Run;
use pairs::PairTokenizer;

/// What is made of the network's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Nothing: a logit, of any size.
    Raw,
    /// `1 / (1 + exp(-x))`, from 0 to 1.
    Sigmoid,
}

/// A cross-encoder: a network with a head of one label.
pub struct CrossEncoder {
    id: ModelId,
    /// What the network is, for people.
    summary: String,
    scores: Scores,
    max_tokens: usize,
    /// What stands before every query.
    prompt: String,
    pairs: PairTokenizer,
    device: EncoderDevice,
    network: Box<dyn Run<f32>>,
}

impl CrossEncoder {
    /// Loads the model in the folder `dir`, as transformers or sentence-transformers saved it.
    ///
    /// # Errors
    /// When a file is missing, damaged, disagrees with another, or is of another kind of model; the error says which and
    /// how. When the device fails.
    pub fn open(dir: &Path, compute: impl Into<Compute>) -> Result<Self> {
        Self::load(Classifier::open(&dir.to_path_buf())?, &compute.into())
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
        Self::load(hub::open_classifier(name, options, hear)?, &compute.into())
    }

    fn load(classifier: Classifier, compute: &Compute) -> Result<Self> {
        let classifier = Arc::new(classifier);
        compute.or_else(|compute| Self::load_on(&classifier, compute))
    }

    fn load_on(classifier: &Arc<Classifier>, compute: &Compute) -> Result<Self> {
        let model = &classifier.model;
        let (pairs, (network, digest)) = rayon::join(
            || model.tokenizer().and_then(|tokenizer| PairTokenizer::new(tokenizer, classifier.types)),
            || (compute.load(classifier), model.digest()),
        );
        let pairs = pairs?;
        model.check_vocabulary(pairs.tokenizer())?;
        let least = pairs.special_tokens() + 2;
        if classifier.max_tokens < least {
            let (found, expected) = (classifier.max_tokens.to_string(), format!("at least {least}"));
            let what = "model_max_length".into();
            return Err(Error::Disagrees { file: "tokenizer_config.json".into(), what, found, expected });
        }
        let encoder = Self {
            id: ModelId::new(&model.name, &digest),
            summary: model.backbone.summary(),
            scores: classifier.scores,
            max_tokens: classifier.max_tokens,
            prompt: classifier.prompt.clone(),
            pairs,
            device: compute.device.clone(),
            network: network?,
        };
        if encoder.device != EncoderDevice::Cpu {
            encoder.check_device(classifier, compute.name())?;
        }
        Ok(encoder)
    }

    /// Whether the device computes what the processor computes: some failures of GPUs are silent.
    fn check_device(&self, classifier: &Arc<Classifier>, device: String) -> Result<()> {
        let processor = Compute::default().in_precision(crate::Precision::F32).load(classifier)?;
        let documents = ["Latewood is the denser, darker part of a growth ring.", "Fog."];
        let inputs = self.pairs.pairs("how are tree rings counted?", &documents, self.max_tokens)?;
        let inputs: Vec<_> = inputs.iter().collect();
        let (found, expected) = (self.network.run(&inputs)?, processor.run(&inputs)?);
        let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
        match apart.fold(0.0, |most: f32, apart| if apart.is_nan() { f32::INFINITY } else { most.max(apart) }) {
            apart if apart <= 0.1 => Ok(()),
            apart => {
                let detail = format!("its scores of two short texts are off by {apart}, 0.1 is allowed");
                Err(Error::Device { device, detail })
            }
        }
    }

    /// How well each of `documents` answers `query`, in the order given, as the model's card says ([`Self::scores`]). A
    /// document that is too long is cut at its end, the query never.
    ///
    /// # Errors
    /// When the query leaves no room for a document, or the device fails.
    pub fn score(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>> {
        self.score_each(query, documents, &|| false, &|_, _| {})
    }

    /// [`Self::score`], as long as nobody has `stopped` it, which is asked before each batch; `each` is told the number and the
    /// score of every document when its batch ends.
    ///
    /// # Errors
    /// As [`Self::score`]; [`Error::Stopped`].
    pub fn score_each(
        &self,
        query: &str,
        documents: &[&str],
        stopped: &(dyn Fn() -> bool + Sync),
        each: &(dyn Fn(usize, f32) + Sync),
    ) -> Result<Vec<f32>> {
        let score = |logit: f32| match self.scores {
            Scores::Raw => logit,
            Scores::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        };
        let logits = self.run(query, documents, stopped, &|at, logit| each(at, score(logit)))?;
        Ok(logits.into_iter().map(score).collect())
    }

    /// [`Self::score`], as the network gives it.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn logits(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>> {
        self.run(query, documents, &|| false, &|_, _| {})
    }

    fn run(
        &self,
        query: &str,
        documents: &[&str],
        stopped: &(dyn Fn() -> bool + Sync),
        each: &(dyn Fn(usize, f32) + Sync),
    ) -> Result<Vec<f32>> {
        let query = format!("{}{query}", self.prompt);
        let inputs = self.pairs.pairs(&query, documents, self.max_tokens)?;
        let lens: Vec<usize> = inputs.iter().map(|input| input.ids.len()).collect();
        let batches = batch::plan(&lens, self.network.budget());
        let run = |batch: &Vec<usize>| -> Result<Vec<(usize, f32)>> {
            if stopped() {
                return Err(Error::Stopped);
            }
            let pairs: Vec<_> = batch.iter().map(|&pair| &inputs[pair]).collect();
            let logits: Vec<_> = batch.iter().copied().zip(self.network.run(&pairs)?).collect();
            logits.iter().for_each(|&(pair, logit)| each(pair, logit));
            Ok(logits)
        };
        let mut logits = vec![0.0; documents.len()];
        for (pair, logit) in batches.par_iter().map(run).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            logits[pair] = logit;
        }
        Ok(logits)
    }

    /// That a query leaves room for a document.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_query(&self, query: &str) -> Result<()> {
        self.pairs.pairs(&format!("{}{query}", self.prompt), &[], self.max_tokens).map(drop)
    }

    /// What names the model.
    pub fn model_id(&self) -> &ModelId {
        &self.id
    }

    /// What the network is, for people.
    pub fn network(&self) -> &str {
        &self.summary
    }

    /// What is made of the network's number.
    pub fn scores(&self) -> Scores {
        self.scores
    }

    /// Tokens that a pair may have, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Where the network was loaded to. The processor may have taken over since ([`Compute::or_processor`]).
    pub fn device(&self) -> &EncoderDevice {
        &self.device
    }
}

impl std::fmt::Debug for CrossEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossEncoder").field("id", &self.id.as_str()).finish_non_exhaustive()
    }
}
