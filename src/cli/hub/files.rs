//! Which of a repository's files an engine needs.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::files::read_json;

pub(super) const CONFIG: &str = "config.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
const MODULES: &str = "modules.json";

/// Files beside the weights, each of which a repository may lack.
const SMALL: [&str; 9] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.txt",
    MODULES,
    "sentence_bert_config.json",
];

/// Names of the files that the folder should hold as far as its present files tell, small ones
/// first. `listed` says what the repository has, or is thought to have.
///
/// Errors: an index or a list of modules that is not JSON.
pub(super) fn needed(folder: &Path, listed: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut weights = Vec::new();
    for place in places(folder)? {
        let at = |name: &str| format!("{place}{name}");
        names.extend(SMALL.map(at).into_iter().filter(|name| listed(name)));
        if listed(&at(SINGLE)) {
            weights.push(at(SINGLE));
        } else if listed(&at(INDEX)) {
            names.push(at(INDEX));
            let shards = shards(&folder.join(at(INDEX)))?;
            weights.extend(shards.into_iter().map(|name| at(&name)).filter(|name| listed(name)));
        }
    }
    names.extend(weights);
    Ok(names)
}

/// Every name, shards aside, that a repository is asked for and may lack.
pub(super) fn asked(folder: &Path) -> Result<Vec<String>> {
    let names = SMALL.into_iter().chain([SINGLE, INDEX]);
    let places = places(folder)?;
    Ok(names.flat_map(|name| places.iter().map(move |place| format!("{place}{name}"))).collect())
}

/// The folder itself, and those of sentence-transformers' modules, as prefixes of names.
fn places(folder: &Path) -> Result<Vec<String>> {
    let mut places = vec![String::new()];
    let path = folder.join(MODULES);
    if path.is_file()
        && let Value::Array(modules) = read_json(&path)?
    {
        let paths = modules.iter().filter_map(|module| module.get("path")?.as_str());
        places.extend(paths.filter(|path| plain(path)).map(|path| format!("{path}/")));
    }
    Ok(places)
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    if !index.is_file() {
        return Ok(BTreeSet::new());
    }
    let index = read_json(index)?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let names = map.into_iter().flat_map(|map| map.values()).filter_map(Value::as_str);
    Ok(names.filter(|name| plain(name)).map(str::to_owned).collect())
}

/// A name within one folder: what a repository writes must not lead out of the cache.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "c:x", "/x", ".hidden"] {
            assert!(!plain(name), "{name}");
        }
        assert!(plain("model-00001-of-00002.safetensors") && plain("1_Pooling"));
    }

    #[test]
    fn files_lead_to_files() {
        let folder = std::env::temp_dir().join(format!("tilewright-hub-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let all = |_: &str| true;
        let count = SMALL.len();
        assert_eq!(needed(&folder, all).unwrap()[count..], [SINGLE]);
        let sharded = |name: &str| name != SINGLE;
        assert_eq!(needed(&folder, sharded).unwrap()[count..], [INDEX]);
        let map =
            serde_json::json!({"weight_map": {"a": "s1", "b": "s2", "c": "s1", "d": "../s3"}});
        std::fs::write(folder.join(INDEX), map.to_string()).unwrap();
        assert_eq!(needed(&folder, sharded).unwrap()[count..], [INDEX, "s1", "s2"]);
        let modules = r#"[{"path": ""}, {"path": "1_Pooling"}, {"path": "../x"}]"#;
        std::fs::write(folder.join(MODULES), modules).unwrap();
        let few = |name: &str| [CONFIG, "1_Pooling/config.json"].contains(&name);
        assert_eq!(needed(&folder, few).unwrap(), [CONFIG, "1_Pooling/config.json"]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
