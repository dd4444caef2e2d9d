//! What is put in order.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// A passage or document among others.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// What the caller knows it by.
    pub id: String,
    /// What stages read.
    pub text: String,
    /// What stands above the text, as far as the text does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What else is known of it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// When it was modified, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_ns: Option<i64>,
    /// What it is ranked by now.
    pub score: f32,
    /// What each stage gave it, by the stage's name; `retrieve` is what it came with.
    pub scores: BTreeMap<String, f32>,
    /// What each signal of a metadata stage added to its score there, by the signal's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, f32>,
    /// Its place before any stage, from 0.
    pub came_as: usize,
}

impl Candidate {
    /// The text of `id`, which came with `score`.
    pub fn new(id: impl Into<String>, text: impl Into<String>, score: f32) -> Self {
        Self { id: id.into(), text: text.into(), score, ..Self::default() }
    }

    /// What models read: title and text.
    pub(crate) fn full_text(&self) -> String {
        match &self.title {
            Some(title) => format!("{title}\n{}", self.text),
            None => self.text.clone(),
        }
    }
}
