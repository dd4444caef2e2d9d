//! What is known of candidates beside their text, weighed with what their text is worth.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::normalised;
use crate::candidate::Candidate;
use crate::pipeline::{MetadataStage, Normalise, SCORE, Signal, SignalKind};

const DAY_NS: f64 = 86_400e9;

/// The weighted sum of each candidate; what each part added is left with it.
pub(crate) fn score(stage: &MetadataStage, query: &str, candidates: &mut [Candidate]) -> Vec<f32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_nanos() as f64);
    score_at(stage, query, candidates, now)
}

fn score_at(stage: &MetadataStage, query: &str, candidates: &mut [Candidate], now_ns: f64) -> Vec<f32> {
    let before: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
    // Of several such stages, what the last one added is shown: its sum is the score.
    candidates.iter_mut().for_each(|candidate| candidate.signals.clear());
    let mut parts = vec![(SCORE.to_owned(), stage.weight, normalised(&before, stage.normalise))];
    for signal in &stage.signals {
        let values: Vec<f32> = candidates.iter().map(|candidate| value(signal, query, candidate, now_ns)).collect();
        // The others lie between 0 and 1 by themselves, and what is between says something.
        let values = match signal.kind {
            SignalKind::Popularity | SignalKind::Number => normalised(&values, open_ended(stage.normalise)),
            _ => values,
        };
        parts.push((signal.called(), signal.weight, values));
    }
    let mut sums = vec![0.0; candidates.len()];
    for (name, weight, values) in parts {
        for ((sum, candidate), value) in sums.iter_mut().zip(candidates.iter_mut()).zip(values) {
            *sum += weight * value;
            candidate.signals.insert(name.clone(), weight * value);
        }
    }
    sums
}

/// What is odd: fields that no candidate has.
pub(crate) fn unknown_fields(stage: &MetadataStage, candidates: &[Candidate]) -> Option<String> {
    let missing = |field: &&str| candidates.iter().all(|candidate| !candidate.metadata.contains_key(*field));
    let fields = stage.signals.iter().filter_map(|signal| signal.field.as_deref());
    let fields: Vec<&str> = fields.filter(missing).collect();
    (!fields.is_empty()).then(|| format!("no candidate has {}", fields.join(", ")))
}

/// Numbers of any size cannot stay as they are beside others.
fn open_ended(how: Normalise) -> Normalise {
    if how == Normalise::None { Normalise::MinMax } else { how }
}

fn value(signal: &Signal, query: &str, candidate: &Candidate, now_ns: f64) -> f32 {
    let field = || candidate.metadata.get(signal.field.as_deref()?);
    match signal.kind {
        SignalKind::Recency => {
            let time = match &signal.field {
                Some(_) => field().and_then(time_ns),
                None => candidate.modified_ns.map(|ns| ns as f64),
            };
            let half_life = signal.half_life_days.unwrap_or(f64::INFINITY);
            time.map_or(signal.default, |time| (-((now_ns - time).max(0.0) / DAY_NS / half_life)).exp2() as f32)
        }
        SignalKind::Trust => {
            let known = |value: &Value| signal.values.get(&word(value)).copied();
            // Of a list, the most trusted.
            let found = match field() {
                Some(Value::Array(values)) => values.iter().filter_map(known).reduce(f32::max),
                Some(value) => known(value),
                None => None,
            };
            found.unwrap_or(signal.default)
        }
        SignalKind::ExactMatch => exact_match(query, &candidate.full_text()),
        SignalKind::Popularity => {
            field().and_then(number).map_or(signal.default, |count| count.max(0.0).ln_1p() as f32)
        }
        SignalKind::Number => field().and_then(number).map_or(signal.default, |number| number as f32),
        SignalKind::Length => {
            let words = candidate.text.split_whitespace().count() as f32;
            let ideal = signal.ideal.unwrap_or(1.0);
            (words / ideal).min(ideal / words.max(1.0))
        }
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        _ => None,
    };
    // Differences of two must be numbers, too.
    number.filter(|number| number.is_finite()).map(|number| number.clamp(-1e30, 1e30))
}

