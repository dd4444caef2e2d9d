//! Asking an endpoint that speaks OpenAI's chat protocol.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

use crate::pipeline::LlmStage;

const OPENAI: &str = "https://api.openai.com/v1";
/// Between the first try and the second; twice as long each time after.
const PAUSE: Duration = Duration::from_millis(250);
/// However long an endpoint asks to wait.
const MOST_PAUSE: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const MOST_BYTES: u64 = 1 << 20;

/// An endpoint.
pub(crate) struct Client {
    agent: Agent,
    /// Up to `/v1`.
    address: String,
    key: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// Why a request failed, and whether another try may do better.
struct Failure {
    detail: String,
    again: Option<Duration>,
}

impl Client {
    /// The endpoint of `stage`; its key is read now.
    pub(crate) fn new(stage: &LlmStage) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let address = stage.base_url.clone().or_else(|| variable("OPENAI_BASE_URL")).unwrap_or_else(|| OPENAI.into());
        let timeout = Some(Duration::from_secs_f64(stage.timeout_s));
        let agent = Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build().into();
        Self { agent, address: address.trim_end_matches('/').into(), key: variable(&stage.api_key_env) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What the model answers, in at most `tokens`; no try begins after `until`.
    pub(crate) fn ask(
        &self,
        stage: &LlmStage,
        rules: &str,
        question: &str,
        tokens: usize,
        until: Instant,
    ) -> Result<String, String> {
        let body = json!({
            "model": stage.model, "temperature": 0, "max_tokens": tokens,
            "messages": [{ "role": "system", "content": rules }, { "role": "user", "content": question }],
        });
        let body = body.to_string();
        let mut pause = PAUSE;
        for left in (0..=stage.retries).rev() {
            match self.once(&body) {
                Ok(answer) => return Ok(answer),
                Err(Failure { again: Some(wait), .. }) if left > 0 && Instant::now() + wait.max(pause) < until => {
                    std::thread::sleep(wait.max(pause).min(MOST_PAUSE));
                    pause *= 2;
                }
                Err(Failure { detail, .. }) => return Err(format!("{}: {detail}", self.address)),
            }
        }
        unreachable!("the last try returns")
    }

    fn once(&self, body: &str) -> Result<String, Failure> {
        let mut request = self.agent.post(format!("{}/chat/completions", self.address));
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        // A connection that fails or a request that takes too long may do better; nothing was answered.
        let failed = |e: ureq::Error| Failure { detail: e.to_string(), again: Some(Duration::ZERO) };
        let mut response = request.send(body).map_err(failed)?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(failed)?;
        if !status.is_success() {
            let again = status.as_u16() == 429 || status.is_server_error();
            let wait = Duration::from_secs(wait.unwrap_or(0));
            let said: String = text.chars().take(200).collect();
            return Err(Failure { detail: format!("{status}: {said}"), again: again.then_some(wait) });
        }
        let lost = |detail: String| Failure { detail, again: None };
        let answer: Answer = serde_json::from_str(&text).map_err(|e| lost(format!("no chat completion: {e}")))?;
        let content = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
        content.ok_or_else(|| lost("the answer has no content".into()))
    }
}
