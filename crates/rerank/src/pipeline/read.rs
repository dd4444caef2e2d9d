//! Reading a pipeline, and what is wrong with one.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use toml::{Table, Value};

use super::{
    FusionStage, LlmStage, MAX_RETRIEVED, MAX_STAGES, MetadataStage, Pipeline, RETRIEVE, Retrieve, SCORE, Signal,
    SignalKind, Stage, StageKind,
};
use crate::error::{Error, Result};

/// A pipeline as it is written, stages unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// What editors check it by.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    #[serde(default)]
    retrieve: Retrieve,
    #[serde(default)]
    stages: Vec<Table>,
    budget_ms: Option<f64>,
}

/// The same in JSON, its parts unread: where they lie in the text says on which line they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with retrieve, stages and budget_ms")]
struct WrittenJson<'a> {
    /// What editors check it by.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    #[serde(borrow)]
    retrieve: Option<&'a RawValue>,
    #[serde(default, borrow)]
    stages: Vec<&'a RawValue>,
    #[serde(borrow)]
    budget_ms: Option<&'a RawValue>,
}

/// What may be wrong with a pipeline that reads.
#[derive(Clone, Copy)]
enum Place {
    Stage(usize),
    Stages,
    /// A field of `retrieve`.
    Retrieve(&'static str),
    Budget,
}

impl Pipeline {
    /// The named ones: `fast` is late interaction over what keywords find; `balanced` a small cross-encoder over the first
    /// twenty of a hybrid search, `precise` a large one over the first fifty.
    pub const PRESETS: [(&'static str, &'static str); 3] = [
        ("fast", include_str!("../presets/fast.toml")),
        ("balanced", include_str!("../presets/balanced.toml")),
        ("precise", include_str!("../presets/precise.toml")),
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
        Self::read(toml::from_str(text).map_err(bad)?, &|place, field| toml_line(text, place, field))
    }

    /// Reads a pipeline in JSON.
    ///
    /// # Errors
    /// As [`Pipeline::parse_toml`].
    pub fn parse_json(text: &str) -> Result<Self> {
        let json: WrittenJson<'_> = parse_at(text, 1)?;
        // A part is a piece of the text.
        let line_of = |part: &RawValue| {
            let before = part.get().as_ptr().addr() - text.as_ptr().addr();
            text[..before].matches('\n').count() + 1
        };
        let written = Written {
            _schema: None,
            retrieve: json.retrieve.map_or(Ok(Retrieve::default()), |part| parse_at(part.get(), line_of(part)))?,
            stages: json.stages.iter().map(|part| parse_at(part.get(), line_of(part))).collect::<Result<_>>()?,
            budget_ms: json.budget_ms.map_or(Ok(None), |part| parse_at(part.get(), line_of(part)))?,
        };
        let place = |place| match place {
            Place::Stage(at) => json.stages.get(at).copied(),
            Place::Stages => json.stages.last().copied(),
            Place::Retrieve(_) => json.retrieve,
            Place::Budget => json.budget_ms,
        };
        let line = |at, field: Option<&str>| {
            let part = place(at)?;
            let key = field.map(|field| format!("\"{field}\""));
            let within = key.and_then(|key| part.get().lines().position(|line| line.contains(&key)));
            Some(line_of(part) + within.unwrap_or(0))
        };
        Self::read(written, &line)
    }

    /// `line` says where a place is, and a field of it.
    fn read(written: Written, line: &dyn Fn(Place, Option<&str>) -> Option<usize>) -> Result<Self> {
        let Written { retrieve, stages, budget_ms, .. } = written;
        let bad = |place, detail: String| {
            let line = line(place, field_of(&detail));
            let detail = match place {
                Place::Stage(at) => format!("stages[{at}]: {detail}"),
                _ => detail,
            };
            Error::Pipeline { line, detail }
        };
        let read = |(at, table)| Stage::read(table).map_err(|detail| bad(Place::Stage(at), detail));
        let stages: Vec<Stage> = stages.into_iter().enumerate().map(read).collect::<Result<_>>()?;
        let pipeline = Self { retrieve, stages, budget_ms };
        pipeline.check().map_err(|(place, detail)| bad(place, detail))?;
        Ok(pipeline)
    }

