//! What every attention kernel is tested with.

use super::{Attention, HeadLayout, relative_buckets};
use crate::ops::op::Case;
use crate::ops::rng::Rng;
use crate::ops::tolerance::Tolerance;
use crate::tensor::{DType, Dim, Shape, Sizes, Sym, Tensor};

/// [batch, query heads, key/value heads, queries, keys, head_dim].
type Size = [usize; 6];

fn op([_, n_heads, n_kv_heads, q_len, kv_len, head_dim]: Size) -> Attention {
    Attention {
        layout: HeadLayout::Heads,
        q_offset: Dim::Const(kv_len.saturating_sub(q_len)),
        ..Attention::new(n_heads, n_kv_heads, head_dim)
    }
}

/// Weights sum to 1, so the result is of the size of v, and its error that of the exponents: a
/// score's rounding (a few units in the last place of scores below 32) times v.
fn tolerance() -> Tolerance {
    Tolerance::f32(3e-5, 3e-5)
}

fn heads(rng: &mut Rng, [b, h, g, t, s, d]: Size) -> [Option<Tensor>; 3] {
    let (q, kv) = ([b, h, t, d], [b, g, s, d]);
    [Some(rng.tensor(q)), Some(rng.tensor(kv)), Some(rng.tensor(kv))]
}

fn u32s<const N: usize>(dims: [usize; N], value: impl Fn(usize) -> u32) -> Option<Tensor> {
    let shape = Shape::from(dims);
    Tensor::u32(shape, (0..shape.numel()).map(value).collect()).ok()
}

/// Holes, left padding, right padding, and an entry without any real key, by turns.
fn key_mask(batch: usize, kv_len: usize) -> Option<Tensor> {
    u32s([batch, kv_len], |i| {
        let (b, j) = (i / kv_len, i % kv_len);
        u32::from(match b % 4 {
            0 => j % 5 != 3,
            1 => j >= kv_len / 2,
            2 => j < kv_len * 2 / 3,
            _ => false,
        })
    })
}

fn case(
    label: &str,
    size: Size,
    op: Attention,
    qkv: [Option<Tensor>; 3],
    rest: [Option<Tensor>; 3],
) -> Case {
    let [b, h, g, t, s, d] = size;
    let label = format!("{label}: batch {b}, heads {h}/{g}, {t} x {s} tokens, head_dim {d}");
    Case::new(label, op, qkv.into_iter().chain(rest).collect(), tolerance())
}

pub(super) fn cases() -> Vec<Case> {
    let mut rng = Rng::new(5);
    let mut cases = Vec::new();
    sizes(&mut rng, &mut cases);
    features(&mut rng, &mut cases);
    layouts(&mut rng, &mut cases);
    halves(&mut rng, &mut cases);
    many_keys(&mut rng, &mut cases);
    narrowed(&mut rng, &mut cases);
    extremes(&mut rng, &mut cases);
    // A kernel is certified by early cases. Large heads' unrolled code takes some drivers a second
    // and a quarter of a gigabyte to compile, which a user's first start should not wait for.
    cases.sort_by_key(|case| {
        let op: Option<&Attention> = case.op.downcast();
        op.is_some_and(|op| op.head_dim > 64)
    });
    cases
}

/// More keys than a step of generation has had yet, and a few queries to as many as tiles serve on
/// software drivers.
pub(super) fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(8);
    let case = |size: Size| {
        let [b, _, _, _, s, _] = size;
        let qkv = heads(&mut rng, size);
        let op = Attention { causal: true, ..op(size) };
        // A lane adds up to 2^16 weighted values one after the other, each sum rounded by 2^-25.
        let tolerance = Tolerance { nmse: 1e-9, ..tolerance() };
        Case { tolerance, ..case("long", size, op, qkv, [key_mask(b, s), None, None]) }
    };
    [[1, 2, 1, 1, 262_144, 8], [1, 1, 1, 3, 100_003, 12], [1, 1, 1, 2, 30_000, 8]].map(case).into()
}

