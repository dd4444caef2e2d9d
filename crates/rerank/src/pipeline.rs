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

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// The name under which candidates' first scores are kept.
pub const RETRIEVE: &str = "retrieve";
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieve {
    /// As the search has it: hybrid, semantic, keyword or rerank.
    #[serde(default = "hybrid")]
    pub mode: String,
    /// How many.
    #[serde(default = "hundred")]
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
    /// Where the best is ahead of the second by this much of all scores' range, the stages after this one are left out.
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LateInteractionStage {}

/// See [`StageKind::Keyword`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeywordStage {}

/// See [`StageKind::CrossEncoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossEncoderStage {
    /// A folder, or a model of the Hugging Face hub.
    pub model: String,
}

/// See [`StageKind::Llm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LlmStage {
    /// How it is asked.
    #[serde(default)]
    pub method: LlmMethod,
    /// Its name at the endpoint.
    pub model: String,
    /// Where it is asked, up to `/v1`; `OPENAI_BASE_URL`, or else OpenAI's, unless said.
    pub base_url: Option<String>,
    /// The environment's variable that holds the key. It is not sent where there is none.
    #[serde(default = "api_key")]
    pub api_key_env: String,
    /// Candidates of one listwise request.
    #[serde(default = "twenty")]
    pub window: usize,
    /// How far the next window is from the last; half of one unless said.
    pub step: Option<usize>,
    /// Requests at a time.
    #[serde(default = "four")]
    pub concurrency: usize,
    /// Seconds that one request may take.
    #[serde(default = "thirty")]
    pub timeout_s: f64,
    /// Tries after the first, where the endpoint is busy or fails.
    #[serde(default = "two")]
    pub retries: u32,
    /// Seconds that all requests of a query may take.
    #[serde(default = "minute")]
    pub max_seconds: f64,
    /// Requests of one query, retries not counted.
    #[serde(default = "hundred")]
    pub max_requests: usize,
    /// Characters of a candidate that are read.
    #[serde(default = "characters")]
    pub max_chars: usize,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Signal {
    /// What contributions call it; its type, or its field, unless said.
    pub name: Option<String>,
    /// What it counts; negative counts against.
    pub weight: f32,
    /// Which.
    #[serde(rename = "type")]
    pub kind: SignalKind,
    /// The metadata that holds it; of recency, the time of modification unless said.
    pub field: Option<String>,
    /// Of recency: days after which it counts half.
    pub half_life_days: Option<f64>,
    /// Of trust: what each value of the field counts, from 0 to 1.
    #[serde(default)]
    pub values: BTreeMap<String, f32>,
    /// Of trust, popularity and number: what counts where the field is missing; 0 unless said.
    #[serde(default)]
    pub default: f32,
    /// Of length: words that are best.
    pub ideal: Option<f32>,
}

/// What is known of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FusionStage {
    /// How.
    #[serde(default)]
    pub method: FusionMethod,
    /// The stages whose scores count; `retrieve` is what candidates came with.
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FusionMethod {
    /// `sum of weight / (k + rank)` (Cormack, Clarke and Buettcher 2009).
    #[default]
    Rrf,
    /// A weighted sum of the scores, made comparable.
    Sum,
}

/// A pipeline as it is written, stages unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    retrieve: Retrieve,
    #[serde(default)]
    stages: Vec<Table>,
    budget_ms: Option<f64>,
}

impl Pipeline {
    /// The named ones: `fast` is late interaction over what keywords find; `balanced` a small cross-encoder over the first
    /// twenty of a hybrid search, `precise` a large one over the first fifty.
    pub const PRESETS: [(&'static str, &'static str); 3] = [
        ("fast", include_str!("presets/fast.toml")),
        ("balanced", include_str!("presets/balanced.toml")),
        ("precise", include_str!("presets/precise.toml")),
    ];

