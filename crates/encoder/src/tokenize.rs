//! From text to token ids: the `tokenizers` crate, with truncation that keeps the closing token.
//!
//! WordPiece, byte-level BPE and Unigram are all read from `tokenizer.json`. A text becomes `opening pieces closing`, for
//! BERT `[CLS] pieces [SEP]`. What opens and closes is read once from the tokenizer's own template, so that cutting a
//! text to a limit is cutting its pieces.

use std::ops::Range;

use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};

/// A set of token ids, one bit each.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenSet(Vec<u64>);

impl TokenSet {
    /// Adds `id`.
    fn insert(&mut self, id: u32) {
        let word = id as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % 64);
    }

    /// Whether `id` is in the set.
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

/// The ids of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What the network sees: special tokens included, at most the limit.
    pub ids: Vec<u32>,
    /// How many there were before the text was cut.
    pub total: usize,
}

impl Tokens {
    /// Whether the text was cut.
    pub fn truncated(&self) -> bool {
        self.total > self.ids.len()
    }
}

/// What stands around two texts.
pub(crate) struct Pair {
    /// Before the first, between them, behind the second.
    pub(crate) special: [Vec<u32>; 3],
    /// Whether the second, and what is behind it, is of another type than the first.
    pub(crate) types: bool,
}

/// What a checkpoint says of its tokenizer outside `tokenizer.json`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Additions {
    /// Lowercases a text after special tokens are found in it, before anything else is done to it.
    pub(crate) lowercase: bool,
    /// Words of the vocabulary to be found whole in a text.
    pub(crate) markers: Vec<Marker>,
}

/// A word to be found whole in a text.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    pub(crate) word: String,
    /// Whether it is looked for in the text as given, not in what the normaliser makes of it.
    pub(crate) exact: bool,
}

impl Additions {
    fn apply(&self, inner: &mut Tokenizer) -> Result<()> {
        if self.lowercase {
            let mut steps = vec![NormalizerWrapper::Lowercase(Lowercase)];
            steps.extend(inner.get_normalizer().cloned());
            inner.with_normalizer(Some(Sequence::new(steps))).map_err(cause)?;
        }
        for Marker { word, exact } in &self.markers {
            // A word that the vocabulary lacks would get a new id, for which the network has no row.
            if inner.token_to_id(word).is_some() {
                inner.add_tokens([AddedToken::from(word.as_str(), *exact).normalized(!*exact)]).map_err(cause)?;
            }
        }
        Ok(())
    }
}

/// A tokenizer that cuts to a limit given with each call.
pub struct TextTokenizer {
    inner: Tokenizer,
    opening: Vec<u32>,
    closing: Vec<u32>,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`; the truncation and padding that it may ask for are ignored.
    ///
    /// # Errors
    /// When the file is damaged, has no token for what it does not know, or puts special tokens inside a text.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Self::parse_with(json, &Additions::default())
    }

    /// [`Self::parse`], with what a checkpoint adds to its tokenizer.
    pub(crate) fn parse_with(json: &[u8], additions: &Additions) -> Result<Self> {
        let (inner, probe) = caught(|| {
            let mut inner = Tokenizer::from_bytes(json).map_err(cause)?;
            additions.apply(&mut inner)?;
            inner.with_truncation(None).map_err(cause)?;
            inner.with_padding(None);
            // No vocabulary has this word: one without an unknown token fails here, not later.
            inner.encode_fast("x".repeat(1000), true).map_err(cause)?;
            let probe = inner.encode_fast("a", true).map_err(cause)?;
            Ok((inner, probe))
        })?;
        let special = probe.get_special_tokens_mask();
        let first = special.iter().position(|m| *m == 0);
        let last = special.iter().rposition(|m| *m == 0);
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Error::Tokenizer { detail: "the text \"a\" has no tokens".into() });
        };
        if special[first..=last].contains(&1) {
            return Err(Error::Tokenizer { detail: "special tokens stand inside the text \"a\"".into() });
        }
        let (opening, closing) = (probe.get_ids()[..first].to_vec(), probe.get_ids()[last + 1..].to_vec());
        Ok(Self { inner, opening, closing })
    }

    /// Tokens that every text gets.
    pub fn special_tokens(&self) -> usize {
        self.opening.len() + self.closing.len()
    }

    /// The largest id that the tokenizer can give.
    pub(crate) fn largest_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// The id of `token`, if the vocabulary has it.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of the token `id`, `##` before a piece that continues a word.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of word pieces of `text`.
    pub fn count(&self, text: &str) -> usize {
        // What can fail was tried on loading; a text has no more pieces than bytes.
        self.inner.encode_fast(text, false).map_or(text.len(), |pieces| pieces.len())
    }

