//! Asking an endpoint that speaks OpenAI's chat protocol.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

use super::Until;
use crate::pipeline::LlmStage;

const OPENAI: &str = "https://api.openai.com/v1";
/// Between the first try and the second; twice as long each time after.
const PAUSE: Duration = Duration::from_millis(250);
/// How often somebody who sleeps looks whether anybody waits.
const LOOK: Duration = Duration::from_millis(100);
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

/// Why a question has no answer.
pub(crate) struct Failed {
    pub(crate) detail: String,
    /// Whether no other question will fare better.
    pub(crate) all: bool,
}

/// Why a request failed, and whether and when another try may do better.
struct Failure {
    detail: String,
    again: Option<Duration>,
    all: bool,
}

impl Failure {
    fn lasting(detail: String) -> Self {
        Self { detail, again: None, all: false }
    }
}

impl Client {
    /// The endpoint of `stage`; its key is read now.
    pub(crate) fn new(stage: &LlmStage) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let address = stage.base_url.clone().or_else(|| variable("OPENAI_BASE_URL")).unwrap_or_else(|| OPENAI.into());
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        let key = variable(&stage.api_key_env).map(|key| key.trim().to_owned());
        Self { agent, address: address.trim_end_matches('/').into(), key }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `text` without the key: what an endpoint says of a request may repeat it.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.into(), |key| text.replace(key.as_str(), "(the key)"))
    }

    /// What the model answers, in at most `tokens`; nothing takes longer than `until` says.
    pub(crate) fn ask(
        &self,
        stage: &LlmStage,
        rules: &str,
        question: &str,
        tokens: usize,
        until: &Until<'_>,
    ) -> Result<String, Failed> {
        let Until { time: until, stopped } = *until;
        let failed = |detail: &str, all| Failed { detail: self.hide(&format!("{}: {detail}", self.address)), all };
        if self.key.as_ref().is_some_and(|key| key.bytes().any(|byte| !(b' '..=b'~').contains(&byte))) {
            let detail = format!("the key in {} has characters that cannot be sent", stage.api_key_env);
            return Err(failed(&detail, true));
        }
        let mut body = json!({
            "model": stage.model,
            "messages": [{ "role": "system", "content": rules }, { "role": "user", "content": question }],
        });
        if !stage.request.contains_key("temperature") {
            body["temperature"] = 0.into();
        }
        if !stage.request.contains_key("max_completion_tokens") {
            body["max_tokens"] = tokens.into();
        }
        stage.request.iter().for_each(|(name, value)| body[name] = value.clone());
        let body = body.to_string();
        let over = || {
            let limits = "the pipeline's budget_ms, or as long as the request may take";
            failed(&format!("no time is left (max_seconds = {}, {limits})", stage.max_seconds), true)
        };
        let mut pause = PAUSE;
        for left in (0..=stage.retries).rev() {
            let time = until.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return Err(over());
            }
            if stopped() {
                return Err(failed("nobody waits for an answer", true));
            }
            match self.once(&body, time.min(Duration::from_secs_f64(stage.timeout_s))) {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() >= until => return Err(over()),
                Err(Failure { again: Some(wait), .. }) if left > 0 && ends_before(wait.max(pause), until) => {
                    sleep(wait.max(pause).min(MOST_PAUSE), stopped);
                    pause *= 2;
                }
                Err(Failure { detail, all, .. }) => return Err(failed(&detail, all)),
            }
        }
        unreachable!("the last try returns")
    }

    fn once(&self, body: &str, timeout: Duration) -> Result<String, Failure> {
        let mut request = self.agent.post(format!("{}/chat/completions", self.address));
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let broken = |error| broken(error, timeout);
        let mut response = request.send(body).map_err(broken)?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(broken)?;
        if !status.is_success() {
            let again = status.as_u16() == 429 || status.is_server_error();
            let wait = Duration::from_secs(wait.unwrap_or(0));
            // Hidden before it is cut: half a key is too much.
            let said: String = self.hide(&text).chars().take(200).collect();
            // It is not what was asked that is wrong, but who asks and where.
            let all = matches!(status.as_u16(), 401 | 403 | 404 | 405);
            return Err(Failure { detail: format!("{status}: {said}"), again: again.then_some(wait), all });
        }
        let answer: Answer =
            serde_json::from_str(&text).map_err(|e| Failure::lasting(format!("no chat completion: {e}")))?;
        let content = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
        content.ok_or_else(|| Failure::lasting("the answer has no content".into()))
    }
}

/// Sleeps for `time`, or until nobody waits any more.
fn sleep(time: Duration, stopped: &(dyn Fn() -> bool + Sync)) {
    let end = Instant::now() + time;
    while let left = end.saturating_duration_since(Instant::now())
        && !left.is_zero()
        && !stopped()
    {
        std::thread::sleep(left.min(LOOK));
    }
}

fn ends_before(wait: Duration, until: Instant) -> bool {
    // An endpoint may ask for more seconds than there are.
    Instant::now().checked_add(wait).is_some_and(|end| end < until)
}

/// A connection that fails or a request that takes too long may do better the next time; what was answered will not.
fn broken(error: ureq::Error, timeout: Duration) -> Failure {
    use ureq::Error::{BodyExceedsLimit, ConnectionFailed, HostNotFound, Io, Protocol, Timeout};
    match error {
        BodyExceedsLimit(_) => Failure::lasting(format!("the answer is longer than {} MiB", MOST_BYTES >> 20)),
        Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Failure::lasting(format!("the answer is no text: {error}"))
        }
        Timeout(_) => Failure {
            again: Some(Duration::ZERO),
            ..Failure::lasting(format!("timeout: no answer within {:.1} s (timeout_s)", timeout.as_secs_f64()))
        },
        Io(_) | ConnectionFailed | HostNotFound | Protocol(_) => {
            Failure { again: Some(Duration::ZERO), ..Failure::lasting(error.to_string()) }
        }
        other => Failure::lasting(other.to_string()),
    }
}
