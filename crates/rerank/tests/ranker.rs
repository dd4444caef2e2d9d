//! Pipelines as they run: what each stage is given and lets through, what the report says of it, and what is an error.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latewood_encoder::{CrossEncoder, Precision};
use latewood_rerank::{Candidate, Error, Host, Models, Pipeline, Ranked, Ranker, Scorers};
use serde_json::json;

/// Cross-encoders of the encoder's golden values, by the names of their folders.
struct Golden;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoder/tests/golden/cross/models").join(name)
}

impl Models for Golden {
    fn cross_encoder(&self, name: &str) -> Result<Arc<CrossEncoder>, String> {
        CrossEncoder::open(&folder(name), Precision::F32).map(Arc::new).map_err(|e| e.to_string())
    }
}

/// An index: of each candidate, its scores by id; one that has none is worth 0. It counts what it is asked.
#[derive(Default)]
struct Index {
    late: BTreeMap<&'static str, f32>,
    keywords: BTreeMap<&'static str, f32>,
    asked: AtomicUsize,
}

impl Index {
    fn new(late: &[(&'static str, f32)], keywords: &[(&'static str, f32)]) -> Self {
        let [late, keywords] = [late, keywords].map(|scores| scores.iter().copied().collect());
        Self { late, keywords, ..Self::default() }
    }

    fn of(&self, scores: &BTreeMap<&str, f32>, candidates: &[Candidate]) -> Vec<f32> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        candidates.iter().map(|it| scores.get(it.id.as_str()).copied().unwrap_or_default()).collect()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Scorers for Index {
    fn late_interaction(&self, _: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        Ok(self.of(&self.late, candidates))
    }

    fn keywords(&self, _: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        Ok(self.of(&self.keywords, candidates))
    }
}

/// An index that always gives the same.
struct Always(Result<Vec<f32>, &'static str>);

impl Scorers for Always {
    fn late_interaction(&self, _: &str, _: &[Candidate]) -> Result<Vec<f32>, String> {
        self.0.clone().map_err(str::to_owned)
    }

    fn keywords(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        self.late_interaction(query, candidates)
    }
}

fn ranker(pipeline: &str) -> Ranker {
    Ranker::new(Pipeline::parse_toml(pipeline).unwrap(), &Golden).unwrap()
}

/// Candidates whose texts are their ids, the first of them with the highest score.
fn candidates(ids: &[&str]) -> Vec<Candidate> {
    ids.iter().zip(0_u8..).map(|(id, place)| Candidate::new(*id, *id, 10.0 - f32::from(place))).collect()
}

fn ids(ranked: &Ranked) -> Vec<&str> {
    ranked.candidates.iter().map(|it| it.id.as_str()).collect()
}

fn notes(ranked: &Ranked) -> Vec<&str> {
    ranked.report.stages.iter().map(|stage| stage.note.as_deref().unwrap_or_default()).collect()
}

const LATE: &str = "[[stages]]\ntype = \"late-interaction\"\n";
const KEYWORD: &str = "[[stages]]\ntype = \"keyword\"\n";
const CROSS: &str = "[[stages]]\ntype = \"cross-encoder\"\nmodel = \"bert\"\n";

#[test]
fn stages_cut_what_goes_in_and_what_comes_out() {
    let index = Index::new(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 8.0), ("e", 99.0), ("f", 98.0)], &[]);
    let ranker = ranker(&format!("{LATE}top_k = 4\ntop_n = 3\n"));
    let ranked = ranker.rank("q", candidates(&["a", "b", "c", "d", "e", "f"]), &index).unwrap();
    assert_eq!(ids(&ranked), ["d", "c", "b"], "the best two were out before");
    assert_eq!(ranked.candidates[0].score, 8.0);
    let scores: Vec<(&str, f32)> = ranked.candidates[0].scores.iter().map(|(name, x)| (name.as_str(), *x)).collect();
    assert_eq!(scores, [("late-interaction", 8.0), ("retrieve", 7.0)]);
    assert_eq!(ranked.candidates.iter().map(|it| it.came_as).collect::<Vec<_>>(), [3, 2, 1]);

