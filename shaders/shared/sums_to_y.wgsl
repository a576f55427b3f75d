// Matrices of sums are stored to y as they are: it is f32 and as wide. Same names as sums_apart.
const STRAIGHT: bool = true;

fn store_to_y(at: u32, sums: Sums, stride: u32) {
    coopStoreT(sums, &y[at], stride);
}
