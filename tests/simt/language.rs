//! What WGSL's constructs mean, against values computed here.

use tilewright::gpu::{ShaderSource, Spec, load};
use tilewright::simt::{Buffer, Program, Setting, Source};

/// The words of `y` after one workgroup of 8 invocations ran this body.
fn words(globals: &str, body: &str, subgroup: u32) -> Vec<u32> {
    let text = format!(
        "{globals}\n@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n\
         @compute @workgroup_size(8)\nfn main(@builtin(local_invocation_index) lane: u32) {{\n{body}\n}}\n"
    );
    let shader = load(ShaderSource { name: "body", text: text.leak() }, &Spec::new());
    let program = Program::new(&Source::from(shader.expect("valid"))).expect("it can be run");
    let y = Buffer::new(&[0; 256]);
    let setting = Setting { grid: [1, 1, 1], subgroup: Some(subgroup), metered: false };
    let report = program.run(|_| Some(&y), &[], setting).expect("it runs");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    y.bytes().as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect()
}

fn each(body: &str) -> Vec<u32> {
    words("", &format!("    y[lane] = {body};"), 8)[..8].to_vec()
}

#[test]
fn loops_switches_and_early_returns() {
    let body = "    var n = 0u;
    for (var i = 0u; i < 10u; i++) {
        if (i == lane) { continue; }
        if (i > lane + 2u) { break; }
        n += 1u;
    }
    switch lane {
        case 0u, 1u: { n += 100u; }
        case 2u: { if (n > 0u) { break; } n = 7u; }
        default: { n += 1000u; }
    }
    y[lane] = n;
    if (lane == 3u) { return; }
    y[lane + 8u] = 1u;";
    let y = words("", body, 8);
    let wanted = |lane: u32| {
        let n = (0..10).filter(|&i| i != lane && i <= lane + 2).count() as u32;
        n + match lane {
            0 | 1 => 100,
            2 => 0,
            _ => 1000,
        }
    };
    assert_eq!(y[..8], (0..8).map(wanted).collect::<Vec<_>>());
    assert_eq!(y[8..16], [1, 1, 1, 0, 1, 1, 1, 1]);
}

#[test]
fn functions_return_from_where_they_like() {
    let globals = "fn f(n: u32) -> u32 { loop { if (n > 3u) { return 10u; } break; } return n; }\n\
                   fn bump(p: ptr<function, u32>) { *p += 5u; }";
    let y = words(globals, "    var v = f(lane);\n    bump(&v);\n    y[lane] = v;", 8);
    assert_eq!(y[..8], [5, 6, 7, 8, 15, 15, 15, 15]);
}

#[test]
fn integers_and_bits() {
    assert_eq!(each("u32(i32(lane) / -2 + 10)"), [10, 10, 9, 9, 8, 8, 7, 7]);
    assert_eq!(each("countOneBits(lane) + firstLeadingBit(lane | 8u)"), [3, 4, 4, 5, 4, 5, 5, 6]);
    assert_eq!(each("extractBits(0xabcdu, lane, 4u)")[4], 0xc);
    assert_eq!(each("insertBits(0u, 3u, lane, 2u)")[3], 24);
    assert_eq!(each("pack4xU8(vec4(lane, 1u, 2u, 3u))")[7], 0x0302_0107);
}

#[test]
fn floats_are_ieee() {
    let y = each("bitcast<u32>(fma(f32(lane) + 0.1, 3.0, 1e-8))");
    let want: Vec<_> = (0..8).map(|i| (i as f32 + 0.1).mul_add(3.0, 1e-8).to_bits()).collect();
    assert_eq!(y, want);
    assert_eq!(each("bitcast<u32>(round(f32(lane) + 0.5))")[2], 2f32.to_bits());
    assert_eq!(each("pack2x16float(vec2(f32(lane) * 0.1, 1.0))")[1], 0x3c00_2e66);
    assert_eq!(each("bitcast<u32>(dot(vec3(f32(lane)), vec3(1.0, 2.0, 3.0)))")[2], 12f32.to_bits());
}

#[test]
fn matrices_are_columns() {
    let body = "let m = mat2x3(1.0, 2.0, 3.0, 4.0, 5.0, 6.0);
    let v = m * vec2(1.0, 10.0);
    let w = vec3(1.0, 0.0, 1.0) * m;
    let t = transpose(m);
    y[lane] = u32(v.x) * 10000u + u32(w.y) * 100u + u32(t[2][1]);";
    assert_eq!(words("", body, 8)[0], 41 * 10000 + 10 * 100 + 6);
}

