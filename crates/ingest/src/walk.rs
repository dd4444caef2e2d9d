//! Which files are there.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ignore::{DirEntry, WalkBuilder};

use crate::kind::{self, Guess};
use crate::{Error, Result, SkipReason, Skipped, holds_records};

/// Folders and files that are never entered or listed: the history and our own index.
const NEVER: [&str; 2] = [".git", ".latewood"];

/// The ignore file of our own; its rules win over those of the others.
const IGNORE_FILE: &str = ".latewoodignore";

/// How to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkOptions {
    /// Whether to list files and enter folders whose name begins with a dot.
    pub hidden: bool,
    /// Whether to follow symbolic links.
    pub follow_links: bool,
    /// Files over this many bytes are skipped.
    pub max_file_bytes: u64,
    /// Files of records (.jsonl, .csv, .tsv) over this many bytes are skipped; of those without a text field, and of all other
    /// files, `max_file_bytes` counts.
    pub max_records_bytes: u64,
    /// Whether to list documents that text has to be taken out of: PDF, office files, e-books.
    pub documents: bool,
    /// Such documents over this many bytes are skipped; most of their bytes are pictures.
    pub max_document_bytes: u64,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            hidden: false,
            follow_links: false,
            max_file_bytes: 16 << 20,
            max_records_bytes: 256 << 20,
            documents: false,
            max_document_bytes: 256 << 20,
        }
    }
}

/// One file that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The path relative to the root, with `/` between its parts on every platform.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Time of last change in nanoseconds since 1970; 0 where the platform does not tell.
    pub modified_ns: i64,
}

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The files to read, sorted by path.
    pub files: Vec<FileEntry>,
    /// What was left out for another reason than an ignore rule, sorted by path.
    pub skipped: Vec<Skipped>,
}

/// Lists the files below `root`.
///
/// `.gitignore` counts outside of a git repository too. Where `root` lies inside of one, the
/// `.gitignore` files of the folders above it, up to the repository's root, hold as well; outside
/// of one no folder above `root` is looked at, because a rule from far up would be a surprise.
///
/// Only a `root` that is no readable folder is an error; whatever is wrong below it is skipped.
pub fn walk(root: &Path, options: &WalkOptions) -> Result<Walk> {
    let metadata = std::fs::metadata(root)
        .and_then(|metadata| {
            if metadata.is_dir() {
                std::fs::read_dir(root)?;
            }
            Ok(metadata)
        })
        .map_err(|source| Error::Root { path: root.to_owned(), source })?;
    if !metadata.is_dir() {
        return Err(Error::NotAFolder { path: root.to_owned() });
    }
    let mut found = Walk::default();
    for entry in builder(root, options).build() {
        match entry {
            Ok(entry) => visit(root, &entry, options, &mut found),
            Err(error) => found.skipped.push(unreadable(root, &error)),
        }
    }
    // Of a folder that was moved away meanwhile, what was not met is not gone.
    std::fs::read_dir(root).map_err(|source| Error::Root { path: root.to_owned(), source })?;
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The walker by our rules.
fn builder(root: &Path, options: &WalkOptions) -> WalkBuilder {
    let mut builder = WalkBuilder::new(root);
    let in_repository = in_repository(root);
    builder
        .hidden(!options.hidden)
        .follow_links(options.follow_links)
        .parents(in_repository)
        // Only where it is required does the walker know a repository's root, to stop there.
        .require_git(in_repository)
        // The user's global rules are of their machine, not of the folder.
        .git_global(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(|entry| entry.depth() == 0 || !NEVER.iter().any(|name| entry.file_name() == *name));
    builder
}

/// Whether `root` or a folder above it is a git working tree.
fn in_repository(root: &Path) -> bool {
    let absolute = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    absolute.ancestors().any(|folder| folder.join(".git").exists())
}

/// Lists one entry, or says why not.
fn visit(root: &Path, entry: &DirEntry, options: &WalkOptions, found: &mut Walk) {
    let Some(file_type) = entry.file_type() else { return };
    if file_type.is_dir() || entry.depth() == 0 {
        return;
    }
    let Some(path) = relative(root, entry.path()) else {
        let path = shown(root, entry.path());
        return found.skipped.push(SkipReason::NotUtf8Name.at(path));
    };
    let reason = if file_type.is_symlink() {
        Some(SkipReason::SymbolicLink)
    } else if !file_type.is_file() {
        Some(SkipReason::Unsupported("special file"))
    } else {
        None
    };
    let metadata = entry.metadata().map_err(|error| SkipReason::Unreadable(cause(&error)));
    let checked = reason.map_or(metadata, Err).and_then(|metadata| {
        check(&path, metadata.len(), options)?;
        Ok(metadata)
    });
    match checked {
        Ok(metadata) => found.files.push(FileEntry { path, size: metadata.len(), modified_ns: modified_ns(&metadata) }),
        Err(reason) => found.skipped.push(reason.at(path)),
    }
}

/// What name and size alone tell: such a file is never opened.
fn check(path: &str, size: u64, options: &WalkOptions) -> Result<(), SkipReason> {
    let limit = match kind::guess(path) {
        Guess::Unsupported(kind) => return Err(SkipReason::Unsupported(kind)),
        Guess::Generated(kind) => return Err(SkipReason::Generated(kind)),
        Guess::Document(format) if !options.documents => return Err(SkipReason::NoExtractor(format.called())),
        Guess::Document(_) => options.max_document_bytes,
        _ if holds_records(path) => options.max_records_bytes.max(options.max_file_bytes),
        Guess::Text(_) | Guess::Unknown => options.max_file_bytes,
    };
    match size {
        0 => Err(SkipReason::Empty),
        _ if size > limit => Err(SkipReason::TooLarge { size, limit }),
        _ => Ok(()),
    }
}

fn modified_ns(metadata: &Metadata) -> i64 {
    let Ok(time) = metadata.modified() else { return 0 };
    let ns = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()),
        Err(error) => i64::try_from(error.duration().as_nanos()).map(|ns| -ns),
    };
    ns.unwrap_or(i64::MAX)
}

