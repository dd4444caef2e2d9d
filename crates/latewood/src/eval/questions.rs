//! A user's own questions about an index of theirs: which file answers each, or which lines or page of it.
//!
//! A line of the file is a question. In `.jsonl`, an object: `{"question": "how hot is a kiln?", "answers":
//! ["pottery.md", "notes/glaze.md:10-24", "book.pdf:p12"]}`. In other files the question, a tab, and the answers with tabs
//! between. Places are written as `latewood search` prints them. Empty lines and lines that begin with `#` are passed over.
//!
//! Feedback reads as well, a line of `.jsonl` a [`Signal`]: `{"question": "how hot is a kiln?", "document": "pottery.md", "signal":
//! "click"}`. What was clicked or liked more often than disliked is an answer. Where it is of several indexes, as a server's is,
//! one of them is meant.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use latewood_engine::DocId;
use latewood_rerank::{Pipeline, Ranker};
use serde::{Deserialize, Serialize};

use super::beir::Query;
use super::cascade::{self, StageMetrics};
use super::evaluate::{EvalEvent, EvalOptions};
use super::fit::{self, FitReport};
use super::metrics::overlap;
use super::searching::{DEPTH, ModeReport, Questions, rankings, search};
use crate::catalog::{FileRecord, PassageRecord};
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::reader::{Reader, SearchOptions};

/// The questions of a file. They are named by their lines, from 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnQuestions {
    /// What is asked; judgements name answers as the file does.
    pub questions: Questions,
    /// The answers of each query.
    answers: Vec<Vec<Answer>>,
}

/// Where an answer is.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    /// As the file has it.
    name: String,
    path: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Anywhere,
    Lines(RangeInclusive<u32>),
    Page(u32),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    question: String,
    #[serde(default)]
    answers: Vec<String>,
    /// Of feedback.
    document: Option<String>,
    signal: Option<Signal>,
    index: Option<String>,
    #[serde(rename = "time")]
    _time: Option<u64>,
}

/// What somebody made of a document that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// It was opened.
    Click,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// What was said of documents, by question, in the file's order.
#[derive(Default)]
struct Heard {
    /// The indexes that it is of.
    indexes: BTreeSet<String>,
    questions: Vec<(usize, String, BTreeMap<String, i64>)>,
    places: HashMap<String, usize>,
}

impl Heard {
    fn add(&mut self, line: usize, question: String, document: String, signal: Signal) {
        let at = *self.places.entry(question.clone()).or_insert(self.questions.len());
        if at == self.questions.len() {
            self.questions.push((line, question, BTreeMap::new()));
        }
        let vote = if signal == Signal::Down { -1 } else { 1 };
        *self.questions[at].2.entry(document).or_default() += vote;
    }
}