/// Lengths around every block size, head sizes with and without whole vectors.
fn sizes(rng: &mut Rng, cases: &mut Vec<Case>) {
    let none = || [None, None, None];
    for size in [
        [1, 1, 1, 1, 1, 16],
        [1, 2, 2, 31, 7, 16],
        [2, 2, 1, 32, 8, 16],
        [1, 2, 2, 33, 9, 16],
        [1, 1, 1, 63, 15, 16],
        [1, 1, 1, 64, 16, 16],
        [1, 2, 1, 65, 33, 16],
        [1, 1, 1, 97, 131, 16],
        [3, 6, 1, 5, 21, 8],
        [1, 2, 1, 9, 17, 20],
        [2, 4, 2, 19, 19, 33],
        [1, 1, 1, 5, 5, 1],
        [1, 2, 2, 17, 40, 64],
        [1, 2, 1, 5, 11, 80],
        [1, 1, 1, 9, 12, 128],
        [1, 2, 1, 7, 9, 256],
        // Steps of generation: one query or a few, heads that share keys and values.
        [1, 2, 2, 1, 70, 64],
        [1, 2, 2, 4, 131, 8],
        [2, 4, 1, 1, 37, 16],
        [1, 8, 1, 1, 19, 20],
        [2, 7, 1, 3, 29, 64],
        [1, 3, 1, 2, 45, 33],
        [1, 12, 1, 1, 40, 16],
        [1, 2, 1, 1, 9, 128],
        [1, 4, 1, 2, 67, 128],
        [1, 1, 1, 1, 21, 256],
    ] {
        let qkv = heads(rng, size);
        cases.push(case("plain", size, op(size), qkv.clone(), none()));
        let causal = Attention { causal: true, ..op(size) };
        cases.push(case("causal", size, causal, qkv, none()));
    }
}

/// Every feature alone and the combinations that models use.
fn features(rng: &mut Rng, cases: &mut Vec<Case>) {
    for size in
        [[4, 2, 2, 37, 37, 16], [4, 4, 2, 7, 70, 20], [4, 2, 2, 1, 41, 16], [4, 6, 2, 2, 35, 20]]
    {
        let [b, h, _, t, s, _] = size;
        let qkv = heads(rng, size);
        let plain = op(size);
        let causal = Attention { causal: true, ..plain.clone() };
        let mask = || key_mask(b, s);
        let mut push = |label: &str, op, rest| cases.push(case(label, size, op, qkv.clone(), rest));
        push("key mask", plain.clone(), [mask(), None, None]);
        push("causal, key mask", causal.clone(), [mask(), None, None]);
        let early = Attention { q_offset: Dim::Const(0), ..causal.clone() };
        push("causal from position 0", early, [None, None, None]);
        for window in [1, 5, 40] {
            let windowed = Attention { window: Some(window), ..plain.clone() };
            push(&format!("window {window}"), windowed, [None, None, None]);
        }
        let windowed = Attention { window: Some(6), ..causal.clone() };
        push("window 6, key mask", windowed, [mask(), None, None]);
        for (window, ahead) in [(1, 3), (6, 5), (40, 40)] {
            let sided = Attention { window: Some(window), ahead, ..plain.clone() };
            let label = format!("window {window} and {ahead} ahead");
            push(&label, sided.clone(), [None, None, None]);
            push(&format!("{label}, key mask"), sided, [mask(), None, None]);
        }
        let capped = Attention { softcap: Some(1.5), scale: 0.7, ..causal.clone() };
        push("softcap, causal", capped.clone(), [None, None, None]);
        for dims in [[1, 1, 1, s], [1, h, t, s], [b, 1, t, s], [b, h, t, s]] {
            let bias = Some(rng.tensor(dims));
            push(&format!("bias {dims:?}"), plain.clone(), [None, bias, None]);
        }
        let bias = Some(rng.tensor([1, h, t, s]));
        push("softcap, causal, bias, key mask", capped, [mask(), bias, None]);
        for (bidirectional, reach) in [(true, 20), (false, 9)] {
            let buckets = relative_buckets(bidirectional, 8, reach);
            let bucket = u32s([buckets.len()], |i| buckets[i]);
            let unscaled =
                Attention { max_distance: reach, scale: 0.4, causal: !bidirectional, ..op(size) };
            let table = Some(rng.tensor([8, h]));
            push("table bias", unscaled.clone(), [None, table.clone(), bucket.clone()]);
            push("table bias, key mask", unscaled, [mask(), table, bucket]);
        }
    }
}

/// Rows of packed projections, aligned and not, and a position given by a symbol.
fn layouts(rng: &mut Rng, cases: &mut Vec<Case>) {
    for (size, gap) in
        [([2, 3, 3, 34, 34, 16], 0), ([2, 4, 2, 19, 19, 8], 3), ([1, 2, 1, 9, 9, 5], 1)]
    {
        let [b, h, g, t, _, d] = size;
        let columns = gap + (h + 2 * g) * d;
        let packed = Some(rng.tensor([b, t, columns]));
        let tokens = Attention {
            layout: HeadLayout::Tokens,
            q_column: gap,
            k_column: gap + h * d,
            v_column: gap + (h + g) * d,
            causal: true,
            ..op(size)
        };
        let qkv = [packed.clone(), packed.clone(), packed];
        cases.push(case("packed rows", size, tokens, qkv, [key_mask(b, t), None, None]));
    }
    let size = [1, 2, 2, 3, 50, 16];
    let sym = Sym(0);
    let decode = Attention { causal: true, q_offset: sym.into(), ..op(size) };
    let mut with_symbol =
        case("position from a symbol", size, decode, heads(rng, size), [None, None, None]);
    with_symbol.sizes = Sizes::default().with(sym, 23);
    cases.push(with_symbol);
    // Caches with room for more keys than there are, hidden by causal order or not.
    for (causal, q_len) in [(true, 3), (false, 3), (true, 1), (false, 1)] {
        let size = [3, 4, 2, q_len, 50, 16];
        let op = Attention { causal, cached: true, q_offset: sym.into(), ..op(size) };
        let operands = [key_mask(3, 50), None, None];
        let mut cached = case("partly filled cache", size, op, heads(rng, size), operands);
        cached.sizes = Sizes::default().with(sym, 29);
        cases.push(cached);
    }
}

