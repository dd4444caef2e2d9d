//! The JSON Schema of pipelines, for editors: what they complete, explain and underline. What depends on other parts of a
//! pipeline only reading it finds.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Value, json};

use super::{
    CrossEncoderStage, FusionStage, KeywordStage, LateInteractionStage, LlmStage, MAX_STAGES, MetadataStage, Pipeline,
    Retrieve,
};

impl Pipeline {
    /// The JSON Schema (2020-12) of what [`Pipeline::parse_json`] and [`Pipeline::parse_toml`] read.
    pub fn schema() -> Value {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let mut generator = settings.into_generator();
        let stages = [
            stage::<LateInteractionStage>(&mut generator, "late-interaction", "MaxSim over token embeddings."),
            stage::<KeywordStage>(&mut generator, "keyword", "BM25."),
            stage::<CrossEncoderStage>(
                &mut generator,
                "cross-encoder",
                "A model that reads query and passage together.",
            ),
            stage::<LlmStage>(&mut generator, "llm", "A language model over an OpenAI-compatible endpoint."),
            stage::<MetadataStage>(&mut generator, "metadata", "What is known of a passage beside its text."),
            stage::<FusionStage>(&mut generator, "fusion", "Scores of earlier stages as one."),
        ];
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Latewood pipeline",
            "description": "What a search brings, and the stages that put it in order, one after the other.",
            "type": "object",
            "properties": {
                "$schema": { "type": "string" },
                "retrieve": generator.subschema_for::<Retrieve>(),
                "stages": { "type": "array", "maxItems": MAX_STAGES, "items": { "oneOf": stages } },
                "budget_ms": {
                    "description": "Milliseconds that all stages may take: where the estimate is over this, the dearest are left out.",
                    "type": "number",
                    "exclusiveMinimum": 0
                },
            },
            "additionalProperties": false
        })
    }
}

impl Pipeline {
    /// The fields that a stage of this type may have.
    pub(super) fn fields(kind: &str) -> Vec<String> {
        let schema = Self::schema();
        let stages = schema.pointer("/properties/stages/items/oneOf").and_then(Value::as_array);
        let stage = stages.and_then(|stages| stages.iter().find(|stage| stage["title"] == kind));
        let fields = stage.and_then(|stage| stage["properties"].as_object());
        fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
    }
}

/// A stage: what its type has, and what all have.
fn stage<T: JsonSchema>(generator: &mut SchemaGenerator, name: &str, description: &str) -> Schema {
    let mut schema = T::json_schema(generator);
    let count = |description| json!({ "description": description, "type": "integer", "minimum": 1 });
    let common = json_schema!({
        "type": { "const": name, "description": description },
        "name": { "description": "What scores and reports call it: its type unless said.", "type": "string", "minLength": 1 },
        "top_k": count("So many of the best go in, the others are out; all unless said."),
        "top_n": count("So many come out; all unless said."),
        "exit_margin": {
            "description": "Where the best is ahead of the second by this much of all scores' range, the stages after this one are left out.",
            "type": "number",
            "minimum": 0,
            "maximum": 1
        }
    });
    let entries = |schema: &Schema| schema.as_object().cloned().unwrap_or_default();
    let mut properties = entries(&common);
    properties.extend(schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
    properties.values_mut().for_each(never_null);
    let mut required = vec![json!("type")];
    required.extend(schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    schema.insert("title".into(), name.into());
    schema.insert("description".into(), description.into());
    schema.insert("properties".into(), properties.into());
    schema.insert("required".into(), required.into());
    schema
}

/// What may be left out is left out, and not null.
fn never_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
    }
    if let Some(inner) = property.pointer_mut("/items/properties").and_then(Value::as_object_mut) {
        inner.values_mut().for_each(never_null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(toml: &str) -> bool {
        let document: Value = toml::from_str(toml).unwrap();
        jsonschema::validator_for(&Pipeline::schema()).unwrap().is_valid(&document)
    }

    #[test]
    fn what_reads_is_allowed() {
        let all = "budget_ms = 5\n[retrieve]\nmode = \"semantic\"\ntop_n = 7\n[[stages]]\ntype = \"llm\"\nmodel = \"m\"\nstep = 3\n\
                   request = { top_p = 1 }\nexit_margin = 0.5\ntop_k = 9\n[[stages]]\ntype = \"metadata\"\nname = \"x\"\nsignals = \
                   [{ type = \"trust\", field = \"from\", values = { a = 0.5 }, weight = 1 }, { type = \"recency\", half_life_days \
                   = 3, weight = -0.5 }]\n[[stages]]\ntype = \"fusion\"\nof = [\"x\"]\nmethod = \"sum\"\nnormalise = \"z\"\n";
        for text in Pipeline::PRESETS.map(|(_, text)| text).into_iter().chain(["", all]) {
            Pipeline::parse_toml(text).unwrap();
            assert!(allows(text), "{text}");
        }
        let json = r#"{"$schema": "./pipeline.schema.json", "stages": []}"#;
        assert!(Pipeline::parse_json(json).unwrap().stages.is_empty());
        let toml = "\"$schema\" = \"./pipeline.schema.json\"";
        assert!(Pipeline::parse_toml(toml).unwrap().stages.is_empty() && allows(toml));
    }

    #[test]
    fn what_does_not_read_is_not() {
        let stage = |text: &str| format!("[[stages]]\n{text}\n");
        for text in [
            "steps = 1".to_owned(),
            "budget_ms = 0".into(),
            "[retrieve]\nmode = \"magic\"".into(),
            "[retrieve]\ntop_n = 0".into(),
            "[retrieve]\ntop_m = 1".into(),
            stage("top_n = 3"),
            stage("type = \"magic\""),
            stage("type = \"keyword\"\ntop_n = 0"),
            stage("type = \"keyword\"\nmodel = \"x\""),
            stage("type = \"keyword\"\nexit_margin = 2"),
            stage("type = \"keyword\"\nname = \"\""),
            stage("type = \"cross-encoder\""),
            stage("type = \"llm\"\nmodel = \"m\"\nwindow = 1"),
            stage("type = \"llm\"\nmodel = \"m\"\nmethod = \"magic\""),
            stage("type = \"llm\"\nmodel = \"m\"\nconcurrency = 65"),
            stage("type = \"llm\"\nmodel = \"m\"\nbase_url = \"ftp://x\""),
            stage("type = \"llm\"\nmodel = \"m\"\ntimeout_s = 0"),
            stage("type = \"metadata\""),
            stage("type = \"metadata\"\nsignals = [{ type = \"length\" }]"),
            stage("type = \"metadata\"\nsignals = [{ type = \"magic\", weight = 1 }]"),
            stage("type = \"fusion\"\nof = []"),
            stage("type = \"keyword\"").repeat(99),
        ] {
            assert!(Pipeline::parse_toml(&text).is_err() && !allows(&text), "{text}");
        }
    }
}
