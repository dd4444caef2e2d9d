//! Which files are an index's, by their names: nothing else in a folder is ever deleted.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::keywords;

/// What is said of version control in an index's folder.
pub(crate) const IGNORE: &str = "*\n";
const IGNORE_FILE: &str = ".gitignore";
const MANIFEST: &str = "manifest.lw";
const LOCK: &str = "write.lock";

/// Whether a file of this name is one of the index's in `folder`.
fn is_own(folder: &Path, name: &str) -> bool {
    match name {
        LOCK | MANIFEST | "manifest.lw.tmp" | "spool.tmp" => true,
        IGNORE_FILE => fs::read_to_string(folder.join(name)).is_ok_and(|text| text == IGNORE),
        keywords::FOLDER => fs::read_dir(folder.join(name)).is_ok_and(|entries| {
            entries.flatten().all(|entry| entry.file_name().to_str().is_some_and(keywords::is_own_file))
        }),
        name => is_numbered(name.strip_suffix(".tmp").unwrap_or(name)),
    }
}

/// `shard-000012.lws`, and while it is made `shard-000012.lws.fine`.
fn is_numbered(name: &str) -> bool {
    const KINDS: [(&str, &str); 4] = [("codec-", ".lwc"), ("shard-", ".lws"), ("texts-", ".lwt"), ("catalog-", ".lwr")];
    let name = name.strip_suffix(".fine").unwrap_or(name);
    let number = KINDS.iter().find_map(|(stem, extension)| name.strip_prefix(stem)?.strip_suffix(extension));
    number.is_some_and(|number| number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An index is made in a new or empty folder only: it shall not lie among a user's files.
pub(crate) fn refuse_foreign(index: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(index) else { return Ok(()) };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    match names.find(|name| !name.to_str().is_some_and(|name| is_own(index, name))) {
        None => Ok(()),
        Some(name) => Err(Error::NotAnIndex { index: index.into(), name: name.to_string_lossy().into_owned() }),
    }
}

/// Deletes an index's files, and the folder if nothing else is in it.
pub(crate) fn remove(index: &Path) -> Result<()> {
    let entries = fs::read_dir(index).map_err(|e| Error::io("list", index, e))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_own(index, name)).collect();
    // Without a manifest there is no index: what a crash leaves is not taken for one. While there is the lock, nobody else makes
    // one among what is still to be deleted.
    names.sort_by_key(|name| match name.as_str() {
        MANIFEST => 0,
        LOCK => 2,
        _ => 1,
    });
    for name in names {
        let file = index.join(&name);
        let removed = if name == keywords::FOLDER { fs::remove_dir_all(&file) } else { fs::remove_file(&file) };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("delete", file, e)),
            _ => {}
        }
    }
    // Fails where something else is in the folder, which then stays.
    let _ = fs::remove_dir(index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_users_is_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        for name in [
            "manifest.lw",
            "write.lock",
            "spool.tmp",
            "shard-000001.lws",
            "shard-000002.lws.fine.tmp",
            "catalog-000001.lwr",
        ] {
            write(name, "");
        }
        write(IGNORE_FILE, IGNORE);
        fs::create_dir(dir.path().join("keywords")).unwrap();
        write("keywords/0123456789abcdef0123456789abcdef.term", "");
        assert!(refuse_foreign(dir.path()).is_ok());
        for (name, text) in
            [("draft.tmp", ""), ("notes.lwt", ""), (".gitignore", "target\n"), ("keywords/mine.csv", "")]
        {
            write(name, text);
            assert!(matches!(refuse_foreign(dir.path()), Err(Error::NotAnIndex { .. })), "{name}");
        }
        remove(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".gitignore", "draft.tmp", "keywords", "notes.lwt"]);
        assert!(dir.path().join("keywords/mine.csv").exists());
    }
}
