//! Models of the Hugging Face hub, by name: fetched once into its cache, read from there ever after.
//!
//! Which files a model has is for the readers in `checkpoint` to ask. A [`Snapshot`] answers them from the cache, and
//! fetches what is asked for and is not there: there is no second list of files, and a model that is refused by its
//! config is refused before its weights are fetched. What the hub does not have is written down too, so that a model
//! that was read once is read again without a word to the hub. The cache is that of Python's huggingface_hub:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG                 the bytes of a file, under another name until they are whole
//! models--OWNER--NAME/snapshots/COMMIT/FILE      a link to them
//! models--OWNER--NAME/refs/REVISION              the commit of a branch or tag, once all of it that is read is here
//! models--OWNER--NAME/.no_exist/COMMIT/FILE      there is no such file
//! ```
//!
//! A branch stays at the commit that it was at when it was fetched, until [`HubOptions::refresh`] asks again.

mod error;
mod name;

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::checkpoint::{Checkpoint, Classifier, Source};
use crate::error::{Error, Result};
use crate::files::read_if_any;
use crate::recipe::Format;

pub use error::HubError;
pub use name::HubName;

/// Where models are fetched from and kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// The hub's address.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Who asks, for models that not everybody gets.
    pub token: Option<String>,
    /// Whether to take what is in the cache and never ask.
    pub offline: bool,
    /// Whether to ask for the newest commit, and not take the one in the cache.
    pub refresh: bool,
}

impl HubOptions {
    /// The public hub.
    pub const ENDPOINT: &str = "https://huggingface.co";

    /// The public hub, with its cache in the folder `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { endpoint: Self::ENDPOINT.into(), cache: cache.into(), token: None, offline: false, refresh: false }
    }

    /// The hub's address without the slash that some write behind it.
    fn address(&self) -> &str {
        self.endpoint.trim_end_matches('/')
    }
}

/// What happens while a model is looked for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum HubEvent<'a> {
    /// A file is being fetched.
    Fetching {
        /// The file.
        file: &'a str,
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The model is in the cache, and whether all of it is could not be asked.
    Unasked {
        /// Why not.
        cause: &'a str,
    },
}

impl HubName {
    /// Brings all that is read of the model into the cache, where it is not there yet; returns its folder.
    ///
    /// # Errors
    /// When it cannot be fetched, or its files cannot be read.
    pub fn fetch(&self, options: &HubOptions, hear: &dyn Fn(HubEvent<'_>)) -> Result<PathBuf> {
        Ok(open(self, options, hear)?.1)
    }
}

/// Reads the model `name`, from the cache or from the hub; returns it and the folder that it is in.
pub(crate) fn open(name: &HubName, options: &HubOptions, hear: &dyn Fn(HubEvent<'_>)) -> Result<(Checkpoint, PathBuf)> {
    let snapshot = Snapshot::find(name, options, hear)?;
    match (Checkpoint::open(&snapshot), snapshot.listing.get()) {
        (Ok(checkpoint), listing) => {
            if let Some(Listing::Unasked(cause)) = listing
                && let Some(file) = decisive(checkpoint.recipe.format).filter(|file| !snapshot.dir.join(file).is_file())
            {
                return Err(Error::hub(HubError::unasked(name, options, Some(file), cause.clone())));
            }
            snapshot.record()?;
            Ok((checkpoint, snapshot.dir))
        }
        (Err(Error::MissingFile { file, .. }), Some(Listing::Unasked(cause))) => {
            Err(Error::hub(HubError::unasked(name, options, Some(&file), cause.clone())))
        }
        (Err(error), _) => Err(error),
    }
}

/// The cross-encoder `name`.
pub(crate) fn open_classifier(name: &HubName, options: &HubOptions, hear: &dyn Fn(HubEvent<'_>)) -> Result<Classifier> {
    let snapshot = Snapshot::find(name, options, hear)?;
    match (Classifier::open(&snapshot), snapshot.listing.get()) {
        (Ok(classifier), _) => {
            snapshot.record()?;
            Ok(classifier)
        }
        (Err(Error::MissingFile { file, .. }), Some(Listing::Unasked(cause))) => {
            Err(Error::hub(HubError::unasked(name, options, Some(&file), cause.clone())))
        }
        (Err(error), _) => Err(error),
    }
}

/// The file without which a model would be taken for what it is not, if it has the file: other tools' caches may hold no
/// more of a model than its network.
fn decisive(format: Format) -> Option<&'static str> {
    match format {
        Format::Plain => Some("modules.json"),
        Format::Stanford => Some("artifact.metadata"),
        _ => None,
    }
}

/// What the hub has of a commit.
enum Listing {
    Files(BTreeSet<String>),
    /// It was not asked, or did not answer, which is why.
    Unasked(String),
}

/// A commit of a model: a folder of the cache, filled as it is read.
struct Snapshot<'a> {
    name: &'a HubName,
    options: &'a HubOptions,
    hear: &'a dyn Fn(HubEvent<'_>),
    api: Api,
    commit: String,
    dir: PathBuf,
    listing: OnceCell<Listing>,
}

