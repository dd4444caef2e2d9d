//! Documents that are added one by one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use latewood::encoder::{ColbertEncoder, Encoder, EncoderOptions};
use latewood::engine::{IndexOptions, QueryEmbeddings, TokenEmbeddings};
use latewood::ingest::{Kind, PassageOptions};
use latewood::{Content, Error, Filter, Location, NewDocument, Put, SearchOptions, Source, TextIndex};
use serde_json::json;

fn encoder() -> Arc<dyn Encoder> {
    static ENCODER: OnceLock<Arc<ColbertEncoder>> = OnceLock::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
    ENCODER.get_or_init(|| Arc::new(ColbertEncoder::from_dir(&dir).unwrap())).clone()
}

fn new_index() -> (tempfile::TempDir, TextIndex) {
    let dir = tempfile::tempdir().unwrap();
    let index = TextIndex::create(&dir.path().join("notes"), encoder(), IndexOptions::new(8)).unwrap();
    (dir, index)
}

fn document(id: &str, text: &str, metadata: serde_json::Value) -> NewDocument {
    let serde_json::Value::Object(metadata) = metadata else { panic!("metadata is an object") };
    NewDocument { metadata, ..NewDocument::text(id, text) }
}

fn write(index: &TextIndex, documents: &[NewDocument]) -> Vec<Put> {
    let mut writer = index.writer(PassageOptions::default()).unwrap();
    let puts = documents.iter().map(|document| writer.put(document.clone(), &()).unwrap()).collect();
    writer.commit(&()).unwrap();
    puts
}

fn corpus() -> Vec<NewDocument> {
    vec![
        document("kiln", "A kiln fires stoneware at 1280 degrees.", json!({ "topic": "clay", "year": 2019 })),
        document("hive", "A hive needs twenty kilograms of honey in winter.", json!({ "topic": "bees", "year": 2024 })),
        document("swarm", "Bees swarm in May when the hive is full.", json!({ "topic": "bees", "year": 2021 })),
    ]
}

fn found(index: &TextIndex, query: &str, options: &SearchOptions) -> Vec<String> {
    let answer = index.reader().unwrap().search(query, options).unwrap();
    answer.hits.into_iter().map(|hit| hit.passage.path).collect()
}

#[test]
fn an_index_that_was_replaced_takes_no_rows_of_another_kind() {
    let (_dir, index) = new_index();
    write(&index, &corpus());
    let path = index.path().to_path_buf();
    // Somebody else makes it anew, of rows that are pooled; who had it open is told, reading and writing.
    index.clone().remove().unwrap();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
    let mut options = EncoderOptions::default();
    options.pool_factor = Some(4.0);
    let pooled = Arc::new(ColbertEncoder::from_dir(&dir).unwrap().with_options(&options).unwrap());
    let other = TextIndex::create(&path, pooled, IndexOptions::new(8)).unwrap();
    write(&other, &corpus()[..1]);
    assert!(matches!(index.writer(PassageOptions::default()).err(), Some(Error::OtherOptions { .. })));
    assert!(matches!(index.reader().err(), Some(Error::OtherOptions { .. })));
    assert_eq!(other.reader().unwrap().catalog().files.len(), 1);
}

#[test]
fn documents_are_added_found_replaced_and_deleted() {
    let (dir, index) = new_index();
    assert_eq!(index.source(), Source::Documents);
    assert_eq!(write(&index, &corpus()), [Put::Added; 3]);
    assert_eq!(found(&index, "how hot is a kiln", &SearchOptions::new(1)), ["kiln"]);
    assert_eq!(index.reader().unwrap().catalog().get("hive").unwrap().metadata["year"], 2024);

    // The same again is not encoded; new metadata is kept all the same.
    let mut writer = index.writer(PassageOptions::default()).unwrap();
    let again = document("hive", "A hive needs twenty kilograms of honey in winter.", json!({ "year": 2025 }));
    assert_eq!(writer.put(again, &()).unwrap(), Put::Unchanged);
    assert_eq!(writer.put(NewDocument::text("kiln", "Kilns are for glass, too."), &()).unwrap(), Put::Updated);
    assert!(writer.delete("swarm").unwrap() && !writer.delete("nothing").unwrap());
    let committed = writer.commit(&()).unwrap();
    assert_eq!(committed.passages, 1, "the replaced one alone");
    let reader = index.reader().unwrap();
    assert_eq!(reader.catalog().get("hive").unwrap().metadata["year"], 2025);
    assert_eq!((reader.info().docs(), reader.catalog().files.len()), (2, 2));
    assert_eq!(found(&index, "bees swarm in May", &SearchOptions::new(3)).len(), 2);

    // Twice in one commit, the last counts; dropped without a commit, nothing does.
    write(&index, &[NewDocument::text("x", "first"), NewDocument::text("x", "the second one")]);
    let mut writer = index.writer(PassageOptions::default()).unwrap();
    writer.put(NewDocument::text("y", "never committed"), &()).unwrap();
    drop(writer);
    drop(index);
    let location = Location { root: None, index: dir.path().join("notes"), asked: None };
    let index = TextIndex::open(location, encoder()).unwrap();
    let reader = index.reader().unwrap();
    let paths: Vec<_> = reader.catalog().files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["hive", "kiln", "x"]);
    let first = reader.catalog().get("x").unwrap().docs().start;
    assert_eq!(reader.passage(latewood::engine::DocId(first)).unwrap().unwrap().text, "the second one");
    assert!(latewood::maintain::verify(index.path(), &()).unwrap().is_empty());
}

