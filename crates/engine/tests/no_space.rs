//! A disk that fills up: whatever is cut off, the last commit stands and the next one works.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::{DIM, collection};
use latewood_engine::{
    Bytes, Directory, DocId, Error, FileWriter, Index, IndexOptions, Lock, RamDirectory, Result, SearchParams,
};

/// A directory on which only so many more bytes can be written.
#[derive(Debug, Clone)]
struct SmallDisk {
    files: RamDirectory,
    left: Arc<AtomicI64>,
}

impl SmallDisk {
    fn take(&self, bytes: usize) -> io::Result<()> {
        let left = self.left.fetch_sub(bytes as i64, Ordering::Relaxed) - bytes as i64;
        if left < 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Directory for SmallDisk {
    fn path(&self) -> &Path {
        self.files.path()
    }

    fn open(&self, name: &str) -> Result<Bytes> {
        self.files.open(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(SmallFile { disk: self.clone(), file: self.files.create(name)? }))
    }

    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let full = |source| Error::Io { action: "write", path: name.into(), source };
        self.take(bytes.len()).map_err(full)?;
        self.files.atomic_replace(name, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.files.sync()
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.files.delete(name)
    }

    fn list(&self) -> Result<Vec<String>> {
        self.files.list()
    }

    fn exists(&self, name: &str) -> Result<bool> {
        self.files.exists(name)
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.files.lock()
    }
}

struct SmallFile {
    disk: SmallDisk,
    file: Box<dyn FileWriter>,
}

impl Write for SmallFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.take(bytes.len())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileWriter for SmallFile {
    fn finish(&mut self) -> Result<()> {
        self.file.finish()
    }
}

#[test]
fn a_full_disk_at_any_point_loses_nothing() {
    let from = collection(60, 1, 9);
    let disk = SmallDisk { files: RamDirectory::new(), left: Arc::new(AtomicI64::new(i64::MAX)) };
    let index = Index::create(disk.clone(), IndexOptions::new(DIM)).unwrap();
    let mut writer = index.writer().unwrap();
    from.docs[..20].iter().for_each(|(id, doc)| writer.add(*id, doc.view()).unwrap());
    writer.commit(None, &()).unwrap();
    drop(writer);
    let ids = || -> Vec<u64> {
        let found = index.searcher().unwrap().search(&from.queries[0], &SearchParams::new(1000)).unwrap();
        let mut ids: Vec<u64> = found.hits.iter().map(|hit| hit.doc.0).collect();
        ids.sort_unstable();
        ids
    };
    let change = |room: i64| -> Result<()> {
        let mut writer = index.writer()?;
        disk.left.store(room, Ordering::Relaxed);
        from.docs[20..].iter().try_for_each(|(id, doc)| writer.add(*id, doc.view()))?;
        writer.delete(DocId(3));
        writer.commit(None, &()).map(|_| ())
    };
    let before: Vec<u64> = (0..20).collect();
    let mut failures = 0;
    let mut room = 0;
    loop {
        match change(room) {
            Ok(()) => break,
            Err(error) => assert!(error.is_no_space(), "with room for {room} bytes: {error}"),
        }
        assert_eq!(ids(), before, "with room for {room} bytes");
        failures += 1;
        room += 7_001;
    }
    assert!(failures > 20, "only {failures} places were tried");
    assert_eq!(ids(), (0..60).filter(|&id| id != 3).collect::<Vec<_>>());
}