    /// A named pipeline.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = Self::PRESETS.into_iter().find(|(known, _)| *known == name)?;
        Self::parse_toml(text).ok()
    }

    /// Whether a stage reads the text of candidates; otherwise they may come without.
    pub fn reads_text(&self) -> bool {
        let reads = |signal: &Signal| matches!(signal.kind, SignalKind::ExactMatch | SignalKind::Length);
        self.stages.iter().any(|stage| match &stage.kind {
            StageKind::CrossEncoder(_) | StageKind::Llm(_) => true,
            StageKind::Metadata(stage) => stage.signals.iter().any(reads),
            StageKind::LateInteraction(_) | StageKind::Keyword(_) | StageKind::Fusion(_) => false,
        })
    }

    /// Reads a pipeline in TOML.
    ///
    /// # Errors
    /// When it is none; the error names line and field.
    pub fn parse_toml(text: &str) -> Result<Self> {
        let line_of = |error: &toml::de::Error| error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let bad = |error: toml::de::Error| Error::Pipeline { line: line_of(&error), detail: error.message().into() };
        Self::read(toml::from_str(text).map_err(bad)?, &|at| stage_line(text, at))
    }

    /// Reads a pipeline in JSON.
    ///
    /// # Errors
    /// As [`Pipeline::parse_toml`].
    pub fn parse_json(text: &str) -> Result<Self> {
        let bad = |error: serde_json::Error| Error::Pipeline { line: Some(error.line()), detail: error.to_string() };
        Self::read(serde_json::from_str(text).map_err(bad)?, &|_| None)
    }

    fn read(written: Written, line: &dyn Fn(usize) -> Option<usize>) -> Result<Self> {
        let Written { retrieve, stages, budget_ms } = written;
        let read = |(at, table)| {
            let place = format!("stages[{at}]");
            Stage::read(table)
                .map_err(|detail| Error::Pipeline { line: line(at), detail: format!("{place}: {detail}") })
        };
        let stages: Vec<Stage> = stages.into_iter().enumerate().map(read).collect::<Result<_>>()?;
        let pipeline = Self { retrieve, stages, budget_ms };
        pipeline.check().map_err(|(at, detail)| match at {
            Some(at) => Error::Pipeline { line: line(at), detail: format!("stages[{at}]: {detail}") },
            None => Error::Pipeline { line: None, detail },
        })?;
        Ok(pipeline)
    }

    /// What makes no sense, and in which stage.
    fn check(&self) -> Result<(), (Option<usize>, String)> {
        const MODES: [&str; 4] = ["hybrid", "semantic", "keyword", "rerank"];
        if !MODES.contains(&self.retrieve.mode.as_str()) {
            let detail = format!("retrieve.mode is {:?}, expected one of {}", self.retrieve.mode, MODES.join(", "));
            return Err((None, detail));
        }
        if self.retrieve.top_n == 0 || self.stages.len() > MAX_STAGES {
            return Err((None, format!("retrieve.top_n is at least 1, and stages are {MAX_STAGES} at most")));
        }
        if self.budget_ms.is_some_and(|budget| budget.is_nan() || budget <= 0.0) {
            return Err((None, "budget_ms is more than 0".into()));
        }
        let mut known = HashSet::from([RETRIEVE]);
        for (at, stage) in self.stages.iter().enumerate() {
            stage.check(&known).map_err(|detail| (Some(at), detail))?;
            if !known.insert(&stage.name) {
                let detail = format!("another stage is called {:?} already: give this one a name", stage.name);
                return Err((Some(at), detail));
            }
        }
        Ok(())
    }
}

/// The line of the header of a stage.
fn stage_line(text: &str, at: usize) -> Option<usize> {
    let headers = text.lines().zip(1..).filter(|(line, _)| line.trim_start().starts_with("[[stages]]"));
    headers.map(|(_, number)| number).nth(at)
}

