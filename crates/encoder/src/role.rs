//! A [`RoleRecipe`] with its words looked up in the tokenizer: from a text to the network's input.

use std::borrow::Cow;
use std::ops::Range;

use crate::batch::Input;
use crate::error::{Error, Result};
use crate::recipe::RoleRecipe;
use crate::tokenize::{TextTokenizer, TokenSet};

/// What happens to the texts of one role, in ids.
pub(crate) struct Role {
    recipe: RoleRecipe,
    marker: Option<u32>,
    expansion: Option<u32>,
    skip: TokenSet,
    only: Option<TokenSet>,
}

/// A text, ready for the network.
pub(crate) struct Prepared {
    pub(crate) input: Input,
    /// Tokens of the text itself, expansion left out.
    real: usize,
    /// Tokens before it was cut.
    pub(crate) total: usize,
}

impl Prepared {
    /// Whether the text was cut.
    pub(crate) fn truncated(&self) -> bool {
        self.total > self.real
    }
}

impl Role {
    /// Looks the words of `recipe`, the rules for `name`, up in `tokenizer`.
    pub(crate) fn new(name: &str, recipe: &RoleRecipe, tokenizer: &TextTokenizer) -> Result<Self> {
        let find = |what: &str, token: &str| {
            let detail = || format!("the vocabulary has no {token:?}, the {what} of a {name}");
            tokenizer.id(token).ok_or_else(|| Error::Tokenizer { detail: detail() })
        };
        let unknown = recipe.rows.unknown.as_deref().and_then(|word| tokenizer.id(word));
        Ok(Self {
            marker: recipe.marker.as_deref().map(|token| find("marker", token)).transpose()?,
            expansion: recipe.expansion.as_ref().map(|e| find("expansion", &e.token)).transpose()?,
            skip: recipe.rows.skip.iter().filter_map(|word| tokenizer.id(word).or(unknown)).collect(),
            only: recipe.rows.only.as_ref().map(|ids| ids.iter().copied().collect()),
            recipe: recipe.clone(),
        })
    }

    /// The rules in words.
    pub(crate) fn recipe(&self) -> &RoleRecipe {
        &self.recipe
    }

    /// The input that `text` is.
    pub(crate) fn prepare(&self, tokenizer: &TextTokenizer, text: &str) -> Result<Prepared> {
        let recipe = &self.recipe;
        let (text, _) = self.adapted(text);
        let tokens = tokenizer.encode_marked(&text, recipe.max_tokens, self.marker)?;
        let (real, total, mut ids) = (tokens.ids.len(), tokens.total, tokens.ids);
        let mut attended = real;
        if let (Some(expansion), Some(token)) = (&recipe.expansion, self.expansion) {
            ids.resize(real.max(expansion.length), token);
            if expansion.attend {
                attended = ids.len();
            }
        }
        Ok(Prepared { input: Input::one(ids, attended), real, total })
    }

    /// `text` as the tokenizer gets it, and how many more bytes there are before a place in it than in `text`.
    fn adapted<'t>(&self, text: &'t str) -> (Cow<'t, str>, isize) {
        let recipe = &self.recipe;
        let mut before = recipe.prompt.len() as isize;
        let mut text = match &*recipe.prompt {
            "" => Cow::Borrowed(text),
            prompt => format!("{prompt}{text}").into(),
        };
        if recipe.strip {
            let stripped = text.trim_start_matches(is_blank);
            before -= (text.len() - stripped.len()) as isize;
            text = stripped.trim_end_matches(is_blank).to_owned().into();
        }
        if recipe.lowercase {
            text = text.to_lowercase().into();
        }
        (text, before)
    }

    /// For each row of `text`, pooled ones left out, the bytes of `text` that it comes from; `None` for special tokens.
    pub(crate) fn places(&self, tokenizer: &TextTokenizer, text: &str) -> Result<Vec<Option<Range<usize>>>> {
        let prepared = self.prepare(tokenizer, text)?;
        let (adapted, before) = self.adapted(text);
        let place = |place: Range<usize>| {
            let at = |byte: usize| usize::try_from(byte as isize - before).ok();
            let place = at(place.start)?..at(place.end)?;
            // Lower case may be longer than what it comes from: then a place is lost rather than wrong.
            text.get(place.clone()).map(|_| place)
        };
        let mut places = tokenizer.places(&adapted, self.recipe.max_tokens, self.marker)?;
        places.resize(prepared.input.ids.len(), None);
        let kept = places.into_iter().zip(self.kept(&prepared)).filter(|(_, kept)| *kept);
        Ok(kept.map(|(found, _)| found.and_then(place)).collect())
    }

    /// Which tokens of `text` have a row.
    pub(crate) fn kept(&self, text: &Prepared) -> Vec<bool> {
        let ids = &text.input.ids;
        let expanded = self.recipe.expansion.as_ref().is_some_and(|expansion| expansion.rows);
        let may = if expanded { ids.len() } else { text.real };
        let keep = |(at, id): (usize, &u32)| {
            at < may && !self.skip.contains(*id) && self.only.as_ref().is_none_or(|only| only.contains(*id))
        };
        let kept: Vec<bool> = ids.iter().enumerate().map(keep).collect();
        if self.recipe.rows.never_empty && !kept.contains(&true) { vec![true; ids.len()] } else { kept }
    }
}

/// What Python's `str.strip` cuts off: Unicode's White_Space, and the four separators of ASCII.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
