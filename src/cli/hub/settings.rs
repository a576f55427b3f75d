//! The environment variables that Hugging Face's own tools read.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Where models are kept and asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in the user's cache folder.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names or that logging in wrote.
    pub token: Option<String>,
    /// Whether `HF_HUB_OFFLINE` forbids the network.
    pub offline: bool,
}

impl Settings {
    pub fn from_env() -> Result<Self> {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let var = |name: &str| get(name).filter(|value| !value.is_empty());
        let path = |name: &str| var(name).map(PathBuf::from);
        let text = |name: &str| var(name).map(|value| value.to_string_lossy().trim().to_owned());
        let user = || {
            let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
            let home = || path(home).map(|home| home.join(".cache"));
            path("XDG_CACHE_HOME").or_else(home).map(|cache| cache.join("huggingface"))
        };
        let home = path("HF_HOME").or_else(user);
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache =
            cache.or_else(|| home.as_ref().map(|home| home.join("hub"))).ok_or_else(|| {
                let message = "there is no home folder to keep models in; set HF_HOME";
                Error::Argument(message.to_owned())
            })?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            let message =
                format!("HF_ENDPOINT is `{endpoint}`; an http or https address is needed");
            return Err(Error::Argument(message));
        }
        let file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        // Whoever never logged in has no such file.
        let kept = || std::fs::read_to_string(file?).ok().map(|text| text.trim().to_owned());
        let token = text("HF_TOKEN").or_else(kept).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            let message = "HF_TOKEN, or the token file, holds characters that no token has";
            return Err(Error::Argument(message.to_owned()));
        }
        let on = |value: String| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase());
        let offline = text("HF_HUB_OFFLINE").is_some_and(on);
        Ok(Self { cache, endpoint, token, offline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings> {
        let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        Settings::new(|name| {
            let found = vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            found.or_else(|| (name == home).then(|| "me".into()))
        })
    }

    #[test]
    fn variables_go_before_each_other_as_in_python() {
        let default = settings(&[]).unwrap();
        assert_eq!(default.cache, PathBuf::from("me/.cache/huggingface/hub"));
        assert_eq!((default.endpoint.as_str(), default.offline), (ENDPOINT, false));
        let cache = |vars| settings(vars).unwrap().cache;
        assert_eq!(cache(&[("XDG_CACHE_HOME", "x")]), PathBuf::from("x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "x"), ("HF_HOME", "h")]), PathBuf::from("h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "c"), ("HF_HOME", "h")]), PathBuf::from("c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "h")]), PathBuf::from("h/hub"));
        let more = settings(&[
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "True"),
            ("HF_TOKEN", " t \n"),
        ]);
        let more = more.unwrap();
        assert_eq!((more.endpoint.as_str(), more.offline), ("http://mirror", true));
        assert_eq!(more.token.as_deref(), Some("t"));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
    }

    #[test]
    fn odd_values_are_errors() {
        let error = |vars| settings(vars).unwrap_err().to_string();
        assert!(error(&[("HF_ENDPOINT", "mirror")]).contains("`mirror`"));
        assert!(error(&[("HF_TOKEN", "a\nb")]).contains("HF_TOKEN"));
    }
}
