//! `--model org/name`: from a server on this machine that answers as the Hugging Face hub does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::folder::Folder;
use crate::program::{Done, bert, command, finish, golden, text};

/// Names of files and what is in them.
type Files = BTreeMap<String, Vec<u8>>;

/// Two commits; `main` is the second and the tag `v1` the first.
const COMMITS: [&str; 2] =
    ["0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"];

/// A hub with one repository, `tests/model`, and a locked one, `tests/secret`, of the same files.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (base, log) = (endpoint.clone(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &base, &files, &log);
            }
        });
        Self { endpoint, asked }
    }

    /// What was asked for since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Everything in a folder, with paths from there.
fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            found.extend(inner.map(|(inside, bytes)| (format!("{name}/{inside}"), bytes)));
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

fn answer(mut stream: TcpStream, base: &str, files: &Files, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let mut pairs = headers.iter().filter_map(|line| line.split_once(": "));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let path = first.split(' ').nth(1).unwrap();
    log.lock().unwrap().push(path.to_owned());
    let reply = route(path, base, files, header("authorization"), header("range"));
    // The other side may have heard enough.
    let _ = stream.write_all(&reply);
}

fn reply(status: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    out += &format!("Content-Length: {}\r\n", body.len());
    out.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    out += "\r\n";
    [out.as_bytes(), body].concat()
}

fn route(
    path: &str,
    base: &str,
    files: &Files,
    token: Option<&str>,
    range: Option<&str>,
) -> Vec<u8> {
    let missing = || reply("404 Not Found", &[], b"{\"error\":\"Not Found\"}");
    let commit = |revision: &str| match revision {
        "main" => Some(COMMITS[1]),
        "v1" => Some(COMMITS[0]),
        other => COMMITS.into_iter().find(|c| *c == other),
    };
    let part = |bytes: &[u8], headers: &[(&str, String)]| {
        let (start, end) = range.unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(bytes.len(), |end: usize| bytes.len().min(end + 1));
        let of = format!("bytes {start}-{}/{}", end - 1, bytes.len());
        let headers = [headers, &[("Content-Range", of)]].concat();
        reply("206 Partial Content", &headers, &bytes[start..end])
    };
    if path.contains("tests/secret/") && token != Some("Bearer good") {
        return reply("401 Unauthorized", &[], b"");
    }
    let path = path.replace("tests/secret/", "tests/model/");
    if let Some(name) = path.strip_prefix("/storage/") {
        return part(&files[name], &[]);
    }
    if let Some(revision) = path.strip_prefix("/api/models/tests/model/revision/") {
        let Some(commit) = commit(revision) else { return missing() };
        let names: Vec<_> = files.keys().map(|n| serde_json::json!({"rfilename": n})).collect();
        let body = serde_json::json!({"sha": commit, "siblings": names, "private": false});
        return reply("200 OK", &[], body.to_string().as_bytes());
    }
    let Some(rest) = path.strip_prefix("/tests/model/resolve/") else { return missing() };
    let (revision, name) = rest.split_once('/').unwrap();
    let (Some(commit), Some(bytes)) = (commit(revision), files.get(name)) else {
        return missing();
    };
    let tag = format!("{:x}", bytes.iter().fold(7u64, |h, b| h * 31 % 1_000_003 + u64::from(*b)));
    let commit = ("X-Repo-Commit", commit.to_owned());
    if name.ends_with(".safetensors") {
        // Large files are kept elsewhere.
        let place = ("Location", format!("{base}/storage/{name}"));
        return reply("302 Found", &[commit, ("X-Linked-Etag", format!("\"{tag}\"")), place], b"");
    }
    part(bytes, &[commit, ("ETag", format!("\"{tag}\""))])
}