    // From 3, 2 and 1 to 0, 1 and 2; none where one of its number was before.
    let report = &ranked.report;
    assert_eq!((report.mean_lift, report.newcomers, report.stages.len()), (1.0, 1, 1));
    let stage = &report.stages[0];
    assert_eq!((stage.name.as_str(), stage.candidates, stage.kept, stage.moved), ("late-interaction", 4, 3, 3));
    let scores = stage.scores.unwrap();
    assert_eq!((scores.least, scores.median, scores.most, scores.margin), (1.0, 2.0, 8.0, 5.0));
    assert!(stage.ms >= 0.0 && stage.cached == 0 && stage.note.is_none());
}

#[test]
fn the_report_counts_what_moved() {
    // b and c change places; a stays, and d and e are out.
    let index = Index::new(&[("a", 9.0), ("b", 2.0), ("c", 3.0), ("d", 1.0)], &[]);
    let ranker = ranker(&format!("{LATE}top_n = 3\n{KEYWORD}top_n = 2"));
    let ranked = ranker.rank("q", candidates(&["a", "b", "c", "d", "e"]), &index).unwrap();
    let moved: Vec<[usize; 3]> = ranked.report.stages.iter().map(|it| [it.candidates, it.kept, it.moved]).collect();
    // To keywords all are alike.
    assert_eq!((ids(&ranked), moved), (vec!["a", "c"], vec![[5, 3, 2], [3, 2, 0]]));
    assert_eq!((ranked.report.mean_lift, ranked.report.newcomers), (0.5, 1));
}

#[test]
fn equals_stay_in_their_order() {
    let index = Index::new(&[("d", 1.0), ("f", 1.0)], &[]);
    let all = ["b", "d", "a", "f", "c", "e"];
    let ranked = ranker(&format!("{LATE}{KEYWORD}")).rank("q", candidates(&all), &index).unwrap();
    assert_eq!(ids(&ranked), ["d", "f", "b", "a", "c", "e"]);
    // Zero and minus zero are equals too.
    let signs = Always(Ok(vec![-0.0, 0.0, -0.0]));
    assert_eq!(ids(&ranker(LATE).rank("q", candidates(&["a", "b", "c"]), &signs).unwrap()), ["a", "b", "c"]);
}

#[test]
fn whoever_watches_sees_each_stage() {
    let index = Index::new(&[("b", 1.0)], &[("c", 1.0)]);
    let ranker = ranker(&format!("{LATE}{KEYWORD}top_n = 2\n"));
    let mut seen = Vec::new();
    let mut watch = |stage: &latewood_rerank::StageReport, left: &[Candidate]| {
        seen.push(format!("{}: {}", stage.name, left.iter().map(|it| it.id.as_str()).collect::<String>()));
    };
    ranker.rank_watched("q", candidates(&["a", "b", "c"]), &index, &Host::default(), &mut watch).unwrap();
    assert_eq!(seen, ["late-interaction: bac", "keyword: cb"]);
}

#[test]
fn nothing_is_done_for_nobody() {
    let index = Index::new(&[("b", 1.0)], &[("c", 1.0)]);
    let ranker = ranker(&format!("{LATE}{KEYWORD}{CROSS}"));
    for stages in 0..3 {
        let (mut seen, left) = (0, std::sync::atomic::AtomicUsize::new(stages));
        let stopped = || left.load(std::sync::atomic::Ordering::Relaxed) == 0;
        let host = Host { stopped: &stopped, ..Host::default() };
        let mut watch = |_: &latewood_rerank::StageReport, _: &[Candidate]| {
            seen += 1;
            left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        };
        let error = ranker.rank_watched("q", candidates(&["a", "b", "c"]), &index, &host, &mut watch).unwrap_err();
        assert!(matches!(error, Error::Stopped) && seen == stages, "{error}, {seen}");
    }
}

