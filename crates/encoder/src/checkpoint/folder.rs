//! A model's folder, which remembers what was read of it: the digest is over these files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::read_if_any;
use crate::weights::WeightFile;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";

/// Where the files of a model are: in a folder, or on their way into one (`hub`).
pub(crate) trait Source {
    /// What the model is called, as one word.
    fn name(&self) -> String;

    /// The folder, for errors to name.
    fn dir(&self) -> &Path;

    /// The bytes of `file`, if the model has it.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>>;
}

impl Source for PathBuf {
    fn name(&self) -> String {
        let dir = self.canonicalize().unwrap_or_else(|_| self.clone());
        let name = dir.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
        name.replace(char::is_whitespace, "-")
    }

    fn dir(&self) -> &Path {
        self
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        read_if_any(&self.join(file))
    }
}

pub(super) struct Folder<'a> {
    source: &'a dyn Source,
    files: Files,
    /// By the folder that they lie in.
    weights: BTreeMap<String, Vec<WeightFile>>,
}

/// The files that were read, by their path.
type Files = BTreeMap<String, Cow<'static, [u8]>>;

impl<'a> Folder<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self { source, files: BTreeMap::new(), weights: BTreeMap::new() }
    }

    /// What the model is called.
    pub(super) fn name(&self) -> String {
        self.source.name()
    }

    /// The files that were read, weights apart.
    pub(super) fn into_files(self) -> (Files, BTreeMap<String, Vec<WeightFile>>) {
        (self.files, self.weights)
    }

    /// The bytes of `file`, remembered, if there is one.
    fn remember(&mut self, file: &str) -> Result<Option<&[u8]>> {
        if !self.files.contains_key(file) {
            let Some(bytes) = self.source.read(file)? else { return Ok(None) };
            self.files.insert(file.into(), Cow::Owned(bytes));
        }
        Ok(self.files.get(file).map(AsRef::as_ref))
    }

    /// The bytes of `file`, which must be there.
    pub(super) fn bytes(&mut self, file: &str) -> Result<&[u8]> {
        let missing = self.missing(file, file.into());
        self.remember(file)?.ok_or(missing)
    }

    /// The value in `file`, which must be there.
    pub(super) fn json<T: DeserializeOwned>(&mut self, file: &str) -> Result<T> {
        let missing = self.missing(file, file.into());
        self.json_if_any(file)?.ok_or(missing)
    }

    /// The value in `file`, if there is one.
    pub(super) fn json_if_any<T: DeserializeOwned>(&mut self, file: &str) -> Result<Option<T>> {
        let parse = |bytes| serde_json::from_slice(bytes).map_err(|source| Error::Json { file: file.into(), source });
        self.remember(file)?.map(parse).transpose()
    }

    fn missing(&self, file: &str, needed: String) -> Error {
        Error::MissingFile { dir: self.source.dir().into(), file: file.into(), needed }
    }

    /// The weights in the folder `at`, one file or several; safetensors before a pickle.
    pub(super) fn weights(&mut self, at: &str) -> Result<&[WeightFile]> {
        if !self.weights.contains_key(at) {
            let files = self.find_weights(at)?;
            self.weights.insert(at.into(), files);
        }
        Ok(self.weights.get(at).map_or(&[], Vec::as_slice))
    }

    fn find_weights(&mut self, at: &str) -> Result<Vec<WeightFile>> {
        for file in [WEIGHTS, INDEX, PICKLED].map(|file| format!("{at}{file}")) {
            if file.ends_with(INDEX) {
                if let Some(index) = self.json_if_any::<Index>(&file)? {
                    return self.shards(at, &file, index);
                }
            } else if let Some(bytes) = self.source.read(&file)? {
                return Ok(vec![WeightFile { name: file, bytes: bytes.into() }]);
            }
        }
        Err(self.missing(&format!("{at}{WEIGHTS}"), format!("{WEIGHTS}, {INDEX} or {PICKLED}")))
    }

    fn shards(&self, at: &str, index_file: &str, index: Index) -> Result<Vec<WeightFile>> {
        let names: BTreeSet<String> = index.weight_map.into_values().collect();
        let shard = |name: String| {
            // A shard lies beside its index.
            if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
                return Err(Error::Unsupported {
                    file: index_file.into(),
                    what: "the shard".into(),
                    found: name,
                    supported: "a safetensors file in the same folder",
                });
            }
            let name = format!("{at}{name}");
            let bytes =
                self.source.read(&name)?.ok_or_else(|| self.missing(&name, format!("the shards of {index_file}")))?;
            Ok(WeightFile { name, bytes: bytes.into() })
        };
        names.into_iter().map(shard).collect()
    }
}

/// Which shard holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}
