//! What a user wants otherwise than the model says: shorter or longer texts, shorter rows, fewer rows.

use std::fmt;

use crate::error::{Error, Result};
use crate::recipe::{Norm, Recipe, RoleRecipe, TokenPooling};

/// What a user wants otherwise than the model says; nothing is the model's own way.
///
/// All but the length of queries decides what the rows of a document are, and is part of the
/// [`ModelId`](crate::ModelId) that an index records.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct EncoderOptions {
    /// Tokens of a query, special ones included; queries that the model fills up are filled up to here.
    pub query_maxlen: Option<usize>,
    /// Tokens of a document, special ones included.
    pub doc_maxlen: Option<usize>,
    /// Values of a row: the first ones are kept, of models whose training says that they can stand alone
    /// ([`Recipe::matryoshka`]).
    pub dim: Option<usize>,
    /// How many rows of a document become one, on average: those most alike, by Ward's clustering
    /// ([`TokenPooling`]).
    pub pool_factor: Option<f64>,
}

impl EncoderOptions {
    /// What the model's id in an index says.
    pub fn recorded(id: &str) -> Self {
        let mut options = Self::default();
        let recorded =
            id.rsplit_once('@').and_then(|(_, rest)| rest.split_once('?')).map_or("", |(_, recorded)| recorded);
        for (name, value) in recorded.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "doc_maxlen" => options.doc_maxlen = value.parse().ok(),
                "dim" => options.dim = value.parse().ok(),
                "pool_factor" => options.pool_factor = value.parse().ok(),
                // Of a later version: the ids then differ, which is an error of its own.
                _ => {}
            }
        }
        options
    }

    /// These, and what they leave open as in `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            query_maxlen: self.query_maxlen.or(other.query_maxlen),
            doc_maxlen: self.doc_maxlen.or(other.doc_maxlen),
            dim: self.dim.or(other.dim),
            pool_factor: self.pool_factor.or(other.pool_factor),
        }
    }

    /// The recipe of a model as these want it, and what of them an index records; `special` tokens are in every text,
    /// and the network has so many `positions`.
    pub(crate) fn apply(&self, own: &Recipe, special: usize, positions: usize) -> Result<(Recipe, Self)> {
        let (mut recipe, mut recorded) = (own.clone(), Self::default());
        if let Some(n) = self.query_maxlen {
            set_maxlen(&mut recipe.query, "query_maxlen", n, special, positions.min(own.most_query_tokens()))?;
        }
        if let Some(n) = self.doc_maxlen.filter(|n| *n != own.document.max_tokens) {
            set_maxlen(&mut recipe.document, "doc_maxlen", n, special, positions)?;
            recorded.doc_maxlen = Some(n);
        }
        if let Some(dim) = self.dim.filter(|dim| *dim != own.dim) {
            if !own.matryoshka.contains(&dim) {
                return Err(refused("dim", dim, sizes(own)));
            }
            recipe.dim = dim;
            recorded.dim = Some(dim);
        }
        let pooled = own.document.pooling;
        if let Some(factor) = self.pool_factor.filter(|factor| *factor != pooled.map_or(1.0, |pooled| pooled.factor)) {
            recipe.document.pooling = Some(pooling(own, factor)?);
            recorded.pool_factor = Some(factor);
        }
        Ok((recipe, recorded))
    }
}

/// What of them an index records, as it stands in the model's id: `dim=64&doc_maxlen=300`.
impl fmt::Display for EncoderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [
            ("dim", self.dim.map(|n| n.to_string())),
            ("doc_maxlen", self.doc_maxlen.map(|n| n.to_string())),
            ("pool_factor", self.pool_factor.map(|factor| factor.to_string())),
        ];
        let set: Vec<_> = options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
        f.write_str(&set.join("&"))
    }
}

fn refused(option: &'static str, found: impl fmt::Display, limit: String) -> Error {
    Error::Option { option, found: found.to_string(), limit }
}

fn set_maxlen(role: &mut RoleRecipe, option: &'static str, n: usize, special: usize, most: usize) -> Result<()> {
    let special = special + usize::from(role.marker.is_some());
    if n > most || n <= special {
        let limit = format!("this model takes from {} to {most} tokens, {special} of them special", special + 1);
        return Err(refused(option, n, limit));
    }
    if let Some(expansion) = &mut role.expansion {
        // Filled up to the limit, or to less of it.
        expansion.length = if expansion.length == role.max_tokens { n } else { expansion.length.min(n) };
    }
    role.max_tokens = n;
    Ok(())
}

/// The sizes that a row may have, in words.
fn sizes(own: &Recipe) -> String {
    let smaller: Vec<String> = own.matryoshka.iter().filter(|dim| **dim < own.dim).map(ToString::to_string).collect();
    match smaller.as_slice() {
        [] => format!("the rows of this model have {} values, and it does not say that fewer would do", own.dim),
        smaller => format!("the rows of this model have {} values, or {}", own.dim, smaller.join(", ")),
    }
}

/// The model's own pooling by another factor, or that of the paper: one row protected, all of unit norm.
fn pooling(own: &Recipe, factor: f64) -> Result<TokenPooling> {
    if !factor.is_finite() || factor < 1.0 {
        return Err(refused("pool_factor", factor, "it is 1, for no pooling, or more".into()));
    }
    match (own.document.pooling, own.norm) {
        (Some(pooling), _) => Ok(TokenPooling { factor, ..pooling }),
        (None, Norm::Raw) => Err(refused("pool_factor", factor, "the rows of this model are not of unit norm".into())),
        (None, _) => Ok(TokenPooling { factor, protected: 1, normalize: true }),
    }
}