/// A network runs where the host has room for it; what is only looked up asks for none.
#[test]
fn a_network_runs_in_its_room() {
    let index = Index::new(&[("b", 1.0)], &[("c", 1.0)]);
    let ranker = ranker(&format!("{LATE}{KEYWORD}{CROSS}"));
    let asked = AtomicUsize::new(0);
    let room = |work: &mut (dyn FnMut() + Send)| {
        asked.fetch_add(1, Ordering::Relaxed);
        work();
    };
    let host = Host { room: &room, ..Host::default() };
    let ranked = ranker.rank_watched("q", candidates(&["a", "b"]), &index, &host, &mut |_, _| {}).unwrap();
    assert_eq!((asked.into_inner(), ranked.candidates.len()), (1, 2));
    // No room, no score: an error, and no panic.
    let host = Host { room: &|_| {}, ..Host::default() };
    let error = ranker.rank_watched("p", candidates(&["a", "b"]), &index, &host, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
}

/// A stage that is so slow that nobody ever waits for its end becomes dear all the same.
#[test]
fn a_stage_that_nobody_waits_for_is_dear() {
    let ranker = ranker(&format!("budget_ms = 40\n{CROSS}"));
    let slow = |work: &mut (dyn FnMut() + Send)| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        work();
    };
    let index = Index::default();
    let gone = AtomicUsize::new(0);
    let stopped = || gone.fetch_add(1, Ordering::Relaxed) > 0;
    assert!(!ranker.estimate(2)[0].dropped);
    // One time says little.
    for _ in 0..2 {
        gone.store(0, Ordering::Relaxed);
        let host = Host { stopped: &stopped, room: &slow, until: None };
        let error = ranker.rank_watched("q", candidates(&["a", "b"]), &index, &host, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error}");
    }
    assert!(ranker.estimate(2)[0].dropped);
}

#[test]
fn a_clear_answer_spares_the_stages_after_it() {
    let pipeline = format!("{LATE}exit_margin = 0.5\n{KEYWORD}top_n = 3\n{CROSS}top_n = 2");
    let ranker = ranker(&pipeline);
    // The best is ahead by 8 of 10, and in the other index by 1 of 10.
    let clear = Index::new(&[("b", 10.0), ("c", 2.0), ("d", 1.0)], &[("a", 1.0)]);
    let ranked = ranker.rank("q", candidates(&["a", "b", "c", "d"]), &clear).unwrap();
    assert_eq!((ids(&ranked), clear.asked()), (vec!["b", "c"], 1), "they are cut all the same");
    let note = "left out: after late-interaction the best is clear";
    assert_eq!(notes(&ranked), ["", note, note]);
    assert_eq!(ranked.candidates[0].scores.keys().collect::<Vec<_>>(), ["late-interaction", "retrieve"]);
    let left_out = &ranked.report.stages[1];
    assert_eq!((left_out.candidates, left_out.kept, left_out.ms, left_out.scores), (4, 3, 0.0, None));

    let close = Index::new(&[("b", 10.0), ("c", 9.0), ("d", 1.0)], &[("a", 1.0)]);
    let ranked = ranker.rank("q", candidates(&["a", "b", "c", "d"]), &close).unwrap();
    assert_eq!((close.asked(), notes(&ranked)), (2, vec!["", "", ""]));
    // Where all are alike, nothing is clear.
    let alike = Index::default();
    ranker.rank("q", candidates(&["a", "b", "c", "d"]), &alike).unwrap();
    assert_eq!(alike.asked(), 2);
}

#[test]
fn over_the_budget_the_dearest_stage_is_left_out() {
    let pipeline = |budget: f32| format!("budget_ms = {budget}\n{LATE}top_n = 3\n{CROSS}top_n = 2\n{KEYWORD}");
    // Nothing was measured yet: a cross-encoder is known to take milliseconds for each, the others are not.
    for (budget, dropped) in [(10.0, true), (10_000.0, false)] {
        let ranker = ranker(&pipeline(budget));
        let estimates = ranker.estimate(4);
        let found: Vec<(&str, usize, bool)> =
            estimates.iter().map(|it| (it.name.as_str(), it.candidates, it.dropped)).collect();
        assert_eq!(found, [("late-interaction", 4, false), ("cross-encoder", 3, dropped), ("keyword", 2, false)]);
        assert!(estimates.iter().all(|it| it.ms > 0.0 && it.requests == 0), "{estimates:?}");
        let index = Index::new(&[("d", 1.0)], &[]);
        let ranked = ranker.rank("q", candidates(&["a", "b", "c", "d"]), &index).unwrap();
        let note = if dropped { "left out: over the latency budget" } else { "" };
        assert_eq!(notes(&ranked), ["", note, ""]);
        assert_eq!(ranked.candidates[0].scores.contains_key("cross-encoder"), !dropped);
        assert_eq!(ranked.candidates.len(), 2, "it is cut all the same");
        if dropped {
            assert_eq!(ids(&ranked), ["d", "a"]);
        }
    }
}