#[test]
fn filters_choose_before_the_search() {
    let (_dir, index) = new_index();
    write(&index, &corpus());
    let only = |filter| {
        let mut options = SearchOptions::new(3);
        options.filter = Some(Filter::parse(&filter).unwrap());
        found(&index, "how hot is a kiln", &options)
    };
    assert_eq!(only(json!({ "topic": "bees", "year": { "$gt": 2022 } })), ["hive"]);
    assert_eq!(only(json!({ "topic": "glass" })), [""; 0]);
    assert_eq!(only(json!({ "id": { "$in": ["swarm", "none"] } })), ["swarm"]);
}

#[test]
fn explanations_name_the_words_and_add_up() {
    let (_dir, index) = new_index();
    let titled =
        NewDocument { title: Some("Stoneware".into()), ..NewDocument::text("a", "It is fired at 1280 degrees.") };
    write(&index, &[titled]);
    let mut options = SearchOptions::new(1);
    options.explain = true;
    let query = "stoneware degrees";
    let hit = index.reader().unwrap().search(query, &options).unwrap().hits.remove(0);
    let matches = hit.matches.as_ref().unwrap();
    let of = |word: &str| matches.iter().find(|m| m.query.clone().is_some_and(|place| &query[place] == word)).unwrap();
    assert_eq!(&hit.passage.text[of("degrees").text.clone().unwrap()], "degrees");
    let title = matches.iter().filter_map(|m| m.above.as_deref()).collect::<String>();
    assert!("Stoneware".to_lowercase().contains(&title.to_lowercase()) && !title.is_empty(), "{title:?}");
    let sum: f32 = matches.iter().map(|m| m.score).sum();
    let semantic = hit.semantic.unwrap();
    assert!((sum - semantic).abs() < 0.01, "{sum} and {semantic}");
}

#[test]
fn stored_documents_are_reranked_without_encoding_them() {
    let (_dir, index) = new_index();
    write(&index, &corpus());
    let query = encoder().encode_queries(&["honey for the winter"]).unwrap().remove(0).embeddings;
    let reader = index.reader().unwrap();
    let ranked = reader.rerank(&query, &["kiln", "hive", "unknown", "kiln"]).unwrap();
    let ids: Vec<_> = ranked.iter().map(|hit| hit.passage.path.as_str()).collect();
    assert_eq!(ids, ["hive", "kiln"]);
    assert!(ranked[0].score > ranked[1].score && ranked[0].score <= 1.001);
    assert!(reader.rerank(&query, &["unknown"]).unwrap().is_empty());
}

#[test]
fn rows_from_elsewhere_are_found_as_one_passage() {
    let (_dir, index) = new_index();
    let text = "Tables of the tide for the harbour.";
    let rows = encoder().encode_documents(&[text]).unwrap().remove(0).embeddings;
    let content = Content::Embeddings { rows: rows.clone(), text: "shown".into() };
    write(
        &index,
        &[NewDocument { content, ..NewDocument::text("tide", "") }, NewDocument::text("kiln", "A kiln is hot.")],
    );
    let hits = index.reader().unwrap().search("harbour tides", &SearchOptions::new(1)).unwrap().hits;
    assert_eq!((hits[0].passage.path.as_str(), hits[0].passage.text.as_str()), ("tide", "shown"));
    let query = QueryEmbeddings::new(rows.view().values().to_vec(), rows.view().dim()).unwrap();
    let answer = index.reader().unwrap().search_encoded(&[query], &[], &SearchOptions::new(1)).unwrap();
    assert!(answer[0].hits[0].score > 0.97, "{}", answer[0].hits[0].score);
}

#[test]
fn what_cannot_be_added_is_refused_by_name() {
    let (dir, index) = new_index();
    let mut writer = index.writer(PassageOptions::default()).unwrap();
    let narrow = TokenEmbeddings::new(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 8).unwrap();
    let narrow = Content::Embeddings { rows: narrow, text: String::new() };
    let html = Content::Text { text: "<script>x</script>".into(), kind: Kind::Html };
    for (document, part) in [
        (NewDocument::text("", "x"), "an id has 1 to 512 bytes"),
        (NewDocument::text("a\nb", "x"), "no control characters"),
        (NewDocument::text("a", " \n"), "document \"a\": it has no text"),
        (document("a", "x", json!({ "path": 1 })), "cannot have the name \"path\""),
        (document("a", "x", json!({ "b": { "c": 1 } })), "metadata \"b\" is neither"),
        (document("a", "x", json!({ "b": "y".repeat(70_000) })), "65536 is the most"),
        (NewDocument { content: narrow, ..NewDocument::text("a", "") }, "dimension"),
        (NewDocument { content: html, ..NewDocument::text("a", "") }, "it has no text"),
    ] {
        let text = writer.put(document, &()).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }
    writer.put(NewDocument::text("good", "Good documents are kept."), &()).unwrap();
    writer.commit(&()).unwrap();
    assert_eq!(index.reader().unwrap().info().docs(), 1);

    let text = index.sync(&Default::default(), &()).unwrap_err().to_string();
    assert!(text.contains("added one by one"), "{text}");
    std::fs::write(dir.path().join("a.md"), "Some text.\n").unwrap();
    let folder = TextIndex::open_or_create(Location::find(Some(dir.path()), None).unwrap(), encoder()).unwrap();
    folder.sync(&Default::default(), &()).unwrap();
    let text = folder.writer(PassageOptions::default()).err().unwrap().to_string();
    assert!(text.contains("are the files of"), "{text}");
}
