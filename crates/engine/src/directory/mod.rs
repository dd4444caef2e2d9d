//! Where an index's files live.
//!
//! The index needs little of a file system: write-once files, one file that is replaced atomically, a lock.
//! Keeping that behind [`Directory`] lets the same index live in memory, in a mapped folder, or in a store
//! that fails on purpose.

mod mmap;
mod ram;

use std::fmt;
use std::io::{Cursor, Read, Seek, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;

pub use mmap::MmapDirectory;
pub use ram::RamDirectory;

/// A flat folder of files.
///
/// Names are plain file names. Files are written once through [`Directory::create`] and never changed after;
/// only [`Directory::atomic_replace`] gives an existing name new content, and it does so for readers all at
/// once or not at all, even through a crash.
pub trait Directory: Send + Sync + fmt::Debug {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// The whole content of a file, aligned to at least 8 bytes.
    ///
    /// # Errors
    /// When the file is missing or cannot be read.
    fn open(&self, name: &str) -> Result<Bytes>;

    /// A file for reading front to back, without holding it all.
    ///
    /// # Errors
    /// As [`Directory::open`].
    fn reader(&self, name: &str) -> Result<Box<dyn FileReader>> {
        Ok(Box::new(Cursor::new(self.open(name)?)))
    }

    /// Starts a new file; a leftover of that name is overwritten.
    ///
    /// # Errors
    /// When the file cannot be made.
    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>>;

    /// Gives `name` the content `bytes`, durably, in one step.
    ///
    /// # Errors
    /// When any step fails. The old content then stands or, where the last step failed, the new one is seen and may
    /// not be durable before the next [`Directory::sync`].
    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes created, deleted and replaced names durable.
    ///
    /// # Errors
    /// When the file system refuses.
    fn sync(&self) -> Result<()>;

    /// Removes a file; readers that hold its bytes keep them.
    ///
    /// # Errors
    /// When the file is missing or cannot be removed.
    fn delete(&self, name: &str) -> Result<()>;

    /// The names of all files.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self) -> Result<Vec<String>>;

    /// Whether `name` exists.
    ///
    /// # Errors
    /// When that cannot be told.
    fn exists(&self, name: &str) -> Result<bool>;

    /// Takes the writer's lock, or fails at once with [`crate::Error::Locked`].
    ///
    /// # Errors
    /// When another holds it or it cannot be taken.
    fn lock(&self) -> Result<Box<dyn Lock>>;
}

/// A file being written; after a flush, [`Directory::open`] sees what has been written.
pub trait FileWriter: Write + Send {
    /// Makes the content durable; nothing may be written after.
    ///
    /// # Errors
    /// When the file system refuses.
    fn finish(&mut self) -> Result<()>;
}

/// A held lock; dropping it releases it.
pub trait Lock: Send + Sync + fmt::Debug {}

/// The content of a file, shared.
#[derive(Clone)]
pub struct Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A file being read.
pub trait FileReader: Read + Seek + Send {}

impl<T: Read + Seek + Send> FileReader for T {}

impl Bytes {
    /// Wraps a mapping or buffer, which must be aligned to 8 bytes.
    pub fn new(content: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(content))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}
