// How wide a head is.

// Elements per head.
const HEAD_DIM: u32 = 64u;
// Vectors of 4 elements per head; the last one is partly used when 4 does not divide HEAD_DIM.
const DIM4: u32 = (HEAD_DIM + 3u) / 4u;
