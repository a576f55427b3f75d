//! The commands, their answers and the shapes of `--json`.

use serde_json::Value;
use tilewright::weights::SafeTensors;

use crate::folder::Folder;
use crate::program::{bert, command, cpu, device, finish, golden, keys, text};

#[test]
fn every_command_has_help_that_names_its_options() {
    let global = ["--device", "--dtype", "--json", "--quiet", "--verbose"];
    let cases: [(&[&str], &[&str]); 17] = [
        (&["devices"], &[]),
        (&["run"], &["--model", "--input", "--output", "--hidden-states"]),
        (&["op"], &["--input", "--output", "--set", "--variant"]),
        (&["tokenize"], &["--model", "--no-special"]),
        (&["embed"], &["--model", "--file", "--format", "--output", "--pooling", "--normalize"]),
        (&["attend"], &["--model", "--pair", "--target", "--html"]),
        (&["fill-mask"], &["--model", "--head", "--file", "--pair", "--top-k", "--batch"]),
        (&["classify"], &["--model", "--head", "--file", "--pair", "--top-k", "--batch"]),
        (&["tag"], &["--model", "--head", "--file", "--aggregation", "--batch"]),
        (&["answer"], &["--question", "--context", "--context-file", "--top-k", "--file"]),
        (&["score"], &["--model", "--file", "--objective", "--context", "--stride", "--seed"]),
        (&["verify", "ops"], &[]),
        (&["verify", "model"], &["--model", "--input"]),
        (&["plan"], &["--model", "--batch", "--tokens", "--max-binding"]),
        (&["profile"], &["--model", "--batch", "--tokens", "-r", "--trace"]),
        (&["graph"], &["--model", "-o", "--file", "--unfused"]),
        (&[], &["devices", "run", "op", "tokenize", "embed", "verify", "plan", "graph"]),
    ];
    for (name, options) in cases {
        for flag in ["-h", "--help"] {
            let out = cpu(name.iter().copied().chain([flag])).ok();
            for option in options.iter().chain(&global) {
                assert!(out.contains(option), "{name:?} {flag} does not name {option}: {out}");
            }
        }
    }
    assert!(cpu(["--version"]).ok().starts_with("tilewright "));
    cpu([""; 0]).code.filter(|c| *c == 2).expect("no command is wrong usage");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let bert = bert();
    let model = ["--model", bert.as_str()];
    let cases: [(&str, &[&str], &str); 23] = [
        ("frobnicate", &[], "frobnicate"),
        ("embed", &["x"], "--model"),
        ("embed", &model, "TEXTS"),
        ("embed", &["--model", &bert, "x", "--batch", "0"], "--batch"),
        ("embed", &["--model", &bert, "x", "--batch", "-1"], "--batch"),
        ("embed", &["--model", &bert, "x", "--batch", "9223372036854775808"], "--batch"),
        ("embed", &["--model", &bert, "x", "--format", "xml"], "npy"),
        ("embed", &["--model", &bert, "x", "--format", "safetensors"], "--output"),
        ("embed", &["--model", &bert, "x", "--similarity", "-o", "y"], "--similarity"),
        ("embed", &["--model", &bert, "x", "--sparse", "--normalize"], "--normalize"),
        ("embed", &["--model", &bert, "x", "--file", "y"], "--file"),
        ("embed", &["--model", &bert, "x", "--pooling", "max"], "mean"),
        ("plan", &["--model", &bert, "--batch", "0"], "--batch"),
        ("plan", &["--model", &bert, "--tokens", "0"], "--tokens"),
        ("plan", &["--model", &bert, "--tokens", "-3"], "--tokens"),
        ("plan", &["--model", &bert, "--tokens", "9223372036854775808"], "--tokens"),
        ("profile", &["--model", &bert, "--batch", "0"], "--batch"),
        ("profile", &["--model", &bert, "--tokens", "9223372036854775808"], "--tokens"),
        ("profile", &["--model", &bert, "-r", "0"], "-r"),
        ("bench", &["matmul", "--size", "0"], "--size"),
        ("bench", &["gemv", "--nk", "9223372036854775808x1"], "--nk"),
        ("bench", &["norm", "-r", "0"], "--repetitions"),
        ("devices", &["--dtype", "int3"], "bf16"),
    ];
    for (name, args, want) in cases {
        cpu([name].iter().chain(args)).misused(want);
    }
}

