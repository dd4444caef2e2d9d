//! Our own format: the rules of [`Description`], a network and a tokenizer.

use std::collections::BTreeMap;

use super::{Checkpoint, Model};
use crate::backbone::BackboneConfig;
use crate::description::{Description, Role};
use crate::error::Result;
use crate::files::{CONFIG, DESCRIPTION, ModelFiles, TOKENIZER, WEIGHTS};
use crate::recipe::{Activation, Dense, Format, Norm, Place, Recipe, RoleRecipe, RowRules};
use crate::tokenize::Additions;
use crate::weights::WeightFile;

/// Reads the model in `files`.
pub(super) fn read(files: ModelFiles) -> Result<Checkpoint> {
    let backbone = BackboneConfig::parse(CONFIG, &files.config)?;
    backbone.check_rows(CONFIG)?;
    let description = Description::parse(&files.description)?;
    let ModelFiles { config, description: rules, tokenizer, weights } = files;
    let file = WeightFile { name: WEIGHTS.into(), bytes: weights };
    let recipe = recipe(&description, &backbone);
    let model = Model {
        name: description.name,
        backbone,
        at: String::new(),
        additions: Additions::default(),
        files: [(CONFIG, config), (DESCRIPTION, rules), (TOKENIZER, tokenizer)].map(|(n, b)| (n.into(), b)).into(),
        weights: BTreeMap::from([(String::new(), vec![file])]),
    };
    Ok(Checkpoint { model, recipe })
}

fn recipe(description: &Description, backbone: &BackboneConfig) -> Recipe {
    let role = |role: &Role| RoleRecipe {
        prompt: String::new(),
        strip: false,
        lowercase: false,
        marker: None,
        max_tokens: role.max_tokens,
        expansion: None,
        rows: RowRules { skip: role.drop_tokens.clone(), never_empty: true, ..RowRules::default() },
        pooling: None,
    };
    Recipe {
        format: Format::Latewood,
        dim: description.dim,
        query: role(&description.query),
        document: role(&description.document),
        projection: vec![Dense {
            place: Place::Tensor(description.projection.clone()),
            input: backbone.hidden_size(),
            output: description.dim,
            bias: false,
            activation: Activation::Identity,
            residual: false,
        }],
        norm: Norm::Unit,
        pooled_rows: description.pooled_rows.clone(),
        matryoshka: Vec::new(),
    }
}