impl Stage {
    /// What all stages have, and then what its type has; an error says which field is wrong.
    fn read(mut table: Table) -> Result<Self, String> {
        let kind = match table.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err("type is a text".into()),
            None => return Err("type is missing".into()),
        };
        let count = |table: &mut Table, name: &str| match table.remove(name) {
            None => Ok(None),
            Some(Value::Integer(count)) if count > 0 => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
            Some(other) => Err(format!("{name} is {other}, expected a whole number over 0")),
        };
        let (top_k, top_n) = (count(&mut table, "top_k")?, count(&mut table, "top_n")?);
        let exit_margin = match table.remove("exit_margin") {
            None => None,
            Some(Value::Float(margin)) if (0.0..=1.0).contains(&margin) => Some(margin as f32),
            Some(other) => return Err(format!("exit_margin is {other}, expected a number from 0.0 to 1.0")),
        };
        let name = match table.remove("name") {
            None => kind.clone(),
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(other) => return Err(format!("name is {other}, expected a text")),
        };
        let kind = StageKind::read(&kind, table)?;
        Ok(Self { name, top_k, top_n, exit_margin, kind })
    }

    /// That it makes sense after the stages `known`.
    fn check(&self, known: &HashSet<&str>) -> Result<(), String> {
        if let (Some(top_k), Some(top_n)) = (self.top_k, self.top_n)
            && top_n > top_k
        {
            return Err(format!("top_n is {top_n}, and only {top_k} go in (top_k)"));
        }
        match &self.kind {
            StageKind::Metadata(stage) => stage
                .signals
                .iter()
                .enumerate()
                .try_for_each(|(at, signal)| signal.check().map_err(|detail| format!("signals[{at}]: {detail}"))),
            StageKind::Fusion(stage) => stage.check(known),
            StageKind::Llm(stage) => stage.check(),
            StageKind::LateInteraction(_) | StageKind::Keyword(_) | StageKind::CrossEncoder(_) => Ok(()),
        }
    }
}

impl StageKind {
    fn read(kind: &str, table: Table) -> Result<Self, String> {
        fn of<T: serde::de::DeserializeOwned>(table: Table) -> Result<T, String> {
            table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
        }
        Ok(match kind {
            "late-interaction" => Self::LateInteraction(of(table)?),
            "keyword" => Self::Keyword(of(table)?),
            "cross-encoder" => Self::CrossEncoder(of(table)?),
            "llm" => Self::Llm(of(table)?),
            "metadata" => Self::Metadata(of(table)?),
            "fusion" => Self::Fusion(of(table)?),
            other => {
                let known = "late-interaction, keyword, cross-encoder, llm, metadata or fusion";
                return Err(format!("type is {other:?}, expected {known}"));
            }
        })
    }
}

impl Signal {
    /// What contributions call it.
    pub(crate) fn called(&self) -> String {
        let kind = match self.kind {
            SignalKind::Recency => "recency",
            SignalKind::Trust => "trust",
            SignalKind::ExactMatch => "exact-match",
            SignalKind::Popularity => "popularity",
            SignalKind::Length => "length",
            SignalKind::Number => "number",
        };
        self.name.clone().or_else(|| self.field.clone()).unwrap_or_else(|| kind.into())
    }

    fn check(&self) -> Result<(), String> {
        let positive = |what: &str, value: Option<f64>| match value {
            Some(value) if value > 0.0 && value.is_finite() => Ok(()),
            _ => Err(format!("{what} is needed, a number over 0")),
        };
        if !self.weight.is_finite() {
            return Err("weight is a finite number".into());
        }
        match self.kind {
            SignalKind::Recency => positive("half_life_days", self.half_life_days),
            SignalKind::Length => positive("ideal", self.ideal.map(f64::from)),
            SignalKind::ExactMatch => Ok(()),
            SignalKind::Trust | SignalKind::Popularity | SignalKind::Number if self.field.is_none() => {
                Err("field is needed: the name of a document's metadata".into())
            }
            SignalKind::Trust if self.values.is_empty() => {
                Err("values is needed: what each value of the field counts".into())
            }
            SignalKind::Trust | SignalKind::Popularity | SignalKind::Number => Ok(()),
        }
    }
}

impl FusionStage {
    fn check(&self, known: &HashSet<&str>) -> Result<(), String> {
        if self.of.is_empty() {
            return Err("of is needed: the stages whose scores count".into());
        }
        if let Some(unknown) = self.of.iter().find(|name| !known.contains(name.as_str())) {
            let mut known: Vec<&str> = known.iter().copied().collect();
            known.sort_unstable();
            return Err(format!("of names {unknown:?}, and before this stage there are {}", known.join(", ")));
        }
        if !self.weights.is_empty() && self.weights.len() != self.of.len() {
            return Err(format!("weights has {} numbers for {} stages", self.weights.len(), self.of.len()));
        }
        if self.weights.iter().any(|weight| !weight.is_finite()) || !self.k.is_finite() || self.k < 0.0 {
            return Err("weights are finite numbers, and k is 0 or more".into());
        }
        Ok(())
    }
}

impl LlmStage {
    /// How far the next window is from the last.
    pub(crate) fn step(&self) -> usize {
        self.step.unwrap_or(self.window.div_ceil(2))
    }

