//! Stanford's format: network and projection in one file of weights, settings in `artifact.metadata`.
//!
//! Followed is sentence-transformers 6.2. Where pylate 1.6 reads the same folder otherwise: a missing `doc_maxlen` is
//! the model's own limit, not 180; `mask_punctuation` false is honoured; markers are text in front, not inserted.

use serde::Deserialize;

use super::folder::Folder;
use super::pylate::punctuation;
use super::transformer::Transformer;
use super::{Checkpoint, assemble};
use crate::error::{Error, Result};
use crate::recipe::{Activation, Dense, Format, Norm, Place, Recipe, RoleRecipe, RowRules};
use crate::weights::Weights;

const METADATA: &str = "artifact.metadata";
const PROJECTION: &str = "linear.weight";

/// The part of `artifact.metadata` that decides what is computed.
#[derive(Default, Deserialize)]
struct Metadata {
    query_token_id: Option<String>,
    doc_token_id: Option<String>,
    query_maxlen: Option<usize>,
    doc_maxlen: Option<usize>,
    mask_punctuation: Option<bool>,
    attend_to_mask_tokens: Option<bool>,
}

/// Reads the model in `folder`.
pub(super) fn read(mut folder: Folder) -> Result<Checkpoint> {
    let metadata: Metadata = folder.json_if_any(METADATA)?.unwrap_or_default();
    let mut transformer = Transformer::read(&mut folder, "")?;
    let dim = dim(&mut folder)?;
    // The training inserted an id; as a word to be found whole, the marker in front of a text gives the same.
    let mut role = |marker: Option<String>, default: &str, max_tokens| {
        let marker = marker.filter(|m| !m.is_empty()).unwrap_or_else(|| default.into());
        transformer.mark(&marker, true);
        RoleRecipe {
            prompt: format!("{marker} "),
            strip: false,
            lowercase: false,
            marker: None,
            max_tokens,
            expansion: None,
            rows: RowRules::default(),
            pooling: None,
        }
    };
    let mut query = role(metadata.query_token_id, "[unused0]", 0);
    let mut document = role(metadata.doc_token_id, "[unused1]", 0);
    query.max_tokens = transformer.checked(METADATA, "query_maxlen", metadata.query_maxlen.unwrap_or(32))?;
    query.expansion = Some(transformer.masks(query.max_tokens, metadata.attend_to_mask_tokens.unwrap_or(false))?);
    let unlimited = transformer.limit();
    document.max_tokens = transformer.checked(METADATA, "doc_maxlen", metadata.doc_maxlen.unwrap_or(unlimited))?;
    if metadata.mask_punctuation.unwrap_or(true) {
        document.rows.skip = punctuation();
    }
    let projection = vec![Dense {
        place: Place::Tensor(PROJECTION.into()),
        input: transformer.backbone.hidden_size(),
        output: dim,
        bias: false,
        activation: Activation::Identity,
        residual: false,
    }];
    let recipe = Recipe {
        format: Format::Stanford,
        dim,
        query,
        document,
        projection,
        norm: Norm::Unit,
        pooled_rows: None,
        matryoshka: Vec::new(),
    };
    assemble(folder, transformer, recipe)
}

/// Values of a row, as the projection has them: `[dim, hidden]`.
fn dim(folder: &mut Folder) -> Result<usize> {
    let files = folder.weights("")?;
    let weights = Weights::parse(files)?;
    let missing = || Error::MissingTensor { file: files[0].name.clone(), name: PROJECTION.into() };
    weights.shape(PROJECTION).and_then(|shape| shape.first().copied()).ok_or_else(missing)
}
