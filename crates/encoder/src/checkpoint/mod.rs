//! From a folder to what an encoder needs: which format it is, and one reader for each.
//!
//! | format | told by | what decides where references differ |
//! | --- | --- | --- |
//! | `latewood` | `latewood.json` | [`crate::Description`] |
//! | `pylate` | `modules.json` with Dense layers of PyLate, or `"model_type": "ColBERT"` | pylate 1.6 |
//! | `native` | `modules.json` of a MultiVectorEncoder | sentence-transformers 6.2 |
//! | `stanford` | `"architectures": ["HF_ColBERT"]`, no `modules.json` | sentence-transformers 6.2 |
//! | `plain` | anything else with a `config.json` | sentence-transformers 6.2, transformers 5 |
//!
//! What a file asks for and the encoder does not do is an error that names it: nothing is approximated.

mod classifier;
mod dense;
mod folder;
mod latewood;
mod matryoshka;
mod native;
mod plain;
mod pylate;
mod stanford;
mod transformer;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::files::{self, CONFIG, DESCRIPTION, ModelFiles, TOKENIZER};
use crate::recipe::{Format, Place, Recipe};
use crate::tokenize::{Additions, TextTokenizer};
use crate::weights::{WeightFile, Weights};

pub(crate) use classifier::{Classifier, Head, Pooled};
use folder::Folder;
pub(crate) use folder::Source;

const MODULES: &str = "modules.json";
const OPTIONS: &str = "config_sentence_transformers.json";

/// A model for late interaction, read but not yet loaded: all that its files say, and their bytes.
pub(crate) struct Checkpoint {
    pub(crate) model: Model,
    pub(crate) recipe: Recipe,
}

/// A network and its tokenizer, read but not yet loaded.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) backbone: BackboneConfig,
    /// The folder within the model's that holds config, tokenizer and weights of the network: empty, or ends in `/`.
    at: String,
    additions: Additions,
    /// Every other file that was read, by its path.
    files: BTreeMap<String, Cow<'static, [u8]>>,
    /// The files of weights, by the folder that they lie in.
    weights: BTreeMap<String, Vec<WeightFile>>,
}

impl Checkpoint {
    /// Reads the model in `source`, whatever its format.
    pub(crate) fn open(source: &dyn Source) -> Result<Self> {
        if source.read(DESCRIPTION)?.is_some() {
            return latewood::read(ModelFiles::read_from(source)?);
        }
        let mut folder = Folder::new(source);
        match folder.json_if_any::<Vec<Module>>(MODULES)? {
            Some(modules) => {
                let options: Kind = folder.json_if_any(OPTIONS)?.unwrap_or_default();
                match options.model_type.as_deref() {
                    Some("ColBERT") => pylate::read(folder, &modules),
                    Some("MultiVectorEncoder") => native::read(folder, &modules),
                    _ if modules.iter().any(|m| m.kind.starts_with("pylate.")) => pylate::read(folder, &modules),
                    _ if modules.iter().any(|m| m.kind.contains(".multi_vector_encoder.")) => {
                        native::read(folder, &modules)
                    }
                    _ => plain::read_modules(folder, &modules),
                }
            }
            None => {
                let Kind { architectures, .. } = folder.json(CONFIG)?;
                match architectures.as_slice() {
                    [one] if one == "HF_ColBERT" => stanford::read(folder),
                    _ => plain::read_encoder(folder),
                }
            }
        }
    }

    /// Reads a model in our own format.
    pub(crate) fn of_files(files: ModelFiles) -> Result<Self> {
        latewood::read(files)
    }

    /// blake3 over every file that was read: every byte that decides what an embedding is.
    pub(crate) fn digest(&self) -> [u8; 32] {
        if self.recipe.format == Format::Latewood {
            let weights = self.model.weights.values().flatten().map(|file| &file.bytes);
            let files = [CONFIG, DESCRIPTION, TOKENIZER].map(|name| &self.model.files[name]);
            return files::digest(files.into_iter().chain(weights).map(AsRef::as_ref));
        }
        self.model.digest()
    }
}

impl Model {
    /// The tokenizer, as the format has it.
    pub(crate) fn tokenizer(&self) -> Result<TextTokenizer> {
        TextTokenizer::parse_with(&self.files[&format!("{}{TOKENIZER}", self.at)], &self.additions)
    }