impl OwnQuestions {
    /// Reads a file of questions; those without an answer are kept for what needs none ([`crate::eval::tune`]). Of feedback
    /// counts what is of the index called `index`, which must be said if there are several.
    ///
    /// # Errors
    /// When it does not read, or has no question; the error names the line.
    pub fn read(path: &Path, index: Option<&str>) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let bad = |line, detail| Error::Input { file: path.into(), line, detail };
        let json = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "ndjson");
        let text = text.trim_start_matches('\u{feff}');
        let (mut read, mut heard) = (Self::default(), Heard::default());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Line { question, answers, document, signal, index: of, .. } = match json {
                true => serde_json::from_str(line).map_err(|e| bad(Some(number), e.to_string()))?,
                false => {
                    let mut fields = line.split('\t').map(|field| field.trim().to_owned());
                    let question = fields.next().unwrap_or_default();
                    Line { question, answers: fields.collect(), document: None, signal: None, index: None, _time: None }
                }
            };
            if question.trim().is_empty() {
                return Err(bad(Some(number), "the question is empty".into()));
            }
            match (document, signal) {
                (Some(document), Some(signal)) => {
                    heard.indexes.extend(of.clone());
                    if index.is_none_or(|index| of.as_deref() == Some(index)) {
                        heard.add(number, question, document, signal);
                    }
                    continue;
                }
                (None, None) => {}
                _ => return Err(bad(Some(number), "feedback has both a document and a signal".into())),
            }
            read.add(number.to_string(), question, answers.into_iter().filter(|answer| !answer.is_empty()));
        }
        let names = heard.indexes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(index) = index.filter(|index| !heard.indexes.contains(*index)) {
            let others = if names.is_empty() {
                "and none that says which index it is on".into()
            } else {
                format!("but on {names}")
            };
            return Err(bad(None, format!("there is no feedback on {index}, {others}")));
        }
        if index.is_none() && heard.indexes.len() > 1 {
            return Err(bad(
                None,
                format!("it is feedback on several indexes ({names}): say on which (--feedback-on NAME)"),
            ));
        }
        for (number, question, votes) in heard.questions {
            let answers = votes.into_iter().filter(|(_, votes)| *votes > 0).map(|(document, _)| document);
            read.add_answers(number.to_string(), question, answers.map(Answer::document).collect());
        }
        match read.questions.queries.is_empty() {
            true => Err(bad(None, "there is no question in it".into())),
            false => Ok(read),
        }
    }

    fn add(&mut self, id: String, text: String, answers: impl Iterator<Item = String>) {
        let answers: Vec<Answer> = answers.map(Answer::parse).collect();
        self.add_answers(id, text, answers);
    }

    fn add_answers(&mut self, id: String, text: String, answers: Vec<Answer>) {
        answers.iter().for_each(|answer| self.questions.judgements.add(&id, &answer.name, 1));
        self.answers.push(answers);
        self.questions.queries.push(Query { id, text });
    }

    /// Only those that have an answer.
    fn answered(&self) -> Self {
        let mut answered = Self { questions: Questions { queries: vec![], ..self.questions.clone() }, answers: vec![] };
        for (query, answers) in self.questions.queries.iter().zip(&self.answers).filter(|(_, all)| !all.is_empty()) {
            answered.questions.queries.push(query.clone());
            answered.answers.push(answers.clone());
        }
        answered
    }
}

impl Answer {
    /// A document, whatever its id looks like.
    fn document(id: String) -> Self {
        Self { path: id.clone(), name: id, place: Place::Anywhere }
    }

    /// `notes/glaze.md:10-24`, `book.pdf:p12`, or a path alone.
    fn parse(name: String) -> Self {
        let number = |text: &str| text.parse::<u32>().ok();
        let place = name.rsplit_once(':').and_then(|(path, place)| {
            let place = match (place.strip_prefix('p'), place.split_once('-')) {
                (Some(page), _) => Place::Page(number(page)?),
                (None, Some((first, last))) => {
                    Place::Lines(number(first)?..=number(last).filter(|last| *last >= number(first).unwrap_or(0))?)
                }
                (None, None) => number(place).map(|line| Place::Lines(line..=line))?,
            };
            Some((path.to_owned(), place))
        });
        let (path, place) = place.unwrap_or((name.clone(), Place::Anywhere));
        // As shells complete it.
        let path = path.strip_prefix("./").map_or(path.clone(), str::to_owned);
        Self { name, path, place }
    }

    fn is_in(&self, found: &Found<'_>) -> bool {
        found.path == self.path
            && match &self.place {
                Place::Anywhere => true,
                Place::Lines(lines) => found.lines.0 <= *lines.end() && *lines.start() <= found.lines.1,
                Place::Page(page) => found.page == Some(*page),
            }
    }
}

/// A passage, as far as answers tell it from others.
struct Found<'c> {
    path: &'c str,
    lines: (u32, u32),
    page: Option<u32>,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct IndexReport {
    /// What each mode finds, and in what time.
    pub modes: Vec<ModeReport>,
    /// What each stage of the pipeline finds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pipeline: Vec<StageMetrics>,
    /// Share of the first 10 passages that scoring every passage finds which searches by meaning find among their first 10.
    pub recall_10_of_exact: Option<f64>,
    /// The same of 100.
    pub recall_100_of_exact: Option<f64>,
    /// Questions that have an answer.
    pub queries: usize,
    /// Answers whose file is not in the index: nothing can find them.
    pub not_indexed: Vec<String>,
}

