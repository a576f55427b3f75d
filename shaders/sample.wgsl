// index = a column drawn with probability proportional to exp(x / temperature), among the top-k, top-p
// and min-p columns; at temperature 0 the first column that holds the row's largest value.
//
// x: [rows, cols]; settings: [6], see below; index: [rows]. One workgroup per row; lane l takes columns
// l, l + THREADS, ... The sets are found by their smallest value: floats are compared as integers of
// the same order ("keys"), and the bound is built from the highest digit on, two bits at a time, by
// three sums in one walk over the row. The draw is Gumbel's: the largest of x / temperature + g, where
// g = -log(-log(u)) and u comes from a hash of seed, step, row and column, so that no state is kept.
//
// Safety: a row is checked against `rows` before use and columns are below `cols`, so every index is
// below rows * cols, the size of x, or below rows. winner() writes its memory before it reads it.
#import fold
#import winner

struct Params {
    rows: u32,
    cols: u32,
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;           // [rows, cols]
// Bits of the temperature, top_k (0: all), bits of top_p and of min_p, the seed's halves.
@group(0) @binding(1) var<storage, read> settings: array<u32>;    // [6]
@group(0) @binding(2) var<storage, read_write> index: array<u32>; // [rows]

// Columns of a lane per round of the walks that look for a bound, and what lies between the first and
// the last of them.
const STEPS: u32 = 4u;
const LAST: u32 = (STEPS - 1u) * THREADS;

// An integer that orders as the value does; 0 for a NaN.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let ordered = select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
    return select(ordered, 0u, (bits & 0x7fffffffu) > 0x7f800000u);
}

// PCG's output permutation over one step of its generator (O'Neill 2014, Jarzynski and Olano 2020).
fn hash(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

// Gumbel noise from the upper 23 bits of a hash. With v = 1 - u, -log(u) is a series for small v,
// where the logarithm of a number next to 1 has no digits left; those are the draws that win.
fn gumbel(bits: u32) -> f32 {
    let v = (f32(bits >> 9u) + 0.5) / 8388608.0;
    let series = v * (1.0 + v * (0.5 + v * (0.33333334 + v * 0.25)));
    let exponential = select(-log(1.0 - v), series, v < 0.02);
    return -log(exponential);
}

fn weight(value: f32, top: f32, scale: f32) -> f32 {
    return exp(max((value - top) * scale, -87.0));
}

// How many columns of the row have keys of at least these.
fn counts_from(bounds: vec3<u32>, start: u32, lane: u32) -> vec3<f32> {
    var counts = vec3(0.0);
    var c = lane;
    for (; c + LAST < params.cols; c += STEPS * THREADS) {
        for (var s = 0u; s < STEPS; s++) { // unroll
            let key = key_of(x[start + c + s * THREADS]);
            counts += select(vec3(0.0), vec3(1.0), vec3(key) >= bounds);
        }
    }
    for (; c < params.cols; c += THREADS) {
        counts += select(vec3(0.0), vec3(1.0), vec3(key_of(x[start + c])) >= bounds);
    }
    return reduce_sums(counts, lane);
}

// What those columns weigh.
fn masses_from(bounds: vec3<u32>, start: u32, lane: u32, top: f32, scale: f32) -> vec3<f32> {
    var masses = vec3(0.0);
    var c = lane;
    for (; c + LAST < params.cols; c += STEPS * THREADS) {
        for (var s = 0u; s < STEPS; s++) { // unroll
            let value = x[start + c + s * THREADS];
            let mass = vec3(weight(value, top, scale));
            masses += select(vec3(0.0), mass, vec3(key_of(value)) >= bounds);
        }
    }
    for (; c < params.cols; c += THREADS) {
        let value = x[start + c];
        let mass = vec3(weight(value, top, scale));
        masses += select(vec3(0.0), mass, vec3(key_of(value)) >= bounds);
    }
    return reduce_sums(masses, lane);
}

fn reduce_sums(sums: vec3<f32>, lane: u32) -> vec3<f32> {
    return vec3(reduce_sum(sums.x, lane), reduce_sum(sums.y, lane), reduce_sum(sums.z, lane));
}

// How many of three falling numbers are true: the digit that is the largest with its bound reached.
fn digit(reached: vec3<bool>) -> u32 {
    let ones = select(vec3(0u), vec3(1u), reached);
    return ones.x + ones.y + ones.z;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = fold(workgroup, grid);
    if (row >= params.rows) {
        return;
    }
    let start = row * params.cols;
    let temperature = bitcast<f32>(settings[0]);
    let top_k = settings[1];
    let top_p = bitcast<f32>(settings[2]);
    let min_p = bitcast<f32>(settings[3]);
    let drawn = temperature > 0.0;
    // Colder than this, only the largest value is left.
    let scale = 1.0 / select(1.0, max(temperature, 1e-30), drawn);

    // The smallest key that may be drawn.
    var bound = 0u;
    if (drawn) {
        var largest = -3e38;
        for (var c = lane; c < params.cols; c += THREADS) {
            largest = max(largest, x[start + c]);
        }
        let top = reduce_max(largest, lane);
        if (top_k > 0u && top_k < params.cols) {
            // The largest key that at least top_k columns reach.
            for (var one = 1u << 30u; one > 0u; one >>= 2u) {
                let counts = counts_from(bound + one * vec3(1u, 2u, 3u), start, lane);
                bound += one * digit(counts >= vec3(f32(top_k)));
            }
        }
        if (top_p < 1.0) {
            let wanted = top_p * masses_from(vec3(bound), start, lane, top, scale).x;
            // The largest key whose columns and those above reach the probability; digits of the first
            // bound stay, since all columns above it reach it.
            var reach = 0u;
            for (var one = 1u << 30u; one > 0u; one >>= 2u) {
                let tried = max(reach + one * vec3(1u, 2u, 3u), vec3(bound));
                let masses = masses_from(tried, start, lane, top, scale);
                // At least the best column stays, also at top_p 0.
                reach += one * digit((masses > vec3(0.0)) & (masses >= vec3(wanted)));
            }
            bound = max(bound, reach);
        }
        if (min_p > 0.0) {
            bound = max(bound, key_of(top + log(min_p) * temperature));
        }
    }

    let stream = hash(row ^ hash(params.step ^ hash(settings[4] ^ hash(settings[5]))));
    var value = -3.4e38;
    var column = params.cols - 1u;
    for (var c = lane; c < params.cols; c += THREADS) {
        var v = x[start + c];
        if (drawn) {
            let noise = gumbel(hash(stream + hash(c ^ stream)));
            v = select(-3.4e38, v * scale + noise, key_of(v) >= bound);
        }
        if (v > value) {
            value = v;
            column = c;
        }
    }
    let best = winner(value, column, lane);
    if (lane == 0u) {
        index[row] = best;
    }
}