impl<'a> Snapshot<'a> {
    fn find(name: &'a HubName, options: &'a HubOptions, hear: &'a dyn Fn(HubEvent<'_>)) -> Result<Self> {
        let failed = |e| Error::hub(HubError::of(name, options, None, e));
        let cache = Cache::new(options.cache.clone());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(options.address().into())
            .with_token(options.token.clone())
            .with_user_agent("latewood", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(failed)?;
        let listing = OnceCell::new();
        let commit = match cached(name, options).filter(|_| !options.refresh) {
            Some(commit) => commit,
            None if options.offline => {
                return Err(Error::hub(HubError::unasked(name, options, None, HubError::OFFLINE.into())));
            }
            None => {
                let (commit, files) = ask(&api, name, name.revision()).map_err(failed)?;
                listing.get_or_init(|| Listing::Files(files));
                commit
            }
        };
        let dir = cache.repo(repo(name, &commit)).pointer_path(&commit);
        Ok(Self { name, options, hear, api, commit, dir, listing })
    }

    /// What the hub has of the commit, asked at the first file that is not in the cache.
    fn listing(&self) -> &Listing {
        self.listing.get_or_init(|| {
            if self.options.offline {
                return Listing::Unasked(HubError::OFFLINE.into());
            }
            match ask(&self.api, self.name, &self.commit) {
                Ok((_, files)) => Listing::Files(files),
                Err(error) => {
                    let cause = HubError::of(self.name, self.options, None, error).cause();
                    (self.hear)(HubEvent::Unasked { cause: &cause });
                    Listing::Unasked(cause)
                }
            }
        })
    }

    /// Fetches `file` into the folder.
    fn fetch(&self, file: &str) -> Result<()> {
        let repo = self.api.repo(repo(self.name, &self.commit));
        let size = Cell::new(0);
        let meter = || Meter { file, done: 0, size: &size, hear: self.hear };
        let failed = |e| Error::hub(HubError::of(self.name, self.options, Some(file), e));
        let mut fetched = repo.download_with_progress(file, meter());
        // What an earlier run left of the file is no beginning of it, or already all of it.
        if fetched.as_ref().is_err_and(|e| matches!(e, ApiError::InvalidResume) || status(e) == Some(416)) {
            self.discard_part(&repo, file).map_err(failed)?;
            fetched = repo.download_with_progress(file, meter());
        }
        let path = fetched.map_err(failed)?;
        let io = |source| Error::Io { path: path.clone(), source };
        let found = fs::metadata(&path).map_err(io)?.len();
        if found == size.get() {
            return Ok(());
        }
        // A server that sends the whole where the rest was asked for: nothing of it may stay.
        fs::remove_file(fs::canonicalize(&path).map_err(io)?).map_err(io)?;
        fs::remove_file(&path).map_err(io)?;
        let cause = format!("{found} bytes came of {}", size.get());
        Err(Error::hub(HubError::broken_off(self.name, self.options, file, cause)))
    }

    /// Deletes what is here of a file that is not whole.
    fn discard_part(&self, repo: &ApiRepo, file: &str) -> Result<(), ApiError> {
        let metadata = self.api.metadata(&repo.url(file))?;
        let cache = Cache::new(self.options.cache.clone()).model(self.name.repo().into());
        Ok(fs::remove_file(cache.blob_path(metadata.etag()).with_extension("part"))?)
    }

    /// Where it is written down that the commit has no `file`.
    fn absent(&self, file: &str) -> PathBuf {
        folder(self.name, self.options).join(".no_exist").join(&self.commit).join(file)
    }

    /// Writes down which commit the revision is, now that all of it that is read is here.
    fn record(&self) -> Result<()> {
        if is_commit(self.name.revision()) || cached(self.name, self.options).as_ref() == Some(&self.commit) {
            return Ok(());
        }
        let cache = Cache::new(self.options.cache.clone()).repo(repo(self.name, self.name.revision()));
        cache.create_ref(&self.commit).map_err(|source| Error::Io { path: self.options.cache.clone(), source })
    }
}

