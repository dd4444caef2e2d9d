//! One index that is served: a reader of its newest commit, and a queue of what is to be written.
//!
//! Writes are carried out one part after the other, on one thread: small ones that wait are committed together, and large
//! ones are cut into parts with commits of their own, so that small ones come in between and progress is searchable. The
//! thread is there only while there is something to write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use latewood::engine::Error as EngineError;
use latewood::ingest::PassageOptions;
use latewood::{DocumentWriter, Error, NewDocument, Put, Reader, Source, SyncOptions, TextIndex};
use rayon::ThreadPool;
use tokio_util::task::TaskTracker;
use tracing::Span;
use tracing::field::Empty;

use crate::error::ApiError;
use crate::metrics::{IndexFigures, Metrics};
use crate::tasks::{Task, TaskKind, TaskStatus, Tasks, Written};

/// How often the index is asked for a commit of another process.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Documents of one commit.
const PART: usize = 512;
/// The file that makes a folder an index.
pub(crate) const MANIFEST: &str = "manifest.lw";

/// A document's turn to be written.
#[derive(Debug)]
pub(crate) enum Change {
    Put(Box<NewDocument>),
    Delete(String),
}

/// What is to be done for one task.
enum Work {
    Changes(VecDeque<Change>),
    Sync,
}

struct Job {
    task: Arc<Task>,
    work: Work,
    /// Whether a client waits for its end: then it is finished even when the server stops.
    awaited: bool,
    /// From when it began to wait to its end, within the span of the request.
    span: Span,
}

/// What all indexes share for writing.
#[derive(Clone)]
pub(crate) struct Writers {
    /// Threads that encode documents: fewer than there are processors, so that searches go on.
    pub(crate) pool: Arc<ThreadPool>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) metrics: Metrics,
    pub(crate) passages: PassageOptions,
    pub(crate) folder: SyncOptions,
}

/// An index that is served.
pub(crate) struct Served {
    pub(crate) name: String,
    index: TextIndex,
    current: Mutex<Current>,
    queue: Mutex<Queue>,
    /// Held while a part is written.
    writing: Mutex<()>,
    writers: Writers,
}

struct Current {
    reader: Reader,
    looked: Instant,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread is at it.
    busy: bool,
    /// Whether the index is being deleted.
    closed: bool,
}

/// Part of a job, taken out of the queue.
struct Taken {
    job: Job,
    changes: Vec<Change>,
}

impl Served {
    pub(crate) fn new(name: String, index: TextIndex, writers: Writers) -> latewood::Result<Arc<Self>> {
        let current = Mutex::new(Current { reader: index.reader()?, looked: Instant::now() });
        Ok(Arc::new(Self { name, index, current, queue: Mutex::default(), writing: Mutex::default(), writers }))
    }

    pub(crate) fn index(&self) -> &TextIndex {
        &self.index
    }

    /// The reader of the newest commit, opened anew where there is a newer one; others go on with the old meanwhile.
    pub(crate) fn reader(&self) -> latewood::Result<Reader> {
        let reader = {
            let mut current = lock(&self.current);
            if current.looked.elapsed() < LOOK_EVERY {
                return Ok(current.reader.clone());
            }
            current.looked = Instant::now();
            current.reader.clone()
        };
        let newest = match self.index.engine().version() {
            Ok(version) if version == reader.version() => return Ok(reader),
            Ok(_) => self.refresh(),
            Err(error) => Err(error.into()),
        };
        if newest.is_err() {
            // Whoever asks next is to hear the same, and not what was there before.
            let mut current = lock(&self.current);
            current.looked = current.looked.checked_sub(LOOK_EVERY).unwrap_or(current.looked);
        }
        newest
    }

    /// Opens a reader of the newest commit for all requests from now on.
    fn refresh(&self) -> latewood::Result<Reader> {
        let newest = self.index.reader()?;
        let mut current = lock(&self.current);
        let (new, old) = (newest.info(), current.reader.info());
        if new.model != old.model {
            // Made anew, and not for this encoder.
            let [expected, found] = [old.model, new.model].map(Option::unwrap_or_default);
            return Err(Error::OtherModel { index: self.index.path().into(), expected, found });
        }
        // Another thread may have been quicker with a newer one, of which its client knows. Where it is an older one that is on
        // the disk, the index has been made anew, or a copy of it was put back.
        if new.generation >= old.generation || self.index.engine().version()? == newest.version() {
            *current = Current { reader: newest, looked: Instant::now() };
        }
        Ok(current.reader.clone())
    }

    pub(crate) fn figures(&self) -> IndexFigures {
        let reader = lock(&self.current).reader.clone();
        let info = reader.info();
        IndexFigures {
            documents: reader.catalog().files.len(),
            passages: info.docs(),
            bytes: info.bytes() + reader.text_bytes(),
            waiting: lock(&self.queue).documents(),
        }
    }

