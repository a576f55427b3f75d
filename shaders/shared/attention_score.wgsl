// What is done to a scaled dot product before the softmax: softcap and bias.
#import attention_common

// The score of a query and a key, both in range, from their scaled dot product.
fn finish_score(dot: f32, b: u32, h: u32, query: u32, key: u32) -> f32 {
    var score = dot;
    if (HAS_SOFTCAP) {
        score = params.softcap * tanh(clamp(score / params.softcap, -15.0, 15.0));
    }
    if (BIAS == 1u) {
        score += bias[b * params.bias_batch + h * params.bias_head + query * params.bias_query + key];
    }
    if (BIAS == 2u) {
        let reach = i32(params.max_distance);
        let distance = i32(key) - i32(query) - params.q_offset;
        let row = min(bucket[u32(clamp(distance, -reach, reach) + reach)], params.n_buckets - 1u);
        score += bias[row * params.n_heads + h];
    }
    return score;
}
