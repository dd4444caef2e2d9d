//! What can go wrong between a name and a folder.

use std::path::PathBuf;

use hf_hub::api::sync::ApiError;

use super::{HubName, HubOptions};
use crate::error::Error;

/// Every failure of fetching a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The hub was not asked, or did not answer, and the cache does not have what is needed.
    #[error(
        "{name}: {missing} not in the cache {} and {endpoint} {cause}; fetch the model where there is a network \
         (`{}`) and bring the cache here (HF_HOME says where it lies), or give the model's folder",
        cache.display(), name.command()
    )]
    Unasked {
        /// The model.
        name: HubName,
        /// What is not in the cache, and a verb.
        missing: String,
        /// The folder of the cache.
        cache: PathBuf,
        /// The hub's address.
        endpoint: String,
        /// Why it was not asked, as a predicate.
        cause: String,
    },
    /// The hub does not give it out.
    #[error("{name}: {}", refusal(name, endpoint, *status, *token))]
    Refused {
        /// The model.
        name: HubName,
        /// The hub's address.
        endpoint: String,
        /// The status of HTTP.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// A file did not come whole.
    #[error("{name}: {file} from {endpoint}: {cause}; run it again: it goes on where it stopped")]
    BrokenOff {
        /// The model.
        name: HubName,
        /// The file.
        file: String,
        /// The hub's address.
        endpoint: String,
        /// What happened.
        cause: String,
    },
}

impl Error {
    // No `From`: with a second one, types that the rest of the crate leaves to inference are no longer clear.
    pub(super) fn hub(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl HubError {
    /// The cause where nobody was to be asked.
    pub(super) const OFFLINE: &str = "is not asked (offline, as HF_HUB_OFFLINE says)";

    /// The hub was not asked, or did not answer: about one file, or about the model.
    pub(super) fn unasked(name: &HubName, options: &HubOptions, file: Option<&str>, cause: String) -> Self {
        let missing = match file {
            Some(file) => format!("{file} is"),
            None if options.refresh => "it may have a newer commit, which is".into(),
            None => "it is".into(),
        };
        let (name, cache, endpoint) = (name.clone(), options.cache.clone(), options.address().into());
        Self::Unasked { name, missing, cache, endpoint, cause }
    }

    pub(super) fn broken_off(name: &HubName, options: &HubOptions, file: &str, cause: String) -> Self {
        Self::BrokenOff { name: name.clone(), file: file.into(), endpoint: options.address().into(), cause }
    }

    /// What a failure of asking for the model, or for one file of it, comes to.
    pub(super) fn of(name: &HubName, options: &HubOptions, file: Option<&str>, error: ApiError) -> Self {
        if let Some(status) = super::status(&error) {
            let (name, endpoint, token) = (name.clone(), options.address().into(), options.token.is_some());
            return Self::Refused { name, endpoint, status, token };
        }
        match (file, error) {
            (Some(file), ApiError::LockAcquisition(_)) => {
                Self::broken_off(name, options, file, "another process is fetching it".into())
            }
            (Some(file), error) => Self::broken_off(name, options, file, error.to_string()),
            (None, error) => Self::unasked(name, options, None, format!("cannot be reached: {error}")),
        }
    }

    /// Why the hub did not answer, as a predicate.
    pub(super) fn cause(self) -> String {
        match self {
            Self::Unasked { cause, .. } | Self::BrokenOff { cause, .. } => cause,
            Self::Refused { status, .. } => format!("answers {status}"),
        }
    }
}

fn refusal(name: &HubName, endpoint: &str, status: u16, token: bool) -> String {
    let repo = name.repo();
    match status {
        // What is private is called missing too, and what is missing forbidden.
        401 | 403 | 404 => {
            let token = if token { "the one sent is not enough" } else { "none was given" };
            format!(
                "there is no folder of this name, and {endpoint} refuses the model (HTTP {status}): the name or revision \
                 is wrong, or not everybody gets it; then accept its terms at {endpoint}/{repo} and set HF_TOKEN to a \
                 token of yours ({token})"
            )
        }
        _ => format!("{endpoint} answers HTTP {status}; try again later"),
    }
}