#[test]
fn what_stages_cost_is_learnt() {
    let ranker = ranker(CROSS);
    let before = ranker.estimate(2)[0].ms;
    // One time says little.
    for query in ["p", "r", "q"] {
        ranker.rank(query, candidates(&["oak", "larch"]), &Index::default()).unwrap();
    }
    let after = ranker.estimate(2)[0].ms;
    assert_ne!(before, after);
    // What is in the cache costs nothing, which says nothing of what the next one costs.
    ranker.rank("q", candidates(&["oak", "larch"]), &Index::default()).unwrap();
    assert_eq!(ranker.estimate(2)[0].ms, after);
}

#[test]
fn cross_encoders_score_and_remember() {
    let ranker = ranker(CROSS);
    let first = ranker.rank("larch", candidates(&["oak", "larch"]), &Index::default()).unwrap();
    // As sentence-transformers has it (golden/bert.json).
    assert_eq!(ids(&first), ["larch", "oak"]);
    for (candidate, golden) in first.candidates.iter().zip([1.822_870_9, 1.223_089]) {
        assert!((candidate.score - golden).abs() < 1e-4, "{}: {}", candidate.id, candidate.score);
    }
    let again = ranker.rank("larch", candidates(&["oak", "larch"]), &Index::default()).unwrap();
    assert_eq!(again.candidates, first.candidates, "to the bit");
    let more = ranker.rank("larch", candidates(&["ash", "oak", "larch"]), &Index::default()).unwrap();
    let other = ranker.rank("oak", candidates(&["oak", "larch"]), &Index::default()).unwrap();
    let cached = [&first, &again, &more, &other].map(|ranked| ranked.report.stages[0].cached);
    assert_eq!(cached, [0, 2, 2, 0]);
    let larch = more.candidates.iter().find(|it| it.id == "larch").unwrap();
    assert_eq!(larch.score, first.candidates[0].score);
}

#[test]
fn cross_encoders_read_titles_too() {
    let mut titled = candidates(&["oak", "oak"]);
    titled[0].title = Some("larch".into());
    let ranked = ranker(CROSS).rank("larch", titled, &Index::default()).unwrap();
    let model = Golden.cross_encoder("bert").unwrap();
    let expected = model.score("larch", &["larch\noak", "oak"]).unwrap();
    for candidate in &ranked.candidates {
        let expected = expected[candidate.came_as];
        assert!((candidate.score - expected).abs() < 1e-4, "{} and {expected}", candidate.score);
    }
}

#[test]
fn stages_are_fused_by_hand() {
    let index = Index::new(&[("a", 0.1), ("b", 0.3), ("c", 0.2)], &[("a", 5.0), ("b", 0.0), ("c", 10.0)]);
    let of = "of = [\"retrieve\", \"late-interaction\", \"keyword\"]\nweights = [1.0, 1.0, 2.0]\n";
    let sorted = |method: &str| {
        let ranker = ranker(&format!("{LATE}{KEYWORD}[[stages]]\ntype = \"fusion\"\n{of}{method}"));
        let ranked = ranker.rank("q", candidates(&["a", "b", "c"]), &index).unwrap();
        ranked.candidates.into_iter().map(|it| (it.id, it.score)).collect::<Vec<_>>()
    };
    let near = |found: Vec<(String, f32)>, expected: [(&str, f32); 3]| {
        let near =
            |((id, score), (name, value)): (&(String, f32), (&str, f32))| id == name && (score - value).abs() < 1e-5;
        assert!(found.iter().zip(expected).all(near), "{found:?} and {expected:?}");
    };
    let third = 1.0 / 3.0;
    // Ranks: a 1, 3, 2; b 2, 1, 3; c 3, 2, 1.
    near(sorted("k = 0.0"), [("c", third + 0.5 + 2.0), ("a", 1.0 + third + 1.0), ("b", 0.5 + 1.0 + 2.0 * third)]);
    // From 0 to 1: a 1, 0, .5; b .5, 1, 0; c 0, .5, 1.
    near(sorted("method = \"sum\""), [("c", 2.5), ("a", 2.0), ("b", 1.5)]);
}