/// Asks an index `questions`, those that have an answer.
///
/// # Errors
/// When none has an answer, or a search fails.
pub fn evaluate_index(
    reader: &Reader,
    questions: &OwnQuestions,
    options: &EvalOptions,
    monitor: &dyn Fn(EvalEvent),
) -> Result<IndexReport> {
    let own = questions.answered();
    let queries = &own.questions.queries;
    if queries.is_empty() {
        return Err(Error::NoAnswers);
    }
    // As much is looked at as by a search for 10.
    let budget = Some(options.search.budget.unwrap_or_else(|| reader.budget(10)));
    let total = (options.modes.len() + usize::from(options.exact)) * queries.len();
    let searched = |at: usize, mode, exhaustive| {
        let progress = |done| monitor(EvalEvent::Searched { done: at * queries.len() + done, total });
        search(
            queries,
            reader,
            &SearchOptions { mode, exhaustive, k: DEPTH, budget, ..options.search.clone() },
            &progress,
        )
    };
    let passages =
        |hits: &[Vec<latewood_engine::Hit>]| rankings(queries, hits, |_, doc| vec![Cow::Owned(doc.to_string())]);
    let exact = options.exact.then(|| searched(options.modes.len(), Mode::Semantic, true)).transpose()?;
    let exact = exact.map(|exact| passages(&exact.hits));
    let (mut modes, mut nearest) = (Vec::new(), None);
    for (at, &mode) in options.modes.iter().enumerate() {
        let found = searched(at, mode, false)?;
        let run = rankings(queries, &found.hits, |query, doc| own.name(query, reader, doc));
        let ids = (mode == Mode::Semantic).then(|| passages(&found.hits));
        let mut report = found.report(mode, &own.questions, run);
        if let (Some(ids), Some(exact)) = (ids, &exact) {
            report.set_exact(&ids, exact);
            nearest = Some(ids);
        }
        modes.push(report);
    }
    let pipeline = options.pipeline.as_ref().map_or(Ok(Vec::new()), |ranker| {
        let name = |query, doc| own.name(query, reader, doc);
        let passages = |query, name: &str| own.passages(query, reader, name);
        let given = options.candidates.as_ref().map(|run| cascade::Given { run, passages: &passages });
        cascade::stages(reader, ranker, &own.questions, given.as_ref(), &name, &|_| {})
    })?;
    let share = |k| Some(overlap(nearest.as_ref()?, exact.as_ref()?, k));
    let not_indexed = own.answers.iter().flatten().filter(|answer| reader.catalog().get(&answer.path).is_none());
    let not_indexed: HashSet<&str> = not_indexed.map(|answer| answer.name.as_str()).collect();
    let mut not_indexed: Vec<String> = not_indexed.into_iter().map(str::to_owned).collect();
    not_indexed.sort_unstable();
    let (recall_10_of_exact, recall_100_of_exact) = (share(10), share(100));
    Ok(IndexReport { pipeline, recall_10_of_exact, recall_100_of_exact, modes, queries: queries.len(), not_indexed })
}

/// Fits the weights of a pipeline's first metadata stage to `questions`, those that have an answer; `load` loads its models.
///
/// # Errors
/// When there is no such stage, no question has an answer, or a search fails.
pub fn fit_index(
    reader: &Reader,
    questions: &OwnQuestions,
    pipeline: &Pipeline,
    load: &dyn Fn(Pipeline) -> Result<Ranker>,
) -> Result<FitReport> {
    let own = questions.answered();
    if own.questions.queries.is_empty() {
        return Err(Error::NoAnswers);
    }
    fit::fit(reader, pipeline, load, &own.questions, &|query, doc| own.name(query, reader, doc))
}

impl OwnQuestions {
    /// What a passage is called among those found for a query: as the answers that it holds, or else by its file.
    fn name<'r>(&'r self, query: usize, reader: &'r Reader, doc: DocId) -> Vec<Cow<'r, str>> {
        let Some((file, passage)) = reader.record_of(doc) else { return Vec::new() };
        let found = Found { path: &file.path, lines: passage.lines, page: passage.page };
        let answers = self.answers[query].iter().filter(|answer| answer.is_in(&found));
        let names: Vec<Cow<'_, str>> = answers.map(|answer| Cow::Borrowed(answer.name.as_str())).collect();
        if names.is_empty() { vec![Cow::Borrowed(found.path)] } else { names }
    }

