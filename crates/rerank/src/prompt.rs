//! Passages as the context of a prompt: cited by number, within a budget of tokens.

use std::collections::HashSet;

/// Words of a run that tells texts apart.
const RUN: usize = 5;
/// Of two texts that share so many of their runs of words, one is enough.
const SAME: f32 = 0.8;

/// A passage for the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Where it is from, as readers know it: `guide/kiln.md:3-9`.
    pub place: String,
    /// Its document, and its bytes in it, where these are known: neighbours become one.
    pub span: Option<(String, std::ops::Range<usize>)>,
    /// Its text.
    pub text: String,
}

/// In which order passages stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// As they were ranked.
    #[default]
    BestFirst,
    /// The best at the beginning and at the end, where models read best (Liu et al. 2023, "Lost in the Middle",
    /// arXiv:2307.03172).
    BestAtBothEnds,
}

/// How a context is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Tokens of all of it.
    pub tokens: usize,
    /// In which order.
    pub order: Order,
}

impl Options {
    /// Within `tokens`, the best first.
    pub fn new(tokens: usize) -> Self {
        Self { tokens, order: Order::default() }
    }
}

/// A context.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The passages, each under `[number] place`.
    pub text: String,
    /// The place of each number, from 1.
    pub places: Vec<String>,
    /// Its tokens, as they were counted.
    pub tokens: usize,
    /// Passages left out because another says the same.
    pub repeated: usize,
    /// Passages left out for want of room.
    pub left_out: usize,
}

/// Makes the context of `sources`, the best first. `count` counts the tokens of a text.
pub fn context(sources: &[Source], options: &Options, count: &dyn Fn(&str) -> usize) -> Context {
    let (merged, repeated) = merged(sources);
    let (mut chosen, mut tokens, mut left_out) = (Vec::new(), 0, 0);
    for source in &merged {
        let needs = count(&block(chosen.len() + 1, source));
        // A shorter one further down may still fit.
        if tokens + needs > options.tokens {
            left_out += 1;
            continue;
        }
        tokens += needs;
        chosen.push(source);
    }
    if options.order == Order::BestAtBothEnds {
        let (first, mut last): (Vec<_>, Vec<_>) = chosen.iter().copied().enumerate().partition(|(at, _)| at % 2 == 0);
        last.reverse();
        chosen = first.into_iter().chain(last).map(|(_, source)| source).collect();
    }
    let blocks: Vec<String> = chosen.iter().zip(1..).map(|(source, number)| block(number, source)).collect();
    let places = chosen.iter().map(|source| source.place.clone()).collect();
    Context { text: blocks.join("\n"), places, tokens, repeated, left_out }
}

fn block(number: usize, source: &Source) -> String {
    format!("[{number}] {}\n{}\n", source.place, source.text.trim())
}

/// Without those that say what a better one says, and how many they were; what overlaps in a document is one.
fn merged(sources: &[Source]) -> (Vec<Source>, usize) {
    let mut kept: Vec<(Source, HashSet<Vec<String>>)> = Vec::new();
    let mut repeated = 0;
    for source in sources {
        let runs = runs(&source.text);
        if let Some((better, known)) = kept.iter_mut().find(|(better, known)| alike(better, known, source, &runs)) {
            repeated += 1;
            join(better, source);
            // What was not taken over must not keep others out.
            known.extend(self::runs(&better.text));
        } else {
            kept.push((source.clone(), runs));
        }
    }
    (kept.into_iter().map(|(source, _)| source).collect(), repeated)
}

fn alike(a: &Source, known: &HashSet<Vec<String>>, b: &Source, runs: &HashSet<Vec<String>>) -> bool {
    if let (Some((document, ours)), Some((other, theirs))) = (&a.span, &b.span)
        && document == other
        && ours.start < theirs.end
        && theirs.start < ours.end
    {
        return true;
    }
    // A long text that says what a short one says, and more, is not the same.
    let shared = known.intersection(runs).count() as f32;
    shared >= SAME * runs.len().max(1) as f32
}

