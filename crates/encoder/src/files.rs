//! The four files of a model in our own format, and the digest that names a model of any.

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use crate::checkpoint::Source;
use crate::error::{Error, Result};
use crate::options::EncoderOptions;

/// The files of a model folder, in the order in which the digest reads them.
pub(crate) const FILE_NAMES: [&str; 4] = [CONFIG, DESCRIPTION, TOKENIZER, WEIGHTS];

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const DESCRIPTION: &str = "latewood.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The bytes of a model's files, owned or compiled in.
#[derive(Clone)]
pub struct ModelFiles {
    /// `config.json`: the network, as Hugging Face writes it.
    pub config: Cow<'static, [u8]>,
    /// `latewood.json`: from hidden states to embeddings, see [`crate::Description`].
    pub description: Cow<'static, [u8]>,
    /// `tokenizer.json`.
    pub tokenizer: Cow<'static, [u8]>,
    /// `model.safetensors`: weights in F32, F16 or BF16, or I8 with a scale for each row.
    pub weights: Cow<'static, [u8]>,
}

impl ModelFiles {
    /// Reads the four files of the folder `dir`.
    ///
    /// # Errors
    /// [`Error::MissingFile`] or [`Error::Io`].
    pub fn read(dir: &Path) -> Result<Self> {
        Self::read_from(&dir.to_path_buf())
    }

    /// Reads the four files of `source`.
    pub(crate) fn read_from(source: &dyn Source) -> Result<Self> {
        let read = |file: &'static str| {
            let missing = || {
                let (dir, needed) = (source.dir().into(), FILE_NAMES.join(", "));
                Error::MissingFile { dir, file: file.into(), needed }
            };
            source.read(file)?.map(Cow::Owned).ok_or_else(missing)
        };
        Ok(Self {
            config: read(CONFIG)?,
            description: read(DESCRIPTION)?,
            tokenizer: read(TOKENIZER)?,
            weights: read(WEIGHTS)?,
        })
    }

    /// The default model, compiled in.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Self {
        Self {
            config: Cow::Borrowed(latewood_mini::CONFIG),
            description: Cow::Borrowed(latewood_mini::DESCRIPTION),
            tokenizer: Cow::Borrowed(latewood_mini::TOKENIZER),
            weights: Cow::Borrowed(latewood_mini::WEIGHTS),
        }
    }

    /// blake3 over the four files, each preceded by its length (u64, little-endian): every byte that
    /// decides what an embedding is.
    pub fn digest(&self) -> [u8; 32] {
        digest([&self.config, &self.description, &self.tokenizer, &self.weights].map(AsRef::as_ref))
    }
}

/// blake3 over `parts`, each preceded by its length (u64, little-endian).
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for bytes in parts {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    *hasher.finalize().as_bytes()
}

/// The bytes of the file at `path`, if there is one.
pub(crate) fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::Io { path: path.into(), source }),
    }
}

impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("ModelFiles");
        for (name, bytes) in FILE_NAMES.iter().zip([&self.config, &self.description, &self.tokenizer, &self.weights]) {
            s.field(name, &format_args!("{} bytes", bytes.len()));
        }
        s.finish()
    }
}

/// The name of a model and the first 64 bits of its digest: `latewood-mini@3f2a90c17be4d85f`. Behind them stands what
/// documents are encoded otherwise than the model says ([`EncoderOptions`]): `...4d85f?dim=64&doc_maxlen=300`.
///
/// An index records it, and queries encoded by another model are refused by comparing it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId(String);

impl ModelId {
    /// The id of the model called `name` whose [digest](ModelFiles::digest) is `digest`.
    pub fn new(name: &str, digest: &[u8; 32]) -> Self {
        use fmt::Write;
        let mut id = format!("{name}@");
        for byte in &digest[..8] {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        Self(id)
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the same model with these options.
    pub(crate) fn with(&self, options: &EncoderOptions) -> Self {
        let options = options.to_string();
        Self(if options.is_empty() { self.0.clone() } else { format!("{}?{options}", self.0) })
    }

    /// Whether `other` is the id of the same model: the same files, whatever it is called and whatever its options are.
    pub fn same_model(&self, other: &str) -> bool {
        parts(&self.0).0 == parts(other).0
    }

    /// Whether `other` is the id of the same model with the same options.
    pub fn same_rows(&self, other: &str) -> bool {
        parts(&self.0) == parts(other)
    }

    /// The part before the `@`.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or(&self.0, |(name, _)| name)
    }
}

/// The digest in an id, and the options.
fn parts(id: &str) -> (&str, &str) {
    let rest = id.rsplit_once('@').map_or("", |(_, rest)| rest);
    rest.split_once('?').unwrap_or((rest, ""))
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(weights: &'static [u8], tokenizer: &'static [u8]) -> ModelFiles {
        ModelFiles {
            config: Cow::Borrowed(b"{}"),
            description: Cow::Borrowed(b"{}"),
            tokenizer: Cow::Borrowed(tokenizer),
            weights: Cow::Borrowed(weights),
        }
    }

    #[test]
    fn the_digest_depends_on_every_byte_and_where_it_is() {
        let a = files(b"ab", b"c").digest();
        assert_eq!(a, files(b"ab", b"c").digest());
        assert_ne!(a, files(b"ax", b"c").digest());
        assert_ne!(a, files(b"b", b"ca").digest());
    }

    #[test]
    fn an_id_has_a_name_and_sixteen_digits() {
        let id = ModelId::new("a@b", &[0xab; 32]);
        assert_eq!(id.to_string(), "a@b@abababababababab");
        assert_eq!((id.name(), id.as_str()), ("a@b", "a@b@abababababababab"));
        let mut options = EncoderOptions::default();
        assert_eq!(id.with(&options), id);
        (options.dim, options.doc_maxlen, options.pool_factor) = (Some(64), Some(300), Some(1.5));
        let other = id.with(&options);
        assert_eq!(other.as_str(), "a@b@abababababababab?dim=64&doc_maxlen=300&pool_factor=1.5");
        assert_eq!((other.name(), EncoderOptions::recorded(other.as_str())), ("a@b", options));
        assert!(id.same_model(other.as_str()) && !id.same_rows(other.as_str()));
        assert!(id.same_rows("c@abababababababab") && !id.same_model("a@b@abababababababac") && !id.same_model("a@b"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), "{}").unwrap();
        let text = ModelFiles::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("holds no latewood.json") && text.contains("model.safetensors"), "{text}");
    }
}
