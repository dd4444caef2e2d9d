//! The Model Context Protocol: searching, reading and looking, for programs that talk with language models.
//!
//! Three tools, none of which changes anything: `search`, `read` and `status`. The same over HTTP, at `/mcp`, without sessions,
//! and over standard input and output ([`serve_stdio`]). Answers come as text for the model and as JSON for the program.

use std::fmt::Write;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::routes::{DEFAULT_INDEX, Found, SearchRequest, SearchResponse, documents, indexes, search};
use crate::state::AppState;

/// Characters of a document that are read at once.
const MAX_READ: usize = 20_000;
/// Hits unless said: what a model reads costs it.
const DEFAULT_K: usize = 5;
const MAX_K: usize = 50;

/// The tools over `state`.
#[derive(Clone)]
pub(crate) struct Tools(AppState);

/// What a tool answers: for the model, and for the program.
struct Answer {
    text: String,
    json: Value,
}

/// The service at `/mcp`. Whoever gets that far may read, by the key and the name of the host.
pub(crate) fn service(state: &AppState) -> StreamableHttpService<Tools, NeverSessionManager> {
    let tools = Tools(state.clone());
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts();
    StreamableHttpService::new(move || Ok(tools.clone()), Arc::default(), config)
}

/// Serves the tools on standard input and output until the input ends.
///
/// # Errors
/// When the protocol is not spoken.
pub async fn serve_stdio(state: AppState) -> std::io::Result<()> {
    let running = Tools(state).serve(rmcp::transport::stdio()).await.map_err(std::io::Error::other)?;
    running.waiting().await.map_err(std::io::Error::other)?;
    Ok(())
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let text = "Searches documents by meaning. Call status to see which indexes there are, search to find passages, and \
                    read for more of a document that a hit names.";
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("latewood", env!("CARGO_PKG_VERSION")))
            .with_instructions(text)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let answer = match &*request.name {
            "search" => self.search(arguments).await,
            "read" => self.read(arguments).await,
            "status" => self.status().await,
            name => return Err(ErrorData::invalid_params(format!("there is no tool {name}"), None)),
        };
        Ok(match answer {
            Ok(Answer { text, json }) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(json);
                result
            }
            // What the model can mend is its to hear.
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error.message())]),
        }
        .into())
    }
}

fn tools() -> Vec<Tool> {
    let index = json!({ "type": "string", "description": "The index; \"default\" unless said" });
    let tool = |name: &'static str, text: &'static str, properties: Value, required: &[&str]| {
        let schema = json!({ "type": "object", "properties": properties, "required": required,
            "additionalProperties": false });
        let Value::Object(schema) = schema else { unreachable!("an object") };
        let annotations = ToolAnnotations::new().read_only(true).open_world(false);
        Tool::new(name, text, schema).with_annotations(annotations)
    };
    vec![
        tool(
            "search",
            "Find the passages that answer a question, best first: ask in whole words, not in keywords",
            json!({
                "query": { "type": "string", "description": "What is looked for" },
                "k": { "type": "integer", "minimum": 1, "maximum": MAX_K, "description": "Passages wanted; 5 unless said" },
                "filter": { "type": "object", "description": "Which documents may be found, by metadata, path, title, kind or \
                    modified: {\"path\": {\"$glob\": \"docs/**\"}, \"year\": {\"$gte\": 2020}}" },
                "index": index,
            }),
            &["query"],
        ),
        tool(
            "read",
            "Read a document that a hit names, or some lines of it",
            json!({
                "document": { "type": "string", "description": "Its path or id, as the hit has it" },
                "first_line": { "type": "integer", "minimum": 1 },
                "last_line": { "type": "integer", "minimum": 1 },
                "skip": { "type": "integer", "minimum": 0, "description": "Passages of these lines to leave out, where an \
                    answer was cut off" },
                "index": index,
            }),
            &["document"],
        ),
        tool("status", "Say which indexes there are, and what is in them", json!({}), &[]),
    ]
}

