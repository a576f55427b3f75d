// Results are stored as they are: one value at a time, or four where Wide is vec4<f32>. Same names as
// store_f16.
alias Wide = f32;
alias Stored = Wide;

fn stored(v: Wide) -> Stored {
    return v;
}
