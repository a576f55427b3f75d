//! A kernel for every kind of fault, and its mended twin.

use tilewright::gpu::{ShaderSource, Spec, load};
use tilewright::simt::{Buffer, Finding, Kind, Program, Report, Setting, Source};

/// Runs a kernel on a buffer `y` of 256 words and what else it binds, of which nothing is known.
pub fn run(text: &'static str, grid: [u32; 3], subgroup: u32) -> Report {
    let shader = load(ShaderSource { name: "fault", text }, &Spec::new()).expect("it is valid");
    let program = Program::new(&Source::from(shader)).expect("it can be run");
    let y = Buffer::new(&[0; 1024]);
    let x = Buffer::new(&(0..256u32).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>());
    let poison = Buffer::poison(1024);
    let find = |name: &str| match name {
        "y" => Some(&y),
        "x" => Some(&x),
        _ => Some(&poison),
    };
    let setting = Setting { grid, subgroup: Some(subgroup), metered: false };
    program.run(find, &64u32.to_le_bytes(), setting).expect("it runs")
}

fn line_of(text: &str, mark: &str) -> usize {
    text.lines().position(|l| l.contains(mark)).expect("the mark is there") + 1
}

/// The faulty form has `// FAULT` in the line that is found, and nothing else is found; the mended
/// form, in which the first text is replaced by the second, is clean.
#[track_caller]
fn pair(kind: Kind, faulty: &'static str, mend: (&str, &str), grid: [u32; 3]) -> Finding {
    let found: Vec<_> = run(faulty, grid, 32).with_notes().iter().cloned().collect();
    let wanted: Vec<_> = found.iter().filter(|f| f.kind == kind).collect();
    assert!(!wanted.is_empty(), "{kind} was not found, but {found:?}");
    assert!(found.iter().all(|f| f.kind == kind), "{found:?}");
    let line = line_of(faulty, "// FAULT");
    let hit = wanted.iter().find(|f| f.place.line == line);
    let hit = (*hit.unwrap_or_else(|| panic!("not in line {line}: {found:?}"))).clone();
    assert_eq!(hit.place.file, "shaders/fault.wgsl");
    let mended = faulty.replace(mend.0, mend.1);
    assert_ne!(mended, faulty);
    let left: Vec<_> = run(mended.leak(), grid, 32).with_notes().iter().cloned().collect();
    assert!(left.is_empty(), "the mended form is not clean: {left:?}");
    hit
}

const Y: &str = "@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n";

macro_rules! kernel {
    ($size:literal, $globals:literal, $body:literal) => {
        concat!(
            "@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n",
            $globals,
            "\n@compute @workgroup_size(",
            $size,
            ")\nfn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {\n",
            $body,
            "\n}\n"
        )
    };
}

#[test]
fn races() {
    let text = kernel!(
        "64",
        "var<workgroup> sh: array<u32, 64>;",
        "    sh[lane] = lane * 3u;\n    /* barrier */\n    y[lane] = sh[63u - lane]; // FAULT"
    );
    let found = pair(Kind::Race, text, ("/* barrier */", "workgroupBarrier();"), [1, 1, 1]);
    assert_eq!(found.variable, "sh");
    assert_eq!(found.count, 64);
    assert!(
        found.detail.contains("invocation 0 reads, invocation 63 writes at shaders/fault.wgsl:"),
        "{}",
        found.detail
    );
}

/// `workgroupBarrier` orders workgroup memory, `storageBarrier` buffers.
#[test]
fn races_behind_the_barrier_of_other_memory() {
    let text = kernel!(
        "64",
        "",
        "    y[lane] = lane * 3u;\n    workgroupBarrier();\n    let other = y[63u - lane]; // FAULT\n    storageBarrier();\n    y[lane] = other;"
    );
    let report = run(text, [1, 1, 1], 32);
    assert!(report.findings.iter().any(|f| f.kind == Kind::Race && f.variable == "y"));
    let mended = text.replace("workgroupBarrier", "storageBarrier");
    assert!(run(mended.leak(), [1, 1, 1], 32).with_notes().is_empty());
}