#[test]
fn devices_lists_adapters() {
    let name = device();
    let answer = finish(command(["devices", "--json"])).json();
    let adapters = answer["adapters"].as_array().unwrap();
    let ours = adapters.iter().find(|a| a["name"] == name.as_str()).expect("the tests' adapter");
    let want = ["index", "name", "driver", "kind", "features", "limits", "variants"];
    assert_eq!(keys(ours), want);
    let plain = finish(command(["devices"])).ok();
    assert!(plain.contains(&name) && plain.contains("cpu: "), "{plain}");
}

#[test]
fn tokenize_gives_ids_and_tokens() {
    let bert = bert();
    let rows = cpu(["tokenize", "--json", "--model", &bert, "Rain fell on", ""]).jsonl();
    assert_eq!(rows.len(), 2);
    assert_eq!(keys(&rows[0]), ["text", "ids", "tokens"]);
    assert_eq!(rows[0]["ids"].to_string(), "[2,50,222,38,287,203,3]");
    assert_eq!(rows[1]["tokens"].to_string(), r#"["[CLS]","[SEP]"]"#);
    let bare = cpu(["tokenize", "--json", "--model", &bert, "--no-special", ""]).json();
    assert_eq!(bare["ids"].to_string(), "[]");
}

#[test]
fn plan_adds_up() {
    let plan = ["plan", "--model", &bert(), "--batch", "2", "--tokens", "10"].map(str::to_owned);
    let on_device = plan.iter().cloned().chain(["--device".into(), device(), "--json".into()]);
    let answer = finish(command(on_device)).json();
    let want = [
        "device",
        "batch",
        "tokens",
        "weights",
        "cache",
        "slots",
        "inputs",
        "outputs",
        "readback",
        "total",
        "largest_binding",
        "max_binding",
        "splits",
        "dispatches",
    ];
    assert_eq!(keys(&answer), want);
    let number = |key: &str| answer[key].as_u64().unwrap();
    let slots: u64 = answer["slots"].as_array().unwrap().iter().flat_map(Value::as_u64).sum();
    let parts: u64 = ["weights", "inputs", "outputs", "readback"].map(number).iter().sum();
    assert_eq!(number("total"), parts + slots);

    let split = plan.iter().map(String::as_str).chain(["--json", "--max-binding", "40000"]);
    let answer = cpu(split).json();
    assert_eq!(answer["splits"][0]["name"], "embeddings.word_embeddings.weight");
    assert!(answer["largest_binding"].as_u64().unwrap() <= 40_000);
}

#[test]
fn graph_is_well_formed_in_every_form() {
    let bert = bert();
    for unfused in [&[][..], &["--unfused"]] {
        let show = |form| {
            let args = ["graph", "--model", &bert, "-o", form];
            cpu(args.iter().chain(unfused)).ok()
        };
        let json: Value = serde_json::from_str(&show("json")).unwrap();
        let asked = ["graph", "--json", "--model", &bert];
        assert_eq!(cpu(asked.iter().chain(unfused)).json(), json);
        let nodes = json["nodes"].as_array().unwrap();
        assert_eq!(nodes.len() > 20, !unfused.is_empty(), "{} nodes", nodes.len());
        let dot = show("dot");
        assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'), "{dot}");
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
        check_xml(&show("svg"));
    }
}

/// Every tag is closed, in order, and no text has a bare `&` or `<`.
fn check_xml(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag that ends");
        let name = tag.split([' ', '\n']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#"].iter().any(|e| entity.starts_with(e));
            assert!(known, "a bare ampersand: {text}");
        }
    }
    assert!(svg.starts_with("<svg ") && open.is_empty(), "not closed: {open:?}");
}

#[test]
fn profile_times_every_node() {
    let folder = Folder::new();
    let (bert, device, trace) = (bert(), device(), text(folder.0.join("trace.json")));
    let args = ["profile", "--model", &bert, "--device", &device, "--tokens", "9", "-r", "2"];
    let answer = finish(command(args.iter().chain(&["--json", "--trace", &trace]))).json();
    assert_eq!(keys(&answer), ["clock", "total_ns", "nodes"]);
    assert_eq!(keys(&answer["nodes"][0]), ["layer", "op", "kernel", "ns"]);
    let trace: Value = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), answer["nodes"].as_array().unwrap().len());
    for sizes in [["--tokens", "81"], ["--batch", "16777216"]] {
        cpu(["profile", "--model", &bert].iter().chain(&sizes)).fails(&[sizes[1], "at most 80"]);
    }
    cpu(["profile", "--model", &bert]).fails(&["--device cpu"]);
    cpu(["bench", "model", "--model", &bert, "--tokens", "81"]).fails(&["81", "at most 80"]);
}

