//! Weight files and indexes that must each get one clear line, and the odd but valid ones that
//! must be read.

use std::fs;
use std::path::Path;

use serde_json::json;
use tilewright::Tensor;
use tilewright::tensor::Data;
use tilewright::weights::{self, Checkpoint, Config, FileDType, SafeTensors, first_non_finite};

use crate::bad_inputs::expect_error;
use crate::folder::Folder;

/// A safetensors file of this header and so many bytes of data.
fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header);
    out.resize(out.len() + data, 0);
    out
}

/// One tensor `a`.
fn one(dtype: &str, shape: &str, begin: &str, end: &str) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
}

/// Two f32 vectors of 2 at these ranges.
fn two(first: [u64; 2], second: [u64; 2]) -> String {
    json!({
        "a": {"dtype": "F32", "shape": [2], "data_offsets": first},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": second},
    })
    .to_string()
}

#[test]
fn safetensors_headers() {
    let a = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let million: String = (0..1_000_000)
        .map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#))
        .collect();
    let mut long = 100_000_001u64.to_le_bytes().to_vec();
    long.extend_from_slice(b"{}");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("1 empty", vec![], "is 0 bytes long"),
        ("2 under 8 bytes", vec![1; 7], "is 7 bytes long"),
        ("3 header length 0", file("", 0), "begins with nothing"),
        ("4 header over 100 MB", long, "at most 100000000"),
        ("5 length u64::MAX", vec![255; 8], "18446744073709551615 bytes"),
        ("6 length over the file", 9u64.to_le_bytes().to_vec(), "the file has 0 left"),
        ("7 not utf-8", file(b"{\"\xff\":1}", 0), "not UTF-8 at byte 2"),
        ("8 byte-order mark", file("\u{feff}{}", 0), "byte-order mark"),
        ("9 not json", file("{tensors}", 0), "bad header"),
        ("9 array", file("[]", 0), "`{` is expected"),
        ("10 bytes after the json", file("{} x", 0), "trailing characters"),
        ("11 nesting", file(format!("{{\"a\":{}", "[".repeat(100_000)), 0), "tensor `a`"),
        (
            "11 nesting in an ignored place",
            file(format!("{{\"a\":{{\"dtype\":{}", "[".repeat(100_000)), 0),
            "tensor `a`",
        ),
        ("12 same tensor twice", file(format!("{{{a},{a}}}"), 8), "`a` appears twice"),
        (
            "13 metadata twice",
            file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
            "`__metadata__` appears twice",
        ),
        ("14 metadata of numbers", file(r#"{"__metadata__":{"x":1}}"#, 0), "`__metadata__`"),
        ("14 metadata is null", file(r#"{"__metadata__":null}"#, 0), "`__metadata__`"),
        ("15 unknown dtype", file(one("F32X", "[2]", "0", "8"), 8), "unsupported dtype `F32X`"),
        ("16 negative", file(one("F32", "[-2]", "0", "8"), 8), "tensor `a`: invalid value"),
        ("16 fraction", file(one("F32", "[2.5]", "0", "8"), 8), "2.5"),
        ("16 huge", file(one("F32", "[1e300]", "0", "8"), 8), "tensor `a`"),
        ("16 offset of 2^64", file(one("F32", "[2]", "0", "18446744073709551616"), 8), "`a`"),
        ("17 begin > end", file(one("F32", "[2]", "8", "0"), 8), "the begin is after the end"),
        ("18 past the end", file(one("F32", "[4]", "0", "16"), 8), "the file has 8 bytes of data"),
        ("18 end u64::MAX", file(one("F32", "[4]", "0", &u64::MAX.to_string()), 8), "has 8 bytes"),
        ("19 overlap", file(two([0, 8], [4, 12]), 12), "tensor `b` begins at data offset 4"),
        ("20 hole", file(two([0, 8], [12, 20]), 20), "a hole of 4 bytes before tensor `b`"),
        ("20 hole at the start", file(one("F32", "[2]", "4", "12"), 12), "a hole of 4 bytes"),
        ("21 trailing bytes", file(one("F32", "[2]", "0", "8"), 9), "1 bytes follow"),
        ("21 no tensors, data", file("{}", 3), "3 bytes follow"),
        ("22 overflow", file(one("F32", "[4294967296,4294967296]", "0", "0"), 0), "overflows"),
        ("22 overflow in bytes", file(one("F32", "[4611686018427387904]", "0", "0"), 0), "overfl"),
        (
            "23 product wraps to 0",
            file(one("U8", "[4294967296,4294967296,1]", "0", "0"), 0),
            "overflows",
        ),
        ("26 rank 7", file(one("F32", "[1,1,1,1,1,1,2]", "0", "8"), 8), "has 7 dimensions"),
        (
            "26 rank 10,000",
            file(one("F32", &format!("[{}1]", "1,".repeat(9_999)), "0", "4"), 4),
            "tensor `a`: has 10000 dimensions",
        ),
        ("28 sub-byte", file(one("F4", "[3]", "0", "2"), 2), "unsupported dtype `F4`"),
        ("size unlike the shape", file(one("F32", "[3]", "0", "8"), 8), "F32[3] needs 12"),
        ("31 a million tensors", file(format!("{{{million}"), 0), "more than 262144 tensors"),
        ("34 leading white space", file(" {}", 0), "begins with ' '"),
        ("a field too many", file(r#"{"a":{"dtype":"U8","x":1}}"#, 0), "unknown field `x`"),
        ("a field twice", file(r#"{"a":{"dtype":"U8","dtype":"U8"}}"#, 0), "duplicate field"),
        ("a field missing", file(r#"{"a":{"dtype":"U8","shape":[0]}}"#, 0), "missing field"),
        ("three offsets", file(one("U8", "[0]", "0,0", "0"), 0), "tensor `a`"),
        ("a line break in a name", file(r#"{"a\nb":{"dtype":"X"}}"#, 0), r"a\u{a}b"),
    ];
    let folder = Folder::new();
    for (name, bytes, want) in cases {
        let path = folder.file("model.safetensors", bytes);
        expect_error(name, want, || SafeTensors::open(&path));
        expect_error(name, "model.safetensors", || Checkpoint::open(&folder.0));
    }
}

#[test]
fn odd_but_valid_safetensors() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no tensors", file("{}", 0)),
        ("trailing spaces", file("{}      ", 0)),
        ("24 a zero dimension", file(one("F32", "[3,0,2]", "0", "0"), 0)),
        ("25 rank 0", file(one("F32", "[]", "0", "4"), 4)),
        (
            "27 zero-size tensor on a shared offset",
            file(
                r#"{"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                "a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},
                "c":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},
                "d":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}"#,
                5,
            ),
        ),
        (
            "29 unaligned data",
            file(
                r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#,
                5,
            ),
        ),
        ("names like others", file(r#"{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0)),
    ];
    let folder = Folder::new();
    for (name, bytes) in cases {
        let path = folder.file("model.safetensors", bytes);
        let file = SafeTensors::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (tensor, info) in file.tensors() {
            let read = file.read(tensor).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(read.shape(), info.shape, "{name}");
        }
    }
}

#[test]
fn values_are_converted_or_refused() {
    let folder = Folder::new();
    let case = |dtype: FileDType, bytes: &[u8]| {
        let count = bytes.len() / dtype.size();
        let header = one(dtype.name(), &format!("[{count}]"), "0", &bytes.len().to_string());
        let mut content = file(header, 0);
        content.extend_from_slice(bytes);
        SafeTensors::open(folder.file("x.safetensors", content)).unwrap()
    };
    let bytes =
        |values: &[i64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let read = |dtype, bytes: &[u8]| case(dtype, bytes).read("a").unwrap().data().clone();
    assert_eq!(read(FileDType::I64, &bytes(&[0, 7, 1 << 31])), Data::U32(vec![0, 7, 1 << 31]));
    assert_eq!(read(FileDType::Bool, &[0, 1]), Data::U32(vec![0, 1]));
    assert_eq!(read(FileDType::I8, &[5, 127]), Data::U32(vec![5, 127]));
    assert_eq!(read(FileDType::U16, &[1, 2]), Data::U32(vec![513]));
    assert_eq!(read(FileDType::F64, &1.5f64.to_le_bytes()), Data::F32(vec![1.5]));
    assert_eq!(read(FileDType::BF16, &[0x80, 0x3f]), Data::BF16(vec![half::bf16::from_f32(1.0)]));

    let negative = case(FileDType::I64, &bytes(&[3, -1]));
    expect_error("negative", "tensor `a`: I64 value -1 at index 1", || negative.read("a"));
    let large = case(FileDType::I64, &bytes(&[1 << 32]));
    expect_error("large", "I64 value 4294967296 at index 0", || large.read("a"));
    let byte = case(FileDType::I8, &[0x80]);
    expect_error("byte", "I8 value -128 at index 0", || byte.read("a"));
    expect_error("missing", "tensor `nope`: is not in", || byte.read("nope"));
}

#[test]
fn ranges_and_non_finite_values() {
    let folder = Folder::new();
    let path = folder.0.join("x.safetensors");
    let mut values: Vec<f32> = (0..700_000).map(|i| i as f32).collect();
    values[600_001] = f32::NAN;
    weights::write(&path, &[("w", Tensor::f32([700, 1000], values).unwrap())]).unwrap();
    let file = SafeTensors::open(&path).unwrap();
    assert_eq!(file.check_finite("w").unwrap(), Some(600_001));
    let mut part = [0; 12];
    file.read_range("w", 4..7, &mut part).unwrap();
    assert_eq!(part[..4], 4f32.to_le_bytes());
    let mut short = [0; 3];
    let error = file.read_range("w", 4..7, &mut short).unwrap_err().to_string();
    assert!(error.contains("12 are needed"), "{error}");
    let error = file.read_range("w", 7..700_001, &mut short).unwrap_err().to_string();
    assert!(error.contains("of 700000 were asked for"), "{error}");

    assert_eq!(first_non_finite(FileDType::F16, &[0, 0x3c, 0, 0x7c]), Some(1));
    assert_eq!(first_non_finite(FileDType::BF16, &[0x80, 0xff]), Some(0));
    assert_eq!(first_non_finite(FileDType::F64, &f64::INFINITY.to_le_bytes()), Some(0));
    assert_eq!(first_non_finite(FileDType::F32, &f32::MAX.to_le_bytes()), None);
    assert_eq!(first_non_finite(FileDType::U32, &[255; 4]), None);
}

#[test]
fn a_file_truncated_after_it_was_opened() {
    let folder = Folder::new();
    let path = folder.0.join("x.safetensors");
    weights::write(&path, &[("w", Tensor::u32([4], vec![1, 2, 3, 4]).unwrap())]).unwrap();
    let opened = SafeTensors::open(&path).unwrap();
    let whole = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - 5).unwrap();
    expect_error("32 truncated", "ends inside tensor `w`", || opened.read("w"));
}

#[cfg(unix)]
#[test]
fn files_that_are_not_regular() {
    let folder = Folder::new();
    let fifo = folder.0.join("model.safetensors");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    if made.is_ok_and(|status| status.success()) {
        expect_error("33 fifo", "a device, pipe or socket", || SafeTensors::open(&fifo));
        expect_error("33 fifo", "a device, pipe or socket", || Checkpoint::open(&folder.0));
    }
    expect_error("33 device", "a device", || SafeTensors::open("/dev/zero"));
    expect_error("33 folder", "is a folder", || SafeTensors::open(&folder.0));
    let config = folder.0.join("config.json");
    fs::create_dir(config).unwrap();
    expect_error("33 config", "is a folder", || Config::open(&folder.0));
    let tensor = || Tensor::u32([1], vec![1]).unwrap();
    if Path::new("/dev/full").exists() {
        expect_error("87 full disk", "/dev/full", || {
            weights::write("/dev/full", &[("a", tensor())])
        });
    }
    expect_error("to a folder", "is a folder", || weights::write(&folder.0, &[("a", tensor())]));
    let nowhere = folder.0.join("no/such/file");
    expect_error("to nowhere", "no/such/file", || weights::write(&nowhere, &[("a", tensor())]));
    let twice = [("a", tensor()), ("a", tensor())];
    expect_error("twice", "twice", || weights::write(folder.0.join("y"), &twice));
    // Nothing is left behind by a write that failed.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
}

/// A folder of two shards that hold `a` and `b`, 8 bytes each, with this index.
fn sharded(index: &str) -> Folder {
    let folder = Folder::new();
    for (shard, name) in [("1.safetensors", "a"), ("2.safetensors", "b")] {
        let tensor = Tensor::f32([2], vec![1.0, 2.0]).unwrap();
        weights::write(folder.0.join(shard), &[(name, tensor)]).unwrap();
    }
    folder.file("model.safetensors.index.json", index);
    folder
}

#[test]
fn sharded_indexes() {
    let map = |a: &str, b: &str| json!({"weight_map": {"a": a, "b": b}}).to_string();
    let cases: Vec<(&str, String, &str)> = vec![
        ("35 parent", map("../1.safetensors", "2.safetensors"), "not a plain file name"),
        ("35 dots", map("..", "2.safetensors"), "not a plain file name"),
        ("36 absolute", map("/etc/passwd", "2.safetensors"), "not a plain file name"),
        ("38 backslash", map("..\\1.safetensors", "2.safetensors"), "not a plain file name"),
        ("38 drive", map("C:1.safetensors", "2.safetensors"), "not a plain file name"),
        ("38 unc", map("\\\\host\\share", "2.safetensors"), "not a plain file name"),
        ("empty name", map("", "2.safetensors"), "not a plain file name"),
        ("39 missing", map("3.safetensors", "2.safetensors"), "shard `3.safetensors` is missing"),
        (
            "40 in another shard",
            map("2.safetensors", "2.safetensors"),
            "tensor `a` is not in `2.safetensors`",
        ),
        (
            "40 swapped",
            map("2.safetensors", "1.safetensors"),
            "tensor `a` is in `1.safetensors`, not in `2.safetensors`",
        ),
        (
            "41 total size",
            json!({"metadata": {"total_size": 17}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
                .to_string(),
            "`total_size` is 17; the shards hold 16 bytes",
        ),
        (
            "42 case",
            map("1.safetensors", "1.SafeTensors"),
            "`1.safetensors` and `1.SafeTensors` differ by case only",
        ),
        ("not json", "[".into(), "JSON"),
        ("no map", "{}".into(), "weight_map"),
        ("map of numbers", r#"{"weight_map":{"a":1}}"#.into(), "JSON"),
        ("listed twice", r#"{"weight_map":{"a":"1","a":"2"}}"#.into(), "`a` is listed twice"),
    ];
    for (name, index, want) in cases {
        let folder = sharded(&index);
        expect_error(name, want, || Checkpoint::open(&folder.0));
    }
    let folder = sharded(
        r#"{"metadata":{"total_size":16.0},"weight_map":{"b":"2.safetensors","a":"1.safetensors"}}"#,
    );
    let checkpoint = Checkpoint::open(&folder.0).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(checkpoint.total_bytes(), 16);
    assert_eq!(checkpoint.read("b").unwrap().as_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.check_finite("a").unwrap(), None);
}

#[cfg(unix)]
#[test]
fn shards_behind_links() {
    let map = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let (folder, outside) = (sharded(map), sharded(map));
    let link = folder.0.join("1.safetensors");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(outside.0.join("1.safetensors"), &link).unwrap();
    expect_error("37 link", "`1.safetensors` is a link that leaves", || {
        Checkpoint::open(&folder.0)
    });

    // The layout of the Hugging Face cache: snapshots/REVISION/FILE -> ../../blobs/HASH.
    let cache = Folder::new();
    let snapshot = cache.0.join("snapshots/main");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(cache.0.join("blobs")).unwrap();
    for entry in fs::read_dir(&outside.0).unwrap() {
        let name = entry.unwrap().file_name();
        fs::copy(outside.0.join(&name), cache.0.join("blobs").join(&name)).unwrap();
        let target = Path::new("../../blobs").join(&name);
        std::os::unix::fs::symlink(target, snapshot.join(&name)).unwrap();
    }
    assert!(Checkpoint::open(&snapshot).unwrap().contains("a"));
}

#[test]
fn folders_without_weights() {
    let folder = Folder::new();
    expect_error("empty folder", "holds neither", || Checkpoint::open(&folder.0));
    expect_error("no folder", "nowhere", || Checkpoint::open(folder.0.join("nowhere")));
    let bin = folder.file("pytorch_model.bin", "x");
    expect_error("torch only", "save_pretrained", || Checkpoint::open(&folder.0));
    expect_error("a file", "is not a folder", || Checkpoint::open(&bin));
}

#[test]
fn names_of_other_exports_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let old = Checkpoint::open(root.join("bert_mlm_gammabeta")).unwrap();
    let name = "bert.embeddings.LayerNorm.weight";
    assert_eq!(old.resolve(name, &[]).as_deref(), Some("bert.embeddings.LayerNorm.gamma"));
    let bare = "embeddings.LayerNorm.bias";
    let want = Some("bert.embeddings.LayerNorm.beta");
    assert_eq!(old.resolve(bare, &["bert."]).as_deref(), want);
    assert_eq!(old.resolve("bert.nothing.weight", &["bert."]), None);
    let gamma = "bert.embeddings.LayerNorm.gamma";
    assert_eq!(old.find(&["x", gamma]).unwrap(), gamma);
    expect_error("find", "tensor `x`: is not in the checkpoint", || old.find(&["x", "y"]));
    // Every golden checkpoint opens, and every tensor of it is read.
    let mut opened = 0;
    for entry in fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("config.json").is_file() {
            let checkpoint = Checkpoint::open(&folder).unwrap();
            for name in checkpoint.names() {
                checkpoint.read(name).unwrap();
                assert_eq!(checkpoint.check_finite(name).unwrap(), None, "{name}");
            }
            Config::open(&folder).unwrap().model_type().unwrap();
            opened += 1;
        }
    }
    assert!(opened >= 25, "{opened}");
}

#[test]
fn written_files_read_back() {
    let folder = Folder::new();
    let path = folder.0.join("out.safetensors");
    let tensors = [
        ("f", Tensor::f32([2, 2], vec![1.0, -2.0, 3.5, f32::MIN]).unwrap()),
        ("u", Tensor::u32([3], vec![0, 1, u32::MAX]).unwrap()),
        ("h", Tensor::f32([2], vec![0.5, 2.0]).unwrap().cast(tilewright::DType::F16).unwrap()),
        ("none", Tensor::f32([0, 4], vec![]).unwrap()),
    ];
    for _ in 0..2 {
        weights::write(&path, &tensors).unwrap();
    }
    let file = SafeTensors::open(&path).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!(&file.read(name).unwrap(), tensor);
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file is left");
}
