// TEAM neighbouring lanes of a subgroup share a key: its loads are side by side, and a lane holds only
// its share of the queries and sums in registers. TEAM is a power of two, at most the subgroup.
#import attention_dim

// Lanes that share a key.
const TEAM: u32 = 16u;

// Which lane of its team a lane is.
fn member_of(lane: u32) -> u32 {
    return lane % TEAM;
}

// The first of the two vectors that the lane holds in turn n; the head's last two where it has none.
fn first_vector(lane: u32, n: u32) -> u32 {
    return 2u * min(member_of(lane) + TEAM * n, (DIM4 - 1u) / 2u);
}

// The two vectors of turn n, 0 where the head has none for this lane: what they would be multiplied
// with is 0 there, but a product of 0 and infinity is not.
fn owned(x: mat2x4<f32>, lane: u32, n: u32) -> mat2x4<f32> {
    let exists = 2u * (member_of(lane) + TEAM * n) < DIM4;
    return mat2x4(select(vec4(0.0), x[0], exists), select(vec4(0.0), x[1], exists));
}

// What the lanes of a key add up to. All lanes of the subgroup must call this together.
fn team_sum(mine: f32) -> f32 {
    var sum = mine;
    for (var far = 1u; far < TEAM; far *= 2u) {
        sum += subgroupShuffleXor(sum, far);
    }
    return sum;
}