/// Keys and values in f16, as caches may keep them.
fn halves(rng: &mut Rng, cases: &mut Vec<Case>) {
    for size in [
        [1, 2, 2, 1, 70, 64],
        [2, 4, 1, 2, 37, 8],
        [2, 3, 3, 33, 33, 16],
        [1, 2, 1, 5, 41, 20],
        [2, 2, 2, 1, 9, 5],
        [1, 2, 1, 1, 17, 128],
    ] {
        let [b, _, _, _, s, _] = size;
        let [q, k, v] = heads(rng, size);
        let half = |t: Option<Tensor>| t.and_then(|t| t.cast(DType::F16).ok());
        let op = Attention { causal: true, ..op(size) };
        let rest = [key_mask(b, s), None, None];
        cases.push(case("f16 keys and values", size, op, [q, half(k), half(v)], rest));
    }
    // A row of a packed cache, its values behind its keys.
    let size = [2, 4, 2, 3, 21, 16];
    let [b, h, g, t, s, d] = size;
    let kv = rng.tensor([b, s, 2 * g * d + 2]).cast(DType::F16).ok();
    let op = Attention {
        layout: HeadLayout::Tokens,
        v_column: g * d + 2,
        cached: true,
        q_offset: Dim::Const(11),
        ..op(size)
    };
    let qkv = [Some(rng.tensor([b, t, h * d])), kv.clone(), kv];
    cases.push(case("f16 rows", size, op, qkv, [None, None, None]));
}

/// Results in f16: of whole vectors, of odd heads, of few queries and many, in both layouts, beyond
/// the range of f16.
fn narrowed(rng: &mut Rng, cases: &mut Vec<Case>) {
    for size in [
        [1, 1, 1, 1, 1, 16],
        [1, 2, 1, 65, 33, 16],
        [2, 4, 2, 19, 19, 33],
        [3, 6, 1, 5, 21, 8],
        [1, 1, 1, 5, 5, 1],
        [2, 7, 1, 3, 29, 20],
        [1, 2, 2, 1, 700, 64],
        [1, 3, 1, 2, 769, 33],
    ] {
        let [b, h, g, t, s, d] = size;
        let causal = Attention { causal: true, ..op(size) };
        let rest = [key_mask(b, s), None, None];
        let plain = case("f16 result", size, causal.clone(), heads(rng, size), rest.clone());
        cases.push(plain.narrowed());
        let tokens = Attention { layout: HeadLayout::Tokens, ..causal };
        let [k, v] = [(); 2].map(|()| rng.tensor([b, s, g * d]).cast(DType::F16).ok());
        let qkv = [Some(rng.tensor([b, t, h * d])), k, v];
        cases.push(case("f16 keys, values and result", size, tokens, qkv, rest).narrowed());
    }
    let size = [2, 2, 1, 9, 12, 16];
    let [q, k, v] = heads(rng, size);
    let large = v.and_then(|v| {
        let values = v.as_f32().ok()?.iter().map(|v| v * 6e4).collect();
        Tensor::f32(v.shape(), values).ok()
    });
    cases.push(
        case("f16 result, large values", size, op(size), [q, k, large], [None, None, None])
            .narrowed(),
    );
}

