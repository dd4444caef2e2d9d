//! A folder whose files are memory-mapped.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{Bytes, Directory, FileReader, FileWriter, Lock};
use crate::error::{Error, Result};

/// The lock file: empty of meaning but for the text naming its holder.
const LOCK: &str = "write.lock";

/// A folder of the file system; files are mapped when opened.
#[derive(Debug)]
pub struct MmapDirectory {
    path: PathBuf,
}

impl MmapDirectory {
    /// The folder at `path`, made, durably, if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        fs::create_dir_all(&path).map_err(|e| Error::io("make the folder", &path, e))?;
        for parent in missing.into_iter().filter_map(Path::parent) {
            sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(Self { path })
    }

    /// The existing folder at `path`; opening never writes.
    ///
    /// # Errors
    /// When there is no folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Self { path }),
            Ok(_) => Err(Error::NoIndex { dir: path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoIndex { dir: path }),
            Err(e) => Err(Error::io("open", path, e)),
        }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Directory for MmapDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, name: &str) -> Result<Bytes> {
        let path = self.join(name);
        let file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        if file.metadata().map_err(|e| Error::io("read", &path, e))?.len() == 0 {
            return Ok(Bytes::new([]));
        }
        // SAFETY: the files of an index are written once, under a name no reader knows before they are complete, and
        // never changed or cut short after; deleting or replacing one leaves the mapped file itself alone.
        #[allow(unsafe_code, reason = "the one mapping of the engine")]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", &path, e))?;
        Ok(Bytes::new(map))
    }

    fn reader(&self, name: &str) -> Result<Box<dyn FileReader>> {
        let file = File::open(self.join(name)).map_err(|e| Error::io("open", self.join(name), e))?;
        Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
    }

    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        let path = self.join(name);
        let file = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Box::new(MmapFile { file: BufWriter::with_capacity(1 << 16, file), path }))
    }

    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!("{name}.tmp");
        let mut file = self.create(&temporary)?;
        file.write_all(bytes).map_err(|e| Error::io("write", self.join(&temporary), e))?;
        file.finish()?;
        drop(file);
        fs::rename(self.join(&temporary), self.join(name)).map_err(|e| Error::io("replace", self.join(name), e))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        sync_folder(&self.path)
    }

    fn delete(&self, name: &str) -> Result<()> {
        fs::remove_file(self.join(name)).map_err(|e| Error::io("delete", self.join(name), e))
    }

    fn list(&self) -> Result<Vec<String>> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|e| Error::io("list", &self.path, e))
    }

    fn exists(&self, name: &str) -> Result<bool> {
        self.join(name).try_exists().map_err(|e| Error::io("look for", self.join(name), e))
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        let path = self.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: an unreadable note must not hide the refusal.
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().into() };
                return Err(Error::Locked { dir: self.path.clone(), holder });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
        }
        let note = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "process {}", std::process::id())
        };
        // A full disk keeps the note from being written, and must not keep a delete from being made.
        let _ = { note }();
        Ok(Box::new(MmapLock { _file: file }))
    }
}

/// Makes the entries of a folder durable. Windows has no handle on a folder to flush; renames are durable there once the
/// file is.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", path, e))?;
    }
    Ok(())
}

/// The lock is the open file's.
#[derive(Debug)]
struct MmapLock {
    _file: File,
}

impl Lock for MmapLock {}

struct MmapFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Write for MmapFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileWriter for MmapFile {
    fn finish(&mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(|e| Error::io("write", &self.path, e))
    }
}
