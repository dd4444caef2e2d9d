//! What can go wrong between the files of a model and a matrix of embeddings, each cause with the values that name it.

use std::path::PathBuf;

/// The encoder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of loading a model or encoding with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder lacks a file of the model.
    #[error("{} holds no {file}: a model folder needs {needed}", dir.display())]
    MissingFile {
        /// The folder.
        dir: PathBuf,
        /// The file's name.
        file: String,
        /// What a folder of this kind holds.
        needed: String,
    },
    /// The model could not be fetched from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(Box<crate::hub::HubError>),
    /// The model was tried and does not compute as it should.
    #[error("the self-test failed for {text:?}: {what}")]
    SelfTest {
        /// The text tried.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// The file system refused.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Whoever asked has told it to stop.
    #[error("stopped")]
    Stopped,
    /// A JSON file does not parse, or lacks what it must say.
    #[error("{file}: {source}")]
    Json {
        /// The file's name.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The model is of a kind that this encoder does not compute.
    #[error("{file}: {what} {found} is not supported: {supported}")]
    Unsupported {
        /// The file's name.
        file: String,
        /// The property: `model_type`, `hidden_act`, a tensor's type.
        what: String,
        /// Its value.
        found: String,
        /// What would be.
        supported: &'static str,
    },
    /// A value is out of range, or two places disagree.
    #[error("{file}: {what} is {found}, expected {expected}")]
    Disagrees {
        /// The file's name.
        file: String,
        /// The property.
        what: String,
        /// Its value.
        found: String,
        /// What it must be, and where that comes from.
        expected: String,
    },
    /// The tokenizer does not load or does not do what the encoder relies on.
    #[error("tokenizer.json: {detail}")]
    Tokenizer {
        /// What does not hold.
        detail: String,
    },
    /// The tokenizer gives ids that have no row in the embedding table.
    #[error(
        "tokenizer.json has the token id {largest_id}, but {table} has {rows} rows only: \
         the tokenizer is not the model's"
    )]
    VocabularyTooLarge {
        /// The tokenizer's largest id.
        largest_id: u32,
        /// The tensor with one row for each id.
        table: &'static str,
        /// Rows of the table.
        rows: usize,
    },
    /// A limit of tokens is over the number of positions that the model knows.
    #[error("{file}: {what} is {max_tokens}, but the model has {positions} positions only")]
    TooManyPositions {
        /// The file that sets the limit.
        file: String,
        /// The limit's name.
        what: String,
        /// The limit.
        max_tokens: usize,
        /// The model's `max_position_embeddings`.
        positions: usize,
    },
    /// An option asks for what the model does not do.
    #[error("{option} is {found}, but {limit}")]
    Option {
        /// The option: `doc_maxlen`.
        option: &'static str,
        /// Its value.
        found: String,
        /// What the model does.
        limit: String,
    },
    /// The weights are no whole file.
    #[error("{file} ({len} bytes): damaged or cut short: {detail}")]
    DamagedWeights {
        /// The file.
        file: String,
        /// Length of the file.
        len: usize,
        /// What the format's reader found.
        detail: String,
    },
    /// A tensor of the model is not in the file.
    #[error("{file} has no tensor {name}")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{file}: tensor {name} has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// What the configuration implies.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A tensor holds NaN or an infinity.
    #[error("{file}: tensor {name} holds {value} at element {at}")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Index of the first such element.
        at: usize,
        /// The element.
        value: f32,
    },
    /// The device that computes failed, or computes wrongly.
    #[error("{device} gave no result that can be used: {detail}")]
    Device {
        /// Which one.
        device: String,
        /// What the backend said, or how far off it is.
        detail: String,
    },
    /// The model gives document rows of any norm, and an index keeps unit rows only.
    #[error(
        "{file}: the model does not scale its rows to unit norm, so its documents cannot be indexed: an index keeps \
         unit rows only"
    )]
    NotNormalised {
        /// The file that says so.
        file: String,
    },
    /// A query leaves a cross-encoder no room for a document.
    #[error("the query has {tokens} tokens, and the model takes {max} of query and document together: shorten it")]
    NoRoomForDocument {
        /// Tokens of the query, special ones included.
        tokens: usize,
        /// The model's limit.
        max: usize,
    },
    /// The model gave rows that are no valid embeddings.
    #[error("text {text}: {source}")]
    Embeddings {
        /// Which of the texts given, from 0.
        text: usize,
        /// What is wrong with them.
        source: latewood_engine::Error,
    },
}
