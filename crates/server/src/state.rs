//! What all requests share: the indexes, the encoder, and how much may be under way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode};
use latewood::device::Opened;
use latewood::encoder::{CachedQueries, Encoder};
use latewood::engine::IndexOptions;
use latewood::ingest::PassageOptions;
use latewood::rerank::{Models, Pipeline, Ranker, Room};
use latewood::{Location, Reader, SyncOptions, TextIndex};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::auth::Keys;
use crate::coalesce::QueryEncoder;
use crate::error::ApiError;
use crate::metrics::{IndexFigures, Metrics};
use crate::routes::feedback::Feedback;
use crate::served::{MANIFEST, Served, Writers, being_deleted};
use crate::tasks::Tasks;

/// Memory for queries that may be asked again: several thousand of them.
const QUERY_CACHE_BYTES: usize = 64 << 20;
/// Requests that encode texts at the same time.
const ENCODING: usize = 2;
/// Requests that wait for language models at the same time.
const WAITING: usize = 32;
/// How long an index that cannot be opened is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// Bytes of an index's name.
const MAX_NAME: usize = 64;

/// How much a server takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of all bodies above 64 KiB that may be in memory at the same time; more are turned away (429).
    pub all_body_bytes: usize,
    /// Requests that may wait or compute at the same time; more are turned away (429).
    pub concurrent_requests: usize,
    /// How long a request may take, a write excepted, which goes on as a task.
    pub request_time: Duration,
    /// Hits of a search.
    pub k: usize,
    /// Queries of a search.
    pub queries: usize,
    /// Texts of a request to rerank or encode.
    pub texts: usize,
    /// Bytes of them: some seconds of work.
    pub text_bytes: usize,
    /// Documents of a request to add.
    pub documents: usize,
    /// Documents of an index that may wait to be written; more are turned away (429).
    pub waiting_documents: usize,
    /// Connections; more wait until one ends.
    pub connections: usize,
    /// How long a connection may be without a whole head of a request: a client that is slow with it, or has none.
    pub header_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            all_body_bytes: 1 << 30,
            concurrent_requests: 256,
            request_time: Duration::from_secs(60),
            k: 1000,
            queries: 100,
            texts: 1000,
            text_bytes: 1 << 20,
            documents: 10_000,
            waiting_documents: 50_000,
            connections: 16_384,
            header_time: Duration::from_secs(60),
        }
    }
}

/// How a server is to be.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The folder of the indexes that clients make, each in a folder of its own; without one, none can be made.
    pub data: Option<PathBuf>,
    /// How much it takes.
    pub limits: Limits,
    /// Who may ask; everybody if there are none.
    pub keys: Keys,
    /// How texts are split.
    pub passages: PassageOptions,
    /// How the folder of a served index is read when a client has it brought up to date.
    pub folder: SyncOptions,
    /// The names under which it may be asked, without ports; any if there is no list. For a server that is open to everybody on
    /// this machine these should be the machine's own, so that no web page can ask in another name.
    pub hosts: Option<Vec<String>>,
    /// Other sites whose pages may ask (CORS): `https://example.org`, or `*`. None unless said.
    pub allowed_origins: Vec<String>,
    /// Pipelines that searches may name; `fast`, which needs no model, is there unless another is called so.
    pub pipelines: BTreeMap<String, Arc<Ranker>>,
    /// The file that what people made of hits is added to; without one it is not taken.
    pub feedback: Option<PathBuf>,
    /// Told of each request's span before it begins, with the request's headers: they may name the span's parent, where spans
    /// are collected from several programs.
    pub span_parent: Option<fn(&Span, &HeaderMap)>,
}

/// A server's state. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    encoder: Arc<CachedQueries>,
    queries: Arc<QueryEncoder>,
    device: Option<Opened>,
    options: ServerOptions,
    indexes: RwLock<BTreeMap<String, Slot>>,
    tasks: Tasks,
    metrics: Metrics,
    writers: Writers,
    /// Searches at the same time: more would only share the same cores.
    permits: Arc<Semaphore>,
    /// Requests that encode texts at the same time, on threads of their own: searches do not wait for them.
    encoding: (Arc<Semaphore>, Arc<ThreadPool>),
    /// Requests that wait for others at the same time.
    waiting: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    feedback: Option<Arc<Feedback>>,
    /// KiB of large bodies.
    bodies: Arc<Semaphore>,
    started: Instant,
    answers: AtomicU64,
}

/// What a request mostly does, which says how many of them may do it at the same time, and on which threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Searching,
    /// Running a network over texts.
    Encoding,
    /// Waiting for somebody else's answer. Where it has to run a network first, it asks for [`AppState::room`].
    Waiting,
}

/// For pipelines without models.
struct NoModels;

