//! Where the index of a folder lies.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The folder, inside an indexed folder, that holds its index.
pub const INDEX_DIR: &str = ".latewood";

/// An indexed folder, the index, and the part of the folder that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The folder whose documents are indexed, if known before the index is opened.
    pub root: Option<PathBuf>,
    /// The folder of the index.
    pub index: PathBuf,
    /// The folder that was asked for.
    pub asked: Option<PathBuf>,
}

impl Location {
    /// Finds the index for `path` (the current folder, if `None`).
    ///
    /// With `index` it lies there. Otherwise it is the `.latewood` of the folder or of the nearest folder above that
    /// has one, as Git finds its repository; where none has, it will be made in the folder itself.
    ///
    /// # Errors
    /// When `path` is missing or no folder.
    pub fn find(path: Option<&Path>, index: Option<&Path>) -> Result<Self> {
        if let Some(index) = index {
            let asked = path.map(folder).transpose()?;
            return Ok(Self { root: None, index: index.into(), asked });
        }
        let asked = folder(path.unwrap_or(Path::new(".")))?;
        let root = asked.ancestors().find(|folder| has_index(folder)).unwrap_or(&asked).to_path_buf();
        Ok(Self { index: root.join(INDEX_DIR), root: Some(root), asked: Some(asked) })
    }
}

/// Whether a folder holds an index of its own; an empty `.latewood` does not count.
fn has_index(folder: &Path) -> bool {
    folder.join(INDEX_DIR).join("manifest.lw").is_file()
}

/// The absolute path of an existing folder.
fn folder(path: &Path) -> Result<PathBuf> {
    let absolute = fs::canonicalize(path).map_err(|e| Error::io("open", path, e))?;
    if absolute.is_dir() {
        return Ok(absolute);
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let detail = format!("is a file, and folders are indexed; try {}", parent.display());
    Err(Error::Input { file: path.into(), line: None, detail })
}

/// `folder` relative to `root`, as `/`-separated text with a `/` at the end; empty for the root itself.
pub(crate) fn relative(root: &Path, folder: &Path) -> Option<String> {
    let mut text = String::new();
    for part in folder.strip_prefix(root).ok()?.components() {
        let Component::Normal(name) = part else { return None };
        text.push_str(name.to_str()?);
        text.push('/');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_index_above_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let deep = top.join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let fresh = Location::find(Some(&deep), None).unwrap();
        assert_eq!(fresh.root.as_deref(), Some(&*deep));
        fs::create_dir_all(top.join(INDEX_DIR)).unwrap();
        assert_eq!(Location::find(Some(&deep), None).unwrap(), fresh, "an empty folder is no index");
        fs::write(top.join(INDEX_DIR).join("manifest.lw"), "x").unwrap();
        let found = Location::find(Some(&deep), None).unwrap();
        assert_eq!((found.root.as_deref(), &found.index), (Some(&*top), &top.join(INDEX_DIR)));
        assert_eq!(relative(&top, &found.asked.unwrap()).as_deref(), Some("a/b/"));
        assert_eq!(relative(&deep, &top), None);
    }

    #[test]
    fn a_file_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.md"), "x").unwrap();
        let text = Location::find(Some(&dir.path().join("notes.md")), None).unwrap_err().to_string();
        assert!(text.contains("notes.md") && text.contains("is a file"), "{text}");
        let text = Location::find(Some(&dir.path().join("missing")), None).unwrap_err().to_string();
        assert!(text.contains("missing"), "{text}");
    }
}