/// Adds to `better` what `other`, which overlaps it, has before or behind.
fn join(better: &mut Source, other: &Source) {
    let before = better.text.len();
    join_texts(better, other);
    // What is cited has to hold all that stands there.
    if better.text.len() != before && better.place != other.place {
        better.place = format!("{}; {}", better.place, other.place);
    }
}

fn join_texts(better: &mut Source, other: &Source) {
    let (Some((document, ours)), Some((of, theirs))) = (&mut better.span, &other.span) else { return };
    if document != of {
        return;
    }
    // Where texts are not the bytes of their spans, nothing can be said of how they join.
    let exact = ours.len() == better.text.len() && theirs.len() == other.text.len();
    if !exact || theirs.start >= ours.end || ours.start >= theirs.end {
        return;
    }
    if let Some(before) = ours.start.checked_sub(theirs.start).and_then(|len| other.text.get(..len)) {
        better.text.insert_str(0, before);
        ours.start = theirs.start;
    }
    if let Some(behind) = theirs.end.checked_sub(ours.end).and_then(|len| other.text.get(other.text.len() - len..)) {
        better.text.push_str(behind);
        ours.end = theirs.end;
    }
}

/// All runs of words of a text; of a short one, the whole.
fn runs(text: &str) -> HashSet<Vec<String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    match words.len() {
        0..RUN => HashSet::from([words]),
        _ => words.windows(RUN).map(<[String]>::to_vec).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "The kiln fires at 1280 degrees. Then it cools for a day. Nobody opens it before the third day has come.";

    fn source(place: &str, text: &str, span: Option<std::ops::Range<usize>>) -> Source {
        Source { place: place.into(), text: text.into(), span: span.map(|span| ("kiln.md".into(), span)) }
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn passages_are_cited_within_the_budget() {
        let sources = [
            source("a:1", "one two three", None),
            source("b:2", &"long ".repeat(50), None),
            source("c:3", "four five", None),
        ];
        let context = context(&sources, &Options::new(12), &words);
        assert_eq!(context.text, "[1] a:1\none two three\n\n[2] c:3\nfour five\n");
        assert_eq!((context.places, context.tokens, context.left_out), (vec!["a:1".to_owned(), "c:3".into()], 9, 1));
    }

    #[test]
    fn what_says_the_same_stands_once() {
        let sources = [
            source("kiln.md:1", &TEXT[..57], Some(0..57)),
            source("other.md:9", "THE kiln fires at 1280 degrees. Then it cools for a day.", None),
            source("kiln.md:1-2", &TEXT[32..], Some(32..TEXT.len())),
            source("fog.md:1", "Fog lies over the river in the morning hours.", None),
        ];
        let context = context(&sources, &Options::new(1000), &words);
        assert_eq!((context.places.len(), context.repeated), (2, 2));
        assert!(context.text.contains(TEXT), "neighbours are joined: {}", context.text);
        assert_eq!(context.places[0], "kiln.md:1; kiln.md:1-2");
    }

    #[test]
    fn nothing_is_lost_to_a_short_text_or_joined_to_another_documents() {
        let (short, long) = ("The kiln fires at 1280 degrees.", TEXT);
        let other = Source { span: Some(("other.md".into(), 20..51)), ..source("other.md:1", short, None) };
        let sources = [source("a.md:1", short, Some(0..31)), other, source("b.md:1", long, None)];
        let context = context(&sources, &Options::new(1000), &words);
        assert_eq!((context.places, context.repeated), (vec!["a.md:1".to_owned(), "b.md:1".into()], 1));
        assert_eq!(context.text, format!("[1] a.md:1\n{short}\n\n[2] b.md:1\n{long}\n"));
    }

    #[test]
    fn the_best_may_stand_at_both_ends() {
        let sources: Vec<Source> = (1..=5).map(|at| source(&format!("p{at}"), &format!("text {at}"), None)).collect();
        let options = Options { order: Order::BestAtBothEnds, ..Options::new(1000) };
        assert_eq!(context(&sources, &options, &words).places, ["p1", "p3", "p5", "p4", "p2"]);
    }
}
