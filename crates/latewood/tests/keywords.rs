//! Keywords: beside vectors, with them, and when they are lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use latewood::encoder::{ColbertEncoder, Encoder};
use latewood::engine::IndexOptions;
use latewood::ingest::PassageOptions;
use latewood::{Error, Filter, Location, Mode, NewDocument, SearchOptions, SyncOptions, TextIndex, maintain};
use serde_json::json;

fn encoder() -> Arc<dyn Encoder> {
    static ENCODER: OnceLock<Arc<ColbertEncoder>> = OnceLock::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
    ENCODER.get_or_init(|| Arc::new(ColbertEncoder::from_dir(&dir).unwrap())).clone()
}

fn write(index: &TextIndex, documents: &[(&str, &str)], deleted: &[&str]) {
    let mut writer = index.writer(PassageOptions::default()).unwrap();
    for (id, text) in documents {
        writer.put(NewDocument::text(*id, *text), &()).unwrap();
    }
    deleted.iter().for_each(|id| assert!(writer.delete(id).unwrap()));
    writer.commit(&()).unwrap();
}

fn options(mode: Mode, k: usize) -> SearchOptions {
    let mut options = SearchOptions::new(k);
    options.mode = mode;
    options
}

fn found(index: &TextIndex, query: &str, options: &SearchOptions) -> Vec<(String, f32)> {
    let answer = index.reader().unwrap().search(query, options).unwrap();
    answer.hits.into_iter().map(|hit| (hit.passage.path, hit.score)).collect()
}

fn names(index: &TextIndex, query: &str, mode: Mode) -> Vec<String> {
    found(index, query, &options(mode, 10)).into_iter().map(|(name, _)| name).collect()
}

fn names_of(index: &TextIndex, query: &str, options: &SearchOptions) -> Vec<String> {
    found(index, query, options).into_iter().map(|(name, _)| name).collect()
}

const NOTES: [(&str, &str); 6] = [
    ("kiln", "A kiln fires stoneware at 1280 degrees. The kiln is hot."),
    ("hive", "A hive needs honey in winter."),
    ("swarm", "Bees swarm in May when the hive is full."),
    ("code", "Call readFile(path) or read_file to load the glaze table, part XJ-4471."),
    ("glass", "Glass is blown and not fired in a kiln at all."),
    ("winter", "In winter nothing is fired: the shed has no heating."),
];

fn notes() -> (tempfile::TempDir, TextIndex) {
    let dir = tempfile::tempdir().unwrap();
    let index = TextIndex::create(&dir.path().join("notes"), encoder(), IndexOptions::new(8)).unwrap();
    // Several commits, so that there are several segments.
    write(&index, &NOTES[..2], &[]);
    write(&index, &NOTES[2..5], &[]);
    write(&index, &NOTES[5..], &[]);
    (dir, index)
}

/// BM25 over words that stemming leaves alone, by its formula.
fn reference<'n>(notes: &[(&'n str, &str)], query: &str) -> BTreeMap<&'n str, f32> {
    let words = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let notes: HashMap<&str, Vec<String>> = notes.iter().map(|(id, text)| (*id, words(text))).collect();
    let mean = notes.values().map(Vec::len).sum::<usize>() as f32 / notes.len() as f32;
    let mut scores = BTreeMap::new();
    for word in words(query) {
        let with = notes.values().filter(|words| words.contains(&word)).count() as f32;
        let idf = (1.0 + (notes.len() as f32 - with + 0.5) / (with + 0.5)).ln();
        for (id, words) in &notes {
            let count = words.iter().filter(|w| **w == word).count() as f32;
            if count > 0.0 {
                let length = 0.25 + 0.75 * words.len() as f32 / mean;
                *scores.entry(*id).or_default() += idf * 2.2 * count / (count + 1.2 * length);
            }
        }
    }
    scores
}

