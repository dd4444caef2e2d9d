//! What all foreign formats have in common: a network with a tokenizer, in one folder.

use serde::Deserialize;
use serde_json::Value;

use super::folder::Folder;
use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::files::TOKENIZER;
use crate::recipe::Expansion;
use crate::tokenize::{Additions, Marker};

/// The network, its tokenizer, and the options beside them.
pub(super) struct Transformer {
    /// Their folder: empty, or ends in `/`.
    pub(super) at: String,
    pub(super) backbone: BackboneConfig,
    pub(super) words: TokenizerConfig,
    pub(super) options: Options,
    pub(super) additions: Additions,
}

/// `sentence_bert_config.json`: the options of the Transformer module, of all versions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    pub(super) max_seq_length: Option<usize>,
    #[serde(default)]
    pub(super) do_lower_case: bool,
    pub(super) query_length: Option<usize>,
    pub(super) document_length: Option<usize>,
    pub(super) query_expansion: Option<ExpansionConfig>,
    transformer_task: Option<Value>,
    modality_config: Option<Value>,
    module_output_name: Option<Value>,
    #[serde(rename = "unpad_inputs")]
    _unpad_inputs: Option<bool>,
    // Arguments of constructors, any of which could change what is computed.
    model_args: Option<Value>,
    model_kwargs: Option<Value>,
    tokenizer_args: Option<Value>,
    processor_kwargs: Option<Value>,
    processing_kwargs: Option<Value>,
    config_args: Option<Value>,
    config_kwargs: Option<Value>,
}

/// How queries are expanded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpansionConfig {
    pub(super) strategy: Strategy,
    #[serde(default)]
    pub(super) attend: bool,
    pub(super) token: Option<String>,
    pub(super) length: usize,
}

/// What happens to a query longer than the expansion.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Strategy {
    /// It is cut.
    Fixed,
    /// It stays.
    Min,
}

/// `tokenizer_config.json`, as far as it matters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerConfig {
    model_max_length: Option<f64>,
    mask_token: Option<Word>,
    eos_token: Option<Word>,
    unk_token: Option<Word>,
    truncation_side: Option<String>,
    tokenizer_class: Option<String>,
    model_input_names: Option<Vec<String>>,
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
}

/// What `tokenizer.json` says of the same things.
#[derive(Deserialize)]
struct TokenizerJson {
    normalizer: Option<Normalizer>,
}

#[derive(Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    handle_chinese_chars: Option<bool>,
}

impl TokenizerConfig {
    /// Refuses a config that would change the normaliser of the `tokenizer.json` beside it: for the classes of BERT,
    /// transformers follows the config, with its defaults, and everything else that reads the folder does not.
    fn check(&self, file: &str, json: &TokenizerJson) -> Result<()> {
        if let Some(side) = self.truncation_side.as_deref().filter(|side| *side != "right") {
            let (what, supported) = ("truncation_side".into(), "texts are cut at their end");
            return Err(Error::Unsupported { file: file.into(), what, found: format!("{side:?}"), supported });
        }
        const BERT: [&str; 4] =
            ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast"];
        let class = self.tokenizer_class.as_deref().unwrap_or_default();
        let Some(normalizer) = json.normalizer.as_ref().filter(|n| BERT.contains(&class) && n.kind == "BertNormalizer")
        else {
            return Ok(());
        };
        for (what, said, done) in [
            ("do_lower_case", self.do_lower_case.or(Some(true)), normalizer.lowercase),
            ("strip_accents", self.strip_accents, normalizer.strip_accents),
            ("tokenize_chinese_chars", self.tokenize_chinese_chars.or(Some(true)), normalizer.handle_chinese_chars),
        ] {
            if said != done {
                let name = |value: Option<bool>| value.map_or("null".into(), |value| value.to_string());
                let (file, what, expected) = (file.into(), what.into(), format!("{}, as in {TOKENIZER}", name(done)));
                return Err(Error::Disagrees { file, what, found: name(said), expected });
            }
        }
        Ok(())
    }
}

/// A token: as it is, or with how it is matched.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Plain(String),
    Added { content: String },
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Added { content: text } => text,
        }
    }
}

/// What the Transformer module is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Hidden states.
    Features,
    /// A number for each label.
    Classification,
}

impl Transformer {
    /// Reads the network in the folder `at` of the model's.
    pub(super) fn read(folder: &mut Folder, at: &str) -> Result<Self> {
        let transformer = Self::read_for(folder, at, Some(Task::Features))?;
        transformer.backbone.check_rows(&format!("{at}config.json"))?;
        Ok(transformer)
    }

