//! Queries that were encoded before: of those that people ask a search engine, many are asked again.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::error::Result;
use crate::{EncodedDocument, EncodedQuery, Encoder, ModelId, Side, TextTokenizer};

/// An encoder that remembers queries, the last ones asked, within a budget of bytes.
pub struct CachedQueries {
    encoder: Arc<dyn Encoder>,
    budget: usize,
    known: Mutex<Known>,
}

struct Known {
    queries: LruCache<Box<str>, EncodedQuery>,
    /// Of all of them.
    bytes: usize,
}

/// What a query takes in memory, about.
fn size(text: &str, query: &EncodedQuery) -> usize {
    /// Allocations, links and the table's own.
    const OVERHEAD: usize = 256;
    text.len() + size_of_val(query.embeddings.values()) + size_of_val(&query.token_ids[..]) + OVERHEAD
}

impl CachedQueries {
    /// Remembers queries of `encoder` in at most about `budget` bytes; a query of ten words takes some 10 kB.
    pub fn new(encoder: Arc<dyn Encoder>, budget: usize) -> Self {
        Self { encoder, budget, known: Mutex::new(Known { queries: LruCache::unbounded(), bytes: 0 }) }
    }

    /// How many queries it remembers now.
    pub fn len(&self) -> usize {
        self.with(|known| known.queries.len())
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.with(|known| known.bytes)
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, body: impl FnOnce(&mut Known) -> T) -> T {
        // A panic elsewhere leaves at worst a sum that is off by one query.
        body(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, text: &str, query: &EncodedQuery) {
        if size(text, query) > self.budget {
            return;
        }
        self.with(|known| {
            known.bytes += size(text, query);
            if let Some((text, gone)) = known.queries.push(text.into(), query.clone()) {
                known.bytes -= size(&text, &gone);
            }
            while known.bytes > self.budget
                && let Some((text, gone)) = known.queries.pop_lru()
            {
                known.bytes -= size(&text, &gone);
            }
        });
    }
}

impl Encoder for CachedQueries {
    fn dim(&self) -> usize {
        self.encoder.dim()
    }

    fn model_id(&self) -> &ModelId {
        self.encoder.model_id()
    }

    fn max_query_tokens(&self) -> usize {
        self.encoder.max_query_tokens()
    }

    fn max_document_tokens(&self) -> usize {
        self.encoder.max_document_tokens()
    }

    fn documents_at_once(&self) -> usize {
        self.encoder.documents_at_once()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.encoder.count_tokens(text)
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        self.encoder.tokenizer()
    }

    fn places(&self, side: Side, text: &str) -> Result<Vec<Option<Range<usize>>>> {
        self.encoder.places(side, text)
    }

    fn encode_queries(&self, texts: &[&str]) -> Result<Vec<EncodedQuery>> {
        let mut found: Vec<Option<EncodedQuery>> =
            self.with(|known| texts.iter().map(|text| known.queries.get(*text).cloned()).collect());
        let new: Vec<&str> =
            texts.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(text, _)| *text).collect();
        let encoded = if new.is_empty() { Vec::new() } else { self.encoder.encode_queries(&new)? };
        assert_eq!(encoded.len(), new.len(), "an encoder gives as many queries as it was given");
        new.iter().zip(&encoded).for_each(|(text, query)| self.remember(text, query));
        let mut encoded = encoded.into_iter();
        found.iter_mut().filter(|query| query.is_none()).for_each(|query| *query = encoded.next());
        Ok(found.into_iter().flatten().collect())
    }

    fn encode_documents(&self, texts: &[&str]) -> Result<Vec<EncodedDocument>> {
        self.encoder.encode_documents(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColbertEncoder;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts the queries that get as far as the model.
    struct Counting(ColbertEncoder, AtomicUsize);

    impl Encoder for Counting {
        fn dim(&self) -> usize {
            self.0.dim()
        }
        fn model_id(&self) -> &ModelId {
            self.0.model_id()
        }
        fn max_query_tokens(&self) -> usize {
            self.0.max_query_tokens()
        }
        fn max_document_tokens(&self) -> usize {
            self.0.max_document_tokens()
        }
        fn count_tokens(&self, text: &str) -> usize {
            self.0.count_tokens(text)
        }
        fn encode_queries(&self, texts: &[&str]) -> Result<Vec<EncodedQuery>> {
            self.1.fetch_add(texts.len(), Ordering::Relaxed);
            self.0.encode_queries(texts)
        }
        fn encode_documents(&self, texts: &[&str]) -> Result<Vec<EncodedDocument>> {
            self.0.encode_documents(texts)
        }
    }

    fn cached(budget: usize) -> (Arc<Counting>, CachedQueries) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
        let encoder = Arc::new(Counting(ColbertEncoder::from_dir(&dir).unwrap(), AtomicUsize::new(0)));
        (encoder.clone(), CachedQueries::new(encoder, budget))
    }

    #[test]
    fn a_query_is_encoded_once_and_the_answer_is_the_same() {
        let (model, cached) = cached(1 << 20);
        let asked = ["growth rings", "oak", "growth rings", "what is latewood"];
        let expected = model.0.encode_queries(&asked).unwrap();
        assert_eq!(cached.encode_queries(&asked[..2]).unwrap(), expected[..2]);
        assert_eq!(cached.encode_queries(&asked).unwrap(), expected);
        assert_eq!(cached.encode_queries(&asked[2..]).unwrap(), expected[2..]);
        assert_eq!((model.1.load(Ordering::Relaxed), cached.len()), (3, 3));
        assert!(cached.encode_queries(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_was_not_asked_for_longest_is_forgotten() {
        let (model, cached) = cached(64 << 10);
        let texts: Vec<String> = (0..40).map(|i| format!("ring number {i} of a tree")).collect();
        for text in &texts {
            cached.encode_queries(&[text, &texts[0]]).unwrap();
        }
        let kept = cached.len();
        assert!((2..40).contains(&kept), "{kept}");
        assert!(cached.with(|known| known.bytes) <= 64 << 10);
        let before = model.1.load(Ordering::Relaxed);
        cached.encode_queries(&[&texts[0], &texts[39]]).unwrap();
        assert_eq!(model.1.load(Ordering::Relaxed), before, "the first was asked for again and again");
        cached.encode_queries(&[&texts[1]]).unwrap();
        assert_eq!(model.1.load(Ordering::Relaxed), before + 1);
        // Larger than all of the budget.
        cached.encode_queries(&[&"ring ".repeat(400)]).unwrap();
        assert_eq!(cached.len(), kept);
        while cached
            .with(|known| known.queries.pop_lru().map(|(text, query)| known.bytes -= size(&text, &query)).is_some())
        {
        }
        assert_eq!(cached.with(|known| known.bytes), 0, "what is gone is not counted");
    }
}