#[test]
fn scores_are_those_of_bm25() {
    let dir = tempfile::tempdir().unwrap();
    let index = TextIndex::create(&dir.path().join("notes"), encoder(), IndexOptions::new(8)).unwrap();
    // Without the names of code, which are several words.
    let plain: Vec<(&str, &str)> = NOTES.iter().filter(|(id, _)| *id != "code").copied().collect();
    write(&index, &plain, &[]);
    for query in ["kiln", "hive in winter", "is the kiln hot", "in in in"] {
        let got: BTreeMap<String, f32> = found(&index, query, &options(Mode::Keyword, 10)).into_iter().collect();
        assert!(!got.is_empty());
        let words: Vec<&str> = query.split(' ').collect();
        let query = if words.iter().all(|w| *w == words[0]) { words[0].to_owned() } else { query.to_owned() };
        let expected = reference(&plain, &query);
        assert_eq!(got.keys().map(String::as_str).collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>());
        for (id, score) in &got {
            assert!((score - expected[id.as_str()]).abs() < 1e-4, "{query}: {id} {score} {}", expected[id.as_str()]);
        }
    }
}

#[test]
fn words_are_found_in_every_commit_and_until_they_are_deleted() {
    let (_dir, index) = notes();
    assert_eq!(names(&index, "kilns", Mode::Keyword), ["kiln", "glass"]);
    assert_eq!(names(&index, "read_file", Mode::Keyword), ["code"]);
    assert_eq!(names(&index, "xj 4471", Mode::Keyword), ["code"]);
    assert_eq!(names(&index, "zeppelin", Mode::Keyword), [""; 0]);
    write(&index, &[("glass", "Glass is blown.")], &["kiln"]);
    assert_eq!(names(&index, "kiln", Mode::Keyword), [""; 0]);
    assert_eq!(names(&index, "blown", Mode::Keyword), ["glass"]);
    let wrong = maintain::verify(index.path(), &()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");

    let mut chosen = options(Mode::Keyword, 10);
    chosen.filter = Some(Filter::parse(&json!({ "id": "swarm" })).unwrap());
    assert_eq!(found(&index, "hive", &chosen)[0].0, "swarm");
    for mode in Mode::ALL {
        chosen.mode = mode;
        assert!(found(&index, "hive in winter", &chosen).iter().all(|(id, _)| id == "swarm"), "{mode}");
    }
}

#[test]
fn modes_do_what_they_are_called() {
    let (_dir, index) = notes();
    // Nobody wrote "apiary": only meaning finds it, and only what holds a word of the query is ranked anew.
    assert!(names(&index, "apiary", Mode::Keyword).is_empty() && names(&index, "apiary", Mode::Rerank).is_empty());
    assert!(["hive", "swarm"].contains(&names(&index, "apiary", Mode::Semantic)[0].as_str()));
    assert!(["hive", "swarm"].contains(&names(&index, "apiary", Mode::Hybrid)[0].as_str()));
    let reader = index.reader().unwrap();
    for mode in [Mode::Rerank, Mode::Hybrid] {
        let answer = reader.search("is the kiln fired in winter", &options(mode, 6)).unwrap();
        for hit in &answer.hits {
            let (semantic, keyword) = (hit.semantic.unwrap(), hit.keyword.unwrap());
            let alone = reader.search("is the kiln fired in winter", &options(Mode::Semantic, 6)).unwrap();
            let same = alone.hits.iter().find(|other| other.passage.path == hit.passage.path).unwrap();
            assert!((same.score - semantic).abs() < 1e-5);
            let words = reader.search("is the kiln fired in winter", &options(Mode::Keyword, 6)).unwrap();
            let same = words.hits.iter().find(|other| other.passage.path == hit.passage.path);
            assert!((same.map_or(0.0, |other| other.score) - keyword).abs() < 1e-5);
        }
        let mut sorted = answer.hits.clone();
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        assert_eq!(sorted, answer.hits);
    }
    // Any number may be asked for, and what has no words is ranked by meaning.
    assert_eq!(names_of(&index, "kiln", &options(Mode::Keyword, usize::MAX >> 1)).len(), 2);
    let (both, alone) =
        (found(&index, "???", &options(Mode::Hybrid, 6)), found(&index, "???", &options(Mode::Semantic, 6)));
    assert_eq!(both, alone);
    // Alone, each of the two is the hybrid of which the other is no part.
    let mut all = options(Mode::Hybrid, 6);
    for (weight, mode) in [(0.0, Mode::Semantic), (1.0, Mode::Keyword)] {
        all.keyword_weight = weight;
        let both = found(&index, "hive in winter", &all);
        let alone = names(&index, "hive in winter", mode);
        assert_eq!(
            both.iter().map(|(id, _)| id).take(alone.len()).collect::<Vec<_>>(),
            alone.iter().collect::<Vec<_>>()
        );
    }
    let error = reader.search_encoded(&encoder_query("hive"), &[], &options(Mode::Rerank, 3)).unwrap_err();
    assert!(matches!(error, Error::NeedsWords), "{error}");
    assert!(matches!(reader.search(" ", &options(Mode::Keyword, 3)), Err(Error::EmptyQuery)));
}

fn encoder_query(text: &str) -> Vec<latewood::engine::QueryEmbeddings> {
    encoder().encode_queries(&[text]).unwrap().into_iter().map(|query| query.embeddings).collect()
}

#[test]
fn explanations_of_keywords_name_the_words() {
    let (_dir, index) = notes();
    let mut explained = options(Mode::Keyword, 1);
    explained.explain = true;
    let hit = index.reader().unwrap().search("which Kilns fire", &explained).unwrap().hits.remove(0);
    let matches = hit.matches.unwrap();
    let texts: Vec<_> = matches.iter().map(|m| m.text.clone().map(|place| &hit.passage.text[place])).collect();
    assert_eq!(texts, [None, Some("kiln"), Some("fires")]);
    assert_eq!(matches[1].query, Some(6..11));
    let sum: f32 = matches.iter().map(|m| m.score).sum();
    assert!((sum - hit.score).abs() < 1e-4);
}

#[test]
fn lost_keywords_are_made_again_without_encoding() {
    let (_dir, index) = notes();
    fs::remove_dir_all(index.path().join("keywords")).unwrap();
    // By meaning it goes on.
    assert_eq!(names(&index, "honey in the hive", Mode::Semantic)[0], "hive");
    let error = index.reader().unwrap().search("kiln", &options(Mode::Hybrid, 3)).unwrap_err().to_string();
    assert!(error.contains("keywords") && error.contains("delete this folder"), "{error}");
    assert!(!maintain::verify(index.path(), &()).unwrap().is_empty());
    let committed = index.writer(PassageOptions::default()).unwrap().commit(&()).unwrap();
    assert_eq!(committed.passages, 0);
    assert_eq!(names(&index, "kiln", Mode::Keyword), ["kiln", "glass"]);
    let wrong = maintain::verify(index.path(), &()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");

    // A byte that is not what was written is found.
    let postings = fs::read_dir(index.path().join("keywords")).unwrap().flatten().map(|entry| entry.path());
    let postings = postings.into_iter().find(|path| path.extension().is_some_and(|e| e == "idx")).unwrap();
    let mut bytes = fs::read(&postings).unwrap();
    bytes[3] ^= 1;
    fs::write(&postings, bytes).unwrap();
    let wrong = maintain::verify(index.path(), &()).unwrap();
    assert!(wrong.len() == 1 && wrong[0].to_string().contains("checksum"), "{wrong:?}");
    // And nothing is built on it: the next write makes them anew.
    write(&index, &[("more", "A kiln again.")], &[]);
    let wrong = maintain::verify(index.path(), &()).unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(names(&index, "kiln", Mode::Keyword).len(), 3);

    // What is damaged and looks whole may make tantivy panic: that is an error.
    let folder = index.path().join("keywords");
    for entry in fs::read_dir(&folder).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|e| e == "idx")) {
        let mut bytes = fs::read(entry.path()).unwrap();
        let end = bytes.len().saturating_sub(230);
        bytes[..end].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(entry.path(), bytes).unwrap();
    }
    let _ = index.reader().unwrap().search("kiln in the winter", &options(Mode::Keyword, 3));
    // A short file is damage and no failure of the disk.
    let segment = fs::read_dir(&folder).unwrap().flatten().find(|e| e.path().extension().is_some_and(|e| e == "term"));
    fs::write(segment.unwrap().path(), "short").unwrap();
    let error = index.reader().unwrap().search("kiln", &options(Mode::Keyword, 3)).unwrap_err().to_string();
    assert!(error.contains("delete this folder"), "{error}");
    write(&index, &[("more", "A kiln once more.")], &[]);
    assert_eq!(names(&index, "kiln", Mode::Keyword).len(), 3);
}