    /// The ids of `text`, at most `max` of them, but all special ones.
    ///
    /// # Errors
    /// None that a tokenizer which [parsed](Self::parse) is known to give.
    pub fn encode(&self, text: &str, max: usize) -> Result<Tokens> {
        let pieces = self.inner.encode_fast(text, false).map_err(cause)?;
        let pieces = pieces.get_ids();
        let kept = &pieces[..pieces.len().min(max.saturating_sub(self.special_tokens()))];
        let ids = [&self.opening, kept, &self.closing].concat();
        Ok(Tokens { ids, total: pieces.len() + self.special_tokens() })
    }

    /// The ids of the pieces of `text`, all of them, without special tokens.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(crate) fn encode_bare(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(cause)?.get_ids().to_vec())
    }

    /// What stands around and between two texts, which the template for pairs says; both must have pieces.
    ///
    /// # Errors
    /// When the template is none of a pair in order.
    pub(crate) fn pair(&self, first: &str, second: &str) -> Result<Pair> {
        let wrong = |detail: &str| Error::Tokenizer { detail: format!("pairs of texts: {detail}") };
        let pair = caught(|| self.inner.encode_fast((first, second), true).map_err(cause))?;
        let (ids, types) = (pair.get_ids(), pair.get_type_ids());
        let special = pair.get_special_tokens_mask();
        let pieces: Vec<usize> = (0..ids.len()).filter(|&at| special[at] == 0).collect();
        let count = self.encode_bare(first)?.len();
        if count == 0 || pieces.len() <= count {
            return Err(wrong("one of the two has no tokens"));
        }
        let (start, end) = (pieces[0], pieces[count - 1] + 1);
        let (next, last) = (pieces[count], pieces[pieces.len() - 1] + 1);
        if end - start != count || last - next != pieces.len() - count {
            return Err(wrong("special tokens stand inside of a text"));
        }
        let of_second = |at: usize| types[at] == 1;
        let told = of_second(next);
        if (0..ids.len()).any(|at| types[at] > 1 || of_second(at) != (told && at >= next)) {
            return Err(wrong("the second text's type does not begin where the text does"));
        }
        Ok(Pair { special: [ids[..start].to_vec(), ids[end..next].to_vec(), ids[last..].to_vec()], types: told })
    }

    /// The pieces of `text`, special tokens not included, each with its place: bytes of `text`, on character boundaries.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn pieces(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let pieces = self.inner.encode(text, false).map_err(cause)?;
        let places = pieces.get_offsets().iter().map(|&(start, end)| {
            let end = text.ceil_char_boundary(end.min(text.len()));
            text.floor_char_boundary(start.min(end))..end
        });
        Ok(pieces.get_ids().iter().copied().zip(places).collect())
    }

    /// The ids that stand before and after the pieces of every text.
    pub fn special_ids(&self) -> (&[u32], &[u32]) {
        (&self.opening, &self.closing)
    }

    /// The places of the tokens that [`Self::encode_marked`] gives; `None` for special ones.
    pub(crate) fn places(&self, text: &str, max: usize, marker: Option<u32>) -> Result<Vec<Option<Range<usize>>>> {
        let room = max.saturating_sub(self.special_tokens() + usize::from(marker.is_some()));
        let pieces = self.pieces(text)?.into_iter().take(room).map(|(_, place)| Some(place));
        let mut places = vec![None; self.opening.len()];
        places.extend(pieces);
        places.resize(places.len() + self.closing.len(), None);
        if marker.is_some() {
            places.insert(places.len().min(1), None);
        }
        Ok(places)
    }

    /// [`Self::encode`], with `marker` in place 1, where it costs one token of `max`.
    pub(crate) fn encode_marked(&self, text: &str, max: usize, marker: Option<u32>) -> Result<Tokens> {
        let mut tokens = self.encode(text, max - usize::from(marker.is_some()))?;
        if let Some(marker) = marker {
            tokens.ids.insert(tokens.ids.len().min(1), marker);
            tokens.total += 1;
        }
        Ok(tokens)
    }
}

/// What `load` gives: the library behind it panics on some damaged files (a decoder that does not parse, a template with
/// a token that nothing describes), which is their error and not the program's.
fn caught<T>(load: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Error::Tokenizer { detail: format!("damaged: {}", text.unwrap_or("its reader panicked")) })
    })
}

#[expect(clippy::needless_pass_by_value, reason = "what the tokenizer's errors are, for map_err")]
fn cause(e: tokenizers::Error) -> Error {
    Error::Tokenizer { detail: e.to_string() }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").finish_non_exhaustive()
    }
}
