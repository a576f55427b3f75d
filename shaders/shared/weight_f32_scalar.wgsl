// f32 weights at any offset: for shapes whose rows are not whole 16-byte words.
#import quad_scalar

@group(0) @binding(1) var<storage, read> weight: array<f32>; // element e: weight[e]

fn load_weight(offset: u32) -> f32 {
    return weight[offset];
}
