// The online softmax (Milakov & Gimelshein 2018): a row's keys come in steps, and what is summed so
// far is kept relative to the largest score so far. A step, for each row:
//
//   score = masked(score, seen)                  of each key
//   row = raised(row, the largest score)
//   weight = weight_of(score - row.top)          of each key
//   row.sum += the weights
//   sums = sums * row.rescale + the weighted values
//
// and at the end sums * inverse_of(row.sum). A row that sees no key gives 0.

// Where a row's largest score starts: below that of every key that is seen.
const NO_SCORE: f32 = -3e38;
// The score of a key that is not seen: so far below the largest that it weighs nothing.
const MASKED: f32 = -3.4e38;

struct Running {
    top: f32,     // the largest score so far
    sum: f32,     // of the weights so far
    rescale: f32, // what sums from before the last step are worth
}

fn nothing_seen() -> Running {
    return Running(NO_SCORE, 0.0, 0.0);
}

fn masked(score: f32, seen: bool) -> f32 {
    return select(MASKED, score, seen);
}

// Before a row's first key the factor is arbitrary: it meets sums of 0.
fn raised(row: Running, score: f32) -> Running {
    let top = max(row.top, score);
    let rescale = weight_of(row.top - top);
    return Running(top, row.sum * rescale, rescale);
}

// exp of a difference of scores that is at most 0. What is too small to count is 0: products with it
// would be subnormal, which costs some processors a hundred times an ordinary product.
fn weight_of(difference: f32) -> f32 {
    return select(0.0, exp(max(difference, -80.0)), difference > -80.0);
}

fn weights_of(differences: vec4<f32>) -> vec4<f32> {
    let lowest = vec4(-80.0);
    return select(vec4(0.0), exp(max(differences, lowest)), differences > lowest);
}

fn inverse_of(sum: f32) -> f32 {
    return select(0.0, 1.0 / max(sum, 1e-38), sum > 0.0);
}
