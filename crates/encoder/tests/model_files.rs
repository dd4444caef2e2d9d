//! What loading says of a model whose files do not fit together, on a small model of random weights.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use latewood_encoder::{ColbertEncoder, Encoder, Error, ModelFiles, ModelId, POOLED_TOKEN, Precision};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const HIDDEN: usize = 16;
const WIDE: usize = 32;
const DIM: usize = 8;
const POSITIONS: usize = 12;
const VOCABULARY: [&str; 10] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "tree", "ring", "##s", "a", "wood"];

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A small model, its parts open to change.
struct Small {
    config: Value,
    description: Value,
    tokenizer: Value,
    tensors: Tensors,
}

impl Small {
    fn new() -> Self {
        let role = json!({"max_tokens": 10, "drop_tokens": ["[CLS]", "[SEP]", "."]});
        let special = |id: u32| {
            json!({"id": id, "content": VOCABULARY[id as usize], "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
        };
        let vocabulary: BTreeMap<_, _> = VOCABULARY.iter().zip(0..).collect();
        Self {
            config: json!({"model_type": "bert", "hidden_act": "gelu", "vocab_size": VOCABULARY.len(),
                "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": WIDE,
                "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12}),
            description: json!({"format": 1, "name": "small", "dim": DIM, "normalize": true,
                "projection": "projection.weight", "query": role, "document": role,
                "pooled_rows": {"rows": 1, "pooling": "mean", "projection": "projection.weight", "query_weight": 0.5}}),
            tokenizer: json!({"version": "1.0", "added_tokens": [special(0), special(1), special(2), special(3)],
                "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": null, "lowercase": true},
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
                "decoder": null,
                "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": vocabulary}}),
            tensors: tensors(),
        }
    }

    fn files(&self) -> ModelFiles {
        let views = self.tensors.iter().map(|(n, (t, s, d))| (n, TensorView::new(*t, s.clone(), d).unwrap()));
        ModelFiles {
            config: Cow::Owned(self.config.to_string().into_bytes()),
            description: Cow::Owned(self.description.to_string().into_bytes()),
            tokenizer: Cow::Owned(self.tokenizer.to_string().into_bytes()),
            weights: Cow::Owned(safetensors::serialize(views, None).unwrap()),
        }
    }

    fn load(&self) -> Result<ColbertEncoder, Error> {
        ColbertEncoder::from_files(self.files(), Precision::default())
    }
}

/// Weights of every stored type: matrices of layers I8, word embeddings F16, positions BF16, the rest F32.
fn tensors() -> Tensors {
    let mut tensors = Tensors::new();
    let mut state = 1_u32;
    let mut add = |name: String, shape: &[usize]| {
        let n = shape.iter().product();
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 65_536.0 - 0.5
        };
        let values: Vec<f32> = (0..n).map(|_| random()).collect();
        let (dtype, bytes) = match name.as_str() {
            n if n.contains("word_emb") => {
                (Dtype::F16, values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect())
            }
            n if n.contains("position_emb") => {
                (Dtype::BF16, values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect())
            }
            n if n.contains("layer") && shape.len() == 2 => {
                let scales = vec![0.01_f32; shape[0]].iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.insert(format!("{n}.scale"), (Dtype::F32, vec![shape[0]], scales));
                (Dtype::I8, values.iter().map(|x| ((x * 200.0) as i8).cast_unsigned()).collect())
            }
            _ => (Dtype::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        };
        tensors.insert(name, (dtype, shape.to_vec(), bytes));
    };
    for (name, rows) in [("word", VOCABULARY.len()), ("position", POSITIONS), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, HIDDEN]);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in ["encoder.layer.0", "encoder.layer.1"] {
        for (name, rows, columns) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ] {
            add(format!("{layer}.{name}.weight"), &[rows, columns]);
            add(format!("{layer}.{name}.bias"), &[rows]);
        }
        norms.extend([format!("{layer}.attention.output.LayerNorm"), format!("{layer}.output.LayerNorm")]);
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[HIDDEN]);
        add(format!("{norm}.bias"), &[HIDDEN]);
    }
    add("projection.weight".into(), &[DIM, HIDDEN]);
    tensors
}