/// The path below `root` with `/` between its parts; none where a part is not UTF-8.
fn relative(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// The path below `root` for the eye alone.
fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// A path that the walk could not read.
fn unreadable(root: &Path, error: &ignore::Error) -> Skipped {
    let path = path_of(error).map_or_else(String::new, |path| shown(root, &path));
    SkipReason::Unreadable(cause(error)).at(path)
}

fn path_of(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path.clone()),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        ignore::Error::Loop { child, .. } => Some(child.clone()),
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        _ => None,
    }
}

/// The innermost words of an error: the path is said next to them anyway.
fn cause(error: &ignore::Error) -> String {
    match error {
        ignore::Error::WithPath { err, .. }
        | ignore::Error::WithDepth { err, .. }
        | ignore::Error::WithLineNumber { err, .. } => cause(err),
        ignore::Error::Loop { .. } => "a symbolic link that leads back to a folder above it".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_path_and_cause() {
        let io = ignore::Error::Io(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let path = PathBuf::from("/root/locked");
        let error =
            ignore::Error::WithDepth { depth: 1, err: Box::new(ignore::Error::WithPath { path, err: Box::new(io) }) };
        let skipped = unreadable(Path::new("/root"), &error);
        assert_eq!(skipped.to_string(), "locked: cannot be read: permission denied");
    }

    #[test]
    fn size_and_name_are_enough_to_skip() {
        let options = WalkOptions { max_file_bytes: 10, ..WalkOptions::default() };
        assert_eq!(check("a.md", 0, &options), Err(SkipReason::Empty));
        assert_eq!(check("a.md", 10, &options), Ok(()));
        assert_eq!(check("a.md", 11, &options), Err(SkipReason::TooLarge { size: 11, limit: 10 }));
        assert_eq!(check("a.jsonl", 11, &options), Ok(()), "how large it may be depends on whether it holds records");
        assert_eq!(check("a.pdf", 5, &options), Err(SkipReason::NoExtractor("PDF")));
        let options = WalkOptions { documents: true, max_document_bytes: 20, ..options };
        assert_eq!(check("a.pdf", 20, &options), Ok(()));
        assert_eq!(check("a.pdf", 21, &options), Err(SkipReason::TooLarge { size: 21, limit: 20 }));
        assert_eq!(check("a.rtf", 5, &options), Err(SkipReason::Unsupported("word processor document")));
        assert_eq!(check("x/Cargo.lock", 5, &options), Err(SkipReason::Generated("lock file")));
    }
}
