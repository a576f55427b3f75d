//! `attend`: the page and its data, through the program, and the page in a browser.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::Folder;
use crate::program::{bert, command, cpu, device, finish, golden, keys, text};

const TEXT: &str = "Rain fell on the <old> car";

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// The JSON that the page's script reads.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

/// Elements are closed in order; what stands in scripts and styles is not markup.
fn check_html(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some((_, tag)) = rest.split_once('<') {
        let (tag, after) = tag.split_once('>').expect("a tag that ends");
        rest = after;
        let name = tag.split([' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "in order"),
            None if ["!doctype", "meta", "link", "input", "br"].contains(&name) => {}
            None => open.push(name),
        }
        if let "script" | "style" = name {
            let end = rest.find(&format!("</{name}")).expect("closed");
            rest = &rest[end..];
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

#[test]
fn the_page_holds_tokens_and_weights_and_needs_no_network() {
    let folder = Folder::new();
    let path = text(folder.0.join("attention.html"));
    let done = cpu(["attend", "--model", &bert(), TEXT, "--html", &path, "--json"]);
    let said = format!("{path}: ");
    assert!(done.err.contains(&said), "{done:?}");
    let answer = done.json();
    assert_eq!(keys(&answer), ["text", "model", "input", "target", "maps"]);
    let page = std::fs::read_to_string(path).unwrap();
    check_html(&page);
    for outside in ["http://", "https://", "@import", "url(", "src="] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "the page refers to {outside}");
    }
    let data = data(&page);
    let labels = data["input"]["tokens"].as_array().unwrap().iter();
    let labels: Vec<_> = labels.map(|t| t["label"].as_str().unwrap()).collect();
    assert_eq!((labels[0], labels[labels.len() - 1]), ("[CLS]", "[SEP]"));
    assert_eq!(labels[1..labels.len() - 1].concat(), TEXT.replace(' ', ""));
    let words = ["[CLS]", "Rain", "fell", "on", "the", "<", "old", ">", "car", "[SEP]"];
    assert_eq!(data["input"]["words"], serde_json::json!(words));
    assert_eq!(data["input"], answer["input"]);

    let maps = data["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 2);
    for (map, exact) in maps.iter().zip(answer["maps"].as_array().unwrap()) {
        assert_eq!(keys(map), ["stack", "layer", "heads"]);
        assert_eq!((&map["stack"], &map["layer"]), (&exact["stack"], &exact["layer"]));
        let heads = map["heads"].as_array().unwrap();
        assert_eq!(heads.len(), 3);
        for (head, exact) in heads.iter().zip(exact["heads"].as_array().unwrap()) {
            let (parts, exact) = (numbers(head), numbers(exact));
            assert_eq!(parts.len(), labels.len() * labels.len());
            let near = |(part, exact): (&f64, &f64)| (part / 10_000.0 - exact).abs() <= 5.1e-5;
            assert!(parts.iter().zip(&exact).all(near), "the page's weights are the answer's");
            for row in exact.chunks(labels.len()) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
            }
        }
    }
}

#[test]
fn the_device_attends_as_the_cpu_does() {
    // A pair; causal order with grouped heads, a window, a softcap; three stacks, table bias.
    let folders: [(&str, &[&str], usize); 6] = [
        ("bert_base", &["--pair", "a page of text"], 2),
        ("llama_gqa", &[], 2),
        ("mistral", &[], 2),
        ("gemma2", &[], 2),
        ("bart", &["--target", "a page"], 6),
        ("t5", &["--target", "a page"], 6),
    ];
    for (model, more, layers) in folders {
        let model = text(golden(model));
        let run = |device: &str| {
            let args = ["attend", "--json", "--model", &model, "--device", device, TEXT];
            finish(command(args.iter().chain(more))).json()
        };
        let (ours, want) = (run(&device()), run("cpu"));
        assert_eq!((&ours["input"], &ours["target"]), (&want["input"], &want["target"]));
        assert_eq!(ours["maps"].as_array().unwrap().len(), layers, "{model}");
        for (ours, want) in
            ours["maps"].as_array().unwrap().iter().zip(want["maps"].as_array().unwrap())
        {
            let layer = &want["layer"];
            assert_eq!(&ours["layer"], layer);
            let (ours, want) = (numbers(&ours["heads"]), numbers(&want["heads"]));
            assert_eq!(ours.len(), want.len());
            let worst = ours.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4, "{model} {layer}: {worst:e}");
        }
    }
}

#[test]
fn wrong_use_is_told() {
    let bert = bert();
    let page = ["--html", "page.html"];
    cpu(["attend", "--model", &bert, "x"]).misused("--html");
    let attend = ["attend", "--model", &bert];
    let with = |more: &[&str]| cpu(attend.iter().chain(more).chain(&page));
    with(&["x", "--target", "y"]).fails(&["encoder-decoders", "`bert`"]);
    let t5 = text(golden("t5"));
    cpu(["attend", "--json", "--model", &t5, "x"]).fails(&["`t5` is an encoder-decoder", "target"]);
    with(&["rain fell on the house ".repeat(99).trim()]).fails(&["tokens", "at most 80"]);
    let missing = ["x", "--html", "no such folder/page.html"];
    cpu(attend.iter().chain(&missing)).fails(&["no such folder/page.html"]);
}

/// Chromium or Chrome, if this machine has one.
fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let found = Command::new(name).arg("--version").stderr(Stdio::null()).output();
        found.is_ok_and(|output| output.status.success())
    })
}

