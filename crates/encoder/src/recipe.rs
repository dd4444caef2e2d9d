//! What an encoder does with a text, whatever format says so: one value, in words.
//!
//! Every checkpoint format is read into a [`Recipe`] (`checkpoint`). Words of the vocabulary stand in it as words;
//! `rows` and `role` look up their ids in the tokenizer that the model comes with.

use latewood_engine::QueryEmbeddings;

use crate::description::PooledRows;

/// All of an encoder but its network: text to ids, hidden states to rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The format it was read from.
    pub format: Format,
    /// Values of a row.
    pub dim: usize,
    /// What happens to a query.
    pub query: RoleRecipe,
    /// What happens to a document.
    pub document: RoleRecipe,
    /// The layers that make rows of hidden states, in order; none: hidden states are the rows.
    pub projection: Vec<Dense>,
    /// The norm of a row, before rows are pooled.
    pub norm: Norm,
    /// The rows for the text as a whole.
    pub pooled_rows: Option<PooledRows>,
    /// How many of a row's first values can stand alone, largest first, the whole row among them; none: the model does
    /// not say.
    pub matryoshka: Vec<usize>,
}

/// The formats of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own: `latewood.json`.
    Latewood,
    /// `artifact.metadata` and one file of weights, as Stanford's ColBERT and RAGatouille write it.
    Stanford,
    /// `modules.json` with Dense layers, options in `config_sentence_transformers.json`, as PyLate writes it.
    PyLate,
    /// The MultiVectorEncoder of Sentence Transformers 6.
    MultiVector,
    /// An encoder without a projection, of Sentence Transformers or Hugging Face: its hidden states are the rows.
    Plain,
}

/// What happens to the texts of one role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleRecipe {
    /// Text put in front of every text.
    pub prompt: String,
    /// Whether blanks are then cut off at both ends.
    pub strip: bool,
    /// Whether it is then lowercased, special tokens in it included.
    pub lowercase: bool,
    /// The token inserted behind the opening one.
    pub marker: Option<String>,
    /// Tokens of a text, special ones and the marker included; word pieces over it are cut off.
    pub max_tokens: usize,
    /// Tokens put behind short texts.
    pub expansion: Option<Expansion>,
    /// Which tokens have a row.
    pub rows: RowRules,
    /// How rows are made fewer.
    pub pooling: Option<TokenPooling>,
}

/// Tokens put behind a short text, each of which gives a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The token.
    pub token: String,
    /// Texts get as many as they lack of this length.
    pub length: usize,
    /// Whether the others see them; they see the text in any case.
    pub attend: bool,
    /// Whether they have rows.
    pub rows: bool,
}

/// Which tokens of a text have a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowRules {
    /// Words that have none.
    pub skip: Vec<String>,
    /// What a word of `skip` that is not in the vocabulary stands for; none: for nothing.
    pub unknown: Option<String>,
    /// The only ids that have one.
    pub only: Option<Vec<u32>>,
    /// Whether a text of skipped tokens alone has a row for each.
    pub never_empty: bool,
}

/// Rows made fewer: Ward's clustering on cosine distance, each cluster one row, its mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenPooling {
    /// `max(rows / factor, 1)` clusters.
    pub factor: f64,
    /// Rows at the front that stay as they are.
    pub protected: usize,
    /// Whether all are scaled to unit norm afterwards.
    pub normalize: bool,
}

/// `y = act(x W + b)`, to which `x` may be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dense {
    /// Where its weights are.
    pub place: Place,
    /// Values of `x`.
    pub input: usize,
    /// Values of `y`.
    pub output: usize,
    /// Whether there is a `b`.
    pub bias: bool,
    /// What is applied to each value.
    pub activation: Activation,
    /// Whether `x` is added, times a matrix of its own if the sizes differ.
    pub residual: bool,
}

/// Where the weights of a [`Dense`] are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The tensor of this name in the weights of the network.
    Tensor(String),
    /// `linear.weight`, `linear.bias` and `residual.weight` in a folder of their own.
    Folder(String),
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x`
    Identity,
    /// `x (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// GELU by way of tanh.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x`, or `x / 100` if negative
    LeakyRelu,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh x`
    Tanh,
}

impl Format {
    /// The name as users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latewood => "Latewood",
            Self::Stanford => "Stanford ColBERT",
            Self::PyLate => "PyLate",
            Self::MultiVector => "Sentence Transformers, multi-vector",
            Self::Plain => "plain encoder",
        }
    }
}

impl Activation {
    /// The name as users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu by tanh",
            Self::Relu => "relu",
            Self::LeakyRelu => "leaky relu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
        }
    }

    /// The class of PyTorch called `name`, such as `torch.nn.modules.activation.GELU`, with its default arguments.
    pub(crate) fn of_class(name: &str) -> Option<Self> {
        let class = name.strip_prefix("torch.nn.")?.rsplit('.').next()?;
        Some(match class {
            "Identity" => Self::Identity,
            "GELU" => Self::Gelu,
            "ReLU" => Self::Relu,
            "LeakyReLU" => Self::LeakyRelu,
            "SiLU" => Self::Silu,
            "Sigmoid" => Self::Sigmoid,
            "Tanh" => Self::Tanh,
            _ => return None,
        })
    }
}

/// The norm of a row, before rows are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The model scales rows to unit norm.
    Unit,
    /// The model leaves rows as they are.
    Raw,
    /// The model was not made for late interaction and says nothing: rows are scaled when they are to be compared.
    Unsaid,
}

impl Recipe {
    /// Whether the rows of a document can be compared as unit rows, which is all that an index keeps. A model that
    /// compares rows of any norm would rank otherwise.
    pub fn indexable(&self) -> bool {
        match self.document.pooling {
            Some(pooling) => pooling.normalize,
            None => self.norm != Norm::Raw,
        }
    }

    /// Tokens that a query may have, for its rows to be as many as can be searched with.
    pub(crate) fn most_query_tokens(&self) -> usize {
        QueryEmbeddings::MAX_ROWS - self.pooled_rows.as_ref().map_or(0, |pooled| pooled.rows)
    }
}
