//! BM25 among texts that are in no index: how rare a word is, these texts alone say.

use std::collections::HashMap;

use super::words;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// The score of each text, by the words of `query` (Robertson and Zaragoza 2009).
pub(crate) fn among(query: &str, texts: &[&str]) -> Vec<f32> {
    let counts: Vec<HashMap<String, f32>> = texts.iter().map(|text| count(text)).collect();
    let lens: Vec<f32> = counts.iter().map(|words| words.values().sum()).collect();
    let mean = (lens.iter().sum::<f32>() / lens.len().max(1) as f32).max(1.0);
    let rarity = |word: &String| {
        let with = counts.iter().filter(|words| words.contains_key(word)).count() as f32;
        (1.0 + (counts.len() as f32 - with + 0.5) / (with + 0.5)).ln()
    };
    let asked: Vec<(String, f32)> =
        count(query).into_keys().map(|word| (rarity(&word), word)).map(|(r, w)| (w, r)).collect();
    let one = |(words, len): (&HashMap<String, f32>, &f32)| {
        let part = |(word, rarity): &(String, f32)| {
            let often = words.get(word).copied().unwrap_or_default();
            rarity * often * (K1 + 1.0) / (often + K1 * (1.0 - B + B * len / mean))
        };
        asked.iter().map(part).sum()
    };
    counts.iter().zip(&lens).map(one).collect()
}

fn count(text: &str) -> HashMap<String, f32> {
    let mut words = HashMap::new();
    words::analyzer().token_stream(text).process(&mut |token| *words.entry(token.text.clone()).or_default() += 1.0);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_count_more() {
        let scores = among("the kilns", &["the dog", "the kiln is hot", "the cat"]);
        assert!(scores[1] > scores[0] && scores[0] > 0.0, "{scores:?}");
        assert_eq!(among("fog", &["a", "b"]), [0.0, 0.0]);
        assert!(among("fog", &[]).is_empty());
    }
}