    fn check(&self) -> Result<(), String> {
        if !(2..=100).contains(&self.window) || self.step() == 0 || self.step() > self.window {
            return Err("window is from 2 to 100, and step from 1 to window".into());
        }
        if self.concurrency == 0 || self.concurrency > 64 || self.max_requests == 0 || self.max_chars == 0 {
            return Err("concurrency is from 1 to 64, max_requests and max_chars at least 1".into());
        }
        let time = |seconds: f64| seconds > 0.0 && seconds <= 3600.0;
        if !time(self.timeout_s) || !time(self.max_seconds) || self.retries > 10 {
            return Err("timeout_s and max_seconds are over 0 and at most 3600, retries at most 10".into());
        }
        match &self.base_url {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(format!("base_url is {url:?}, expected http:// or https://"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "budget_ms = 50\n[retrieve]\nmode = \"keyword\"\n[[stages]]\ntype = \"late-interaction\"\ntop_n = 20\n\
                    [[stages]]\nname = \"mix\"\ntype = \"fusion\"\nof = [\"retrieve\", \"late-interaction\"]\nexit_margin = 0.5\n";
        let json = r#"{"budget_ms": 50, "retrieve": {"mode": "keyword"}, "stages": [{"type": "late-interaction", "top_n": 20},
            {"name": "mix", "type": "fusion", "of": ["retrieve", "late-interaction"], "exit_margin": 0.5}]}"#;
        let pipeline = Pipeline::parse_toml(toml).unwrap();
        assert_eq!(pipeline, Pipeline::parse_json(json).unwrap());
        assert_eq!((pipeline.retrieve.top_n, pipeline.stages[1].exit_margin), (100, Some(0.5)));
        // What is written back reads the same.
        let back = serde_json::to_string(&pipeline).unwrap();
        assert_eq!(Pipeline::parse_json(&back).unwrap(), pipeline, "{back}");
    }

    #[test]
    fn the_named_ones_are_sound() {
        for (name, _) in Pipeline::PRESETS {
            assert!(Pipeline::preset(name).is_some(), "{name}");
        }
        assert!(Pipeline::preset("slow").is_none());
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let stage = |text: &str| format!("[retrieve]\ntop_n = 10\n\n[[stages]]\n{text}\n");
        for (text, line, says) in [
            ("[retrieve]\ntop_m = 1\n".to_owned(), Some(2), "top_m"),
            ("[retrieve]\nmode = \"magic\"\n".into(), None, "hybrid, semantic"),
            ("stages = 3".into(), Some(1), "sequence"),
            (stage("top_n = 3"), Some(4), "stages[0]: type is missing"),
            (stage("type = \"magic\""), Some(4), "expected late-interaction"),
            (stage("type = \"keyword\"\ntop_n = 0"), Some(4), "top_n is 0"),
            (stage("type = \"keyword\"\ntop_n = 5\ntop_k = 3"), Some(4), "only 3 go in"),
            (stage("type = \"keyword\"\nmodel = \"x\""), Some(4), "unknown field `model`"),
            (stage("type = \"cross-encoder\""), Some(4), "missing field `model`"),
            (stage("type = \"keyword\"\n[[stages]]\ntype = \"keyword\""), Some(6), "give this one a name"),
            (stage("type = \"fusion\"\nof = [\"llm\"]"), Some(4), "before this stage there are retrieve"),
            (stage("type = \"metadata\"\nsignals = [{type = \"recency\", weight = 1}]"), Some(4), "half_life_days"),
            (stage("type = \"metadata\"\nsignals = [{type = \"trust\", weight = 1}]"), Some(4), "field is needed"),
            (stage("type = \"llm\"\nmodel = \"m\"\nbase_url = \"ftp://x\""), Some(4), "http://"),
            (stage("type = \"llm\"\nmodel = \"m\"\nwindow = 1"), Some(4), "window is from 2"),
            ("budget_ms = -1".into(), None, "budget_ms"),
        ] {
            let error = Pipeline::parse_toml(&text).unwrap_err();
            assert!(error.to_string().contains(says), "{error}\n{text}");
            assert!(matches!(error, Error::Pipeline { line: found, .. } if found == line), "{error:?}\n{text}");
        }
        let error = Pipeline::parse_json("{\n\"stages\": [}").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
