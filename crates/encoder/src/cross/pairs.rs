//! From a query and documents to pairs of token ids: for BERT `[CLS] query [SEP] document [SEP]`, the document being of the
//! second type.

use rayon::prelude::*;

use crate::batch::Input;
use crate::error::{Error, Result};
use crate::tokenize::TextTokenizer;

/// A tokenizer, and what it puts around a pair.
pub(super) struct PairTokenizer {
    tokenizer: TextTokenizer,
    opening: Vec<u32>,
    middle: Vec<u32>,
    closing: Vec<u32>,
    /// Whether the network is told which text is which.
    types: bool,
}

impl PairTokenizer {
    /// Reads the tokenizer's template for pairs. `types`: whether the network is told which text is which, if the template does.
    pub(super) fn new(tokenizer: TextTokenizer, types: bool) -> Result<Self> {
        let pair = tokenizer.pair("a", "a")?;
        let [opening, middle, closing] = pair.special;
        Ok(Self { tokenizer, opening, middle, closing, types: types && pair.types })
    }

    pub(super) fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Tokens that every pair gets.
    pub(super) fn special_tokens(&self) -> usize {
        self.opening.len() + self.middle.len() + self.closing.len()
    }

    /// The network's input for `query` and each of `documents`, of at most `max` tokens; what is too much is cut from the
    /// document's end.
    pub(super) fn pairs(&self, query: &str, documents: &[&str], max: usize) -> Result<Vec<Input>> {
        let asked = self.tokenizer.encode_bare(query)?;
        let room = max.saturating_sub(self.special_tokens() + asked.len());
        if room == 0 {
            let tokens = asked.len() + self.special_tokens();
            return Err(Error::NoRoomForDocument { tokens, max });
        }
        let head = [&self.opening[..], &asked, &self.middle].concat();
        let pair = |document: &&str| {
            let pieces = self.tokenizer.encode_bare(document)?;
            let ids = [&head, &pieces[..pieces.len().min(room)], &self.closing].concat();
            let second = if self.types { head.len() } else { ids.len() };
            Ok(Input { attended: ids.len(), second, ids })
        };
        documents.par_iter().map(pair).collect()
    }
}