/// The program on the CPU with a cache of its own.
struct User {
    cache: PathBuf,
    vars: Vec<(&'static str, String)>,
}

impl User {
    fn new(folder: &Folder, endpoint: &str) -> Self {
        let cache = folder.0.join("hub");
        Self { cache, vars: vec![("HF_ENDPOINT", endpoint.to_owned())] }
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        let more = [(name, value.to_owned())];
        Self { cache: self.cache.clone(), vars: [&self.vars[..], &more].concat() }
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = command(args);
        for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE"] {
            command.env_remove(name);
        }
        let none = self.cache.join("no token");
        command.env("TILEWRIGHT_DEVICE", "cpu").env("HF_TOKEN_PATH", none);
        command.env("HF_HUB_CACHE", &self.cache).env("NO_PROXY", "127.0.0.1");
        command.envs(self.vars.iter().map(|(name, value)| (*name, value)));
        finish(command)
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.join("models--tests--model/snapshots").join(commit)
    }
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[test]
fn a_model_is_downloaded_once() {
    let folder = Folder::new();
    let hub = Hub::new(files(&golden("bert_base")));
    let user = User::new(&folder, &hub.endpoint);
    let embed = |model: &str| ["embed", "Rain fell on", "--model", model].map(str::to_owned);
    let run = |user: &User, model: &str| {
        let args = embed(model);
        user.run(&args.each_ref().map(String::as_str))
    };
    let want = run(&user, &bert()).ok();
    assert_eq!(hub.asked(), [""; 0], "a folder needs no hub");

    let first = run(&user, "tests/model");
    assert!(first.err.contains("tests/model: looking at http://127.0.0.1"), "{first:?}");
    assert_eq!(first.ok(), want);
    let kept = user.snapshot(COMMITS[1]);
    let mut expected = vec!["config.json", "model.safetensors", "special_tokens_map.json"];
    expected.extend(["tokenizer.json", "tokenizer_config.json", "vocab.txt"]);
    assert_eq!(names(&kept), expected, "what an engine needs and nothing else");
    assert!(!hub.asked().is_empty());
    let refs = user.cache.join("models--tests--model/refs/main");
    assert_eq!(std::fs::read_to_string(refs).unwrap(), COMMITS[1]);

    // Online and off, nothing is asked for again.
    let again = run(&user, "tests/model");
    assert!(!again.err.contains("looking at"), "{again:?}");
    assert_eq!(again.ok(), want);
    let offline = user.with("HF_HUB_OFFLINE", "1").with("HF_ENDPOINT", "http://127.0.0.1:1");
    assert_eq!(run(&offline, "tests/model").ok(), want);
    assert_eq!(run(&offline, &format!("tests/model@{}", COMMITS[1])).ok(), want);
    assert_eq!(hub.asked(), [""; 0]);

    // Another revision is another snapshot.
    run(&offline, "tests/model@v1").fails(&["tests/model@v1", "HF_HUB_OFFLINE", "cache"]);
    assert_eq!(run(&user, "tests/model@v1").ok(), want);
    assert_eq!(names(&user.snapshot(COMMITS[0])), expected);

    // What is lost is fetched again, alone.
    hub.asked();
    std::fs::remove_file(kept.join("tokenizer.json")).unwrap();
    assert_eq!(run(&user, "tests/model").ok(), want);
    let asked = hub.asked();
    let others = asked.iter().filter(|path| !path.ends_with("/tokenizer.json"));
    assert_eq!(others.collect::<Vec<_>>(), ["/api/models/tests/model/revision/main"]);
    // Without the hub the rest still serves where it suffices.
    std::fs::remove_file(kept.join("tokenizer_config.json")).unwrap();
    let alone = run(&user.with("HF_ENDPOINT", "http://127.0.0.1:1"), "tests/model");
    assert!(alone.err.contains("using what the cache has"), "{alone:?}");
    assert_eq!(alone.ok(), want);
}

#[test]
fn shards_and_sentence_modules_are_followed() {
    let folder = Folder::new();
    let hub = Hub::new(files(&golden("mistral")));
    let user = User::new(&folder, &hub.endpoint);
    let plan = |model: &str| user.run(&["plan", "--json", "--model", model]).json();
    assert_eq!(plan("tests/model"), plan(&text(golden("mistral"))));
    let kept = names(&user.snapshot(COMMITS[1]));
    let shards = kept.iter().filter(|name| name.ends_with("-of-00003.safetensors"));
    assert_eq!(shards.count(), 3, "{kept:?}");

    let folder = Folder::new();
    let local = folder.0.join("sentences");
    crate::program::copy_golden("bert_base", &local);
    let modules = serde_json::json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]);
    std::fs::write(local.join("modules.json"), modules.to_string()).unwrap();
    std::fs::create_dir(local.join("1_Pooling")).unwrap();
    let pooling =
        serde_json::json!({"word_embedding_dimension": 48, "pooling_mode_cls_token": true});
    std::fs::write(local.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    let hub = Hub::new(files(&local));
    let user = User::new(&folder, &hub.endpoint);
    let embed = |model: &str| user.run(&["embed", "Rain", "--model", model]).ok();
    let want = embed(&text(&local));
    assert_ne!(want, embed(&bert()), "the pooling differs");
    assert_eq!(embed("tests/model"), want);
    hub.asked();
    assert_eq!(embed("tests/model"), want);
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn refusals_are_one_clear_line() {
    let folder = Folder::new();
    let hub = Hub::new(files(&golden("bert_base")));
    let user = User::new(&folder, &hub.endpoint);
    let plan = |user: &User, model: &str| user.run(&["plan", "--model", model]);
    plan(&user, "tests/gone").fails(&["tests/gone", "no such folder", "(404)", &hub.endpoint]);
    plan(&user, "tests/model@none").fails(&["tests/model@none", "revision (404)"]);
    plan(&user, "tests/secret").fails(&["tests/secret", "(401)", "set HF_TOKEN"]);
    let wrong = user.with("HF_TOKEN", "bad");
    plan(&wrong, "tests/secret").fails(&["(401)", "the token given does not open it"]);
    plan(&user.with("HF_TOKEN", "good"), "tests/secret").ok();
    let nowhere = user.with("HF_ENDPOINT", "http://127.0.0.1:1");
    plan(&nowhere, "tests/model").fails(&["tests/model", "no such folder", "cannot be reached"]);
    plan(&user.with("HF_HUB_OFFLINE", "1"), "tests/model").fails(&["HF_HUB_OFFLINE is set"]);
    plan(&user.with("HF_ENDPOINT", "hub"), "tests/model").fails(&["HF_ENDPOINT", "`hub`"]);
    for neither in ["neither", "./tests/model", "tests/model/x", "tests/..x", "tests/model@"] {
        plan(&user, neither).fails(&[neither, "no such folder", "org/name", "storyteller"]);
    }
    let mut pickled = files(&golden("bert_base"));
    pickled.remove("model.safetensors");
    pickled.insert("pytorch_model.bin".to_owned(), vec![1; 9]);
    let hub = Hub::new(pickled);
    let user = User::new(&Folder::new(), &hub.endpoint);
    plan(&user, "tests/model").fails(&["`pytorch_model.bin`", "model.safetensors"]);
    assert_eq!(hub.asked().len(), 1, "nothing was downloaded");
}