#[test]
fn verify_agrees_with_the_cpu() {
    let bert = bert();
    let args = ["verify", "model", "--model", &bert, "--json", "--device", &device()];
    let answer = finish(command(args)).json();
    assert_eq!(
        keys(&answer),
        ["device", "nodes", "passed", "first_divergence", "layers", "kernels"]
    );
    assert_eq!(answer["passed"], true);
    assert_eq!(keys(&answer["layers"][0]), ["layer", "max_rel"]);
    let answer = cpu(["verify", "ops", "--json"]).json();
    assert_eq!(keys(&answer), ["device", "passed", "failures", "variants"]);
    assert_eq!(answer["failures"], 0);
    cpu(["verify", "model", "--model", &bert]).fails(&["--device cpu"]);
}

fn vectors(rows: &[Value]) -> Vec<Vec<f32>> {
    let vector = |row: &Value| {
        let values = row["embedding"].as_array().unwrap().iter();
        values.map(|v| v.as_f64().unwrap() as f32).collect()
    };
    rows.iter().map(vector).collect()
}

/// A NumPy file of version 1.0 with f4 rows, parsed by hand.
fn read_npy(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    assert!((10 + length).is_multiple_of(64), "the data must be aligned");
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"));
    assert!(header.ends_with('\n'));
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').map(|n| n.trim().parse().unwrap()).collect();
    let data = bytes[10 + length..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    (shape, data.collect())
}

#[test]
fn embed_answers_alike_in_every_format() {
    let folder = Folder::new();
    let bert = bert();
    // A byte-order mark, CRLF, an empty line, no newline at the end.
    let lines = folder.file("lines.txt", "\u{feff}Rain fell on\r\n\r\nthe house\nWe read books");
    let texts = ["Rain fell on", "", "the house", "We read books"];
    let embed = ["embed", "--model", &bert, "--file", lines.to_str().unwrap()];
    let rows = cpu(embed).jsonl();
    assert_eq!(rows.iter().map(|r| r["text"].as_str().unwrap()).collect::<Vec<_>>(), texts);
    assert!(rows.iter().all(|r| keys(r) == ["text", "embedding"]));
    let want = vectors(&rows);
    assert!(want.iter().all(|v| v.len() == 48 && v.iter().all(|x| x.is_finite())));
    assert_eq!(vectors(&cpu(embed.iter().chain(&["--json"])).jsonl()), want);

    let arguments = ["embed", "--model", &bert, "--format", "json"];
    let list = cpu(arguments.iter().chain(&texts)).json();
    assert_eq!(vectors(list.as_array().unwrap()), want);

    for format in ["json", "jsonl", "csv", "npy", "safetensors"] {
        let path = text(folder.0.join(format!("out.{format}")));
        let out = cpu(embed.iter().chain(&["--format", format, "-o", &path])).ok();
        assert_eq!(out, "", "with --output stdout stays empty");
        let bytes = std::fs::read(&path).unwrap();
        let flat: Vec<f32> = match format {
            "npy" => {
                let (shape, values) = read_npy(&bytes);
                assert_eq!(shape, [4, 48]);
                values
            }
            "safetensors" => {
                let tensor = SafeTensors::open(&path).unwrap().read("embeddings").unwrap();
                assert_eq!(tensor.shape().dims(), [4, 48]);
                tensor.as_f32().unwrap().to_vec()
            }
            "csv" => {
                let text = String::from_utf8(bytes).unwrap();
                assert_eq!(text.lines().count(), 4);
                text.lines().flat_map(|l| l.split(',')).map(|c| c.parse().unwrap()).collect()
            }
            "json" => {
                let list: Value = serde_json::from_slice(&bytes).unwrap();
                vectors(list.as_array().unwrap()).concat()
            }
            _ => {
                let text = String::from_utf8(bytes).unwrap();
                let rows: Vec<_> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
                vectors(&rows).concat()
            }
        };
        assert_eq!(flat, want.concat(), "{format}");
    }
}

#[test]
fn embed_gives_weights_to_words() {
    let splade = text(golden("splade"));
    let rows = cpu(["embed", "--sparse", "--model", &splade, "Snow!", "Rain fell."]).jsonl();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(keys(row), ["text", "indices", "values", "tokens"]);
        let [ids, values, tokens] =
            ["indices", "values", "tokens"].map(|k| row[k].as_array().unwrap());
        assert!(!ids.is_empty() && ids.len() == values.len() && ids.len() == tokens.len());
        assert!(values.is_sorted_by(|a, b| a.as_f64() >= b.as_f64()), "{values:?}");
    }
    // Without the flag the folder's own way, as a vector over the vocabulary.
    let dense = vectors(&cpu(["embed", "--model", &splade, "Snow!"]).jsonl());
    assert_eq!(
        dense[0].iter().filter(|v| **v != 0.0).count(),
        rows[0]["values"].as_array().unwrap().len()
    );
    let base = text(golden("bert_base"));
    cpu(["embed", "--sparse", "--model", &base, "x"]).fails(&["architectures"]);
}

