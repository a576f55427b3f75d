//! Arithmetic on one scalar: f32 exactly as IEEE 754 says, f16 rounded once from it, WGSL's
//! built-ins through the host's, which are closer than WGSL asks for.

use half::f16;

use super::code::{Bin, Kind, Pack, Un};

pub(super) fn half_to_single(bits: u32) -> f32 {
    f16::from_bits(bits as u16).to_f32()
}

/// Rounded to nearest, ties to even. Once: sums, products, quotients and roots of halves have at
/// most the digits that make rounding twice harmless.
pub(super) fn single_to_half(value: f32) -> u32 {
    u32::from(f16::from_f32(value).to_bits())
}

pub(super) fn float_un(op: Un, x: f32) -> f32 {
    match op {
        Un::Neg => -x,
        Un::Abs => x.abs(),
        Un::Sign if x > 0.0 => 1.0,
        Un::Sign if x < 0.0 => -1.0,
        Un::Cos => x.cos(),
        Un::Cosh => x.cosh(),
        Un::Sin => x.sin(),
        Un::Sinh => x.sinh(),
        Un::Tan => x.tan(),
        Un::Tanh => x.tanh(),
        Un::Acos => x.acos(),
        Un::Asin => x.asin(),
        Un::Atan => x.atan(),
        Un::Asinh => x.asinh(),
        Un::Acosh => x.acosh(),
        Un::Atanh => x.atanh(),
        Un::Ceil => x.ceil(),
        Un::Floor => x.floor(),
        Un::Round => x.round_ties_even(),
        Un::Fract => x - x.floor(),
        Un::Trunc => x.trunc(),
        Un::Exp => x.exp(),
        Un::Exp2 => x.exp2(),
        Un::Log => x.ln(),
        Un::Log2 => x.log2(),
        Un::Sqrt => x.sqrt(),
        Un::InverseSqrt => (1.0 / f64::from(x).sqrt()) as f32,
        Un::QuantizeToF16 => f16::from_f32(x).to_f32(),
        Un::FrexpFraction => frexp(x).0,
        // The sign of a zero is a zero.
        _ => 0.0,
    }
}

/// A fraction in [0.5, 1) and an exponent, also of subnormals.
pub(super) fn frexp(x: f32) -> (f32, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let bits = f64::from(x).to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    (fraction as f32, exponent)
}

pub(super) fn int_un(op: Un, kind: Kind, x: u32) -> u32 {
    match op {
        Un::Not if kind == Kind::Bool => x ^ 1,
        Un::Not => !x,
        Un::Neg => x.wrapping_neg(),
        Un::Abs if kind == Kind::I32 => (x as i32).wrapping_abs() as u32,
        Un::Sign => (x as i32).signum() as u32,
        Un::CountTrailingZeros => x.trailing_zeros(),
        Un::CountLeadingZeros => x.leading_zeros(),
        Un::CountOneBits => x.count_ones(),
        Un::ReverseBits => x.reverse_bits(),
        Un::FirstTrailingBit => {
            if x == 0 {
                u32::MAX
            } else {
                x.trailing_zeros()
            }
        }
        Un::FirstLeadingBit => {
            let x = if kind == Kind::I32 && (x as i32) < 0 { !x } else { x };
            if x == 0 { u32::MAX } else { 31 - x.leading_zeros() }
        }
        _ => x,
    }
}

pub(super) fn float_bin(op: Bin, x: f32, y: f32) -> f32 {
    match op {
        Bin::Add => x + y,
        Bin::Sub => x - y,
        Bin::Mul => x * y,
        Bin::Div => x / y,
        Bin::Rem => x - y * (x / y).trunc(),
        Bin::Min => x.min(y),
        Bin::Max => x.max(y),
        Bin::Pow => {
            if x < 0.0 {
                f32::NAN
            } else {
                x.powf(y)
            }
        }
        Bin::Atan2 => x.atan2(y),
        _ => x,
    }
}

pub(super) fn float_compare(op: Bin, x: f32, y: f32) -> bool {
    match op {
        Bin::Eq => x == y,
        Bin::Ne => x != y,
        Bin::Lt => x < y,
        Bin::Le => x <= y,
        Bin::Gt => x > y,
        _ => x >= y,
    }
}

/// `x * 2^by`, rounded once.
pub(super) fn ldexp(x: f32, by: i32) -> f32 {
    // Two steps, each of a power that f64 holds; f64 has digits to spare for f32's subnormals.
    let half = by.clamp(-600, 600) / 2;
    let rest = by.clamp(-600, 600) - half;
    (f64::from(x) * 2f64.powi(half) * 2f64.powi(rest)) as f32
}