/// Several may write one value, and what a subgroup has ordered is no race.
#[test]
fn races_that_are_none() {
    let text = kernel!(
        "64",
        "var<workgroup> sh: array<u32, 64>;\nvar<workgroup> flag: u32;",
        "    flag = 7u;\n    sh[lane] = lane;\n    subgroupBarrier();\n    y[lane] = sh[lane ^ 1u];\n    workgroupBarrier();\n    y[64u + lane] = flag;"
    );
    assert!(run(text, [1, 1, 1], 32).with_notes().is_empty());
    // With subgroups of one, the neighbour belongs to another.
    assert!(run(text, [1, 1, 1], 1).findings.iter().any(|f| f.kind == Kind::Race));
}

#[test]
fn races_between_workgroups() {
    let text = kernel!("32", "", "    y[lane + 16u * group.x] = group.x; // FAULT");
    let found =
        pair(Kind::RaceBetweenWorkgroups, text, ("16u * group.x", "32u * group.x"), [3, 1, 1]);
    assert_eq!((found.variable.as_str(), found.count), ("y", 32));
}

#[test]
fn reads_of_what_nobody_wrote() {
    let text = kernel!(
        "64",
        "var<workgroup> sh: array<u32, 65>;",
        "    sh[lane] = lane;\n    workgroupBarrier();\n    y[lane] = sh[64u - lane]; // FAULT"
    );
    let found = pair(
        Kind::UninitializedRead,
        text,
        ("    sh[lane] = lane;", "    sh[lane + 1u] = lane;"),
        [1, 1, 1],
    );
    assert_eq!((found.variable.as_str(), found.count), ("sh", 1));
    let text = kernel!(
        "8",
        "var<private> kept: array<u32, 4>;",
        "    if (lane != 5u) { kept[lane % 4u] = lane; }\n    y[lane] = kept[lane % 4u]; // FAULT"
    );
    let found = pair(Kind::UninitializedRead, text, ("if (lane != 5u)", "if (true)"), [1, 1, 1]);
    assert!(found.detail.contains("invocation 5"), "{}", found.detail);
    let text = kernel!(
        "64",
        "@group(0) @binding(1) var<storage, read> unknown: array<u32>;\n@group(0) @binding(2) var<storage, read> x: array<u32>;",
        "    y[lane] = unknown[lane] + x[lane]; // FAULT"
    );
    pair(Kind::UninitializedRead, text, ("unknown[lane] + ", ""), [1, 1, 1]);
}

#[test]
fn indices_out_of_range() {
    let text = kernel!("64", "", "    y[lane * 4u + 1u] = 1u; // FAULT");
    assert!(run(text, [1, 1, 1], 32).findings.is_empty());
    let text = kernel!("64", "", "    y[lane * 5u] = 1u; // FAULT");
    let found = pair(Kind::OutOfRange, text, ("lane * 5u", "lane * 4u"), [1, 1, 1]);
    assert_eq!((found.variable.as_str(), found.count), ("y", 12));
    assert!(found.detail.contains("element 260 of 256"), "{}", found.detail);
    // Arrays in registers and in workgroup memory, components of vectors, values.
    for (body, mend) in [
        (
            "    var a: array<u32, 8>;\n    a[lane] = 1u; // FAULT\n    y[lane] = a[0];",
            ("a[lane]", "a[lane % 8u]"),
        ),
        (
            "    var v = vec4(1u);\n    v[lane] = 2u; // FAULT\n    y[lane] = v.x;",
            ("v[lane]", "v[lane % 4u]"),
        ),
        (
            "    let v = vec4(1u, 2u, 3u, 4u);\n    y[lane] = v[lane]; // FAULT",
            ("v[lane]", "v[lane & 3u]"),
        ),
        ("    let i = i32(lane) - 1;\n    y[i] = 1u; // FAULT", ("y[i]", "y[i + 1]")),
    ] {
        let text = format!(
            "{Y}@compute @workgroup_size(16)\nfn main(@builtin(local_invocation_index) lane: u32) {{\n{body}\n}}\n"
        );
        pair(Kind::OutOfRange, text.leak(), mend, [1, 1, 1]);
    }
}