#[test]
fn embed_pools_and_normalises() {
    let bert = bert();
    let embed = |more: &[&str]| {
        let args = ["embed", "--model", &bert, "Rain fell on", "the house"];
        vectors(&cpu(args.iter().chain(more)).jsonl())
    };
    let (mean, cls) = (embed(&["--pooling", "mean"]), embed(&["--pooling", "cls"]));
    assert_eq!(embed(&["--pooling", "auto"]), mean);
    assert_ne!(mean, cls);
    let unit = embed(&["--normalize"]);
    for (unit, mean) in unit.iter().zip(&mean) {
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(unit.iter().zip(mean).all(|(u, m)| (u - m / length).abs() < 1e-6));
    }
    assert_eq!(embed(&["--batch", "1"]), mean);

    let args = ["embed", "--similarity", "--model", &bert, "Rain fell on", "the house"];
    let rows = cpu(args.iter().chain(&["--json"])).jsonl();
    assert_eq!(keys(&rows[0]), ["text", "cosine"]);
    assert!((rows[0]["cosine"][0].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(rows[0]["cosine"][1], rows[1]["cosine"][0]);
    assert_eq!(cpu(args).ok().lines().count(), 2);
}

#[test]
fn embed_cuts_long_texts_and_says_so() {
    let bert = bert();
    let long = "rain fell on the house ".repeat(200);
    let done = cpu(["embed", "--model", &bert, &long, "short"]);
    assert!(done.err.contains("texts cut to the model's 80 tokens: 1"), "{done:?}");
    assert_eq!(done.jsonl().len(), 2);
    let done = cpu(["embed", "--quiet", "--model", &bert, &long]);
    assert_eq!(done.err, "", "--quiet silences notices");
    done.ok();
}

#[test]
fn embed_takes_an_empty_file_and_a_pipe() {
    let folder = Folder::new();
    let bert = bert();
    let empty = text(folder.file("empty.txt", ""));
    assert_eq!(cpu(["embed", "--model", &bert, "--file", &empty]).ok(), "");
    let npy = text(folder.0.join("empty.npy"));
    cpu(["embed", "--model", &bert, "--file", &empty, "--format", "npy", "-o", &npy]).ok();
    assert_eq!(read_npy(&std::fs::read(npy).unwrap()), (vec![0, 48], vec![]));
    if cfg!(unix) {
        let mut piped = command(["embed", "--model", &bert, "--file", "/dev/stdin"]);
        piped.env("TILEWRIGHT_DEVICE", "cpu");
        piped.stdin(std::fs::File::open(folder.file("in.txt", "one\ntwo\n")).unwrap());
        assert_eq!(finish(piped).jsonl().len(), 2);
    }
}

#[test]
fn weights_are_stored_as_asked() {
    let (bert, device) = (bert(), device());
    for device in ["cpu", &device] {
        let embed = |dtype: &str| {
            let args = ["embed", "--device", device, "--dtype", dtype, "--model", &bert, "Rain"];
            vectors(&finish(command(args)).jsonl()).concat()
        };
        let want = embed("f32");
        assert_eq!(embed("auto"), want);
        for (dtype, limit) in [("f16", 2e-2), ("bf16", 1e-1)] {
            let got = embed(dtype);
            assert_ne!(got, want, "{dtype}");
            let close = got.iter().zip(&want).all(|(g, w)| (g - w).abs() < limit);
            assert!(close, "{device} {dtype}: {got:?} {want:?}");
        }
    }
    cpu(["embed", "--dtype", "q4_0", "--model", &bert, "Rain"]).fails(&["--dtype q4_0", "q8_0"]);
    cpu(["embed", "--dtype", "f16,f32", "--model", &bert, "Rain"]).fails(&["--dtype: one storage"]);
    // Rows of whole blocks only: the others keep the file's dtype.
    for name in ["gpt2", "llama_gqa"] {
        let model = text(golden(name));
        let args = ["verify", "model", "--model", &model, "--dtype", "q8_0", "--device", &device];
        finish(command(args)).ok();
    }
}