    /// What makes no sense, and where.
    fn check(&self) -> Result<(), (Place, String)> {
        const MODES: [&str; 4] = ["hybrid", "semantic", "keyword", "rerank"];
        if !MODES.contains(&self.retrieve.mode.as_str()) {
            let detail = format!("retrieve.mode is {:?}, expected one of {}", self.retrieve.mode, MODES.join(", "));
            return Err((Place::Retrieve("mode"), detail));
        }
        if !(1..=MAX_RETRIEVED).contains(&self.retrieve.top_n) {
            let detail = format!("retrieve.top_n is {}, expected 1 to {MAX_RETRIEVED}", self.retrieve.top_n);
            return Err((Place::Retrieve("top_n"), detail));
        }
        if self.stages.len() > MAX_STAGES {
            return Err((Place::Stages, format!("there are {} stages, {MAX_STAGES} at most", self.stages.len())));
        }
        if let Some(budget) = self.budget_ms.filter(|budget| !budget.is_finite() || *budget <= 0.0) {
            return Err((Place::Budget, format!("budget_ms is {budget}, expected a number over 0")));
        }
        let mut known = HashSet::from([RETRIEVE]);
        for (at, stage) in self.stages.iter().enumerate() {
            stage.check(&known).map_err(|detail| (Place::Stage(at), detail))?;
            if !known.insert(&stage.name) {
                let detail = format!("another stage is called {:?} already: give this one a name", stage.name);
                return Err((Place::Stage(at), detail));
            }
        }
        Ok(())
    }
}

/// The field that `detail` is about: what it begins with, or says is unknown.
fn field_of(detail: &str) -> Option<&str> {
    let unknown = detail.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let first = || detail.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next();
    unknown.or_else(first).filter(|field| !field.is_empty())
}

/// The line of TOML that is about `place`: where a field is set, or a stage's header.
fn toml_line(text: &str, place: Place, field: Option<&str>) -> Option<usize> {
    let sets =
        |line: &str, field: &str| line.strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='));
    let compact = |line: &str| line.split_whitespace().collect::<String>();
    let all_of = |name: &str| text.lines().zip(1..).find(|(line, _)| sets(line.trim(), name)).map(|(_, at)| at);
    let headers = text.lines().zip(1..).filter(|(line, _)| compact(line).starts_with("[[stages]]"));
    let mut headers = headers.map(|(_, number)| number);
    match place {
        Place::Stage(at) => {
            // A list of them may stand in one place.
            let Some(header) = headers.nth(at) else { return all_of("stages") };
            let lines = text.lines().zip(1..).skip(header).take_while(|(line, _)| !compact(line).starts_with("[["));
            let set =
                field.and_then(|field| lines.map(|(line, at)| (line.trim(), at)).find(|(line, _)| sets(line, field)));
            Some(set.map_or(header, |(_, at)| at))
        }
        Place::Stages => headers.last().or_else(|| all_of("stages")),
        Place::Budget => all_of("budget_ms"),
        Place::Retrieve(field) => {
            let mut section = String::new();
            text.lines().map(str::trim).zip(1..).find_map(|(line, number)| {
                if line.starts_with('[') {
                    section = compact(line);
                }
                let whole = section.is_empty() && (sets(line, "retrieve") || sets(line, &format!("retrieve.{field}")));
                (whole || section.starts_with("[retrieve]") && sets(line, field)).then_some(number)
            })
        }
    }
}

/// Reads JSON that begins on the line `first`.
fn parse_at<'a, T: Deserialize<'a>>(text: &'a str, first: usize) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let said = error.to_string();
        let detail = said.split(" at line ").next().unwrap_or_default().to_owned();
        Error::Pipeline { line: Some(first + error.line().max(1) - 1), detail }
    })
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
            Some(Value::Integer(margin @ 0..=1)) => Some(margin as f32),
            Some(other) => return Err(format!("exit_margin is {other}, expected a number from 0 to 1")),
        };
        let name = match table.remove("name") {
            None => kind.clone(),
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(other) => return Err(format!("name is {other}, expected a text")),
        };
        let known: Vec<String> = table.keys().cloned().collect();
        let kind = StageKind::read(&kind, table).map_err(|detail| match field_of(&detail) {
            Some(field) if detail.starts_with("unknown field") && known.iter().any(|known| known == field) => {
                format!("unknown field `{field}`: this stage has {}", Pipeline::fields(&kind).join(", "))
            }
            _ => detail,
        })?;
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
            StageKind::Metadata(stage) => stage.check(),
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

impl MetadataStage {
    fn check(&self) -> Result<(), String> {
        if !self.weight.is_finite() {
            return Err("weight is a finite number".into());
        }
        let mut names = HashSet::from([SCORE.to_owned()]);
        for (at, signal) in self.signals.iter().enumerate() {
            signal.check().map_err(|detail| format!("signals[{at}]: {detail}"))?;
            if !names.insert(signal.called()) {
                let name = signal.called();
                return Err(format!("signals[{at}]: another is called {name:?}: give this one a name"));
            }
        }
        Ok(())
    }
}

