//! What the OpenAPI document says beyond its types and handlers: keys, errors, and which parts of a request go together.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::error::ErrorBody;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Latewood",
        description = "Late-interaction search over HTTP: indexes of documents, searches with reasons, reranking and token \
                       embeddings in the shapes that clients already speak.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorBody)),
    security((), ("bearer" = []))
)]
struct Document;

/// Makes a document of `routes`.
pub(super) fn complete(routes: OpenApi) -> OpenApi {
    let mut openapi = Document::openapi();
    openapi.merge(routes);
    add_key(&mut openapi);
    add_errors(&mut openapi);
    add_choices(&mut openapi);
    openapi
}

fn add_key(openapi: &mut OpenApi) {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key, where the server has any: one that may read, or one that may write."))
        .build();
    let components = openapi.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
}

/// What every route may answer: the codes are in the crate's documentation.
fn add_errors(openapi: &mut OpenApi) {
    let error = |text: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        ResponseBuilder::new().description(text).content("application/json", content).build()
    };
    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten();
        for operation in operations {
            let responses = &mut operation.responses.responses;
            responses.insert("4XX".into(), error("The request cannot be answered: `code` says why").into());
            responses.insert("5XX".into(), error("The server cannot answer: `code` says why").into());
        }
    }
}

/// Which one of several parts a request has.
fn add_choices(openapi: &mut OpenApi) {
    let schemas = openapi.components.iter_mut().flat_map(|components| &mut components.schemas);
    for (name, schema) in schemas {
        let choices = match name.as_str() {
            "SearchRequest" => search(),
            "RerankRequest" => rerank(),
            "DocumentInput" => document(),
            _ => continue,
        };
        if let RefOr::T(Schema::Object(object)) = schema {
            // utoipa's word for what it has no word for.
            object.extensions.get_or_insert_default().insert("oneOf".into(), Value::Array(choices));
        }
    }
}

fn search() -> Vec<Value> {
    let (text, list, matrix) = (json!("string"), json!("array"), json!(["array", "object"]));
    one_of(&[("query", text), ("queries", list.clone()), ("embeddings", matrix), ("embeddings_batch", list)])
}

fn rerank() -> Vec<Value> {
    let (null, list) = (json!({ "type": "null" }), json!("array"));
    let mut choices = one_of(&[("documents", list.clone()), ("texts", list.clone()), ("ids", list)]);
    choices[..2].iter_mut().for_each(|given| given["properties"]["index"] = null.clone());
    let mut with_fields = choices[0].clone();
    with_fields["properties"]["rank_fields"] = json!({ "type": "array" });
    with_fields["required"] = json!(["documents", "rank_fields"]);
    // Where it is not said what is read of objects, they have a text.
    let text = json!({ "type": ["string", "number", "boolean"], "minLength": 1 });
    let object = json!({ "properties": { "text": text }, "required": ["text"] });
    choices[0]["properties"]["documents"]["items"] = json!({ "if": { "type": "object" }, "then": object });
    choices[0]["properties"]["rank_fields"] = null;
    choices.push(with_fields);
    choices
}

fn document() -> Vec<Value> {
    let mut choices = one_of(&[("text", json!("string")), ("embeddings", json!(["array", "object"]))]);
    choices[0]["properties"]["text"]["pattern"] = json!(r"\S");
    // Beside embeddings it is shown, if there is one.
    choices[1]["properties"]["text"] = json!({});
    choices
}

/// Objects that have one of `parts`, each of a type, and of the others at most null.
fn one_of(parts: &[(&str, Value)]) -> Vec<Value> {
    let one = |(name, kind): &(&str, Value)| {
        let mut properties = serde_json::Map::new();
        properties.extend(parts.iter().map(|(other, _)| ((*other).to_owned(), json!({ "type": "null" }))));
        properties.insert((*name).to_owned(), json!({ "type": kind }));
        json!({ "required": [name], "properties": properties })
    };
    parts.iter().map(one).collect()
}

/// A text that is not blank.
#[derive(ToSchema)]
#[schema(pattern = r"\S")]
pub(crate) struct Words(#[allow(dead_code, reason = "it is there to be described")] String);

/// One text, or several: each of them `text`.
pub(super) fn texts(text: Object) -> Schema {
    let many = ArrayBuilder::new().items(text.clone()).min_items(Some(1));
    OneOfBuilder::new().item(text).item(many).description(Some("One text, or several.")).into()
}

/// Bits a dimension, or null.
pub(super) fn bits() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .enum_values(Some([json!(1), json!(2), json!(4), Value::Null]))
        .default(Some(json!(4)))
        .description(Some("Bits a dimension that tokens are kept in."))
        .into()
}

/// What a document brings for filters to ask for.
pub(super) fn metadata() -> Schema {
    let list = ArrayBuilder::new().items(scalar());
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property_names(Some(string().pattern(Some("^(?!(id|path|title|kind|modified)$)[^$]"))))
        .additional_properties(Some(Schema::from(OneOfBuilder::new().item(scalar()).item(list))))
        .description(Some("What filters may ask for: numbers, strings, true, false, null, or lists of them."))
        .into()
}

/// The language of filters.
pub(super) struct FilterSchema;

impl PartialSchema for FilterSchema {
    fn schema() -> RefOr<Schema> {
        let filter = || Ref::from_schema_name("Filter");
        let filters = || ArrayBuilder::new().items(filter());
        let values = || ArrayBuilder::new().items(any());
        let bound = || ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Number, Type::String]));
        let tests = ObjectBuilder::new()
            .property("$eq", any())
            .property("$ne", any())
            .property("$in", values())
            .property("$nin", values())
            .property("$gt", bound())
            .property("$gte", bound())
            .property("$lt", bound())
            .property("$lte", bound())
            .property("$exists", ObjectBuilder::new().schema_type(Type::Boolean))
            .property("$glob", string().max_length(Some(256)))
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .min_properties(Some(1))
            .description(Some("Tests, all of which must hold."));
        let field =
            OneOfBuilder::new().item(scalar()).item(tests).description(Some("The value of a field, or tests of it."));
        ObjectBuilder::new()
            .property("$and", filters())
            .property("$or", filters())
            .property("$not", filter())
            .property_names(Some(string().pattern(Some(r"^($|[^$]|\$(and|or|not)$)"))))
            .additional_properties(Some(Schema::from(field)))
            .description(Some(
                "Which documents: fields of their metadata, or `id`, `title`, `kind` and `modified`, by name.",
            ))
            .into()
    }
}

impl ToSchema for FilterSchema {
    fn name() -> Cow<'static, str> {
        "Filter".into()
    }
}

fn any() -> Object {
    Object::with_type(SchemaType::AnyValue)
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn scalar() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Number, Type::Boolean, Type::Null]))
}
