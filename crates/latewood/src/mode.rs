//! The ways of a search: by meaning, by keywords, by both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a search finds passages and puts them in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// The first passages by meaning and by keywords, by a weighted sum of both scores. Measured better than meaning alone on
    /// texts and nearly as good on code (BENCHMARKS.md). A query without a text is ranked by meaning alone.
    #[default]
    Hybrid,
    /// Late interaction alone.
    Semantic,
    /// BM25 alone: the model is not asked.
    Keyword,
    /// The first passages by BM25, put in order by late interaction: what holds none of the query's words is not found.
    Rerank,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hybrid, Self::Semantic, Self::Keyword, Self::Rerank];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Semantic => "semantic",
            Self::Hybrid => "hybrid",
            Self::Keyword => "keyword",
            Self::Rerank => "rerank",
        }
    }

    /// Whether it looks for the query's words.
    pub fn uses_keywords(self) -> bool {
        self != Self::Semantic
    }

    /// Whether it needs the query encoded.
    pub fn uses_embeddings(self) -> bool {
        self != Self::Keyword
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| format!("{name:?} is no mode; there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
