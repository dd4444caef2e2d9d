//! `latewood.json`: how hidden states become embeddings, as data.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::DESCRIPTION;

/// The rules of a model: which tokens of a text become rows, and how.
///
/// A row is `projection * hidden state`, scaled to unit norm. The rows of a text stand in the order of its
/// tokens; tokens of the role's `drop_tokens` have none, unless all tokens of the text are such: then each
/// has its row. The pooled rows, if the model has any, stand last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The version of this format: [`Description::FORMAT`].
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// The model it was made from; for readers.
    #[serde(default)]
    pub base: Option<String>,
    /// Values of an embedding.
    pub dim: usize,
    /// Whether rows are scaled to unit norm. They must be: documents are unit rows.
    pub normalize: bool,
    /// The tensor `[dim, hidden]` that makes rows of hidden states.
    pub projection: String,
    /// The rows for the text as a whole.
    #[serde(default)]
    pub pooled_rows: Option<PooledRows>,
    /// The rules for queries.
    pub query: Role,
    /// The rules for documents.
    pub document: Role,
    /// What the model was made from, in detail; for readers.
    #[serde(default)]
    pub made_from: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The rules for queries, or for documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Tokens that a text may have, special ones included; word pieces over it are cut off.
    pub max_tokens: usize,
    /// Tokens that have no row.
    pub drop_tokens: Vec<String>,
}

/// Rows for the text as a whole: its pooled hidden state, scaled to unit norm, times the projection, cut
/// into `rows` pieces, each scaled to unit norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PooledRows {
    /// How many.
    pub rows: usize,
    /// How the hidden states of a text become one.
    pub pooling: Pooling,
    /// The tensor `[rows * dim, hidden]`.
    pub projection: String,
    /// In a query, the pooled rows together weigh this much of its token rows together: each has the norm
    /// `query_weight * token rows / rows`.
    pub query_weight: f32,
}

/// How the hidden states of a text become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over all tokens, special and dropped ones included.
    Mean,
}

impl Description {
    /// The version of the format that this crate reads.
    pub const FORMAT: u32 = 1;

    /// Reads and checks a `latewood.json`.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        /// The version alone, read first: another one may have other keys.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let cause = |source| Error::Json { file: DESCRIPTION.into(), source };
        let Version { format } = serde_json::from_slice(json).map_err(cause)?;
        if format != Self::FORMAT {
            let found = format.to_string();
            return Err(Error::Unsupported {
                file: DESCRIPTION.into(),
                what: "format".into(),
                found,
                supported: "format 1",
            });
        }
        let description: Self = serde_json::from_slice(json).map_err(cause)?;
        description.check_values()?;
        Ok(description)
    }

    fn check_values(&self) -> Result<()> {
        let max = latewood_engine::MAX_DIM;
        if self.dim == 0 || self.dim > max || !self.dim.is_multiple_of(8) {
            return Err(disagrees("dim", self.dim, format!("a multiple of 8, up to {max}")));
        }
        if !self.normalize {
            return Err(disagrees("normalize", false, "true: documents are unit rows".into()));
        }
        if self.name.is_empty() || self.name.contains(char::is_whitespace) {
            return Err(disagrees("name", format!("{:?}", self.name), "one word".into()));
        }
        if let Some(pooled) = &self.pooled_rows {
            if pooled.rows == 0 || pooled.rows > 64 {
                return Err(disagrees("pooled_rows.rows", pooled.rows, "1 to 64".into()));
            }
            if !(pooled.query_weight > 0.0 && pooled.query_weight <= 1e3) {
                let expected = "more than 0, up to 1000".into();
                return Err(disagrees("pooled_rows.query_weight", pooled.query_weight, expected));
            }
        }
        Ok(())
    }
}

fn disagrees(what: &str, found: impl ToString, expected: String) -> Error {
    Error::Disagrees { file: DESCRIPTION.into(), what: what.into(), found: found.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(change: impl Fn(&mut Value)) -> Result<Description> {
        let role = json!({"max_tokens": 32, "drop_tokens": ["[CLS]", "."]});
        let mut value = json!({
            "format": 1, "name": "small", "dim": 16, "normalize": true, "projection": "p", "query": role, "document": role,
            "pooled_rows": {"rows": 2, "pooling": "mean", "projection": "q", "query_weight": 0.5},
        });
        change(&mut value);
        Description::parse(value.to_string().as_bytes())
    }

    #[test]
    fn rules_that_are_not_known_are_refused() {
        assert!(parse(|_| ()).unwrap().pooled_rows.is_some());
        assert!(parse(|v| v["pooled_rows"] = Value::Null).unwrap().pooled_rows.is_none());
        for (key, value, expected) in [
            ("format", json!(2), "format 2 is not supported: format 1"),
            ("prefix", json!("[Q]"), "unknown field `prefix`"),
            ("dim", json!(12), "dim is 12, expected a multiple of 8, up to 1024"),
            ("normalize", json!(false), "normalize is false"),
            ("name", json!("a b"), "name is \"a b\", expected one word"),
        ] {
            let text = parse(|v| v[key] = value.clone()).unwrap_err().to_string();
            assert!(text.starts_with("latewood.json: ") && text.contains(expected), "{text}");
        }
        for (key, value) in [("rows", json!(0)), ("pooling", json!("max")), ("query_weight", json!(-1.0))] {
            let text = parse(|v| v["pooled_rows"][key] = value.clone()).unwrap_err().to_string();
            assert!(text.contains(key) || text.contains("unknown variant `max`"), "{text}");
        }
    }
}
