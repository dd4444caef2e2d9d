//! What a model of the hub is called.

use std::fmt;

/// `OWNER/NAME`, or `OWNER/NAME@REVISION`: a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    repo: String,
    revision: String,
}

impl HubName {
    /// The branch of those who name none.
    const MAIN: &str = "main";

    /// The name that `text` is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, Self::MAIN));
        let (owner, name) = repo.split_once('/')?;
        // Parts become folders of the cache.
        let part = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(allowed)
        };
        let valid = part(owner) && part(name) && revision.split('/').all(part);
        valid.then(|| Self { repo: repo.into(), revision: revision.into() })
    }

    /// `OWNER/NAME`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What fetches the model with Hugging Face's own tool.
    pub(crate) fn command(&self) -> String {
        match self.revision.as_str() {
            Self::MAIN => format!("hf download {}", self.repo),
            revision => format!("hf download {} --revision {revision}", self.repo),
        }
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == Self::MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_owner_and_perhaps_a_revision() {
        let parsed = |text| HubName::parse(text).map(|name| (name.repo().to_owned(), name.revision().to_owned()));
        assert_eq!(parsed("a/b"), Some(("a/b".into(), "main".into())));
        assert_eq!(parsed("a.b-c/d_e.0@refs/pr/2"), Some(("a.b-c/d_e.0".into(), "refs/pr/2".into())));
        for text in
            ["a", "/a", "a/", "a/b/c", "./a", "../a", "a/..", "~/a", "a/b@", "a/b@../c", "a/b@c//d", "a b/c", "a\\b/c"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
        for text in ["a/b", "a/b@v1"] {
            assert_eq!(HubName::parse(text).unwrap().to_string(), text);
        }
    }
}