/// Arguments of `search`, beside those of a search over HTTP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    query: String,
    k: Option<usize>,
    filter: Option<JsonObject>,
    index: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadArguments {
    document: String,
    first_line: Option<u32>,
    last_line: Option<u32>,
    #[serde(default)]
    skip: usize,
    index: Option<String>,
}

fn arguments<T: for<'de> Deserialize<'de>>(arguments: JsonObject) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(arguments)).map_err(|e| ApiError::bad_request(e.to_string()))
}

impl Tools {
    async fn search(&self, given: JsonObject) -> Result<Answer, ApiError> {
        let SearchArguments { query, k, filter, index } = arguments(given)?;
        let k = k.unwrap_or(DEFAULT_K);
        if !(1..=MAX_K).contains(&k) {
            return Err(ApiError::bad_request(format!("k is {k}: it must be between 1 and {MAX_K}")));
        }
        let request = SearchRequest::of(query, k, filter);
        let response = search(&self.0, index.as_deref().unwrap_or(DEFAULT_INDEX), request).await?;
        let json = serde_json::to_value(&response).map_err(|e| ApiError::internal(&e))?;
        let text = match &response {
            SearchResponse::One(found) => hits(found),
            SearchResponse::Many(_) => String::new(),
        };
        Ok(Answer { text, json })
    }

    async fn read(&self, given: JsonObject) -> Result<Answer, ApiError> {
        let ReadArguments { document, first_line, last_line, skip, index } = arguments(given)?;
        let index = index.as_deref().unwrap_or(DEFAULT_INDEX);
        let (first, last) = (first_line.unwrap_or(1), last_line.unwrap_or(u32::MAX));
        let document = documents::read(&self.0, index, &document).await?;
        let (lines, mut text) = (document.passages.last().map_or(0, |p| p.lines.last), String::new());
        let wanted = document.passages.iter().filter(|p| p.lines.first <= last && p.lines.last >= first);
        let mut wanted = wanted.skip(skip).zip(skip..).peekable();
        if wanted.peek().is_none() {
            return Err(ApiError::bad_request(format!(
                "{} has {lines} lines: nothing is in those asked for",
                document.id
            )));
        }
        for (passage, at) in wanted {
            if !text.is_empty() && text.len() + passage.text.len() > MAX_READ {
                let _ = write!(text, "[cut off: go on with skip {at}]");
                break;
            }
            let _ = writeln!(text, "[lines {}-{}]\n{}\n", passage.lines.first, passage.lines.last, passage.text);
        }
        let json = json!({ "document": document.id, "title": document.title, "metadata": document.metadata,
            "modified": document.modified, "text": text });
        Ok(Answer { text, json })
    }

    async fn status(&self) -> Result<Answer, ApiError> {
        let list = indexes::all(&self.0).await?;
        let json = serde_json::to_value(&list).map_err(|e| ApiError::internal(&e))?;
        let text = serde_json::to_string_pretty(&json).map_err(|e| ApiError::internal(&e))?;
        Ok(Answer { text, json })
    }
}

/// Hits as a model reads them.
fn hits(found: &Found) -> String {
    let mut text = String::new();
    for (hit, rank) in found.hits.iter().zip(1..) {
        let above: Vec<&str> = hit.title.iter().chain(&hit.headings).map(String::as_str).collect();
        let (first, last) = (hit.lines.first, hit.lines.last);
        let page = hit.page.map_or_else(String::new, |page| format!("page {page}, "));
        let _ = writeln!(text, "{rank}. {}, {page}lines {first}-{last}, score {:.3}", hit.document, hit.score);
        if !above.is_empty() {
            let _ = writeln!(text, "   {}", above.join(" > "));
        }
        let _ = writeln!(text, "{}\n", hit.text.trim_end());
    }
    if text.is_empty() { "Nothing was found.".into() } else { text }
}
