// One row's terms of softmax. An entry that is -inf is masked: it takes no part in the maximum
// and has weight 0, also in a row that is masked whole. Elem comes from elem_*.
const LOWEST: f32 = -3.4028234e38;
const MINUS_INFINITY: u32 = 0xff800000u;

@group(0) @binding(0) var<storage, read> x: array<Elem>; // [rows, cols]

// Which components are not -inf, from their bits: WGSL may assume there are no infinities.
fn live(v: Elem) -> Mask {
    return bitcast<Bits>(v) != Bits(MINUS_INFINITY);
}

// v for the maximum.
fn candidate(v: Elem) -> Elem {
    return select(Elem(LOWEST), v, live(v));
}

// exp(v - largest), 0 where masked. Arguments below -87 underflow: exp is not asked for them.
fn term(v: Elem, largest: f32) -> Elem {
    let d = v - largest;
    let e = exp(clamp(d, Elem(-87.0), Elem(0.0)));
    return select(Elem(0.0), e, live(v) & (d > Elem(-87.0)));
}
