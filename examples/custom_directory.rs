//! A `Directory` of your own: where an index's files live is up to you. This one keeps an eye on what an index reads and
//! writes; one over object storage, or over what is compiled into a program, has the same few functions.
//!
//! `cargo run -p latewood-engine --example custom_directory`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use latewood_engine::{
    Bytes, Directory, DocId, FileWriter, Index, IndexOptions, Lock, QueryEmbeddings, RamDirectory, Result,
    SearchParams, TokenEmbeddings,
};

/// What went through.
#[derive(Debug, Default)]
struct Traffic {
    opened: AtomicU64,
    written: AtomicU64,
    commits: AtomicU64,
}

/// Another directory, watched.
#[derive(Debug, Clone)]
struct Watched {
    inner: RamDirectory,
    traffic: Arc<Traffic>,
}

impl Directory for Watched {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn open(&self, name: &str) -> Result<Bytes> {
        self.traffic.opened.fetch_add(1, Ordering::Relaxed);
        self.inner.open(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(WatchedFile { inner: self.inner.create(name)?, traffic: self.traffic.clone() }))
    }

    // The one thing that must be all or nothing: it is what publishes a commit.
    fn atomic_replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.traffic.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.atomic_replace(name, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name)
    }

    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }

    fn exists(&self, name: &str) -> Result<bool> {
        self.inner.exists(name)
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.inner.lock()
    }
}

struct WatchedFile {
    inner: Box<dyn FileWriter>,
    traffic: Arc<Traffic>,
}

impl Write for WatchedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.traffic.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl FileWriter for WatchedFile {
    fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }
}

fn main() -> Result<()> {
    let traffic = Arc::new(Traffic::default());
    let directory = Watched { inner: RamDirectory::new(), traffic: traffic.clone() };
    let index = Index::create(directory, IndexOptions::new(8))?;
    let mut writer = index.writer()?;
    for id in 0..100u64 {
        let mut row = [0.0; 8];
        row[(id % 8) as usize] = 1.0;
        writer.add(DocId(id), TokenEmbeddings::new(row.to_vec(), 8)?.view())?;
    }
    writer.commit(None, &())?;
    let query = QueryEmbeddings::new(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 8)?;
    let found = index.searcher()?.search(&query, &SearchParams::new(1))?;
    println!("document {} scores {:.2}", found.hits[0].doc, found.hits[0].score);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} manifests published, {} bytes written, {} files opened",
        count(&traffic.commits),
        count(&traffic.written),
        count(&traffic.opened)
    );
    Ok(())
}