#[test]
fn a_folder_gets_its_keywords_back_by_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kiln.md"), "# Kilns\n\nStoneware is fired at 1280 degrees.\n").unwrap();
    let index = TextIndex::open_or_create(Location::find(Some(dir.path()), None).unwrap(), encoder()).unwrap();
    index.sync(&SyncOptions::default(), &()).unwrap();
    assert_eq!(names(&index, "kiln", Mode::Keyword), ["kiln.md"]);
    fs::remove_dir_all(index.path().join("keywords")).unwrap();
    let report = index.sync(&SyncOptions::default(), &()).unwrap();
    assert_eq!((report.passages, report.unchanged), (0, 1));
    // The title counts, too.
    assert_eq!(names(&index, "kiln", Mode::Keyword), ["kiln.md"]);
    index.remove().unwrap();
    assert!(!dir.path().join(".latewood").exists());
}

/// Copies files, over those of the same names.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(&name), wanted);
        } else if wanted(&name) {
            fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

#[test]
fn keywords_of_a_commit_that_was_never_published_do_not_count() {
    let (dir, index) = notes();
    let (old, crashed) = (dir.path().join("old"), dir.path().join("crashed"));
    copy(index.path(), &old, &|_| true);
    write(&index, &[("extra", "A zeppelin has no kiln."), ("kiln", "Nothing is left.")], &["hive"]);
    // What a crash leaves between the last file and the manifest: all files of both, and the old manifest.
    copy(index.path(), &crashed, &|_| true);
    copy(&old, &crashed, &|_| true);
    let open = |path: &Path| {
        let location = Location { root: None, index: path.into(), asked: None };
        TextIndex::open(location, encoder()).unwrap()
    };
    let index = open(&crashed);
    assert_eq!(names(&index, "kiln", Mode::Keyword), ["kiln", "glass"]);
    assert!(names(&index, "zeppelin", Mode::Keyword).is_empty());
    assert!(maintain::verify(&crashed, &()).unwrap().is_empty());
    let files = |path: &Path| fs::read_dir(path.join("keywords")).unwrap().count();
    let before = files(&crashed);
    write(&index, &[("extra", "A zeppelin flies.")], &[]);
    assert!(files(&crashed) < before + files(&old), "files that nobody names are deleted");
    assert_eq!(names(&index, "zeppelin", Mode::Keyword), ["extra"]);
    assert_eq!(names(&index, "kiln", Mode::Keyword), ["kiln", "glass"]);
    assert!(maintain::verify(&crashed, &()).unwrap().is_empty());
}

#[test]
fn many_commits_stay_few_files() {
    let (_dir, index) = notes();
    for n in 0..40 {
        write(&index, &[(&format!("note-{n}"), &format!("Note number {n} of the shed."))], &[]);
    }
    let files = fs::read_dir(index.path().join("keywords")).unwrap().count();
    assert!(files < 120, "{files} files after 43 commits");
    assert_eq!(found(&index, "shed", &options(Mode::Keyword, 100)).len(), 41);
}