impl Signal {
    /// What contributions call it.
    pub fn called(&self) -> String {
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
        let numbers = self.values.values().chain([&self.weight, &self.default]);
        if numbers.into_iter().any(|number| !number.is_finite()) {
            return Err("weight, default and values are finite numbers".into());
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
        for (name, value) in &self.request {
            if ["model", "messages", "stream", "n"].contains(&name.as_str()) {
                return Err(format!("request.{name} is the stage's to say"));
            }
            if value.is_null() {
                return Err(format!("request.{name} is no value"));
            }
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
        let all = format!(
            "{toml}[[stages]]\ntype = \"llm\"\nmodel = \"m\"\nrequest = {{ max_completion_tokens = 500 }}\n[[stages]]\n\
             type = \"metadata\"\nsignals = [{{ type = \"trust\", field = \"from\", values = {{ a = 0.5 }}, weight = 1.0 }}]\n"
        );
        for pipeline in [pipeline, Pipeline::parse_toml(&all).unwrap()] {
            let back = serde_json::to_string(&pipeline).unwrap();
            assert_eq!(Pipeline::parse_json(&back).unwrap(), pipeline, "{back}");
        }
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
            ("[retrieve]\n\nmode = \"magic\"\n".into(), Some(3), "hybrid, semantic"),
            ("retrieve.mode = \"magic\"\n".into(), Some(1), "hybrid, semantic"),
            ("budget_ms = 5\nretrieve = { top_n = 0 }\n".into(), Some(2), "retrieve.top_n is 0"),
            (
                "[[ stages ]]\ntype = \"keyword\"\ntop_n = 3\n[ retrieve ]\ntop_n = 0\n".into(),
                Some(5),
                "retrieve.top_n is 0",
            ),
            ("stages = 3".into(), Some(1), "sequence"),
            ("budget_ms = 1\nstages = [{type = \"keyword\", topn = 3}]".into(), Some(2), "unknown field `topn`"),
            (stage("top_n = 3"), Some(4), "stages[0]: type is missing"),
            (stage("type = \"magic\""), Some(5), "expected late-interaction"),
            (stage("type = \"keyword\"\ntop_n = 0"), Some(6), "top_n is 0"),
            (stage("type = \"keyword\"\ntop_n = 5\ntop_k = 3"), Some(6), "only 3 go in"),
            (
                stage("type = \"keyword\"\nmodel = \"x\""),
                Some(6),
                "unknown field `model`: this stage has exit_margin, name, top_k, top_n, type",
            ),
            (stage("type = \"cross-encoder\""), Some(4), "missing field `model`"),
            (stage("type = \"keyword\"\n[[stages]]\ntype = \"keyword\""), Some(6), "give this one a name"),
            (stage("type = \"fusion\"\nof = [\"llm\"]"), Some(6), "before this stage there are retrieve"),
            (stage("type = \"metadata\"\nsignals = [{type = \"recency\", weight = 1}]"), Some(6), "half_life_days"),
            (stage("type = \"metadata\"\nsignals = [{type = \"trust\", weight = 1}]"), Some(6), "field is needed"),
            (
                stage("type = \"metadata\"\nsignals = [{type = \"exact-match\", weight = 1, name = \"score\"}]"),
                Some(6),
                "another is called",
            ),
            (stage("type = \"llm\"\nmodel = \"m\"\nbase_url = \"ftp://x\""), Some(7), "http://"),
            (stage("type = \"llm\"\nmodel = \"m\"\nwindow = 1"), Some(7), "window is from 2"),
            (
                stage("type = \"llm\"\nmodel = \"m\"\nrequest = {model = \"x\"}"),
                Some(7),
                "request.model is the stage's",
            ),
            (stage("type = \"llm\"\nmodel = \"m\"\nrequest = {top_p = nan}"), Some(7), "request.top_p"),
            ("\nbudget_ms = -1".into(), Some(2), "budget_ms is -1"),
            ("budget_ms = inf".into(), Some(1), "budget_ms is inf"),
            ("[[stages]]\ntype = \"keyword\"\n".repeat(99), Some(197), "there are 99 stages"),
        ] {
            let error = Pipeline::parse_toml(&text).unwrap_err();
            assert!(error.to_string().contains(says), "{error}\n{text}");
            assert!(matches!(error, Error::Pipeline { line: found, .. } if found == line), "{error:?}\n{text}");
        }
        for (text, line, says) in [
            ("{\n\"stages\": [}", 2, "expected value"),
            ("[]", 1, "invalid"),
            ("{\"stages\": [\n{\"type\": \"keyword\"},\n\n{\"type\": \"magic\"}]}", 4, "stages[1]: type is \"magic\""),
            ("{\"stages\": [\n{\"type\": \"keyword\",\n\"top_n\": null}]}", 3, ""),
            ("{\n\"retrieve\": {\"top_n\": 1,\n\"top_m\": 1}}", 3, "top_m"),
            (
                "{\"stages\": [{\"type\": \"keyword\",\n\"topn\": 1}]}",
                2,
                "unknown field `topn`: this stage has exit_margin",
            ),
            ("{\n\"retrieve\": {\"mode\": \"magic\"}}", 2, "hybrid, semantic"),
            ("{\n\n\"budget_ms\": 0}", 3, "budget_ms is 0"),
            ("{\"stages\": [],\n\"steps\": 1}", 2, "unknown field `steps`"),
        ] {
            let error = Pipeline::parse_json(text).unwrap_err();
            assert!(error.to_string().contains(says), "{error}\n{text}");
            assert!(matches!(error, Error::Pipeline { line: found, .. } if found == Some(line)), "{error:?}\n{text}");
        }
    }
}