#[test]
fn fusion_bears_a_stage_that_was_left_out() {
    let pipeline =
        format!("budget_ms = 1\n{CROSS}[[stages]]\ntype = \"fusion\"\nof = [\"retrieve\", \"cross-encoder\"]");
    for method in ["", "method = \"sum\"\n", "method = \"sum\"\nnormalise = \"none\"\n"] {
        let ranked = ranker(&format!("{pipeline}\n{method}")).rank("q", candidates(&["a", "b"]), &Index::default());
        assert_eq!(ids(&ranked.unwrap()), ["a", "b"], "{method}");
    }
}

#[test]
fn contributions_of_metadata_add_up() {
    let signals = r#"[
        { type = "popularity", field = "stars", weight = 0.25 },
        { type = "trust", field = "from", values = { wiki = 0.5, official = 1.0 }, weight = 2.0 },
        { name = "words", type = "exact-match", weight = -0.25 },
    ]"#;
    let ranker = ranker(&format!("[[stages]]\ntype = \"metadata\"\nsignals = {signals}"));
    let mut given = candidates(&["kiln", "fog", "hive"]);
    for (candidate, metadata) in given.iter_mut().zip([
        json!({ "stars": 0, "from": "forum" }),
        json!({ "stars": 99, "from": "wiki" }),
        json!({ "stars": 0, "from": "official" }),
    ]) {
        candidate.metadata = metadata.as_object().unwrap().clone();
    }
    let ranked = ranker.rank("a kiln", given, &Index::default()).unwrap();
    // Score so far, popularity, trust and exact words, each from 0 to 1 before it is weighed.
    let expected = [("hive", [0.0, 0.0, 2.0, 0.0]), ("fog", [0.5, 0.25, 1.0, 0.0]), ("kiln", [1.0, 0.0, 0.0, -0.25])];
    for (candidate, (id, parts)) in ranked.candidates.iter().zip(expected) {
        let found = ["score", "stars", "from", "words"].map(|name| candidate.signals[name]);
        assert_eq!((candidate.id.as_str(), found), (id, parts));
        assert!((candidate.signals.values().sum::<f32>() - candidate.score).abs() < 1e-6);
    }
}

/// All kinds of stages that need no network.
fn all_kinds() -> Ranker {
    let fusion = "[[stages]]\ntype = \"fusion\"\nof = [\"retrieve\", \"cross-encoder\"]\n";
    let metadata =
        "[[stages]]\ntype = \"metadata\"\nsignals = [{ type = \"recency\", half_life_days = 3, weight = 1 }]";
    ranker(&format!("{KEYWORD}exit_margin = 0.1\n{LATE}{CROSS}{fusion}{metadata}"))
}

#[test]
fn nothing_in_nothing_out() {
    // This index would be an error.
    let ranked = all_kinds().rank("q", Vec::new(), &Always(Err("it is gone"))).unwrap();
    assert_eq!(notes(&ranked), ["there is no candidate"; 5]);
    assert_eq!((ranked.candidates.len(), ranked.report.mean_lift, ranked.report.newcomers), (0, 0.0, 0));
    assert!(all_kinds().estimate(0).iter().all(|estimate| estimate.ms == 0.0));
}

#[test]
fn one_candidate_goes_through_all_stages() {
    let ranked = all_kinds().rank("q", candidates(&["a"]), &Index::new(&[("a", 3.0)], &[("a", 4.0)])).unwrap();
    assert_eq!((ids(&ranked), notes(&ranked)), (vec!["a"], vec![""; 5]));
    assert_eq!(ranked.candidates[0].scores.len(), 6);
    assert!(ranked.candidates[0].score.is_finite());
}