impl Source for Snapshot<'_> {
    fn name(&self) -> String {
        self.name.repo().into()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let within = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if !within {
            return Ok(None);
        }
        let path = self.dir.join(file);
        let found = read_if_any(&path)?;
        if found.is_some() || self.absent(file).is_file() {
            return Ok(found);
        }
        match self.listing() {
            Listing::Files(files) if files.contains(file) => {
                self.fetch(file)?;
                read_if_any(&path)
            }
            Listing::Files(_) => {
                // Where the cache cannot be written to, the hub is asked again next time.
                let absent = self.absent(file);
                let _ = absent.parent().map(fs::create_dir_all).and_then(|_| fs::write(&absent, "").ok());
                Ok(None)
            }
            Listing::Unasked(_) => Ok(None),
        }
    }
}

/// What the hub says of a revision: which commit it is, and its files.
fn ask(api: &Api, name: &HubName, revision: &str) -> Result<(String, BTreeSet<String>), ApiError> {
    let info = api.repo(repo(name, revision)).info()?;
    // It becomes the name of a folder.
    let commit = Some(info.sha).filter(|sha| is_commit(sha)).ok_or(ApiError::InvalidHeader("sha"))?;
    Ok((commit, info.siblings.into_iter().map(|file| file.rfilename).collect()))
}

/// The commit of a model that is in the cache.
fn cached(name: &HubName, options: &HubOptions) -> Option<String> {
    let folder = folder(name, options);
    let commit = if is_commit(name.revision()) {
        name.revision().to_owned()
    } else {
        fs::read_to_string(folder.join("refs").join(name.revision())).ok()?.trim().to_owned()
    };
    (is_commit(&commit) && folder.join("snapshots").join(&commit).is_dir()).then_some(commit)
}

fn folder(name: &HubName, options: &HubOptions) -> PathBuf {
    options.cache.join(repo(name, name.revision()).folder_name())
}

fn repo(name: &HubName, revision: &str) -> Repo {
    Repo::with_revision(name.repo().into(), RepoType::Model, revision.into())
}

/// Whether a revision is the name of a commit, which never changes.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// The status with which the hub refused, if it did.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// Counts the bytes of a file that come in.
struct Meter<'a> {
    file: &'a str,
    done: u64,
    size: &'a Cell<u64>,
    hear: &'a dyn Fn(HubEvent<'_>),
}

impl hf_hub::api::Progress for Meter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.done = 0;
        self.size.set(size as u64);
        self.update(0);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.hear)(HubEvent::Fetching { file: self.file, done: self.done, total: self.size.get() });
    }

    fn finish(&mut self) {}
}