    /// Puts changes into the queue, where there is room for as many, as a new one of `tasks`.
    pub(crate) fn change(
        self: &Arc<Self>,
        tasks: &Tasks,
        kind: TaskKind,
        changes: Vec<Change>,
        awaited: bool,
        room: usize,
    ) -> Result<Arc<Task>, ApiError> {
        if self.index.source() != Source::Documents {
            let text = format!("index {:?} is that of a folder: change the files there, and sync it", self.name);
            return Err(ApiError::conflict(text));
        }
        let queue = lock(&self.queue);
        let waiting = queue.documents();
        if waiting > 0 && waiting + changes.len() > room {
            return Err(ApiError::busy(format!("{waiting} documents wait to be written to index {:?}", self.name)));
        }
        let count = changes.len() as u64;
        let task = || tasks.create(&self.name, kind, count);
        self.push(queue, task, Work::Changes(changes.into()), awaited)
    }

    /// Puts a sync with the folder into the queue, as a new one of `tasks`.
    pub(crate) fn sync(self: &Arc<Self>, tasks: &Tasks, awaited: bool) -> Result<Arc<Task>, ApiError> {
        if self.index.source() != Source::Folder {
            let text = format!("index {:?} has no folder: its documents were added one by one", self.name);
            return Err(ApiError::conflict(text));
        }
        self.push(lock(&self.queue), || tasks.create(&self.name, TaskKind::Sync, 0), Work::Sync, awaited)
    }

    fn push(
        self: &Arc<Self>,
        mut queue: MutexGuard<'_, Queue>,
        task: impl FnOnce() -> Arc<Task>,
        work: Work,
        awaited: bool,
    ) -> Result<Arc<Task>, ApiError> {
        if queue.closed {
            return Err(being_deleted(&self.name));
        }
        if self.writers.stopping.load(Ordering::Relaxed) {
            return Err(ApiError::stopping());
        }
        // Not before it is taken: a task that nobody works at would never end.
        let task = task();
        let span = tracing::info_span!("write", index = self.name, task = task.state().id, documents = work.len());
        queue.jobs.push_back(Job { task: task.clone(), work, awaited, span });
        if !std::mem::replace(&mut queue.busy, true) {
            let own = self.clone();
            self.writers.tracker.spawn_blocking(move || own.work_off());
        }
        Ok(task)
    }

    /// Deletes the index from the disk. Where that fails before anything is gone, writing may go on.
    pub(crate) fn delete(&self) -> latewood::Result<()> {
        lock(&self.queue).closed = true;
        let _writing = lock(&self.writing);
        let removed = match self.index.clone().remove() {
            // Somebody else has.
            Err(_) if !self.index.path().exists() => Ok(()),
            removed => removed,
        };
        lock(&self.queue).closed = removed.is_ok() || !self.is_there();
        removed
    }

    /// Whether it is still on the disk: what it has besides is of no use without its manifest.
    pub(crate) fn is_there(&self) -> bool {
        self.index.path().join(MANIFEST).is_file()
    }

    /// Writes until nothing waits.
    fn work_off(&self) {
        loop {
            let part = {
                let mut queue = lock(&self.queue);
                self.drop_stopped(&mut queue);
                match queue.take_part() {
                    Some(part) => part,
                    None => {
                        queue.busy = false;
                        return;
                    }
                }
            };
            let _writing = lock(&self.writing);
            let tasks: Vec<Arc<Task>> = part.iter().map(|taken| taken.job.task.clone()).collect();
            // A panic must not leave the queue without a thread: it is this part's failure.
            let run = std::panic::AssertUnwindSafe(|| self.writers.pool.install(|| self.write(part)));
            if std::panic::catch_unwind(run).is_err() {
                fail(&tasks, &ApiError::internal(&"writing panicked; the last commit stands"));
            }
        }
    }

