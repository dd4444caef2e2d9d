//! Tantivy's files, in a folder of the index, without a commit of their own.
//!
//! What makes files a commit is tantivy's `meta.json`, which it replaces when it commits. Here that file exists in memory
//! alone: its content is handed to whoever publishes it with the vectors, in one step, and given back when the index is
//! opened. So keywords and vectors cannot be of different commits, and what a crash leaves are files that nobody names.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, WatchCallback, WatchHandle, WritePtr,
};

/// Tantivy's name for what is its commit.
const META: &str = "meta.json";
/// Its list of the files it may delete: those it has written since it was opened, and none of an earlier commit, which readers
/// may be about to open.
const MANAGED: &str = ".managed.json";

/// A folder of tantivy's whose commit is kept elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: MmapDirectory,
    meta: Arc<RwLock<Option<Vec<u8>>>>,
}

impl Files {
    /// The files in `folder`, which exists, as of the commit that `meta` says.
    pub(super) fn open(folder: &Path, meta: Option<&str>) -> tantivy::Result<Self> {
        let meta = Arc::new(RwLock::new(meta.map(|meta| meta.as_bytes().to_vec())));
        Ok(Self { folder: MmapDirectory::open(folder)?, meta })
    }

    /// Makes the names of the files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folder.sync_directory()
    }

    /// What tantivy has committed, to be published.
    pub(super) fn meta(&self) -> Option<String> {
        String::from_utf8(self.meta.read().unwrap_or_else(PoisonError::into_inner).clone()?).ok()
    }
}

impl Directory for Files {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.folder.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.folder.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        if path == Path::new(META) {
            return Ok(self.meta.read().unwrap_or_else(PoisonError::into_inner).is_some());
        }
        self.folder.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.folder.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let meta = (path == Path::new(META)).then(|| self.meta.read().unwrap_or_else(PoisonError::into_inner).clone());
        meta.flatten().ok_or_else(|| OpenReadError::FileDoesNotExist(path.into()))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if path == Path::new(META) {
            *self.meta.write().unwrap_or_else(PoisonError::into_inner) = Some(data.to_vec());
        } else if path != Path::new(MANAGED) {
            let text = format!("{}: tantivy replaces a file that was not thought of", path.display());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.folder.sync_directory()
    }

    /// The index's own lock is held by whoever writes.
    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// Deletes what `used` does not name. Best effort: the next commit does what this one cannot.
pub(super) fn keep_only(folder: &Path, used: &HashSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let own = name.to_str().is_some_and(|name| super::is_own_file(name) || name.starts_with(".managed"));
        if own && !used.contains(Path::new(&name)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