#[test]
fn no_stages_no_change() {
    let ranked = ranker("").rank("q", candidates(&["b", "a"]), &Index::default()).unwrap();
    assert_eq!((ids(&ranked), ranked.report.stages.len()), (vec!["b", "a"], 0));
}

#[test]
fn scores_that_are_none_are_an_error_of_their_stage() {
    for (given, says) in [
        (Ok(vec![1.0, f32::NAN, 2.0]), "\"b\" is NaN"),
        (Ok(vec![f32::INFINITY, 0.0, 2.0]), "\"a\" is inf"),
        (Ok(vec![1.0, 0.0, f32::NEG_INFINITY]), "\"c\" is -inf"),
        (Ok(vec![1.0, 2.0]), "2 scores were given for 3 candidates"),
        (Ok(vec![1.0, 2.0, 3.0, 4.0]), "4 scores were given for 3 candidates"),
        (Ok(Vec::new()), "0 scores were given for 3 candidates"),
        (Err("the index was moved"), "the index was moved"),
    ] {
        for kind in [LATE, KEYWORD] {
            let ranker = ranker(&format!("{kind}name = \"first look\"\n"));
            let error = ranker.rank("q", candidates(&["a", "b", "c"]), &Always(given.clone())).unwrap_err();
            assert!(matches!(&error, Error::Stage { stage, .. } if stage == "first look"), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("stage first look: ") && text.contains(says), "{text}");
        }
    }
}

#[test]
fn a_candidate_that_comes_without_a_number_is_named() {
    for score in [f32::NAN, f32::INFINITY] {
        let mut given = candidates(&["a", "b"]);
        given[1].score = score;
        let error = ranker("").rank("q", given, &Index::default()).unwrap_err().to_string();
        assert_eq!(error, format!("stage retrieve: the score of \"b\" is {score}, which is no number"));
    }
}

#[test]
fn a_query_that_leaves_no_room_is_an_error_of_its_stage() {
    let query = "A wide ring means a wet spring. ".repeat(30);
    let error = ranker(CROSS).rank(&query, candidates(&["a"]), &Index::default()).unwrap_err();
    assert!(matches!(&error, Error::QueryTooLong { stage, .. } if stage == "cross-encoder"), "{error:?}");
}

#[test]
fn models_that_do_not_load_are_named_with_their_stage() {
    // One that has no head, one that has three labels, and one that is not there.
    for model in ["bert-plain", "bert-three", "no-such-folder"] {
        let stage = format!("[[stages]]\nname = \"last look\"\ntype = \"cross-encoder\"\nmodel = \"{model}\"");
        let error = Ranker::new(Pipeline::parse_toml(&format!("{LATE}{stage}")).unwrap(), &Golden).err().unwrap();
        assert!(
            matches!(&error, Error::Model { stage, model: found, .. } if stage == "last look" && found == model),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.starts_with(&format!("stage last look: model {model}: ")) && text.len() > 50, "{text}");
    }
}

#[test]
fn candidates_of_one_name_are_two() {
    let mut given = candidates(&["oak", "oak"]);
    given[1].text = "larch".into();
    let ranked = ranker(CROSS).rank("larch", given, &Index::default()).unwrap();
    assert_eq!(ranked.candidates.iter().map(|it| it.came_as).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_ranker_may_be_asked_from_many_threads() {
    let ranker = all_kinds();
    let expected = ids_of(&ranker);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| ids_of(&ranker))).collect();
        asked.into_iter().for_each(|asked| assert_eq!(asked.join().unwrap(), expected));
    });
}

fn ids_of(ranker: &Ranker) -> Vec<String> {
    let index = Index::new(&[("oak", 1.0)], &[("larch", 1.0), ("oak", 0.95)]);
    let ranked = ranker.rank("larch", candidates(&["ash", "oak", "larch"]), &index).unwrap();
    ranked.candidates.into_iter().map(|it| it.id).collect()
}
