//! What a pipeline is, as people write it: TOML or JSON.
//!
//! ```toml
//! budget_ms = 300                  # the dearest stage is left out where the estimate is over this
//!
//! [retrieve]                       # what the search brings
//! mode = "hybrid"
//! top_n = 100
//!
//! [[stages]]
//! type = "cross-encoder"           # late-interaction, keyword, cross-encoder, llm, metadata, fusion
//! model = "cross-encoder/ms-marco-MiniLM-L6-v2"
//! top_k = 50                       # the first so many go in, the others are out; all unless said
//! top_n = 10                       # so many come out; all unless said
//! ```

mod read;
mod schema;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

/// The name under which candidates' first scores are kept.
pub const RETRIEVE: &str = "retrieve";
/// What the score so far is called among the contributions to a metadata stage's.
pub(crate) const SCORE: &str = "score";
/// Passages that a search may bring.
const MAX_RETRIEVED: usize = 10_000;
/// Stages of a pipeline.
const MAX_STAGES: usize = 16;

/// Stages, and what goes into them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pipeline {
    /// What the search brings.
    pub retrieve: Retrieve,
    /// One after the other.
    pub stages: Vec<Stage>,
    /// Milliseconds that all stages may take: where the estimate is over this, the dearest are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<f64>,
}

/// What the search brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retrieve {
    /// As the search has it: hybrid, semantic, keyword or rerank.
    #[serde(default = "hybrid")]
    #[schemars(extend("enum" = ["hybrid", "semantic", "keyword", "rerank"]))]
    pub mode: String,
    /// How many.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = MAX_RETRIEVED))]
    pub top_n: usize,
}

impl Default for Retrieve {
    fn default() -> Self {
        Self { mode: hybrid(), top_n: hundred() }
    }
}

fn hybrid() -> String {
    "hybrid".into()
}

fn hundred() -> usize {
    100
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stage {
    /// What scores and reports call it: its type unless said.
    pub name: String,
    /// So many of the best go in, the others are out; all unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// So many come out; all unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_n: Option<usize>,
    /// Where the best is ahead of the second by this much of all scores' range, of three candidates at least, the stages after
    /// this one are left out, and scores are this one's. Those of language models that compare are places, and say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_margin: Option<f32>,
    /// What it does.
    #[serde(flatten)]
    pub kind: StageKind,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageKind {
    /// MaxSim over token embeddings: those of the index, or encoded on the fly where there is none.
    LateInteraction(LateInteractionStage),
    /// BM25.
    Keyword(KeywordStage),
    /// A model that reads query and candidate together.
    CrossEncoder(CrossEncoderStage),
    /// A language model over an OpenAI-compatible endpoint.
    Llm(LlmStage),
    /// What is known of a candidate beside its text, weighed with its score.
    Metadata(MetadataStage),
    /// Scores of earlier stages as one.
    Fusion(FusionStage),
}

/// See [`StageKind::LateInteraction`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LateInteractionStage {}

/// See [`StageKind::Keyword`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeywordStage {}

/// See [`StageKind::CrossEncoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossEncoderStage {
    /// A folder, or a model of the Hugging Face hub.
    pub model: String,
}

/// See [`StageKind::Llm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LlmStage {
    /// How it is asked.
    #[serde(default)]
    pub method: LlmMethod,
    /// Its name at the endpoint.
    pub model: String,
    /// Where it is asked, up to `/v1`; `OPENAI_BASE_URL`, or else OpenAI's, unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^https?://"))]
    pub base_url: Option<String>,
    /// The environment's variable that holds the key. It is not sent where there is none.
    #[serde(default = "api_key")]
    pub api_key_env: String,
    /// Candidates of one listwise request.
    #[serde(default = "twenty")]
    #[schemars(range(min = 2, max = 100))]
    pub window: usize,
    /// How far the next window is from the last; half of one unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub step: Option<usize>,
    /// Requests at a time.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: usize,
    /// Seconds that one request may take.
    #[serde(default = "thirty")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 3600.0))]
    pub timeout_s: f64,
    /// Tries after the first, where the endpoint is busy or fails.
    #[serde(default = "two")]
    #[schemars(range(max = 10))]
    pub retries: u32,
    /// Seconds that all requests of a query may take.
    #[serde(default = "minute")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 3600.0))]
    pub max_seconds: f64,
    /// Requests of one query, retries not counted.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    pub max_requests: usize,
    /// Characters of a candidate that are read.
    #[serde(default = "characters")]
    #[schemars(range(min = 1))]
    pub max_chars: usize,
    /// What else a request says, in the words of the endpoint; in place of `temperature = 0` and `max_tokens` where it says
    /// `temperature`, `max_tokens` or `max_completion_tokens`: models that think before they answer want more, or refuse the
    /// first two.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub request: Map<String, serde_json::Value>,
}