    /// [`Self::read`], the module being there for `task`; where there is none, its options count for nothing.
    pub(super) fn read_for(folder: &mut Folder, at: &str, task: Option<Task>) -> Result<Self> {
        let config = format!("{at}config.json");
        let backbone = BackboneConfig::parse(&config, folder.bytes(&config)?)?;
        let json: TokenizerJson = folder.json(&format!("{at}{TOKENIZER}"))?;
        let file = format!("{at}tokenizer_config.json");
        let words: TokenizerConfig = folder.json_if_any(&file)?.unwrap_or_default();
        words.check(&file, &json)?;
        let file = format!("{at}sentence_bert_config.json");
        let options = match task {
            Some(task) => {
                let options: Options = folder.json_if_any(&file)?.unwrap_or_default();
                options.check(&file, task)?;
                options
            }
            None => Options::default(),
        };
        Ok(Self { at: at.into(), backbone, words, options, additions: Additions::default() })
    }

    /// Tokens that a text may have where nothing else limits it: the tokenizer's limit, or the module's in its place,
    /// and the positions.
    pub(super) fn limit(&self) -> usize {
        let words = self.words.model_max_length.map_or(usize::MAX, |n| n as usize);
        self.options.max_seq_length.unwrap_or(words).min(self.backbone.positions())
    }

    /// The `length` that `file` sets as `what`, which the positions must allow.
    pub(super) fn checked(&self, file: &str, what: &str, length: usize) -> Result<usize> {
        let positions = self.backbone.positions();
        if length > positions {
            let (file, what) = (file.into(), what.into());
            return Err(Error::TooManyPositions { file, what, max_tokens: length, positions });
        }
        Ok(length)
    }

    /// The token that fills queries up: the mask, or the end token of models that have none.
    pub(super) fn mask(&self) -> Result<String> {
        let token = self.words.mask_token.as_ref().or(self.words.eos_token.as_ref());
        token.map(|word| word.text().to_owned()).ok_or_else(|| Error::Disagrees {
            file: format!("{}tokenizer_config.json", self.at),
            what: "mask_token".into(),
            found: "missing".into(),
            expected: "the token that fills queries up".into(),
        })
    }

    /// Whether the network is told which of two texts a token is of: what the config says, or else the tokenizer's class does.
    pub(super) fn types(&self) -> bool {
        match (&self.words.model_input_names, &self.words.tokenizer_class) {
            (Some(names), _) => names.iter().any(|name| name == "token_type_ids"),
            (None, Some(class)) => {
                ["BertTokenizer", "ElectraTokenizer", "DebertaV2Tokenizer"].iter().any(|known| class.starts_with(known))
            }
            (None, None) => true,
        }
    }

    /// The token for what the vocabulary lacks.
    pub(super) fn unknown(&self) -> Option<String> {
        self.words.unk_token.as_ref().map(|word| word.text().to_owned())
    }

    /// An expansion to `length` by the mask token, each giving a row.
    pub(super) fn masks(&self, length: usize, attend: bool) -> Result<Expansion> {
        Ok(Expansion { token: self.mask()?, length, attend, rows: true })
    }

    /// Adds a word to be found whole in texts.
    pub(super) fn mark(&mut self, word: &str, exact: bool) {
        self.additions.markers.push(Marker { word: word.into(), exact });
    }
}

impl Options {
    /// Refuses what would change the network's output in a way that is not done here.
    fn check(&self, file: &str, task: Task) -> Result<()> {
        let (name, output, module) = match task {
            Task::Features => ("feature-extraction", "last_hidden_state", "token_embeddings"),
            Task::Classification => ("sequence-classification", "logits", "scores"),
        };
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        let text = serde_json::json!({"text": {"method": "forward", "method_output_name": output}});
        for (what, value, accepted) in [
            ("transformer_task", &self.transformer_task, Some(Value::from(name))),
            ("modality_config", &self.modality_config, Some(text)),
            ("module_output_name", &self.module_output_name, Some(module.into())),
            ("model_args", &self.model_args, None),
            ("model_kwargs", &self.model_kwargs, None),
            ("tokenizer_args", &self.tokenizer_args, None),
            ("processor_kwargs", &self.processor_kwargs, None),
            ("processing_kwargs", &self.processing_kwargs, None),
            ("config_args", &self.config_args, None),
            ("config_kwargs", &self.config_kwargs, None),
        ] {
            if let Some(value) = value
                && !empty(value)
                && Some(value) != accepted.as_ref()
            {
                let (file, what, found) = (file.into(), what.into(), value.to_string());
                let supported = match task {
                    Task::Features => {
                        "the encoder gives the hidden states of the last layer, with no further arguments"
                    }
                    Task::Classification => "a cross-encoder gives the logits, with no further arguments",
                };
                return Err(Error::Unsupported { file, what, found, supported });
            }
        }
        Ok(())
    }
}