    /// The passages that [`Self::name`] calls `name`: those that are an answer of that name, or all of a file.
    fn passages(&self, query: usize, reader: &Reader, name: &str) -> Vec<DocId> {
        let answer = self.answers[query].iter().find(|answer| answer.name == name);
        let file = reader.catalog().get(answer.map_or(name, |answer| &answer.path));
        let docs =
            file.into_iter().flat_map(|file| file.docs().map(DocId).zip(&file.passages).map(move |it| (file, it)));
        let meant = |(file, (_, passage)): &(&FileRecord, (DocId, &PassageRecord))| {
            let found = Found { path: &file.path, lines: passage.lines, page: passage.page };
            answer.is_none_or(|answer| answer.is_in(&found))
        };
        docs.filter(meant).map(|(_, (doc, _))| doc).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<OwnQuestions> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        OwnQuestions::read(&path, None)
    }

    #[test]
    fn questions_read_as_lines_and_as_json() {
        let lines = read("q.tsv", "# mine\nhow hot?\ta.md:3-9\tb.pdf:p2\n\nwhy?\n").unwrap();
        let json = read(
            "q.jsonl",
            "\n{\"question\": \"how hot?\", \"answers\": [\"a.md:3-9\", \"b.pdf:p2\"]}\n\n{\"question\": \"why?\"}",
        )
        .unwrap();
        assert_eq!(lines, json, "and they are named by their lines");
        assert_eq!(
            lines.answered().questions.queries.iter().map(|q| q.text.as_str()).collect::<Vec<_>>(),
            ["how hot?"]
        );
        let answer = &lines.answers[0][0];
        let at = |path, lines| answer.is_in(&Found { path, lines, page: None });
        assert!(at("a.md", (9, 12)) && at("a.md", (1, 3)) && !at("a.md", (10, 12)) && !at("b.md", (3, 9)));
        assert_eq!(Answer::parse("c:\\x".into()).place, Place::Anywhere);
    }

    #[test]
    fn feedback_becomes_answers() {
        let line = |document: &str, signal: &str| {
            format!(
                "{{\"question\": \"how hot?\", \"document\": \"{document}\", \"signal\": \"{signal}\", \"time\": 7}}\n"
            )
        };
        let text = [line("a.md", "click"), line("b.md", "up"), line("b.md", "down"), line("c.md:7", "up")].concat();
        let read = read("f.jsonl", &text).unwrap();
        let names: Vec<&str> = read.answers[0].iter().map(|answer| answer.name.as_str()).collect();
        assert_eq!(read.answers[0][1].path, "c.md:7");
        assert_eq!((read.questions.queries.len(), names), (1, vec!["a.md", "c.md:7"]));
    }

    #[test]
    fn feedback_is_of_one_index() {
        let line = |index: &str, document: &str| {
            format!(
                "{{\"question\": \"how hot?\", \"document\": \"{document}\", \"signal\": \"up\", \"index\": \"{index}\"}}\n"
            )
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        fs::write(&path, line("notes", "a.md") + &line("wiki", "b.md")).unwrap();
        let text = OwnQuestions::read(&path, None).unwrap_err().to_string();
        assert!(text.contains("several indexes (notes, wiki)"), "{text}");
        let wiki = OwnQuestions::read(&path, Some("wiki")).unwrap();
        assert_eq!((wiki.answers.len(), wiki.answers[0].len(), wiki.answers[0][0].path.as_str()), (1, 1, "b.md"));
        let text = OwnQuestions::read(&path, Some("other")).unwrap_err().to_string();
        assert!(text.contains("no feedback on other, but on notes, wiki"), "{text}");
    }

    #[test]
    fn bad_questions_are_named() {
        let text = read("q.jsonl", "{\"question\": \"a\"}\n{\"query\": \"a\"}").unwrap_err().to_string();
        assert!(text.contains("line 2") && text.contains("query"), "{text}");
        let text = read("q.txt", "# nothing\n").unwrap_err().to_string();
        assert!(text.contains("no question"), "{text}");
    }
}
