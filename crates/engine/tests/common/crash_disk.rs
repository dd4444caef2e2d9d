//! A disk with a volatile cache, and a crash at the n-th operation.
//!
//! It promises what [`Directory`] promises and no more: content is durable once its file is finished, names once the
//! folder is synced, a replaced file when the replacing returns.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use latewood_engine::{Bytes, Directory, Error, FileWriter, Lock, RamDirectory, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A handle on the disk.
#[derive(Debug, Clone)]
pub(crate) struct CrashDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone)]
struct State {
    /// Operations until the crash.
    left: u64,
    files: Vec<File>,
    /// For each name, the files (or none) it may stand for after a loss of power. The last is the one seen now.
    names: BTreeMap<String, Vec<Option<usize>>>,
}

#[derive(Debug, Clone, Default)]
struct File {
    bytes: Vec<u8>,
    durable: bool,
}

fn crashed() -> Error {
    Error::Io { action: "reach", path: "(crashed)".into(), source: io::Error::other("the machine has crashed") }
}

impl State {
    /// Counts an operation that changes the disk.
    fn operation(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(crashed)?;
        self.running()
    }

    fn running(&self) -> Result<()> {
        if self.left == 0 { Err(crashed()) } else { Ok(()) }
    }

    /// The file that `name` stands for now.
    fn seen(&self, name: &str) -> Option<usize> {
        self.names.get(name).and_then(|files| *files.last()?)
    }

    /// Gives `name` to another file, not yet durably.
    fn rename(&mut self, name: &str, file: Option<usize>) {
        self.names.entry(name.into()).or_insert_with(|| vec![None]).push(file);
    }

    fn new_file(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }
}

impl CrashDisk {
    /// An empty disk that does `operations` and no more.
    pub(crate) fn new(operations: u64) -> Self {
        let state = State { left: operations.saturating_add(1), files: Vec::new(), names: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What a process sees that is started after the one before was killed, for so many more operations.
    pub(crate) fn kill(&self, operations: u64) -> Self {
        let state = State { left: operations + 1, ..self.state().clone() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What is there when power is back. The first seed loses all that may be lost, the second nothing.
    pub(crate) fn lose_power(&self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut state = self.state().clone();
        state.left = u64::MAX;
        for file in state.files.iter_mut().filter(|file| !file.durable) {
            match seed {
                0 => file.bytes.clear(),
                1 => {}
                _ => spoil(&mut file.bytes, &mut rng),
            }
            file.durable = true;
        }
        for files in state.names.values_mut() {
            let kept = match seed {
                0 => 0,
                1 => files.len() - 1,
                _ => rng.random_range(0..files.len()),
            };
            *files = vec![files[kept]];
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

/// What may become of content that was never made durable.
fn spoil(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    let cut = rng.random_range(0..=bytes.len());
    match rng.random_range(0..5) {
        0 => bytes.clear(),
        1 => bytes.truncate(cut),
        2 => bytes[cut..].fill(0),
        3 => bytes[..cut].fill_with(|| rng.random()),
        _ => {}
    }
}

impl Directory for CrashDisk {
    fn path(&self) -> &Path {
        Path::new("(crash)")
    }

    fn open(&self, name: &str) -> Result<Bytes> {
        let state = self.state();
        state.running()?;
        // For its alignment.
        let copy = RamDirectory::new();
        if let Some(file) = state.seen(name) {
            copy.atomic_replace(name, &state.files[file].bytes)?;
        }
        copy.open(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        let mut state = self.state();
        state.operation()?;
        // As on a real disk, a file that has the name is emptied at once.
        let file = match state.seen(name) {
            Some(file) => file,
            None => {
                let file = state.new_file(File::default());
                state.rename(name, Some(file));
                file
            }
        };
        state.files[file] = File::default();
        Ok(Box::new(CrashFile { disk: self.clone(), file }))
    }

    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.operation()?;
        let file = state.new_file(File { bytes: bytes.into(), durable: true });
        state.rename(name, Some(file));
        // Seen, not yet durable: the old content or the new one may be left.
        state.operation()?;
        state.names.insert(name.into(), vec![Some(file)]);
        // Durable, and nobody has been told.
        state.operation()
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state();
        state.operation()?;
        for files in state.names.values_mut() {
            files.drain(..files.len() - 1);
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.open(name)?;
        let mut state = self.state();
        state.operation()?;
        state.rename(name, None);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        let state = self.state();
        state.running()?;
        Ok(state.names.keys().filter(|name| state.seen(name).is_some()).cloned().collect())
    }

    fn exists(&self, name: &str) -> Result<bool> {
        let state = self.state();
        state.running()?;
        Ok(state.seen(name).is_some())
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.state().running()?;
        Ok(Box::new(NoLock))
    }
}

/// Each process has a disk of its own, and one writer.
#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

struct CrashFile {
    disk: CrashDisk,
    file: usize,
}

impl Write for CrashFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.operation().map_err(io::Error::other)?;
        assert!(!state.files[self.file].durable, "nothing is written after the end");
        state.files[self.file].bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.state().running().map_err(io::Error::other)
    }
}

impl FileWriter for CrashFile {
    fn finish(&mut self) -> Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        state.files[self.file].durable = true;
        Ok(())
    }
}
