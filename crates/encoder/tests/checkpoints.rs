//! Every kind of checkpoint against its reference implementation: `golden/README.md` says how the values were made.
#![expect(clippy::unwrap_used, reason = "a test")]

mod reference;

use latewood_encoder::{ColbertEncoder, Encoder, POOLED_TOKEN, Precision, Side};
use reference::{compare, golden};

/// Largest difference allowed between two values.
const TOLERANCE: f32 = 1e-4;

/// Variants that are refused so far, and what the refusal says.
const NOT_YET: &[(&str, &str)] = &[];

/// The names of all variants.
fn variants() -> Vec<String> {
    let models = std::fs::read_dir(golden().join("models")).unwrap();
    let mut names: Vec<String> = models.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn load(variant: &str) -> Result<ColbertEncoder, latewood_encoder::Error> {
    ColbertEncoder::open(&golden().join("models").join(variant), Precision::F32)
}

#[test]
fn every_variant_is_as_its_reference_or_refused_as_said() {
    let mut wrong = Vec::new();
    let mut largest = 0.0_f32;
    for variant in variants() {
        let expected = NOT_YET.iter().find(|(name, _)| *name == variant);
        match (expected, load(&variant)) {
            (Some((_, why)), Err(e)) if e.to_string().contains(why) => {}
            (Some(_), Ok(_)) => wrong.push(format!("{variant}: is in NOT_YET, but loads")),
            (_, Err(e)) => wrong.push(format!("{variant}: {e}")),
            (None, Ok(encoder)) => match compare(&variant, &encoder, TOLERANCE) {
                Ok(difference) => largest = largest.max(difference),
                Err(why) => wrong.push(format!("{variant}: {why}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(largest > 0.0, "two ways of computing that agree to the last bit were not two");
    assert!(NOT_YET.iter().all(|(name, _)| variants().iter().any(|variant| variant == name)));
}

/// One variant of each network, and of each way to fill queries up.
#[test]
fn a_text_encodes_the_same_alone_and_in_a_batch() {
    for variant in [
        "stanford-default",
        "stanford-jina",
        "pylate-distilbert",
        "pylate-roberta",
        "pylate-modernbert",
        "st-min",
        "st-xlmr",
    ] {
        let encoder = load(variant).unwrap();
        let texts = ["", "larch", "The ring of a tree tells the weather of its year.", "oak, ash", "<pad> elm [PAD]"];
        for side in [Side::Query, Side::Document] {
            for (text, together) in texts.iter().zip(encoder.encode_raw(side, &texts).unwrap()) {
                let alone = encoder.encode_raw(side, &[text]).unwrap().remove(0);
                assert_eq!((&together.ids, &together.token_ids), (&alone.ids, &alone.token_ids), "{variant}");
                let apart = together.values.iter().zip(&alone.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= 1e-5, "{variant} {text:?}: {apart}");
            }
        }
    }
}

/// Of every variant: as many places as rows, in order, and each place holds the token that its row is of.
#[test]
fn rows_know_where_they_come_from() {
    let text = "  Latewood forms late: Über the café, 12 Rings!\n";
    for variant in variants() {
        let encoder = load(&variant).unwrap();
        for side in [Side::Query, Side::Document] {
            let rows = encoder.encode_raw(side, &[text]).unwrap().remove(0);
            let places = encoder.places(side, text).unwrap();
            if places.is_empty() {
                assert!(encoder.recipe().document.pooling.is_some() || rows.token_ids.is_empty(), "{variant}");
                continue;
            }
            let words = rows.token_ids.iter().filter(|id| **id != POOLED_TOKEN);
            assert_eq!(places.len(), words.clone().count(), "{variant}");
            let known: Vec<_> = words.zip(&places).filter_map(|(id, place)| Some((*id, place.clone()?))).collect();
            assert!(known.windows(2).all(|pair| pair[0].1.start <= pair[1].1.start), "{variant}: {known:?}");
            for (id, place) in &known {
                let piece = encoder.tokenizer().piece(*id).unwrap();
                if piece.contains("UNK") || piece.contains("unk") {
                    continue;
                }
                let piece: String =
                    piece.trim_start_matches("##").chars().filter(char::is_ascii_alphanumeric).collect();
                // Some tokenizers take accents away.
                let found = text[place.clone()].to_lowercase().replace('ü', "u").replace('é', "e");
                assert!(found.contains(&piece.to_lowercase()), "{variant}: {piece:?} and {found:?}");
            }
            assert!(!known.is_empty(), "{variant}");
        }
    }
}
