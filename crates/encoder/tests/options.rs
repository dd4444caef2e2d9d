//! What a user wants otherwise than the model says.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use latewood_encoder::{ColbertEncoder, EncodedDocument, Encoder, EncoderOptions, POOLED_TOKEN, Precision};

const TEXT: &str = "Latewood is the denser, darker part of a growth ring: it forms late in the season.";

fn golden(variant: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(variant)
}

fn load(variant: &str, set: impl FnOnce(&mut EncoderOptions)) -> Result<ColbertEncoder, latewood_encoder::Error> {
    let mut options = EncoderOptions::default();
    set(&mut options);
    ColbertEncoder::from_dir(&golden(variant)).unwrap().with_options(&options)
}

fn document(encoder: &ColbertEncoder) -> EncodedDocument {
    encoder.encode_documents(&[TEXT]).unwrap().remove(0)
}

fn rows(document: &EncodedDocument) -> Vec<&[f32]> {
    let rows = document.embeddings.view();
    rows.values().chunks_exact(rows.dim()).collect()
}

/// A copy of `variant`, in whose files keys are set: the file, the key, the value.
fn changed(variant: &str, changes: &[(&str, &str, serde_json::Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden(variant)).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    for (file, key, value) in changes {
        let file = dir.path().join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        json[key] = value.clone();
        std::fs::write(file, json.to_string()).unwrap();
    }
    dir
}

/// plain-bert, whose config then says that its rows can be cut.
fn matryoshka(dims: &str) -> tempfile::TempDir {
    changed("plain-bert", &[("config.json", "matryoshka_dimensions", serde_json::from_str(dims).unwrap())])
}

/// A query has no more rows than can be searched with, however many tokens the network takes.
#[test]
fn a_query_longer_than_can_be_searched_is_cut_and_says_so() {
    let long = [
        ("config.json", "max_position_embeddings", 8192.into()),
        ("tokenizer_config.json", "model_max_length", 8192.into()),
    ];
    let dir = changed("plain-modernbert", &long);
    let encoder = ColbertEncoder::from_dir(dir.path()).unwrap();
    assert_eq!((encoder.max_query_tokens(), encoder.max_document_tokens()), (4096, 8192));
    let words = "tree ".repeat(5000);
    let query = encoder.encode_queries(&[&words]).unwrap().remove(0);
    assert!(query.truncated && query.tokens > 5000, "{} tokens", query.tokens);
    assert_eq!(query.embeddings.len(), 4096);
    let document = encoder.encode_documents(&[&words]).unwrap().remove(0);
    assert!(!document.truncated && document.embeddings.view().len() > 5000);
}

#[test]
fn lengths_are_the_users_within_what_the_network_takes() {
    let own = load("pylate-default", |_| {}).unwrap();
    let id = own.model_id().to_string();
    let longer = load("pylate-default", |o| (o.query_maxlen, o.doc_maxlen) = (Some(20), Some(12))).unwrap();
    assert_eq!((longer.max_query_tokens(), longer.max_document_tokens()), (20, 12));
    assert_eq!(longer.model_id().as_str(), format!("{id}?doc_maxlen=12"), "a query's length is no matter of the index");
    let document = document(&longer);
    assert!(document.truncated && document.token_ids.len() <= 12, "{document:?}");
    let query = longer.encode_queries(&["what"]).unwrap().remove(0);
    assert_eq!(query.embeddings.len(), 20, "filled up to the new length");
    let same = load("pylate-default", |o| o.doc_maxlen = Some(own.max_document_tokens())).unwrap();
    assert_eq!(same.model_id(), own.model_id());
    let back = longer.with_options(&EncoderOptions::default()).unwrap();
    assert_eq!((back.model_id(), back.recipe()), (own.model_id(), own.recipe()));
    for n in [0, 3, 65, usize::MAX] {
        let text = load("pylate-default", |o| o.doc_maxlen = Some(n)).unwrap_err().to_string();
        assert_eq!(text, format!("doc_maxlen is {n}, but this model takes from 4 to 64 tokens, 3 of them special"));
        assert!(load("pylate-default", |o| o.query_maxlen = Some(n)).is_err(), "{n}");
    }
}

#[test]
fn rows_are_cut_where_the_model_was_trained_for_it() {
    let dir = matryoshka("[8, 16, 32, 20]");
    let whole = ColbertEncoder::from_dir(dir.path()).unwrap();
    assert_eq!(whole.recipe().matryoshka, [32, 16, 8], "no kernel takes 20");
    let long = document(&whole);
    let cut = |dim| {
        let mut options = EncoderOptions::default();
        options.dim = Some(dim);
        ColbertEncoder::from_dir(dir.path()).unwrap().with_options(&options)
    };
    let sixteen = cut(16).unwrap();
    assert_eq!((sixteen.dim(), sixteen.model_id().as_str()), (16, format!("{}?dim=16", whole.model_id()).as_str()));
    let short = document(&sixteen);
    assert_eq!(short.token_ids, long.token_ids);
    for (short, long) in rows(&short).iter().zip(rows(&long)) {
        let norm = long[..16].iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(short.iter().zip(long).all(|(a, b)| (a - b / norm).abs() < 1e-5), "{short:?} {long:?}");
    }
    assert_eq!(sixteen.encode_queries(&["what"]).unwrap()[0].embeddings.dim(), 16);
    assert_eq!(cut(24).unwrap_err().to_string(), "dim is 24, but the rows of this model have 32 values, or 16, 8");
    let text = load("plain-bert", |o| o.dim = Some(16)).unwrap_err().to_string();
    assert_eq!(text, "dim is 16, but the rows of this model have 32 values, and it does not say that fewer would do");
    // A list that is about vectors of another size.
    let other = matryoshka("[64, 32, 16]");
    assert!(ColbertEncoder::from_dir(other.path()).unwrap().recipe().matryoshka.is_empty());
}

#[test]
fn rows_are_pooled_but_for_the_first_and_those_of_the_whole_text() {
    for variant in ["pylate-default", "plain-bert", "../../../../../models/latewood-mini"] {
        let own = load(variant, |_| {}).unwrap();
        let whole = document(&own);
        let apart = own.recipe().pooled_rows.as_ref().map_or(0, |pooled| pooled.rows);
        let pooled = load(variant, |o| o.pool_factor = Some(2.5)).unwrap();
        assert!(pooled.model_id().as_str().ends_with("?pool_factor=2.5"), "{}", pooled.model_id());
        let fewer = document(&pooled);
        let (n, most) = (rows(&whole).len() - apart, rows(&fewer).len() - apart);
        assert!(most > 1 && most <= 1 + ((n - 1) as f64 / 2.5) as usize, "{variant}: {n} rows pooled to {most}");
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(rows(&fewer)[0], rows(&whole)[0]), "{variant}: the first row");
        assert!(fewer.token_ids[1..].iter().all(|id| *id == POOLED_TOKEN), "{variant}");
        for row in 1..=apart {
            assert!(
                near(rows(&fewer)[most + apart - row], rows(&whole)[n + apart - row]),
                "{variant}: {row} from the end"
            );
        }
        assert_eq!(
            pooled.encode_queries(&[TEXT]).unwrap()[0].embeddings,
            own.encode_queries(&[TEXT]).unwrap()[0].embeddings,
            "{variant}: queries are not pooled"
        );
    }
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        let text = load("pylate-default", |o| o.pool_factor = Some(factor)).unwrap_err().to_string();
        assert!(text.starts_with(&format!("pool_factor is {factor}, but")), "{text}");
    }
    let none = load("pylate-default", |o| o.pool_factor = Some(1.0)).unwrap();
    assert!(!none.model_id().as_str().contains('?'));
    let text = load("st-skip-both", |o| o.pool_factor = Some(2.0)).unwrap_err().to_string();
    assert!(text.contains("not of unit norm"), "{text}");
}

#[test]
fn half_precision_is_for_gpus() {
    let dir = golden("pylate-default");
    for precision in [Precision::F16, Precision::Bf16] {
        let error = ColbertEncoder::open(&dir, precision).unwrap_err().to_string();
        assert!(error.contains("precision is") && error.contains("int8 or f32"), "{error}");
    }
}
