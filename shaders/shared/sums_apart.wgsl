// y is no place for sums: it is f16, or half as wide. Same names as sums_to_y.
const STRAIGHT: bool = false;

fn store_to_y(at: u32, sums: Sums, stride: u32) {
}
