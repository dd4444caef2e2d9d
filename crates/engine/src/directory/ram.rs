//! A folder in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Bytes, Directory, FileWriter, Lock};
use crate::error::{Error, Result};

/// Files in memory, gone with the last handle.
#[derive(Debug, Clone, Default)]
pub struct RamDirectory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Bytes>,
    locked: bool,
}

impl RamDirectory {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one insertion or removal: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, action: &'static str, name: &str) -> Error {
        Error::io(action, self.path().join(name), io::ErrorKind::NotFound.into())
    }
}

impl Directory for RamDirectory {
    fn path(&self) -> &Path {
        Path::new("(memory)")
    }

    fn open(&self, name: &str) -> Result<Bytes> {
        self.state().files.get(name).cloned().ok_or_else(|| self.missing("open", name))
    }

    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(RamFile { directory: self.clone(), name: name.into(), content: Vec::new() }))
    }

    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.state().files.insert(name.into(), aligned(bytes));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.state().files.remove(name).map(|_| ()).ok_or_else(|| self.missing("delete", name))
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.state().files.contains_key(name))
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(Error::Locked { dir: self.path().into(), holder: format!("process {}", std::process::id()) });
        }
        drop(state);
        Ok(Box::new(RamLock(self.clone())))
    }
}

/// A copy aligned to 8 bytes, as mapped files are.
fn aligned(bytes: &[u8]) -> Bytes {
    struct Aligned {
        words: Vec<u64>,
        len: usize,
    }
    impl AsRef<[u8]> for Aligned {
        fn as_ref(&self) -> &[u8] {
            &bytemuck::cast_slice(&self.words)[..self.len]
        }
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::new(Aligned { words, len: bytes.len() })
}

#[derive(Debug)]
struct RamLock(RamDirectory);

impl Lock for RamLock {}

impl Drop for RamLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

struct RamFile {
    directory: RamDirectory,
    name: String,
    content: Vec<u8>,
}

impl Write for RamFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.directory.state().files.insert(self.name.clone(), aligned(&self.content));
        Ok(())
    }
}

impl FileWriter for RamFile {
    fn finish(&mut self) -> Result<()> {
        self.flush().map_err(|e| Error::io("write", self.directory.path().join(&self.name), e))
    }
}