#[test]
fn indices_that_wrapped() {
    let text = kernel!(
        "64",
        "@group(0) @binding(2) var<storage, read> x: array<u32>;",
        "    let before = lane - 1u; // FAULT\n    y[lane] = x[min(before, 63u)];"
    );
    let mend = ("let before = lane - 1u;", "let before = max(lane, 1u) - 1u;");
    let found = pair(Kind::IndexOverflow, text, mend, [1, 1, 1]);
    assert_eq!((found.variable.as_str(), found.count), ("x", 1));
    // A difference that a sum brings back, a wrap that is not chosen, and a hash are fine.
    let text = kernel!(
        "64",
        "",
        "    let back = lane - 4u + 8u;\n    let chosen = select(lane - 1u, 0u, lane == 0u);\n    let hash = ((lane * 2654435761u) ^ 7u) % 64u;\n    y[back] = 1u; y[chosen + 100u] = 2u; y[hash + 192u] = 3u;"
    );
    let found = run(text, [1, 1, 1], 32).findings;
    assert!(!found.iter().any(|f| f.kind == Kind::IndexOverflow), "{found:?}");
}

#[test]
fn barriers_that_not_everyone_reaches() {
    let text = kernel!(
        "64",
        "var<workgroup> sh: array<u32, 64>;",
        "    sh[lane] = lane;\n    if (y[lane] == 0u && lane < 40u) {\n        workgroupBarrier(); // FAULT\n        y[lane] = sh[lane ^ 1u];\n    }"
    );
    // naga sees through what is not uniform only in part; this one it lets pass.
    pair(Kind::DivergentBarrier, text, (" && lane < 40u", ""), [1, 1, 1]);
}

#[test]
fn subgroup_operations_that_not_everyone_reaches() {
    let text = kernel!(
        "64",
        "",
        "    if (lane < 40u) {\n        y[lane] = subgroupAdd(lane); // FAULT\n    }"
    );
    let found = pair(Kind::DivergentSubgroupOp, text, ("lane < 40u", "lane < 32u"), [1, 1, 1]);
    assert!(found.detail.contains("8 of 32 invocations of subgroup 1"), "{}", found.detail);
    let text = kernel!("64", "", "    y[lane] = subgroupShuffle(lane, lane + 1u); // FAULT");
    pair(Kind::DivergentSubgroupOp, text, ("lane + 1u", "(lane + 1u) % 32u"), [1, 1, 1]);
}

#[test]
fn cooperative_operations_that_not_everyone_reaches() {
    let text = concat!(
        "enable wgpu_cooperative_matrix;\n",
        "@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n",
        "@group(0) @binding(1) var<storage, read> x: array<f32>;\n",
        "@compute @workgroup_size(32)\nfn main(@builtin(local_invocation_index) lane: u32) {\n",
        "    let a = coopLoad<coop_mat8x8<f32, C>>(&x[lane / 16u], 8u); // FAULT\n",
        "    coopStore(a, &y[0], 8u);\n}\n"
    );
    pair(Kind::DivergentCooperativeOp, text, ("lane / 16u", "lane / 32u"), [1, 1, 1]);
}

#[test]
fn loops_beyond_every_drivers_patience() {
    let text = kernel!(
        "2",
        "",
        "    var n = 0u;\n    for (var i = 0u; i < 400u; i++) {\n        for (var j = 0u; j < 200u; j++) { // FAULT\n            n += i ^ j;\n        }\n    }\n    y[lane] = n;"
    );
    let found = pair(Kind::LoopRounds, text, ("i < 400u", "i < 300u"), [1, 1, 1]);
    assert!(found.detail.contains("65535"), "{}", found.detail);
}

#[test]
fn numbers_that_are_none() {
    let text = kernel!(
        "8",
        "@group(0) @binding(2) var<storage, read> x: array<f32>;",
        "    let scale = 1.0 / x[lane]; // FAULT\n    y[lane] = bitcast<u32>(scale);"
    );
    let found = pair(Kind::NonFinite, text, ("x[lane]", "(x[lane] + 1.0)"), [1, 1, 1]);
    assert!(found.detail.contains("div of 1, 0 is inf in invocation 0"), "{}", found.detail);
}

#[test]
fn barriers_that_nothing_needs() {
    let text = kernel!(
        "64",
        "var<workgroup> sh: array<u32, 64>;",
        "    sh[lane] = lane;\n    workgroupBarrier(); // FAULT\n    y[lane] = sh[lane];"
    );
    pair(Kind::UnneededBarrier, text, ("y[lane] = sh[lane]", "y[lane] = sh[lane ^ 1u]"), [1, 1, 1]);
}