/// Few queries against keys enough to be split between workgroups, in whole, ragged and empty shares.
fn many_keys(rng: &mut Rng, cases: &mut Vec<Case>) {
    let none = || [None, None, None];
    for size in [
        [1, 2, 1, 1, 700, 16],
        [1, 3, 1, 2, 700, 20],
        [1, 1, 1, 1, 4099, 16],
        [1, 4, 1, 3, 769, 64],
        [2, 2, 1, 1, 513, 33],
        [1, 2, 1, 1, 600, 128],
    ] {
        let [b, h, _, t, s, _] = size;
        let qkv = heads(rng, size);
        let causal = Attention { causal: true, ..op(size) };
        let mut push = |label: &str, op, rest| {
            let label = format!("many keys, {label}");
            cases.push(case(&label, size, op, qkv.clone(), rest));
        };
        push("plain", op(size), none());
        // The first queries see a key or a few: nearly all shares are empty.
        let early = Attention { q_offset: Dim::Const(0), ..causal.clone() };
        push("causal from position 0", early, none());
        let rest = [key_mask(b, s), None, None];
        push("causal, key mask", causal.clone(), rest);
        // Every feature for narrow heads; wide ones cost a CPU seconds to compile, form by form.
        if size[5] > 20 {
            continue;
        }
        for window in [3, 300, 520] {
            let windowed = Attention { window: Some(window), ..causal.clone() };
            push(&format!("window {window}"), windowed, none());
        }
        let sided = Attention { window: Some(301), ahead: 300, ..op(size) };
        push("window 301 and 300 ahead", sided, none());
        // Only the last key of all is real, or none is: rows that no share has a key for.
        let last = u32s([b, s], |i| u32::from(i % s == s - 1));
        push("one real key", op(size), [last, None, None]);
        push("no real key", op(size), [u32s([b, s], |_| 0), None, None]);
        let capped = Attention { softcap: Some(1.5), scale: 0.7, ..causal.clone() };
        let bias = Some(rng.tensor([1, h, t, s]));
        push("softcap, bias, key mask", capped, [key_mask(b, s), bias, None]);
        let buckets = relative_buckets(false, 8, 128);
        let unscaled = Attention { max_distance: 128, scale: 0.4, ..causal };
        let bucket = u32s([buckets.len()], |i| buckets[i]);
        push("table bias", unscaled, [None, Some(rng.tensor([8, h])), bucket]);
    }
    // A step of generation over a cache in f16 with room for more, its rows packed.
    let sym = Sym(0);
    for (size, filled) in [([1, 4, 2, 1, 4099, 16], 3000), ([2, 2, 1, 3, 700, 64], 511)] {
        let [b, h, g, t, s, d] = size;
        let half = |t: Tensor| t.cast(DType::F16).ok();
        let op = Attention {
            layout: HeadLayout::Tokens,
            causal: true,
            cached: true,
            q_offset: sym.into(),
            ..op(size)
        };
        let k = half(rng.tensor([b, s, g * d]));
        let qkv = [Some(rng.tensor([b, t, h * d])), k, half(rng.tensor([b, s, g * d]))];
        let mut cached = case("many keys, f16 cache", size, op, qkv, [key_mask(b, s), None, None]);
        cached.sizes = Sizes::default().with(sym, filled);
        cases.push(cached);
    }
}

/// Scores in the hundreds, growing from block to block, tiny and equal.
fn extremes(rng: &mut Rng, cases: &mut Vec<Case>) {
    let size = [1, 2, 1, 35, 75, 16];
    let [b, h, g, t, s, d] = size;
    let large = |rng: &mut Rng| {
        let q = rng.tensor_with([b, h, t, d], |r| r.normal() * 100.0);
        [Some(q), Some(rng.tensor([b, g, s, d])), Some(rng.tensor([b, g, s, d]))]
    };
    // A score of several hundred is rounded by 3e-5, and so is the logarithm of its weight.
    let loose = || Tolerance { nmse: 1e-8, ..Tolerance::f32(2e-3, 2e-3) };
    let none = || [None, None, None];
    let mut big = case("scores in the hundreds", size, op(size), large(rng), none());
    big.tolerance = loose();
    cases.push(big);
    let masked = Attention { causal: true, ..op(size) };
    let rest = [key_mask(b, s), None, None];
    let mut big = case("scores in the hundreds, masked", size, masked, large(rng), rest);
    big.tolerance = loose();
    cases.push(big);
    let capped = Attention { softcap: Some(30.0), ..op(size) };
    cases.push(case("softcap of large scores", size, capped, large(rng), none()));
    // Every later key scores higher, so each block rescales all earlier sums.
    let mut rising = 0;
    let k = rng.tensor_with([b, g, s, d], |r| {
        rising += 1;
        (rising / 16) as f32 * 0.1 + 0.01 * r.normal()
    });
    let q = rng.tensor_with([b, h, t, d], |r| 1.0 + 0.1 * r.normal());
    let v = rng.tensor([b, g, s, d]);
    let qkv = [Some(q), Some(k), Some(v.clone())];
    cases.push(case("rising scores", size, op(size), qkv, none()));
    let zeros = rng.tensor_with([b, h, t, d], |_| 0.0);
    let k = rng.tensor_with([b, g, s, d], |r| r.normal() * 1e4);
    let qkv = [Some(zeros), Some(k), Some(v)];
    cases.push(case("equal scores", size, op(size), qkv, none()));
    // Nothing to see: position 0 is before the only real key.
    let size = [1, 1, 1, 4, 4, 8];
    let causal = Attention { causal: true, ..op(size) };
    let mask = u32s([1, 4], |j| u32::from(j == 3));
    cases.push(case("rows without keys", size, causal, heads(rng, size), [mask, None, None]));
}
