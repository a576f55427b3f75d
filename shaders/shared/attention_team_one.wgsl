// Every lane has a key to itself: for vector units, whose lanes would wait for each other's shuffles,
// and for devices without subgroups of a fixed size. Same functions as attention_team_subgroup.

// Lanes that share a key.
const TEAM: u32 = 1u;

// Which lane of its team a lane is.
fn member_of(lane: u32) -> u32 {
    return 0u;
}

// The first of the two vectors that the lane holds in turn n.
fn first_vector(lane: u32, n: u32) -> u32 {
    return 2u * n;
}

// The two vectors of turn n, 0 where the head has none for this lane.
fn owned(x: mat2x4<f32>, lane: u32, n: u32) -> mat2x4<f32> {
    return x;
}

// What the lanes of a key add up to.
fn team_sum(mine: f32) -> f32 {
    return mine;
}
