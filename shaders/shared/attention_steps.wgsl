// A lane's key or value, vector by vector, through the kernel's score_vector(i, x) and
// value_vector(i, x). Unrolled by hand, so that every i is a constant once calls are inlined: only
// then are the kernel's private arrays registers.

fn score_step(e: u32, i: u32) {
    let x = load_k(e, i);
    score_vector(i, x[0]);
    if (i + 1u < DIM4) {
        score_vector(i + 1u, x[1]);
    }
}

// Sixteen vectors from i on.
fn score_steps(e: u32, i: u32) {
    score_step(e, i);
    if (i + 2u < DIM4) {
        score_step(e, i + 2u);
    }
    if (i + 4u < DIM4) {
        score_step(e, i + 4u);
    }
    if (i + 6u < DIM4) {
        score_step(e, i + 6u);
    }
    if (i + 8u < DIM4) {
        score_step(e, i + 8u);
    }
    if (i + 10u < DIM4) {
        score_step(e, i + 10u);
    }
    if (i + 12u < DIM4) {
        score_step(e, i + 12u);
    }
    if (i + 14u < DIM4) {
        score_step(e, i + 14u);
    }
}

// The whole key that starts at element e.
fn score_key(e: u32) {
    score_steps(e, 0u);
    if (DIM4 > 16u) {
        score_steps(e, 16u);
    }
    if (DIM4 > 32u) {
        score_steps(e, 32u);
    }
    if (DIM4 > 48u) {
        score_steps(e, 48u);
    }
}

fn value_step(e: u32, i: u32) {
    let x = load_v(e, i);
    value_vector(i, x[0]);
    if (i + 1u < DIM4) {
        value_vector(i + 1u, x[1]);
    }
}

// Sixteen vectors from i on.
fn value_steps(e: u32, i: u32) {
    value_step(e, i);
    if (i + 2u < DIM4) {
        value_step(e, i + 2u);
    }
    if (i + 4u < DIM4) {
        value_step(e, i + 4u);
    }
    if (i + 6u < DIM4) {
        value_step(e, i + 6u);
    }
    if (i + 8u < DIM4) {
        value_step(e, i + 8u);
    }
    if (i + 10u < DIM4) {
        value_step(e, i + 10u);
    }
    if (i + 12u < DIM4) {
        value_step(e, i + 12u);
    }
    if (i + 14u < DIM4) {
        value_step(e, i + 14u);
    }
}

// The whole value that starts at element e.
fn weigh_value(e: u32) {
    value_steps(e, 0u);
    if (DIM4 > 16u) {
        value_steps(e, 16u);
    }
    if (DIM4 > 32u) {
        value_steps(e, 32u);
    }
    if (DIM4 > 48u) {
        value_steps(e, 48u);
    }
}
