// k_cache[b, offset + t, c] = k[b, t, k_column + c], and the same for v: the keys and values of new
// tokens go behind those of earlier ones.
//
// k_cache, v_cache: [batch, context, width], PER_WORD columns to a word; k, v: [batch, tokens, row],
// where a row may hold other columns too. Invocation i moves word i % words of token i / words, of
// both.
//
// Safety: a word is checked against batch * tokens * words, its position against context before it
// is written, and the host checked columns against rows.
#import fold

struct Params {
    count: u32, // batch * tokens * words
    tokens: u32,
    context: u32,
    words: u32, // of a row of a cache: width / PER_WORD
    offset: u32,
    k_row: u32,
    k_column: u32,
    v_row: u32,
    v_column: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> k: array<f32>; // [batch, tokens, k_row]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [batch, tokens, v_row]

#import cache_f32

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = fold(workgroup, grid) * 64u + lane;
    if (i >= params.count) {
        return;
    }
    let row = i / params.words;
    let word = i % params.words;
    let position = params.offset + row % params.tokens;
    if (position >= params.context) {
        return;
    }
    let to = (row / params.tokens * params.context + position) * params.words + word;
    let of_k = row * params.k_row + params.k_column + word * PER_WORD;
    let of_v = row * params.v_row + params.v_column + word * PER_WORD;
    keep_k(to, k[of_k], k[of_k + PER_WORD - 1u]);
    keep_v(to, v[of_v], v[of_v + PER_WORD - 1u]);
}
