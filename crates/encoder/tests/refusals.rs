//! What cannot be honoured is refused by name: golden models with one thing changed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use latewood_encoder::{ColbertEncoder, Encoder, Error, Side};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a golden model that can be changed.
struct Copy(TempDir);

impl Copy {
    fn of(variant: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(variant);
        copy(&golden, dir.path());
        Self(dir)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Sets `key` of the object in `file`, or removes it.
    fn set(self, file: &str, key: &str, value: Option<Value>) -> Self {
        let mut json: Value = serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap();
        match value {
            Some(value) => json[key] = value,
            None => drop(json.as_object_mut().unwrap().remove(key).unwrap()),
        }
        std::fs::write(self.path(file), json.to_string()).unwrap();
        self
    }

    fn load(&self) -> Result<ColbertEncoder, Error> {
        ColbertEncoder::from_dir(self.0.path())
    }

    fn refusal(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Loads each variant with one key changed, and expects the refusal to begin with the file and to say the rest.
fn all_refused(cases: &[(&str, &str, &str, Option<Value>, &str)]) {
    for (variant, file, key, value, expected) in cases {
        let text = Copy::of(variant).set(file, key, value.clone()).refusal();
        assert!(
            text.contains(expected) && text.contains(key),
            "{variant}, {key} of {file}:\n  {text}\n  not {expected}"
        );
    }
}

#[test]
fn networks_that_are_not_computed() {
    let config = "config.json";
    all_refused(&[
        ("stanford-default", config, "model_type", Some(json!("deberta")), "config.json: model_type \"deberta\""),
        ("stanford-default", config, "auto_map", Some(json!({"AutoModel": "code.Model"})), "is never run"),
        ("stanford-jina", config, "auto_map", Some(json!({"AutoModel": "other/code--code.Model"})), "is never run"),
        ("stanford-jina", config, "rotary_emb_fraction", Some(json!(0.5)), "\"0.5\" is not supported"),
        ("stanford-jina", config, "rotary_emb_interleaved", Some(json!(true)), "rotated in halves"),
        ("pylate-default", config, "hidden_act", Some(json!("relu")), "\"relu\" is not supported"),
        ("pylate-roberta", config, "position_embedding_type", Some(json!("relative_key")), "\"relative_key\""),
        ("pylate-modernbert", config, "hidden_activation", Some(json!("silu")), "\"silu\" is not supported"),
        ("pylate-modernbert", config, "rope_scaling", Some(json!({"factor": 2})), "are not scaled"),
        ("pylate-modernbert", config, "local_rope_theta", Some(json!(0.5)), "is 0.5, expected more than 1"),
        ("pylate-modernbert-attend", config, "layer_types", Some(json!(["full_attention"])), "is 1, expected 4"),
    ]);
    // A network that is there, for something else.
    let deberta = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cross/models/deberta");
    let text = ColbertEncoder::open(&deberta, latewood_encoder::Precision::F32).unwrap_err().to_string();
    assert!(
        text.contains("model_type \"deberta-v2\" is not supported: it is computed for cross-encoders only"),
        "{text}"
    );
    let text = Copy::of("pylate-distilbert").set(config, "dim", Some(json!(30))).refusal();
    assert!(text.contains("hidden_size is 30, expected a multiple of num_attention_heads, 4"), "{text}");
    let text = Copy::of("pylate-modernbert-attend").set(config, "layer_types", Some(json!(["chunked"]))).refusal();
    assert!(text.starts_with("config.json: unknown variant `chunked`"), "{text}");
    let jina = json!({"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_xlm_roberta.Model"});
    assert!(Copy::of("stanford-jina").set(config, "auto_map", Some(jina)).load().is_ok());
}

#[test]
fn modules_that_are_not_known() {
    let module = |kind: &str, path: &str| json!({"idx": 1, "name": "1", "path": path, "type": kind});
    let first = module("sentence_transformers.models.Transformer", "");
    for (variant, modules, expected) in [
        ("pylate-default", json!([first, module("pylate.models.LSTM", "1_Dense")]), "the module pylate.models.LSTM"),
        ("pylate-default", json!([first, module("pylate.models.Code", "1_Dense")]), "the module pylate.models.Code"),
        ("pylate-default", json!([module("custom.Transformer", "")]), "the module custom.Transformer"),
        ("pylate-default", json!([]), "modules.json: the list is empty"),
        (
            "st-fixed",
            json!([first, module("sentence_transformers.models.CNN", "1_Dense")]),
            "models.CNN is not supported",
        ),
        (
            "plain-sentence-transformers",
            json!([first, module("sentence_transformers.models.Dense", "1_Dense")]),
            "models.Dense is not supported",
        ),
    ] {
        let model = Copy::of(variant);
        std::fs::write(model.path("modules.json"), modules.to_string()).unwrap();
        let text = model.refusal();
        assert!(text.starts_with("modules.json: ") && text.contains(expected), "{text}");
    }
}

#[test]
fn dense_layers_that_are_not_computed() {
    let dense = "1_Dense/config.json";
    let activation = "activation_function";
    all_refused(&[
        (
            "pylate-default",
            dense,
            activation,
            Some(json!("torch.nn.modules.activation.Mish")),
            "activation.Mish\" is not",
        ),
        ("pylate-default", dense, activation, Some(json!("os.system")), "1_Dense/config.json: activation_function"),
        ("pylate-default", dense, activation, None, "\"missing\" is not supported"),
        ("st-fixed", dense, "module_input_name", Some(json!("sentence_embedding")), "\"sentence_embedding\""),
        ("pylate-default", dense, "in_features", Some(json!(48)), "expected 32, which the layer before gives"),
    ]);
    let text = Copy::of("pylate-default").set(dense, "out_features", Some(json!(16))).refusal();
    assert_eq!(text, "1_Dense/model.safetensors: tensor linear.weight has shape [8, 32], expected [16, 32]");
    let text = Copy::of("pylate-default").set(dense, "out_features", Some(json!(12))).refusal();
    assert!(text.contains("is 12, expected a multiple of 8, up to 1024"), "{text}");
    let text = Copy::of("pylate-default").set(dense, "bias", None).refusal();
    assert_eq!(text, "1_Dense/model.safetensors has no tensor linear.bias");
}

#[test]
fn options_that_cannot_be_honoured() {
    let (options, bert) = ("config_sentence_transformers.json", "sentence_bert_config.json");
    let expansion = |key: &str, value: Value| {
        let mut expansion = json!({"strategy": "fixed", "attend": false, "token": null, "length": 16});
        expansion[key] = value;
        Some(expansion)
    };
    for (variant, file, key, value, expected) in [
        (
            "pylate-default",
            options,
            "query_length",
            Some(json!(65)),
            "query_length is 65, but the model has 64 positions",
        ),
        ("pylate-roberta", options, "document_length", Some(json!(65)), "is 65, but the model has 64 positions"),
        ("pylate-default", options, "query_length", Some(json!(3)), "query.max_tokens is 3, expected more than"),
        (
            "pylate-default",
            options,
            "query_prefix",
            Some(json!("[R] ")),
            "the vocabulary has no \"[R] \", the marker of a query",
        ),
        ("st-fixed", options, "query_prefix", Some(json!("[Q] ")), "query_prefix \"[Q] \" is not supported"),
        ("st-fixed", bert, "transformer_task", Some(json!("fill-mask")), "transformer_task \"fill-mask\""),
        ("st-fixed", bert, "processing_kwargs", Some(json!({"text": 1})), "processing_kwargs {\"text\":1}"),
        ("st-fixed", bert, "pooling", Some(json!(1)), "unknown field `pooling`"),
        ("st-fixed", bert, "query_length", Some(json!(12)), "query_expansion.length is 16, expected 1 to 12"),
        ("st-fixed", bert, "query_expansion", expansion("strategy", json!("max")), "unknown variant `max`"),
        ("st-fixed", bert, "query_expansion", expansion("length", Value::Null), "sentence_bert_config.json: "),
        ("st-fixed", bert, "query_expansion", expansion("token", json!("[X]")), "no \"[X]\", the expansion of a query"),
        ("st-fixed", "2_MultiVectorMask/config.json", "words", Some(json!([])), "unknown field `words`"),
        ("st-fixed", "3_Normalize/config.json", "module_input_name", None, "module_input_name missing"),
        ("st-pooling", "4_HierarchicalTokenPooling/config.json", "pool_factor", Some(json!(0.5)), "pool_factor is 0.5"),
        (
            "stanford-default",
            "artifact.metadata",
            "doc_maxlen",
            Some(json!(65)),
            "doc_maxlen is 65, but the model has 64",
        ),
        (
            "stanford-default",
            "tokenizer_config.json",
            "truncation_side",
            Some(json!("left")),
            "truncation_side \"left\"",
        ),
        (
            "stanford-default",
            "tokenizer_config.json",
            "do_lower_case",
            Some(json!(false)),
            "do_lower_case is false, expected true",
        ),
        ("stanford-default", "tokenizer_config.json", "mask_token", None, "mask_token is missing"),
        ("stanford-default", "config.json", "vocab_size", Some(json!(200)), "tokenizer.json has the token id 207"),
    ] {
        let text = Copy::of(variant).set(file, key, value).refusal();
        assert!(text.contains(expected), "{variant}, {key} of {file}:\n  {text}\n  not {expected}");
    }
}

#[test]
fn weights_that_are_not_there() {
    let model = Copy::of("plain-bert").set("tokenizer.json", "post_processor", Some(Value::Null));
    assert!(model.refusal().contains("an empty one would have none at all"), "{}", model.refusal());
    let model = Copy::of("stanford-default");
    std::fs::remove_file(model.path("model.safetensors")).unwrap();
    assert!(model.refusal().contains("holds no model.safetensors: a model folder needs model.safetensors, "));
    let model = Copy::of("pylate-sharded");
    std::fs::remove_file(model.path("model-00002-of-00003.safetensors")).unwrap();
    assert!(model.refusal().contains("holds no model-00002-of-00003.safetensors"));
    let elsewhere = json!({"embeddings.LayerNorm.bias": "../model.safetensors"});
    let model = Copy::of("pylate-sharded").set("model.safetensors.index.json", "weight_map", Some(elsewhere));
    assert!(model.refusal().contains("the shard ../model.safetensors is not supported"));
    let model = Copy::of("stanford-bin");
    std::fs::write(model.path("pytorch_model.bin"), b"\x80\x02}q\0.").unwrap();
    let text = model.refusal();
    assert!(text.starts_with("pytorch_model.bin (6 bytes): damaged or cut short: no ZIP archive"), "{text}");
    let model = Copy::of("plain-bert").set("config.json", "architectures", Some(json!(["HF_ColBERT"])));
    assert_eq!(model.refusal(), "model.safetensors has no tensor linear.weight");
    let model = Copy::of("stanford-default");
    std::fs::remove_file(model.path("tokenizer.json")).unwrap();
    assert!(model.refusal().contains("holds no tokenizer.json"));
    assert!(
        ColbertEncoder::from_dir(Path::new("/nowhere"))
            .unwrap_err()
            .to_string()
            .contains("/nowhere holds no config.json")
    );
}

#[test]
fn documents_of_any_norm_are_not_indexed() {
    for variant in ["st-skip-both", "st-pooling-raw"] {
        let encoder = Copy::of(variant).load().unwrap();
        assert!(!encoder.recipe().indexable());
        assert!(encoder.encode_queries(&["tree ring"]).is_ok());
        assert!(matches!(encoder.encode_documents(&["tree ring"]), Err(Error::NotNormalised { .. })), "{variant}");
    }
    let encoder = Copy::of("plain-bert").load().unwrap();
    let raw = encoder.encode_raw(Side::Document, &["tree ring"]).unwrap().remove(0).values;
    let unit = encoder.encode_documents(&["tree ring"]).unwrap().remove(0).embeddings.into_values();
    let ratios: Vec<f32> = raw.iter().zip(&unit).take(encoder.dim()).map(|(a, b)| a / b).collect();
    assert!(ratios.iter().all(|ratio| (ratio / ratios[0] - 1.0).abs() < 1e-3) && ratios[0] > 1.1, "{ratios:?}");
    let encoder = Copy::of("st-keep-only").load().unwrap();
    assert!(encoder.encode_raw(Side::Document, &[""]).unwrap()[0].values.is_empty());
    assert!(matches!(encoder.encode_documents(&["tree", ""]), Err(Error::Embeddings { text: 1, .. })));
}

#[test]
fn the_id_depends_on_every_file_that_counts() {
    let id = |model: &Copy| {
        let id = model.load().unwrap().model_id().to_string();
        id.rsplit_once('@').unwrap().1.to_owned()
    };
    let model = Copy::of("pylate-default");
    let first = id(&model);
    assert_eq!(first, id(&Copy::of("pylate-default")));
    let dense = "1_Dense/config.json";
    for (file, key, value) in [
        ("config_sentence_transformers.json", "query_length", json!(17)),
        (dense, "activation_function", json!("torch.nn.modules.activation.Tanh")),
        ("tokenizer_config.json", "model_max_length", json!(511)),
        ("sentence_bert_config.json", "max_seq_length", json!(22)),
    ] {
        assert_ne!(first, id(&Copy::of("pylate-default").set(file, key, Some(value))), "{file}");
    }
    let (weights, other) = ("1_Dense/model.safetensors", model.path("1_Dense/model.safetensors"));
    let mut bytes = std::fs::read(model.path(weights)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(other, bytes).unwrap();
    assert_ne!(first, id(&model));
}
