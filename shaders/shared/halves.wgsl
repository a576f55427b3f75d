// What is multiplied in f16.

// To f16; beyond its range to the largest it has, since an infinity would spoil a whole row.
fn saturated(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(v, vec4(-65504.0), vec4(65504.0)));
}

// Four halves out of two words, low half first. Drivers fold the way through f32.
fn unpacked(words: vec2<u32>) -> vec4<f16> {
    return vec4<f16>(vec4(unpack2x16float(words.x), unpack2x16float(words.y)));
}
