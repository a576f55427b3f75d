//! T5's relative position buckets.
//!
//! Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", in the float32
//! formula of transformers' `T5Attention._relative_position_bucket`, which checkpoints were
//! trained with: in other precisions distances at a bucket's border fall on its other side.

/// The bucket, below `num_buckets`, of a distance `key position - query position`.
///
/// Half of the buckets (bidirectional: a quarter on each side) hold one distance each; the
/// others grow with the logarithm of the distance up to `max_distance`, and the last holds all
/// that lies beyond. A one-directional table puts all later keys into bucket 0.
pub fn relative_bucket(
    distance: i64,
    bidirectional: bool,
    num_buckets: usize,
    max_distance: usize,
) -> usize {
    let (first, buckets, reach) = if bidirectional {
        let half = num_buckets / 2;
        (if distance > 0 { half } else { 0 }, half, distance.unsigned_abs() as usize)
    } else {
        (0, num_buckets, (-distance).max(0) as usize)
    };
    let exact = buckets / 2;
    if reach < exact || buckets == 0 {
        return first + reach.min(buckets.saturating_sub(1));
    }
    // The divisor is a double in Python's `math.log`, rounded to f32 when the tensor is divided.
    let decades = (max_distance as f64 / exact as f64).ln() as f32;
    let share = (reach as f32 / exact as f32).ln() / decades * (buckets - exact) as f32;
    first + (exact + share as usize).min(buckets - 1)
}

/// The table that attention looks buckets up in: entry `i` is the bucket of the distance
/// `i - max_distance`; distances beyond either end have the bucket of that end.
pub fn relative_buckets(bidirectional: bool, num_buckets: usize, max_distance: usize) -> Vec<u32> {
    let reach = max_distance as i64;
    let bucket = |d| relative_bucket(d, bidirectional, num_buckets, max_distance) as u32;
    (-reach..=reach).map(bucket).collect()
}