    /// The weights of the network.
    pub(crate) fn weights(&self) -> Result<Weights<'_>> {
        self.weights_at(&self.at)
    }

    /// The weights in the folder `at`.
    pub(crate) fn weights_at(&self, at: &str) -> Result<Weights<'_>> {
        Weights::parse(self.weights.get(at).map_or(&[], Vec::as_slice))
    }

    /// blake3 over every file that was read, and its name.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let weights = self.weights.values().flatten().map(|file| (file.name.as_str(), &file.bytes));
        let files = self.files.iter().map(|(name, bytes)| (name.as_str(), bytes)).chain(weights);
        files::digest(files.flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_ref()]))
    }

    /// Checks that there is a row for each token that the tokenizer gives.
    pub(crate) fn check_vocabulary(&self, tokenizer: &TextTokenizer) -> Result<()> {
        let (largest_id, (rows, table)) = (tokenizer.largest_id(), self.backbone.vocabulary());
        if largest_id as usize >= rows {
            return Err(Error::VocabularyTooLarge { largest_id, table, rows });
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Checks tokenizer, rules and network against each other.
    pub(crate) fn check(&self, tokenizer: &TextTokenizer) -> Result<()> {
        self.model.check_vocabulary(tokenizer)?;
        let file = || if self.recipe.format == Format::Latewood { DESCRIPTION } else { OPTIONS }.to_owned();
        let (positions, special) = (self.model.backbone.positions(), tokenizer.special_tokens());
        for (what, role) in [("query.max_tokens", &self.recipe.query), ("document.max_tokens", &self.recipe.document)] {
            if special == 0 && role.marker.is_none() {
                let detail = "it puts no token before or behind a text: an empty one would have none at all";
                return Err(Error::Tokenizer { detail: detail.into() });
            }
            let (what, max_tokens) = (what.to_owned(), role.max_tokens);
            if max_tokens > positions {
                return Err(Error::TooManyPositions { file: file(), what, max_tokens, positions });
            }
            if max_tokens <= special + usize::from(role.marker.is_some()) {
                let (found, expected) =
                    (max_tokens.to_string(), format!("more than the {special} special tokens of every text"));
                return Err(Error::Disagrees { file: file(), what, found, expected });
            }
        }
        let pooled = self.recipe.pooled_rows.as_ref().map_or(0, |pooled| pooled.rows);
        let most = latewood_engine::QueryEmbeddings::MAX_ROWS - pooled;
        if self.recipe.format == Format::Latewood && self.recipe.query.max_tokens > most {
            let (what, found) = ("query.max_tokens".into(), self.recipe.query.max_tokens.to_string());
            let expected = format!("up to {most} with {pooled} pooled rows");
            return Err(Error::Disagrees { file: file(), what, found, expected });
        }
        Ok(())
    }
}

/// What tells the format.
#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
}

/// A line of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Module {
    /// The folder of the module: empty, or ends in `/`.
    fn at(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}/", self.path.trim_end_matches('/')) }
    }

    /// Whether it is the module `name` of one of the packages, wherever a version of theirs keeps it.
    fn is(&self, name: &str) -> bool {
        let packages = ["sentence_transformers.", "pylate.models."];
        self.kind.rsplit('.').next() == Some(name) && packages.iter().any(|package| self.kind.starts_with(package))
    }

    fn refused(&self, supported: &'static str) -> Error {
        Error::Unsupported { file: MODULES.into(), what: "the module".into(), found: self.kind.clone(), supported }
    }
}

/// The first module, which must be a transformer, and the others.
fn split(modules: &[Module]) -> Result<(&Module, &[Module])> {
    match modules {
        [first, rest @ ..] if first.is("Transformer") => Ok((first, rest)),
        [first, ..] => Err(first.refused("the first module is a Transformer")),
        [] => {
            let (found, expected) = ("empty".into(), "a list of modules".into());
            Err(Error::Disagrees { file: MODULES.into(), what: "the list".into(), found, expected })
        }
    }
}

/// The value of a format's reader, from what they all read alike.
fn assemble(mut folder: Folder, transformer: transformer::Transformer, mut recipe: Recipe) -> Result<Checkpoint> {
    let at = transformer.at.clone();
    check_dim(&recipe)?;
    recipe.matryoshka = matryoshka::dims(&mut folder, &at, &recipe)?;
    for dense in &recipe.projection {
        if let Place::Folder(place) = &dense.place {
            folder.weights(place)?;
        }
    }
    Ok(Checkpoint { model: Model::new(folder, transformer)?, recipe })
}

impl Model {
    /// The network that `transformer` describes, with its weights.
    fn new(mut folder: Folder, transformer: transformer::Transformer) -> Result<Self> {
        let transformer::Transformer { at, backbone, additions, .. } = transformer;
        folder.weights(&at)?;
        let name = folder.name();
        let (files, weights) = folder.into_files();
        Ok(Self { name, backbone, at, additions, files, weights })
    }
}

/// An engine's rows have sizes that its kernels can take apart.
fn check_dim(recipe: &Recipe) -> Result<()> {
    let max = latewood_engine::MAX_DIM;
    if recipe.dim == 0 || recipe.dim > max || !recipe.dim.is_multiple_of(8) {
        return Err(Error::Disagrees {
            file: "the model".into(),
            what: "the number of values of a row".into(),
            found: recipe.dim.to_string(),
            expected: format!("a multiple of 8, up to {max}"),
        });
    }
    Ok(())
}