impl Models for NoModels {
    fn cross_encoder(&self, _: &str) -> Result<Arc<latewood::encoder::CrossEncoder>, String> {
        Err("this pipeline is to have no models".into())
    }
}

#[derive(Clone)]
enum Slot {
    Open(Arc<Served>),
    /// It cannot be opened, which was logged; tried then.
    Broken(Instant),
    /// It is being deleted.
    Leaving,
}

/// The index in `slot`, that of `name`.
fn in_slot(name: &str, slot: Option<&Slot>) -> Result<Arc<Served>, ApiError> {
    match slot {
        Some(Slot::Open(served)) => Ok(served.clone()),
        Some(Slot::Broken(_)) => {
            let text = format!("index {name:?} cannot be opened: the server's log says why");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "index_unavailable", text))
        }
        Some(Slot::Leaving) => Err(being_deleted(name)),
        None => Err(ApiError::not_found(format!("there is no index {name:?}"))),
    }
}

impl AppState {
    /// A server that encodes with `encoder` and searches on `device`, the processor if there is none, with the indexes that
    /// its data folder holds. One that cannot be opened is listed as such, and does not keep others from being served.
    ///
    /// # Errors
    /// When the data folder cannot be made or read.
    pub fn new(
        encoder: Arc<dyn Encoder>,
        device: Option<Opened>,
        mut options: ServerOptions,
    ) -> latewood::Result<Self> {
        if let (false, Some(fast)) = (options.pipelines.contains_key("fast"), Pipeline::preset("fast")) {
            options.pipelines.insert("fast".into(), Arc::new(Ranker::new(fast, &NoModels)?));
        }
        let metrics = Metrics::new();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let io = |action, e: std::io::Error| latewood::Error::Io {
            action,
            path: options.data.clone().unwrap_or_default(),
            source: e,
        };
        let pool = |name: &'static str, threads| {
            let pool =
                ThreadPoolBuilder::new().num_threads(threads).thread_name(move |i| format!("{name}-{i}")).build();
            pool.map(Arc::new).map_err(|e| io("start threads for", std::io::Error::other(e)))
        };
        let encoding = (Arc::new(Semaphore::new(ENCODING)), pool("encode", cores)?);
        let pool = pool("write", cores.div_ceil(2))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (passages, folder) = (options.passages.clone(), options.folder.clone());
        let (tracker, metrics_too) = (TaskTracker::new(), metrics.clone());
        let writers = Writers { pool, tracker, stopping, metrics: metrics_too, passages, folder };
        let encoder = Arc::new(CachedQueries::new(encoder, QUERY_CACHE_BYTES));
        let in_flight = Arc::new(Semaphore::new(options.limits.concurrent_requests));
        let bodies = Arc::new(Semaphore::new(options.limits.all_body_bytes >> 10));
        let folders = match &options.data {
            Some(data) => {
                std::fs::create_dir_all(data).map_err(|e| io("create", e))?;
                std::fs::read_dir(data).map_err(|e| io("list", e))?.flatten().map(|entry| entry.path()).collect()
            }
            None => Vec::new(),
        };
        let state = Self(Arc::new(Inner {
            queries: Arc::new(QueryEncoder::new(encoder.clone(), metrics.clone())),
            encoder,
            device,
            feedback: options.feedback.clone().map(|file| Arc::new(Feedback::new(file))),
            options,
            indexes: RwLock::default(),
            tasks: Tasks::default(),
            metrics,
            writers,
            permits: Arc::new(Semaphore::new(cores)),
            encoding,
            waiting: Arc::new(Semaphore::new(WAITING)),
            in_flight,
            bodies,
            started: Instant::now(),
            answers: AtomicU64::new(1),
        }));
        folders.iter().for_each(|folder| state.open(folder));
        Ok(state)
    }

    /// Opens an index of the data folder, if that is what `folder` is.
    fn open(&self, folder: &Path) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if check_name(name).is_err() || !folder.join(MANIFEST).is_file() {
            return;
        }
        let slot = self.opened(name, folder).unwrap_or_else(|error| {
            tracing::error!(index = name, "not served: {error}");
            Slot::Broken(Instant::now())
        });
        self.write_indexes().insert(name.into(), slot);
    }

    fn opened(&self, name: &str, folder: &Path) -> latewood::Result<Slot> {
        let location = Location { root: None, index: folder.into(), asked: None };
        let index = TextIndex::open(location, self.0.encoder.clone())?;
        Ok(Slot::Open(self.served(name, index)?))
    }

    /// Tries an index once more that could not be opened a while ago: its files may be back, or it may have been made anew.
    /// Whoever asks next finds it.
    fn try_again(&self, name: &str) {
        let Some(folder) = self.0.options.data.as_ref().map(|data| data.join(name)) else { return };
        match self.write_indexes().get_mut(name) {
            Some(Slot::Broken(tried)) if tried.elapsed() >= RETRY => *tried = Instant::now(),
            _ => return,
        }
        let (own, name) = (self.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || match own.opened(&name, &folder) {
            Ok(slot) => {
                let mut indexes = own.write_indexes();
                if matches!(indexes.get(&name), Some(Slot::Broken(_))) {
                    tracing::warn!(index = name, "served again");
                    indexes.insert(name, slot);
                }
            }
            // Known from before.
            Err(error) => tracing::debug!(index = name, "not served yet: {error}"),
        });
    }

    /// Serves `index` under `name` too: that of a folder, for example.
    ///
    /// # Errors
    /// When it is damaged, or the name is taken or is none.
    pub fn serve_index(&self, name: &str, index: TextIndex) -> Result<(), ApiError> {
        check_name(name)?;
        let served = self.served(name, index)?;
        let mut indexes = self.write_indexes();
        if indexes.contains_key(name) {
            return Err(ApiError::conflict(format!("there is an index {name:?} already")));
        }
        indexes.insert(name.into(), Slot::Open(served));
        Ok(())
    }

    fn served(&self, name: &str, index: TextIndex) -> latewood::Result<Arc<Served>> {
        let index = match &self.0.device {
            Some(device) => index.on(device),
            None => index,
        };
        Served::new(name.into(), index, self.0.writers.clone())
    }

    /// Makes an index in the data folder.
    pub(crate) fn create(&self, name: &str, bits: u32, fine: bool) -> Result<Arc<Served>, ApiError> {
        check_name(name)?;
        let Some(data) = &self.0.options.data else {
            return Err(ApiError::conflict(
                "this server keeps no indexes of clients: start it with a data folder (--data DIR)",
            ));
        };
        // Held throughout: of two requests for one name, one is told.
        let mut indexes = self.write_indexes();
        // What a deletion left over is no index.
        let is_left_over = |slot: &Slot| matches!(slot, Slot::Broken(_)) && !data.join(name).join(MANIFEST).is_file();
        if indexes.get(name).is_some_and(|slot| !is_left_over(slot)) {
            return Err(ApiError::conflict(format!("there is an index {name:?} already")));
        }
        let encoder = self.0.encoder.clone();
        let options = IndexOptions::new(encoder.dim()).bits(bits).fine(fine);
        let served = self.served(name, TextIndex::create(&data.join(name), encoder, options)?)?;
        indexes.insert(name.into(), Slot::Open(served.clone()));
        Ok(served)
    }

    /// Deletes an index that clients made. One that is still there as a whole when that fails goes on being served.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ApiError> {
        let served = {
            let mut indexes = self.write_indexes();
            let served = in_slot(name, indexes.get(name))?;
            let own = self.0.options.data.as_ref().is_some_and(|data| served.index().path() == data.join(name));
            if !own {
                return Err(ApiError::conflict(format!(
                    "index {name:?} is not of this server's data folder: it is served, not kept"
                )));
            }
            indexes.insert(name.into(), Slot::Leaving);
            served
        };
        let deleted = served.delete();
        let mut indexes = self.write_indexes();
        match &deleted {
            Ok(()) => _ = indexes.remove(name),
            Err(_) if served.is_there() => _ = indexes.insert(name.into(), Slot::Open(served)),
            Err(error) => {
                tracing::error!(index = name, "deleted in part, and not served any more: {error}");
                indexes.insert(name.into(), Slot::Broken(Instant::now()));
            }
        }
        Ok(deleted?)
    }

    /// The index `name`.
    pub(crate) fn index(&self, name: &str) -> Result<Arc<Served>, ApiError> {
        let slot = self.0.indexes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        self.look_after(name, slot.as_ref());
        in_slot(name, slot.as_ref())
    }

    fn look_after(&self, name: &str, slot: Option<&Slot>) {
        if matches!(slot, Some(Slot::Broken(tried)) if tried.elapsed() >= RETRY) {
            self.try_again(name);
        }
    }

    /// All indexes by name; none where one cannot be opened.
    pub(crate) fn list(&self) -> Vec<(String, Option<Arc<Served>>)> {
        let all = self.0.indexes.read().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().for_each(|(name, slot)| self.look_after(name, Some(slot)));
        let one = |(name, slot)| match slot {
            Slot::Open(served) => Some((name, Some(served))),
            Slot::Broken(_) => Some((name, None)),
            Slot::Leaving => None,
        };
        all.into_iter().filter_map(one).collect()
    }

    pub(crate) fn figures(&self) -> Vec<(String, IndexFigures)> {
        self.list().into_iter().filter_map(|(name, served)| Some((name, served?.figures()))).collect()
    }

    fn write_indexes(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Slot>> {
        self.0.indexes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a thread that may block, when there is a place for its kind; it is told when nobody waits for it any more.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        kind: Work,
        work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (permits, pool) = match kind {
            Work::Searching => (&self.0.permits, None),
            Work::Encoding => (&self.0.encoding.0, Some(self.0.encoding.1.clone())),
            Work::Waiting => (&self.0.waiting, None),
        };
        let permit = permits.clone().acquire_owned().await.map_err(|e| ApiError::internal(&e))?;
        let gone = Arc::new(AtomicBool::new(false));
        // Dropped with this future, when the client goes or its time is over.
        let _waiting = Waiting(gone.clone());
        let work = move || {
            // Held until the work is done, even where the client has gone and nobody awaits it.
            let _permit = permit;
            let stopped = || gone.load(Ordering::Relaxed);
            match pool {
                Some(pool) => pool.install(|| work(&stopped)),
                None => work(&stopped),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::internal(&e))?
    }

    /// When a pipeline of a request that begins now is to stop waiting for others, so that there is an answer in time.
    pub(crate) fn until(&self) -> Option<Instant> {
        let time = self.0.options.limits.request_time;
        Instant::now().checked_add(time - time / 20)
    }

    /// Room for a network in a pipeline's work of this kind: what waits takes a place among those that encode as long as it
    /// runs one, and the others have theirs already.
    pub(crate) fn room(&self, kind: Work) -> Box<Room<'static>> {
        let (permits, pool) = self.0.encoding.clone();
        match kind {
            Work::Waiting => Box::new(move |work| {
                // On a thread that may block. The places are never closed.
                let _permit = Handle::current().block_on(permits.clone().acquire_owned());
                pool.install(work);
            }),
            Work::Searching | Work::Encoding => Box::new(|work| work()),
        }
    }

    /// Runs `work`, which computes and does not take long.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.work(Work::Searching, |_| work()).await
    }

    /// Runs `work`, which encodes so many texts; it is told when nobody waits for it any more.
    pub(crate) async fn encode<T: Send + 'static>(
        &self,
        texts: usize,
        work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.work(Work::Encoding, work).instrument(tracing::info_span!("encode", texts)).await
    }

    /// Runs `work`, which looks at indexes and computes nothing.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::internal(&e))?
    }

    /// [`AppState::compute`] with a reader of the newest commit of `index`.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        index: &Arc<Served>,
        work: impl FnOnce(&Reader) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let index = index.clone();
        self.compute(move || work(&index.reader()?)).await
    }

    /// Stops: writes that clients wait for are finished, others end after the commit under way.
    pub(crate) async fn stop(&self) {
        self.0.writers.stopping.store(true, Ordering::Relaxed);
        self.0.writers.tracker.close();
        self.0.writers.tracker.wait().await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.writers.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn feedback(&self) -> Option<Arc<Feedback>> {
        self.0.feedback.clone()
    }

    pub(crate) fn pipelines(&self) -> &BTreeMap<String, Arc<Ranker>> {
        &self.0.options.pipelines
    }

    pub(crate) fn encoder(&self) -> &Arc<CachedQueries> {
        &self.0.encoder
    }

    pub(crate) fn queries(&self) -> &Arc<QueryEncoder> {
        &self.0.queries
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.options.keys
    }

    pub(crate) fn hosts(&self) -> Option<&[String]> {
        self.0.options.hosts.as_deref()
    }

    pub(crate) fn allowed_origins(&self) -> &[String] {
        &self.0.options.allowed_origins
    }

    pub(crate) fn span_parent(&self) -> Option<fn(&Span, &HeaderMap)> {
        self.0.options.span_parent
    }

    pub(crate) fn in_flight(&self) -> &Arc<Semaphore> {
        &self.0.in_flight
    }

    pub(crate) fn bodies(&self) -> &Arc<Semaphore> {
        &self.0.bodies
    }

    pub(crate) fn backend(&self) -> String {
        self.0.device.as_ref().map_or_else(|| "cpu".into(), |device| device.reason.clone())
    }

    /// A number that no other answer has.
    pub(crate) fn next_id(&self) -> u64 {
        self.0.answers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }
}

/// Says when it is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A name that is a folder's name on every system, and nothing else: not the name of a device either.
fn check_name(name: &str) -> Result<(), ApiError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let device = matches!(name, "con" | "prn" | "aux" | "nul")
        || matches!(name.as_bytes(), [b'c', b'o', b'm', b'0'..=b'9'] | [b'l', b'p', b't', b'0'..=b'9']);
    if starts && !device && name.len() <= MAX_NAME && name.bytes().all(fits) {
        return Ok(());
    }
    let text =
        format!("{name:?} is no name of an index: 1 to {MAX_NAME} of a-z, 0-9, - and _, a letter or digit first");
    Err(ApiError::bad_request(text))
}