/// A date or time, or seconds since 1970.
fn time_ns(value: &Value) -> Option<f64> {
    if let Value::String(text) = value {
        let time = text.parse::<jiff::Timestamp>().ok();
        let day = || {
            let day = text.get(..10)?.parse::<jiff::civil::Date>().ok()?;
            jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
        };
        return time.or_else(day).map(|time| time.as_nanosecond() as f64);
    }
    number(value).map(|seconds| seconds * 1e9)
}

/// The share of the query's words that stand in `text`, whatever their case.
fn exact_match(query: &str, text: &str) -> f32 {
    let words = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() >= 3);
        words.map(str::to_lowercase).collect::<HashSet<_>>()
    };
    let (asked, found) = (words(query), words(text));
    asked.iter().filter(|word| found.contains(*word)).count() as f32 / asked.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Pipeline, StageKind};
    use serde_json::json;

    fn ranked(signals: &str, candidates: &mut [Candidate]) -> Vec<f32> {
        let text =
            format!("[[stages]]\ntype = \"metadata\"\nweight = 0.0\nnormalise = \"none\"\nsignals = [{signals}]");
        let pipeline = Pipeline::parse_toml(&text).unwrap();
        let StageKind::Metadata(stage) = &pipeline.stages[0].kind else { panic!("metadata") };
        score_at(stage, "how hot is a KILN?", candidates, 100.0 * DAY_NS)
    }

    fn of(metadata: &Value) -> Candidate {
        Candidate { metadata: metadata.as_object().unwrap().clone(), ..Candidate::new("x", "The kiln is hot.", 0.5) }
    }

    #[test]
    fn signals_by_hand() {
        let near = |signals: &str, metadata: Value, expected: f32| {
            let found = ranked(signals, &mut [of(&metadata), of(&json!({ "n": 0 }))])[0];
            assert!((found - expected).abs() < 1e-4, "{signals} {metadata}: {found} and {expected}");
        };
        let recency = r#"{type = "recency", field = "day", half_life_days = 10.0, weight = 1.0, default = 0.25}"#;
        // Day 0 is 1970-01-01, and today is day 100.
        near(recency, json!({ "day": "1970-04-01" }), 0.5);
        near(recency, json!({ "day": "1970-04-01T00:00:00Z" }), 0.5);
        near(recency, json!({ "day": 86_400 * 90 }), 0.5);
        near(recency, json!({ "day": "2999-01-01" }), 1.0);
        near(recency, json!({ "day": "yesterday" }), 0.25);
        let trust = r#"{type = "trust", field = "from", values = {wiki = 0.5, official = 1.0}, weight = 2.0}"#;
        near(trust, json!({ "from": "wiki" }), 1.0);
        near(trust, json!({ "from": ["wiki", "official"] }), 2.0);
        near(trust, json!({ "from": "x" }), 0.0);
        near(r#"{type = "exact-match", weight = 1.0}"#, json!({}), 2.0 / 3.0);
        near(r#"{type = "length", ideal = 8.0, weight = 1.0}"#, json!({}), 0.5);
        near(r#"{type = "number", field = "n", weight = -1.0}"#, json!({ "n": "17" }), -1.0);
        near(r#"{type = "number", field = "n", weight = 1.0}"#, json!({ "n": 1e300 }), 1.0);
        near(r#"{type = "popularity", field = "n", weight = 1.0}"#, json!({ "n": 17 }), 1.0);
    }

    #[test]
    fn contributions_add_up_to_the_score() {
        let signals =
            r#"{type = "exact-match", weight = 0.3}, {name = "fame", type = "popularity", field = "n", weight = 0.2}"#;
        let mut candidates = [of(&json!({ "n": 3 })), of(&json!({ "n": 90 })), of(&json!({}))];
        let scores = ranked(signals, &mut candidates);
        for (candidate, score) in candidates.iter().zip(scores) {
            let parts: Vec<&str> = candidate.signals.keys().map(String::as_str).collect();
            assert_eq!(parts, ["exact-match", "fame", "score"]);
            assert!((candidate.signals.values().sum::<f32>() - score).abs() < 1e-6);
        }
    }
}