/// Opens a page without a window, lets its script run, and gives the document it made.
fn open(browser: &str, page: &Path, hash: &str, folder: &Folder) -> String {
    let profile = folder.0.join("profile");
    let screenshot = folder.0.join("page.png");
    let out = folder.0.join("dom.html");
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=5000", "--window-size=1000,1200", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--screenshot={}", screenshot.display()))
        .arg(format!("file://{}{hash}", page.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(180) {
            child.kill().unwrap();
            panic!("{browser} did not finish");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(std::fs::metadata(screenshot).unwrap().len() > 20_000, "an empty screenshot");
    std::fs::read_to_string(out).unwrap()
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        // Past the test runner, which keeps what tests print to itself.
        let note = "no Chromium here: attention pages are checked by their structure alone";
        writeln!(std::io::stderr(), "{note}").unwrap();
        return;
    };
    let folder = Folder::new();
    let path = folder.0.join("attention.html");
    cpu(["attend", "--model", &bert(), TEXT, "--html", &text(&path)]).ok();
    let page = data(&std::fs::read_to_string(&path).unwrap());
    let tokens = page["input"]["tokens"].as_array().unwrap().len();

    let dom = open(browser, &path, "#input/2/3/lines/tokens/q", &folder);
    let count = |part: &str| dom.matches(part).count();
    assert_eq!(count("class=\"chip"), tokens, "{dom}");
    assert_eq!(count("<canvas"), 2 * 3, "a picture per head");
    assert_eq!(count("data-share="), tokens);
    assert!(count("<line") > tokens, "lines are drawn");
    assert!(dom.contains("Layer 2, head 3 (encoder.layer.1)"));
    // The first token that is not special is chosen, with its largest share on top.
    let heads = &page["maps"][1]["heads"][2];
    let row = &numbers(heads)[tokens..2 * tokens];
    let top = row.iter().copied().fold(0.0, f64::max) / 100.0;
    let shown = if top < 9.95 { format!("{top:.1} %") } else { format!("{top:.0} %") };
    assert!(dom.contains("“R” attends to") && dom.contains(&shown), "{shown}: {dom}");
    assert!(dom.contains("&lt;"), "a bracket of the text is text");

    let dom = open(browser, &path, "#input/1/0/matrix/words/k", &folder);
    assert_eq!(dom.matches("class=\"chip").count(), 10, "words: {dom}");
    assert!(dom.contains("Layer 1, mean of all heads") && dom.contains("“Rain” is attended to by"));
    assert!(dom.contains("id=\"matrix\""));
}