#[test]
fn rows_follow_the_rules_of_the_description() {
    let encoder = Small::new().load().unwrap();
    let document = encoder.encode_documents(&["Trees. Wood rings!"]).unwrap().remove(0);
    assert_eq!(document.token_ids, [5, 7, 9, 6, 7, 1, POOLED_TOKEN]);
    assert_eq!((document.embeddings.view().len(), document.tokens, document.truncated), (7, 9, false));
    for nothing in ["", "  \n"] {
        let document = encoder.encode_documents(&[nothing]).unwrap().remove(0);
        assert_eq!(document.token_ids, [2, 3, POOLED_TOKEN]);
        let query = encoder.encode_queries(&[nothing]).unwrap().remove(0);
        assert_eq!((query.token_ids.len(), query.tokens), (3, 2));
    }
    let query = encoder.encode_queries(&["a a a a a a a a a a a"]).unwrap().remove(0);
    assert_eq!((query.tokens, query.truncated, query.token_ids.len()), (13, true, 9));
    let norms: Vec<f32> =
        query.embeddings.values().chunks_exact(DIM).map(|r| r.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
    assert!(norms[..8].iter().all(|n| (n - 1.0).abs() < 1e-5) && (norms[8] - 0.5 * 8.0).abs() < 1e-4, "{norms:?}");
}

#[test]
fn without_pooled_rows_there_are_none() {
    let mut small = Small::new();
    small.description["pooled_rows"] = Value::Null;
    small.description["document"]["drop_tokens"] = json!([]);
    let document = small.load().unwrap().encode_documents(&["tree"]).unwrap().remove(0);
    assert_eq!(document.token_ids, [2, 5, 3]);
}

#[test]
fn any_change_changes_the_id() {
    let id = |small: Small| small.load().unwrap().model_id().to_string();
    let first = id(Small::new());
    assert!(first.starts_with("small@") && first.len() == 6 + 16, "{first}");
    assert_eq!(first, id(Small::new()));
    assert_eq!(first, ModelId::new("small", &Small::new().files().digest()).to_string());
    let mut other = Small::new();
    other.description["query"]["max_tokens"] = json!(11);
    assert_ne!(first, id(other));
    let mut other = Small::new();
    other.tensors.get_mut("projection.weight").unwrap().2[0] ^= 1;
    assert_ne!(first, id(other));
}

#[test]
fn every_missing_tensor_is_named() {
    for name in tensors().keys() {
        let mut small = Small::new();
        small.tensors.remove(name);
        assert_eq!(small.load().unwrap_err().to_string(), format!("model.safetensors has no tensor {name}"));
    }
}

#[test]
fn every_wrong_shape_is_named() {
    for (name, (dtype, shape, data)) in tensors() {
        let mut found = shape.clone();
        found.push(1);
        let mut small = Small::new();
        small.tensors.insert(name.clone(), (dtype, found.clone(), data));
        let text = small.load().unwrap_err().to_string();
        assert_eq!(text, format!("model.safetensors: tensor {name} has shape {found:?}, expected {shape:?}"));
    }
}

#[test]
fn files_that_disagree_are_refused() {
    type Change = fn(&mut Small);
    let cases: [(Change, &str); 8] = [
        (|s| s.config["hidden_act"] = json!("relu"), "config.json: hidden_act \"relu\" is not supported"),
        (|s| s.config["model_type"] = json!("deberta"), "config.json: model_type \"deberta\" is not supported"),
        (
            |s| s.config["vocab_size"] = json!(9),
            "tokenizer.json has the token id 9, but embeddings.word_embeddings.weight has 9 rows",
        ),
        (|s| s.config["hidden_size"] = json!(8), "has shape [2, 16], expected [2, 8]"),
        (
            |s| s.description["document"]["max_tokens"] = json!(13),
            "document.max_tokens is 13, but the model has 12 positions",
        ),
        (
            |s| s.description["query"]["max_tokens"] = json!(2),
            "query.max_tokens is 2, expected more than the 2 special tokens",
        ),
        (|s| s.description["projection"] = json!("linear.weight"), "model.safetensors has no tensor linear.weight"),
        (|s| s.tokenizer["model"]["unk_token"] = json!("[unk]"), "tokenizer.json: "),
    ];
    for (change, expected) in cases {
        let mut small = Small::new();
        change(&mut small);
        let text = small.load().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn weights_cut_short_are_refused() {
    let mut files = Small::new().files();
    let weights = files.weights.to_mut();
    weights.truncate(weights.len() - 1);
    let text = ColbertEncoder::from_files(files, Precision::default()).unwrap_err().to_string();
    assert!(text.starts_with("model.safetensors (") && text.contains("damaged or cut short"), "{text}");
}

#[test]
fn weights_that_overflow_are_an_error_and_no_embedding() {
    let mut small = Small::new();
    let huge = 3e38_f32.to_le_bytes().repeat(DIM * HIDDEN);
    small.tensors.get_mut("projection.weight").unwrap().2 = huge;
    let error = small.load().unwrap().encode_documents(&["tree", "ring"]).unwrap_err();
    assert!(matches!(error, Error::Embeddings { .. }), "{error}");
}
