// Where attention_split leaves the shares of a row for attention_combine.
#import attention_dim

// Vectors of a part: the weighted mean of a share's values, then (its largest score, the sum of its
// weights, 0, 0).
const PART: u32 = DIM4 + 1u;

// Where the part of a share of a row begins. Rows are counted [B, G, T, H / G].
fn part_at(row: u32, share: u32, shares: u32) -> u32 {
    return (row * shares + share) * PART;
}