    /// Ends jobs that were cancelled, and those that a deleted index or a stopping server will not finish.
    fn drop_stopped(&self, queue: &mut Queue) {
        let stopping = self.writers.stopping.load(Ordering::Relaxed);
        let closed = queue.closed;
        let why = |job: &Job| {
            if closed {
                Some(being_deleted(&self.name))
            } else if job.task.is_cancelled() {
                Some(EngineError::Cancelled.into())
            } else if stopping && !job.awaited {
                Some(ApiError::stopping())
            } else {
                None
            }
        };
        let (stopped, jobs): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut queue.jobs).into_iter().partition(|job| why(job).is_some());
        queue.jobs = jobs.into();
        for job in stopped {
            if let Some(error) = why(&job) {
                job.task.finish(Err(error));
            }
        }
    }

    fn write(&self, part: Vec<Taken>) {
        part.iter().for_each(|taken| taken.job.task.update(|state| state.status = TaskStatus::Running));
        let span = self.commit_span(&part).entered();
        let failed = |error: &ApiError| _ = span.record("error", error.message());
        if let [Taken { job: Job { task, work: Work::Sync, .. }, .. }] = &part[..] {
            task.finish(self.write_sync(task).inspect_err(failed));
            return;
        }
        let start = Instant::now();
        let tasks: Vec<Arc<Task>> = part.iter().map(|taken| taken.job.task.clone()).collect();
        if let Err(error) = self.write_part(part).inspect_err(failed) {
            fail(&tasks, &error);
        }
        self.writers.metrics.commit_seconds.observe(start.elapsed().as_secs_f64());
    }

    /// The span of a part: within that of its first job, and linked to those of the others.
    fn commit_span(&self, part: &[Taken]) -> Span {
        let documents: usize = part.iter().map(|taken| taken.changes.len()).sum();
        let parent = part.first().and_then(|first| first.job.span.id());
        let (index, writes) = (&self.name, part.len());
        let span = tracing::info_span!(
            parent: parent, "commit", index, writes, documents, passages = Empty, generation = Empty, error = Empty
        );
        part.iter().skip(1).for_each(|other| _ = span.follows_from(&other.job.span));
        span
    }

    fn write_sync(&self, task: &Task) -> Result<(), ApiError> {
        let report = self.index.sync(&self.writers.folder, task)?;
        let generation = self.refresh()?.info().generation;
        Span::current().record("passages", report.passages).record("generation", generation);
        task.update(|state| {
            state.done = state.total;
            state.written = Written {
                added: report.added,
                updated: report.updated,
                unchanged: report.unchanged + report.moved,
                deleted: report.removed,
                passages: report.passages,
                generation,
            };
        });
        Ok(())
    }

    fn write_part(&self, part: Vec<Taken>) -> Result<(), ApiError> {
        let mut writer = self.index.writer(self.writers.passages.clone())?;
        let mut finished = Vec::with_capacity(part.len());
        for Taken { job, changes } in part {
            let (count, mut written) = (changes.len() as u64, Written::default());
            let result = changes.into_iter().try_for_each(|change| apply(&mut writer, change, &mut written));
            match result {
                Err(error @ Error::BadDocument { .. }) => finished.push((job, written, 0, Some(error))),
                Err(error) => return Err(error.into()),
                Ok(()) => finished.push((job, written, count, None)),
            }
        }
        writer.commit(&())?;
        let generation = self.refresh()?.info().generation;
        let passages: usize = finished.iter().map(|(_, written, ..)| written.passages).sum();
        Span::current().record("passages", passages).record("generation", generation);
        for (job, written, count, error) in finished {
            self.writers.metrics.documents_written.inc_by(count);
            job.task.update(|state| {
                state.done += count;
                state.written.add(&written, generation);
            });
            match error {
                Some(error) => job.task.finish(Err(error.into())),
                None if job.work.len() == 0 => job.task.finish(Ok(())),
                // The rest comes after those that wait.
                None => lock(&self.queue).jobs.push_back(job),
            }
        }
        Ok(())
    }
}

/// There is no such index any more, unless that fails.
pub(crate) fn being_deleted(index: &str) -> ApiError {
    ApiError::not_found(format!("index {index:?} is being deleted"))
}

/// Ends those tasks that have not ended.
fn fail(tasks: &[Arc<Task>], error: &ApiError) {
    tasks.iter().filter(|task| !task.state().status.is_finished()).for_each(|task| task.finish(Err(error.clone())));
}

fn apply(writer: &mut DocumentWriter<'_>, change: Change, written: &mut Written) -> latewood::Result<()> {
    match change {
        Change::Put(document) => {
            let before = writer.passages();
            match writer.put(*document, &())? {
                Put::Added => written.added += 1,
                Put::Updated => written.updated += 1,
                Put::Unchanged => written.unchanged += 1,
            }
            written.passages += writer.passages() - before;
        }
        Change::Delete(id) => written.deleted += usize::from(writer.delete(&id)?),
    }
    Ok(())
}

impl Work {
    /// Documents that wait.
    fn len(&self) -> usize {
        match self {
            Self::Changes(changes) => changes.len(),
            Self::Sync => 0,
        }
    }
}

impl Queue {
    /// How many documents wait.
    fn documents(&self) -> usize {
        self.jobs.iter().map(|job| job.work.len()).sum()
    }

    /// What the next commit holds: a sync, or changes of one job or of several.
    fn take_part(&mut self) -> Option<Vec<Taken>> {
        let (mut part, mut room) = (Vec::new(), PART);
        while room > 0
            && let Some(mut job) = self.jobs.pop_front()
        {
            match &mut job.work {
                Work::Sync if part.is_empty() => return Some(vec![Taken { job, changes: Vec::new() }]),
                Work::Sync => {
                    self.jobs.push_front(job);
                    break;
                }
                Work::Changes(changes) => {
                    let changes: Vec<Change> = changes.drain(..changes.len().min(room)).collect();
                    room -= changes.len();
                    part.push(Taken { job, changes });
                }
            }
        }
        (!part.is_empty()).then_some(part)
    }
}

/// What is inside of these locks is replaced whole, or counted: a panic elsewhere leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
