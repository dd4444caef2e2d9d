//! A stand-in for a language model: it speaks as much of OpenAI's protocol as a stage needs, knows the true order, and
//! misbehaves where a test wants it to.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use latewood_rerank::{Candidate, Models, Pipeline, Ranked, Ranker, Scorers};
use serde_json::{Value, json};

/// A request as the endpoint sees it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `POST /v1/chat/completions HTTP/1.1`.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// What the endpoint does with a request.
pub(crate) enum Reply {
    /// A chat completion that says this.
    Says(String),
    /// A status, further lines of the head, and a body.
    Plain(u16, &'static str, String),
    /// The connection is handed over: whatever is written to it, it is closed then.
    Raw(Box<dyn FnOnce(&mut TcpStream) + Send>),
}

/// An endpoint on this machine, as long as the test runs.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Asked {
    /// What the model is asked.
    pub(crate) fn question(&self) -> &str {
        self.body["messages"][1]["content"].as_str().unwrap()
    }

    /// The right answer: a text that is worth more is better.
    pub(crate) fn right(&self) -> String {
        let question = self.question();
        if let Some((a, b)) = question.split_once("Passage A: ").and_then(|(_, both)| both.split_once("Passage B: ")) {
            return if worth(a) > worth(b) { "A" } else { "B" }.into();
        }
        if let Some((_, passage)) = question.split_once("Passage: ") {
            return worth(passage).unwrap().to_string();
        }
        let mut passages: Vec<(u32, &str)> = self.numbered();
        passages.sort_by_key(|(worth, _)| std::cmp::Reverse(*worth));
        passages.iter().map(|(_, number)| format!("[{number}]")).collect::<Vec<_>>().join(" > ")
    }

    /// What each passage of a list is worth, and its number.
    pub(crate) fn numbered(&self) -> Vec<(u32, &str)> {
        let number = |line: &'_ str| Some((worth(line)?, line.strip_prefix('[')?.split_once("] ")?.0.len()));
        let of = |line| number(line).map(|(worth, digits)| (worth, digits, line));
        self.question().lines().filter_map(of).map(|(worth, digits, line)| (worth, &line[1..=digits])).collect()
    }
}

fn worth(text: &str) -> Option<u32> {
    let digits = text.split_once("worth ")?.1;
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

impl Endpoint {
    /// One that does `reply` with each request, told how many came before.
    pub(crate) fn new(reply: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&asked), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, reply) = (Arc::clone(&seen), Arc::clone(&reply));
                // A client that goes away is no failure of the test's.
                std::thread::spawn(move || serve(&mut stream.ok()?, &seen, &*reply));
            }
        });
        Self { url, asked }
    }

    /// One that is always right.
    pub(crate) fn right() -> Self {
        Self::new(|_, asked| Reply::Says(asked.right()))
    }

    /// One that always says the same.
    pub(crate) fn saying(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::new(move |_, _| Reply::Says(answer.clone()))
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// That there are so many requests by and by: one that nobody waited for may be read later than it was given up.
    pub(crate) fn sees(&self, count: usize) {
        let start = Instant::now();
        while self.count() < count && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.count(), count);
    }

    /// A pipeline of one stage that asks it; `fields` are further lines of the stage.
    pub(crate) fn ranker(&self, fields: &str) -> Ranker {
        self.ranker_with_key("LATEWOOD_TEST_NO_SUCH_KEY", fields)
    }

    /// [`Self::ranker`], with the key in this variable.
    pub(crate) fn ranker_with_key(&self, key: &str, fields: &str) -> Ranker {
        let stage = format!(
            "[[stages]]\ntype = \"llm\"\nmodel = \"the-model\"\nbase_url = \"{}\"\napi_key_env = \"{key}\"\n",
            self.url
        );
        Ranker::new(Pipeline::parse_toml(&(stage + fields)).unwrap(), &Nothing).unwrap()
    }
}

fn serve(
    stream: &mut TcpStream,
    seen: &Mutex<Vec<Asked>>,
    reply: &(dyn Fn(usize, &Asked) -> Reply + Send + Sync),
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let value = |line: &String| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        head.iter().find_map(value)
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).ok()?;
    let asked = Asked { line: head[0].clone(), authorization: header("authorization"), body };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    let (status, lines, body) = match reply(before, &asked) {
        Reply::Says(answer) => {
            let choice =
                json!({ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": answer } });
            (200, "content-type: application/json\r\n", json!({ "id": "x", "choices": [choice] }).to_string())
        }
        Reply::Plain(status, lines, body) => (status, lines, body),
        Reply::Raw(write) => {
            write(stream);
            return Some(());
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\n{lines}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()
}

/// No models, no index.
pub(crate) struct Nothing;

impl Models for Nothing {
    fn cross_encoder(&self, _: &str) -> Result<Arc<latewood_encoder::CrossEncoder>, String> {
        Err("there are no models here".into())
    }
}

impl Scorers for Nothing {
    fn late_interaction(&self, _: &str, _: &[Candidate]) -> Result<Vec<f32>, String> {
        Err("there is no index here".into())
    }

    fn keywords(&self, _: &str, _: &[Candidate]) -> Result<Vec<f32>, String> {
        Err("there are no keywords here".into())
    }
}

/// Candidates of these worths, in this order.
pub(crate) fn candidates(worths: &[u32]) -> Vec<Candidate> {
    let of = |(&worth, place): (&u32, u8)| {
        Candidate::new(format!("{worth}"), format!("This passage is worth {worth} points."), 100.0 - f32::from(place))
    };
    worths.iter().zip(0..).map(of).collect()
}

/// Asks for the order of candidates of these worths.
pub(crate) fn rank(ranker: &Ranker, worths: &[u32]) -> Ranked {
    ranker.rank("what is worth most?", candidates(worths), &Nothing).unwrap()
}

/// Their ids, in the order they are in.
pub(crate) fn ids(ranked: &Ranked) -> Vec<&str> {
    ranked.candidates.iter().map(|candidate| candidate.id.as_str()).collect()
}

/// The note of the first stage.
pub(crate) fn note(ranked: &Ranked) -> &str {
    ranked.report.stages[0].note.as_deref().unwrap_or_default()
}