/// What WGSL says of every case: a division by zero gives the dividend, a remainder zero.
pub(super) fn int_bin(op: Bin, kind: Kind, x: u32, y: u32) -> u32 {
    let (i, j) = (x as i32, y as i32);
    let signed = kind == Kind::I32;
    match op {
        Bin::Add => x.wrapping_add(y),
        Bin::Sub => x.wrapping_sub(y),
        Bin::Mul => x.wrapping_mul(y),
        Bin::Div if signed => i.checked_div(j).map_or(x, |v| v as u32),
        Bin::Div => x.checked_div(y).unwrap_or(x),
        Bin::Rem if signed => i.checked_rem(j).map_or(0, |v| v as u32),
        Bin::Rem => x.checked_rem(y).unwrap_or(0),
        Bin::Eq => u32::from(x == y),
        Bin::Ne => u32::from(x != y),
        Bin::Lt => u32::from(if signed { i < j } else { x < y }),
        Bin::Le => u32::from(if signed { i <= j } else { x <= y }),
        Bin::Gt => u32::from(if signed { i > j } else { x > y }),
        Bin::Ge => u32::from(if signed { i >= j } else { x >= y }),
        Bin::And => x & y,
        Bin::Or => x | y,
        Bin::Xor => x ^ y,
        Bin::Shl => x << (y & 31),
        Bin::Shr if signed => (i >> (y & 31)) as u32,
        Bin::Shr => x >> (y & 31),
        Bin::Min => {
            if signed {
                i.min(j) as u32
            } else {
                x.min(y)
            }
        }
        Bin::Max => {
            if signed {
                i.max(j) as u32
            } else {
                x.max(y)
            }
        }
        _ => x,
    }
}

/// Whether the exact result is another number than the 32 bits say.
pub(super) fn wraps(op: Bin, kind: Kind, x: u32, y: u32) -> bool {
    let (i, j) = (x as i32, y as i32);
    match (op, kind) {
        (Bin::Add, Kind::U32) => x.checked_add(y).is_none(),
        (Bin::Sub, Kind::U32) => x < y,
        (Bin::Mul, Kind::U32) => x.checked_mul(y).is_none(),
        (Bin::Add, _) => i.checked_add(j).is_none(),
        (Bin::Sub, _) => i.checked_sub(j).is_none(),
        (Bin::Mul, _) => i.checked_mul(j).is_none(),
        (Bin::Shl, Kind::U32) => x << (y & 31) >> (y & 31) != x,
        _ => false,
    }
}

/// One scalar of any kind, for scans and atomics.
pub(super) fn any_bin(op: Bin, kind: Kind, x: u32, y: u32) -> u32 {
    match kind {
        Kind::F32 => float_bin(op, f32::from_bits(x), f32::from_bits(y)).to_bits(),
        Kind::F16 => single_to_half(float_bin(op, half_to_single(x), half_to_single(y))),
        _ => int_bin(op, kind, x, y),
    }
}

/// The value that changes nothing, where an exclusive scan begins.
pub(super) fn identity(op: Bin, kind: Kind) -> u32 {
    match (op, kind) {
        (Bin::Mul, Kind::F32) => 1f32.to_bits(),
        (Bin::Mul, Kind::F16) => single_to_half(1.0),
        (Bin::Mul, _) => 1,
        _ => 0,
    }
}

pub(super) fn convert(from: Kind, to: Kind, x: u32) -> u32 {
    let float = |x: u32| if from == Kind::F16 { half_to_single(x) } else { f32::from_bits(x) };
    match (from, to) {
        (Kind::F32 | Kind::F16, Kind::F32) => float(x).to_bits(),
        (Kind::F32 | Kind::F16, Kind::F16) => single_to_half(float(x)),
        (Kind::F32 | Kind::F16, Kind::Bool) => u32::from(float(x) != 0.0),
        // Out of range saturates, and a NaN is 0, as WGSL clamps.
        (Kind::F32 | Kind::F16, Kind::I32) => (float(x) as i32) as u32,
        (Kind::F32 | Kind::F16, Kind::U32) => float(x) as u32,
        (Kind::I32, Kind::F32) => (x as i32 as f32).to_bits(),
        (Kind::U32, Kind::F32) => (x as f32).to_bits(),
        // Through f64, so that it is rounded once.
        (Kind::I32, Kind::F16) => u32::from(f16::from_f64(f64::from(x as i32)).to_bits()),
        (Kind::U32, Kind::F16) => u32::from(f16::from_f64(f64::from(x)).to_bits()),
        (Kind::Bool, Kind::F32) => (x as f32).to_bits(),
        (Kind::Bool, Kind::F16) => single_to_half(x as f32),
        (_, Kind::Bool) => u32::from(x != 0),
        _ => x,
    }
}

