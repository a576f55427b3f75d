// Results are stored in f16: one value at a time, or four where Wide and Stored are vectors. Beyond
// the range of f16 the largest it has, since an infinity would spoil every sum it goes into.
alias Wide = f32;
alias Stored = f16;

fn stored(v: Wide) -> Stored {
    return Stored(clamp(v, Wide(-65504.0), Wide(65504.0)));
}