#[test]
fn structs_arrays_and_pointers_in_memory() {
    let globals = "struct S { a: u32, b: vec3<u32>, c: array<vec2<u32>, 2> }\n\
                   var<workgroup> sh: array<S, 8>;";
    let body = "    sh[lane] = S(lane, vec3(lane, 2u, 3u), array(vec2(4u, 5u), vec2(6u, lane)));
    workgroupBarrier();
    let p = &sh[(lane + 1u) % 8u];
    y[lane] = (*p).b.x * 100u + (*p).c[1].y;
    y[8u + lane] = sh[lane].b[lane % 3u];";
    let y = words(globals, body, 8);
    assert_eq!(y[..8], [101, 202, 303, 404, 505, 606, 707, 0]);
    assert_eq!(y[8..16], [0, 2, 3, 3, 2, 3, 6, 2]);
}

#[test]
fn atomics_count_and_exchange() {
    let globals = "var<workgroup> n: atomic<u32>;\nvar<workgroup> top: atomic<i32>;";
    let body = "    if (lane == 0u) { atomicStore(&n, 0u); atomicStore(&top, -5); }
    workgroupBarrier();
    let mine = atomicAdd(&n, 2u);
    atomicMax(&top, i32(lane) - 4);
    workgroupBarrier();
    y[lane] = mine;
    y[8u + lane] = atomicLoad(&n) + u32(atomicLoad(&top));
    let got = atomicCompareExchangeWeak(&n, 16u, 100u);
    y[16u + lane] = select(0u, 1u, got.exchanged);";
    let y = words(globals, body, 8);
    assert_eq!(y[..8], [0, 2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(y[8], 19);
    assert_eq!(y[16..24].iter().sum::<u32>(), 1);
}

#[test]
fn a_value_that_is_uniform_by_decree() {
    let body = "    if (lane == 3u) { flag = 9u; }\n    y[lane] = workgroupUniformLoad(&flag);";
    assert_eq!(words("var<workgroup> flag: u32;", body, 8)[..8], [9; 8]);
}

#[test]
fn subgroups_of_four() {
    let body = "    y[lane] = subgroupAdd(lane);
    y[8u + lane] = subgroupExclusiveAdd(lane);
    y[16u + lane] = subgroupShuffleXor(lane, 1u) * 10u + subgroupBroadcast(lane, 2u);
    y[24u + lane] = subgroupBallot(lane % 3u == 0u).x;
    y[32u + lane] = quadSwapDiagonal(lane) + subgroupBroadcastFirst(lane) * 10u;
    y[40u + lane] = subgroupMax(lane) + u32(subgroupAll(lane < 4u)) * 10u;";
    let y = words("", body, 4);
    assert_eq!(y[..8], [6, 6, 6, 6, 22, 22, 22, 22]);
    assert_eq!(y[8..16], [0, 0, 1, 3, 0, 4, 9, 15]);
    assert_eq!(y[16..24], [12, 2, 32, 22, 56, 46, 76, 66]);
    assert_eq!(y[24..32], [9, 9, 9, 9, 4, 4, 4, 4]);
    assert_eq!(y[32..40], [3, 2, 1, 0, 47, 46, 45, 44]);
    assert_eq!(y[40..48], [13, 13, 13, 13, 7, 7, 7, 7]);
}

#[test]
fn halves_round_once() {
    let globals = "enable f16;\nvar<workgroup> sh: array<f16, 8>;";
    let body = "    sh[lane] = f16(f32(lane) * 0.3) * 3.0h;
    workgroupBarrier();
    y[lane] = bitcast<u32>(f32(sh[7u - lane]));";
    let half = |x: f32| half::f16::from_f32(x).to_f32();
    let want: Vec<_> = (0..8).rev().map(|i| half(half(i as f32 * 0.3) * 3.0).to_bits()).collect();
    assert_eq!(words(globals, body, 8)[..8], want);
}

#[test]
fn what_cannot_be_run_is_named_with_its_line() {
    let text = "@group(0) @binding(0) var t: texture_2d<f32>;\n\
                @group(0) @binding(1) var<storage, read_write> y: array<f32>;\n\
                @compute @workgroup_size(1)\nfn main() {\n    y[0] = textureLoad(t, vec2(0u), 0).x;\n}\n";
    let shader = load(ShaderSource { name: "body", text }, &Spec::new()).expect("valid");
    let error = Program::new(&Source::from(shader)).expect_err("it has a texture").to_string();
    assert!(error.contains("shaders/body.wgsl:5: the checker does not run"), "{error}");
}