pub(super) fn pack(how: Pack, part: u32) -> u32 {
    let float = f32::from_bits(part);
    let norm = |v: f32, low: f32, by: f32| (0.5 + by * v.clamp(low, 1.0)).floor() as i32 as u32;
    match how {
        Pack::Snorm8 => norm(float, -1.0, 127.0) & 0xff,
        Pack::Unorm8 => norm(float, 0.0, 255.0) & 0xff,
        Pack::Snorm16 => norm(float, -1.0, 32767.0) & 0xffff,
        Pack::Unorm16 => norm(float, 0.0, 65535.0) & 0xffff,
        Pack::Float16 => single_to_half(float),
        Pack::I8 | Pack::U8 => part & 0xff,
        Pack::I8Clamp => (part as i32).clamp(-128, 127) as u32 & 0xff,
        Pack::U8Clamp => part.min(255),
    }
}

pub(super) fn unpack(how: Pack, word: u32, part: u32) -> u32 {
    let bits = word >> (part * how.bits());
    let float = |v: f32| v.max(-1.0).to_bits();
    match how {
        Pack::Snorm8 => float(f32::from(bits as u8 as i8) / 127.0),
        Pack::Unorm8 => float(f32::from(bits as u8) / 255.0),
        Pack::Snorm16 => float(f32::from(bits as u16 as i16) / 32767.0),
        Pack::Unorm16 => float(f32::from(bits as u16) / 65535.0),
        Pack::Float16 => half_to_single(bits & 0xffff).to_bits(),
        Pack::I8 | Pack::I8Clamp => i32::from(bits as u8 as i8) as u32,
        Pack::U8 | Pack::U8Clamp => bits & 0xff,
    }
}

pub(super) fn extract_bits(signed: bool, x: u32, offset: u32, count: u32) -> u32 {
    let offset = offset.min(32);
    let count = count.min(32 - offset);
    if count == 0 {
        return 0;
    }
    let up = x << (32 - offset - count);
    if signed { ((up as i32) >> (32 - count)) as u32 } else { up >> (32 - count) }
}

pub(super) fn insert_bits(x: u32, new: u32, offset: u32, count: u32) -> u32 {
    let offset = offset.min(32);
    let count = count.min(32 - offset);
    if count == 0 {
        return x;
    }
    let mask = (u32::MAX >> (32 - count)) << offset;
    x & !mask | (new << offset) & mask
}

pub(super) fn dot4(signed: bool, x: u32, y: u32) -> u32 {
    let product = |i: u32| {
        let (a, b) = ((x >> (8 * i)) as u8, (y >> (8 * i)) as u8);
        if signed { i32::from(a as i8) * i32::from(b as i8) } else { i32::from(a) * i32::from(b) }
    };
    (0..4).map(product).sum::<i32>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_wgsl_where_processors_differ() {
        assert_eq!(int_bin(Bin::Div, Kind::U32, 7, 0), 7);
        assert_eq!(int_bin(Bin::Rem, Kind::U32, 7, 0), 0);
        assert_eq!(int_bin(Bin::Div, Kind::I32, i32::MIN as u32, -1i32 as u32), i32::MIN as u32);
        assert_eq!(int_bin(Bin::Shr, Kind::I32, -8i32 as u32, 1), -4i32 as u32);
        assert_eq!(int_un(Un::FirstLeadingBit, Kind::I32, -1i32 as u32), u32::MAX);
        assert!(wraps(Bin::Sub, Kind::U32, 0, 1) && !wraps(Bin::Sub, Kind::I32, 0, 1));
    }

    #[test]
    fn bits_are_taken_and_put_back() {
        assert_eq!(extract_bits(false, 0xabcd_1234, 8, 8), 0x12);
        assert_eq!(extract_bits(true, 0x0000_f000, 12, 4), u32::MAX);
        assert_eq!(extract_bits(false, 5, 40, 3), 0);
        assert_eq!(insert_bits(0xffff_ffff, 0, 4, 8), 0xffff_f00f);
        assert_eq!(insert_bits(0, 7, 0, 32), 7);
    }

    #[test]
    fn fractions_and_exponents() {
        assert_eq!(frexp(8.0), (0.5, 4));
        assert_eq!(frexp(-0.75), (-0.75, 0));
        assert_eq!(frexp(f32::from_bits(1)), (0.5, -148));
        assert_eq!(ldexp(0.5, -148), f32::from_bits(1));
        assert_eq!(ldexp(1.0, 127), 2f32.powi(127));
        assert_eq!(ldexp(1.5, 1000), f32::INFINITY);
    }

    #[test]
    fn packing_rounds_as_wgsl_says() {
        assert_eq!(pack(Pack::Snorm8, (-1f32).to_bits()), 0x81);
        assert_eq!(pack(Pack::Unorm8, 0.5f32.to_bits()), 128);
        assert_eq!(unpack(Pack::I8, 0xff00, 1), u32::MAX);
        assert_eq!(unpack(Pack::Float16, 0x3c00_0000, 1), 1f32.to_bits());
        assert_eq!(dot4(true, 0xff_02_00_01, 0x01_03_00_05), (-1i32 + 6 + 5) as u32);
    }
}