fn api_key() -> String {
    "OPENAI_API_KEY".into()
}

fn twenty() -> usize {
    20
}

fn four() -> usize {
    4
}

fn thirty() -> f64 {
    30.0
}

fn minute() -> f64 {
    60.0
}

fn two() -> u32 {
    2
}

fn characters() -> usize {
    1500
}

/// How a language model is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LlmMethod {
    /// To put a window of candidates in order, from the last window to the first (RankGPT, Sun et al. 2023, arXiv:2304.09542).
    #[default]
    Listwise,
    /// How well a candidate answers, from 0 to 10.
    Pointwise,
    /// Which of two is better, all against all.
    Pairwise,
}

/// See [`StageKind::Metadata`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MetadataStage {
    /// What the score so far counts.
    #[serde(default = "one")]
    pub weight: f32,
    /// How the score so far, and signals of no fixed range, are made comparable.
    #[serde(default)]
    pub normalise: Normalise,
    /// What else counts.
    pub signals: Vec<Signal>,
}

fn one() -> f32 {
    1.0
}

/// How values of any size are made comparable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Normalise {
    /// From 0, the least of the candidates, to 1, the most.
    #[default]
    MinMax,
    /// Standard deviations from the mean.
    Z,
    /// From 0, the last, to 1, the first, whatever lies between.
    Rank,
    /// As they are.
    None,
}

/// Something known of a candidate, and what it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Signal {
    /// What contributions call it; its type, or its field, unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it counts; negative counts against.
    pub weight: f32,
    /// Which.
    #[serde(rename = "type")]
    pub kind: SignalKind,
    /// The metadata that holds it; of recency, the time of modification unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of recency: days after which it counts half.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub half_life_days: Option<f64>,
    /// Of trust: what each value of the field counts, from 0 to 1.
    #[serde(default)]
    pub values: BTreeMap<String, f32>,
    /// Of trust, popularity and number: what counts where the field is missing; 0 unless said.
    #[serde(default)]
    pub default: f32,
    /// Of length: words that are best.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ideal: Option<f32>,
}

/// What is known of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SignalKind {
    /// `2^(-age / half life)`.
    Recency,
    /// What the value of a field is worth.
    Trust,
    /// The share of the query's words, three letters at least, that the candidate has as they stand.
    ExactMatch,
    /// The logarithm of a field's number, made comparable.
    Popularity,
    /// `min(words / ideal, ideal / words)`.
    Length,
    /// A field's number, made comparable.
    Number,
}

/// See [`StageKind::Fusion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FusionStage {
    /// How.
    #[serde(default)]
    pub method: FusionMethod,
    /// The stages whose scores count; `retrieve` is what candidates came with.
    #[schemars(length(min = 1))]
    pub of: Vec<String>,
    /// What each counts; all alike unless said.
    #[serde(default)]
    pub weights: Vec<f32>,
    /// Of reciprocal ranks: what is added to each rank.
    #[serde(default = "sixty")]
    pub k: f32,
    /// Of sums: how scores are made comparable.
    #[serde(default)]
    pub normalise: Normalise,
}

fn sixty() -> f32 {
    60.0
}

/// How scores become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FusionMethod {
    /// `sum of weight / (k + rank)` (Cormack, Clarke and Buettcher 2009).
    #[default]
    Rrf,
    /// A weighted sum of the scores, made comparable.
    Sum,
}
