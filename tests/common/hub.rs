//! A hub of one model: what the Hugging Face hub answers to what hf-hub asks, over HTTP on this machine.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several tests, which fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::json;

/// The one model there is.
pub(crate) const NAME: &str = "owner/tiny";

/// What the hub has and does.
pub(crate) struct State {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The token that opens the model; none: it is open to everybody.
    pub(crate) token: Option<&'static str>,
    /// The next answer with this file ends after so many bytes.
    pub(crate) cut: Option<(&'static str, usize)>,
    /// Whether the whole of a file is sent where the rest is asked for.
    pub(crate) ignores_ranges: bool,
    /// Every request so far: path, a blank, the range asked for.
    pub(crate) requests: Vec<String>,
    /// Where large files are kept.
    store: String,
}

impl State {
    /// The requests for the bytes of `file`, and not only for its size.
    pub(crate) fn downloads(&self, file: &str) -> Vec<String> {
        let wanted = |request: &&String| request.contains(&format!("/{file} ")) && !request.ends_with("bytes=0-0");
        self.requests.iter().filter(wanted).cloned().collect()
    }
}

pub(crate) struct Hub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// A hub that has the files of `folder`, and some that are of no use.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(folder, folder, &mut files);
        for name in [".gitattributes", "README.md", "onnx/model.onnx"] {
            files.insert(name.to_owned(), b"of no use".to_vec());
        }
        let [hub, store] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, store_address] = [&hub, &store].map(|l| format!("http://{}", l.local_addr().unwrap()));
        let state = State {
            commit: "a".repeat(40),
            files,
            token: None,
            cut: None,
            ignores_ranges: false,
            requests: Vec::new(),
            store: store_address,
        };
        let state = Arc::new(Mutex::new(state));
        for listener in [hub, store] {
            let state = state.clone();
            thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &state)));
        }
        Self { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn collect(top: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(top, &path, files);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// A request: its path, and the headers that matter.
struct Request {
    path: String,
    range: String,
    token: Option<String>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines();
        let path = lines.next()?.ok()?.split(' ').nth(1)?.split('?').next()?.to_owned();
        let mut request = Self { path, range: String::new(), token: None };
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = value.into(),
                "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        Some(request)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(request) = Request::read(&stream) else { return };
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {}", request.path, request.range));
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let result = match parts.as_slice() {
        ["api", "models", owner, name, "revision", revision] => {
            let refused = refusal(&state, &format!("{owner}/{name}"), revision, &request);
            let siblings: Vec<_> = state.files.keys().map(|file| json!({ "rfilename": file })).collect();
            let body = json!({ "id": NAME, "sha": state.commit, "siblings": siblings }).to_string();
            let (status, body) = refused.map_or(("200 OK", body.as_str()), |status| (status, ""));
            send(&mut stream, status, "", body.as_bytes())
        }
        // Small files are redirected to another path, large ones to another host.
        [owner, name, "resolve", revision, file @ ..] => {
            let file = file.join("/");
            let refused = refusal(&state, &format!("{owner}/{name}"), revision, &request);
            match (refused, state.files.get(&file)) {
                (Some(status), _) => send(&mut stream, status, "", b""),
                (None, None) => send(&mut stream, "404 Not Found", "", b""),
                (None, Some(bytes)) => {
                    let commit = &state.commit;
                    let (status, headers) = if file.ends_with(".safetensors") || file.ends_with(".bin") {
                        let (tag, size, store) = (tag(bytes), bytes.len(), &state.store);
                        let linked = format!("X-Linked-Etag: \"{tag}\"\r\nX-Linked-Size: {size}\r\n");
                        ("302 Found", format!("{linked}Location: {store}/store/{file}\r\n"))
                    } else {
                        (
                            "307 Temporary Redirect",
                            format!("Location: /api/resolve-cache/models/{NAME}/{commit}/{file}\r\n"),
                        )
                    };
                    send(&mut stream, status, &format!("{headers}X-Repo-Commit: {commit}\r\n"), b"")
                }
            }
        }
        ["api", "resolve-cache", "models", _, _, _, file @ ..] | ["store", file @ ..] => {
            let file = file.join("/");
            content(&mut stream, &mut state, &file, &request.range)
        }
        _ => send(&mut stream, "404 Not Found", "", b""),
    };
    // The program may have hung up.
    drop(result);
}

/// The status of a refusal: to those without a token, the hub does not say what there is.
fn refusal(state: &State, repo: &str, revision: &str, request: &Request) -> Option<&'static str> {
    let token = request.token.as_deref();
    match (repo == NAME && (revision == "main" || revision == state.commit), state.token) {
        (false, _) => Some(if token.is_some() { "404 Not Found" } else { "401 Unauthorized" }),
        (true, Some(_)) if token.is_none() => Some("401 Unauthorized"),
        (true, Some(wanted)) if token != Some(wanted) => Some("403 Forbidden"),
        (true, _) => None,
    }
}

/// Sends a range of a file.
fn content(stream: &mut TcpStream, state: &mut State, file: &str, range: &str) -> std::io::Result<()> {
    let bytes = &state.files[file];
    let (start, end) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let (start, mut end) = (start.parse().unwrap_or(0), end.parse().map_or(bytes.len(), |end: usize| end + 1));
    let headers = format!("ETag: \"{}\"\r\nX-Repo-Commit: {}\r\n", tag(bytes), state.commit);
    if start >= bytes.len() {
        return send(stream, "416 Range Not Satisfiable", &headers, b"");
    }
    if state.ignores_ranges && start > 0 {
        return send(stream, "200 OK", &headers, bytes);
    }
    let headers = format!(
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\n\
         {headers}\r\n",
        end - 1,
        bytes.len(),
        end - start
    );
    if range != "bytes=0-0"
        && let Some((_, after)) = state.cut.take_if(|(name, _)| *name == file)
    {
        end = end.min(start + after);
    }
    stream.write_all(headers.as_bytes())?;
    stream.write_all(&state.files[file][start..end])
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")?;
    stream.write_all(body)
}

fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:040x}", hasher.finish())
}
