//! Names of models on the hub.

use std::fmt;

use crate::error::Error;

/// The revision taken when none is named.
const MAIN: &str = "main";

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Name {
    /// `org/name`.
    pub(super) repo: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl Name {
    /// `org/name` or `org/name@revision`, if the text is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (org, name) = repo.split_once('/')?;
        let word = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let clear = !text.starts_with(['.', '-']) && !text.contains("..");
            (1..=96).contains(&text.len()) && text.chars().all(plain) && clear
        };
        // Branches may have slashes in their names.
        let known = word(org) && word(name) && revision.split('/').all(word);
        known.then(|| Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::file(self.to_string(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_of_models_are_told_from_paths() {
        let parse = |text| Name::parse(text).map(|n| (n.repo, n.revision));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parse("org/name"), pair("org/name", "main"));
        assert_eq!(parse("o-r.g/na_me.v2@refs/pr/1"), pair("o-r.g/na_me.v2", "refs/pr/1"));
        for text in [
            "", "name", "/name", "org/", "./name", "../name", "a/b/c", "a/..", "a\\b", "a/b@",
            "~/name", "a/b@../c", "a b/c", "a/-b", "a/b@c//d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
