//! Sizes on the command line: `128`, lists `128,512`, ranges `64-4096*2` (doubling) and
//! `64-256+64` (in steps), and products of them such as `128x3072x768`; `32k` is 32 * 1024.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Most sizes one argument may stand for.
const MAX_SIZES: usize = 256;

/// The largest size; kernels count in u32.
const MAX_SIZE: usize = u32::MAX as usize;

/// Most combinations of the lists of one command.
const MAX_COMBINATIONS: usize = 4096;

/// A list of sizes, at least one, each positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes(pub Vec<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = Vec::new();
        for item in text.split(',') {
            extend(item.trim(), &mut sizes)?;
            if sizes.len() > MAX_SIZES {
                return Err(format!("more than {MAX_SIZES} sizes"));
            }
        }
        Ok(Self(sizes))
    }
}

/// A list of `N` sizes joined by `x`; a part that is a range stands for each of its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Products<const N: usize>(pub Vec<[usize; N]>);

impl<const N: usize> FromStr for Products<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut products = Vec::new();
        for item in text.split(',') {
            let parts: Vec<_> = item.trim().split('x').collect();
            if parts.len() != N {
                return Err(format!("`{item}`: expected {N} sizes joined by `x`"));
            }
            let mut lists = vec![Vec::new(); N];
            for (list, part) in lists.iter_mut().zip(parts) {
                extend(part, list)?;
            }
            let found = combine(std::array::from_fn(|i| lists[i].as_slice()));
            let found = found.filter(|found| products.len() + found.len() <= MAX_SIZES);
            let found = found.ok_or_else(|| format!("more than {MAX_SIZES} sizes"))?;
            products.extend(found);
        }
        Ok(Self(products))
    }
}

/// One of each list, in every combination, the last list changing fastest.
pub(super) fn combinations<const N: usize>(lists: [&[usize]; N]) -> Result<Vec<[usize; N]>> {
    combine(lists).ok_or_else(|| {
        Error::Argument(format!("the lists of sizes combine to more than {MAX_COMBINATIONS} rows"))
    })
}

/// `None` when there are more than [`MAX_COMBINATIONS`].
fn combine<const N: usize>(lists: [&[usize]; N]) -> Option<Vec<[usize; N]>> {
    let count = lists.iter().try_fold(1usize, |n, list| n.checked_mul(list.len()));
    let count = count.filter(|&n| n <= MAX_COMBINATIONS)?;
    let one = |mut i: usize| {
        let mut sizes = [0; N];
        for (size, list) in sizes.iter_mut().zip(lists).rev() {
            (*size, i) = (list[i % list.len()], i / list.len());
        }
        sizes
    };
    Some((0..count).map(one).collect())
}

/// Appends one size or the sizes of one range.
fn extend(item: &str, sizes: &mut Vec<usize>) -> Result<(), String> {
    let Some((first, rest)) = item.split_once('-') else {
        sizes.push(size(item)?);
        return Ok(());
    };
    let first = size(first)?;
    let split = rest.split_once(['*', '+']);
    let (last, step) = split.unwrap_or((rest, "1"));
    let (last, step) = (size(last)?, size(step)?);
    let factor = rest.contains('*');
    if last < first {
        return Err(format!("`{item}`: the range ends below its start"));
    }
    if factor && step < 2 {
        return Err(format!("`{item}`: the factor must be at least 2"));
    }
    let next = |&s: &usize| if factor { s.checked_mul(step) } else { s.checked_add(step) };
    let range = std::iter::successors(Some(first), next).take_while(|&s| s <= last);
    // One more than allowed is enough for the caller to see that it is too many.
    sizes.extend(range.take(MAX_SIZES + 1));
    Ok(())
}

/// One size, `k` behind it standing for 1024.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1024));
    match digits.parse::<usize>().map(|size| size.saturating_mul(unit)) {
        Ok(0) => Err("a size must be positive".to_owned()),
        Ok(size) if size > MAX_SIZE => Err(format!("`{text}`: a size is at most {MAX_SIZE}")),
        Ok(size) => Ok(size),
        Err(_) => Err(format!("`{text}` is not a size; examples: 512  128,512  64-4k*2  1-8+1")),
    }
}

/// A value, or `none`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Maybe<T>(pub Option<T>);

/// A size or `none`.
pub(super) fn maybe_size(text: &str) -> Result<Maybe<usize>, String> {
    if text == "none" { Ok(Maybe(None)) } else { size(text).map(|size| Maybe(Some(size))) }
}

/// A positive number or `none`.
pub(super) fn maybe_number(text: &str) -> Result<Maybe<f32>, String> {
    match text.parse::<f32>() {
        _ if text == "none" => Ok(Maybe(None)),
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Maybe(Some(number))),
        _ => Err(format!("`{text}` is neither a positive number nor `none`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Result<Vec<usize>, String> {
        text.parse().map(|Sizes(sizes)| sizes)
    }

    #[test]
    fn lists_and_ranges() {
        for (text, expected) in [
            ("7", vec![7]),
            ("128,512", vec![128, 512]),
            ("64-512*2", vec![64, 128, 256, 512]),
            ("64-500*2", vec![64, 128, 256]),
            ("3-81*3", vec![3, 9, 27, 81]),
            ("64-256+64", vec![64, 128, 192, 256]),
            ("1-4", vec![1, 2, 3, 4]),
            ("5-5*2", vec![5]),
            ("1, 8-16*2 ,3", vec![1, 8, 16, 3]),
            ("1k-4k*2", vec![1024, 2048, 4096]),
        ] {
            assert_eq!(sizes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_an_error() {
        for text in [
            "",
            ",",
            "0",
            "-4",
            "4-",
            "a",
            "1,",
            "8-4",
            "1-8*1",
            "1-8*0",
            "1-8+0",
            "1-8*",
            "1.5",
            "0-8",
            "1-1000",
            "1-8*2+1",
            "k",
            "0k",
            "4K",
            "9999999k",
            "99999999999999999999999",
        ] {
            assert!(sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_near_the_largest_number_ends() {
        let last = MAX_SIZE;
        assert_eq!(sizes(&format!("{}-{last}*2", last / 2 + 1)), Ok(vec![last / 2 + 1]));
        assert_eq!(sizes(&format!("{last}-{last}+1")), Ok(vec![last]));
    }

    #[test]
    fn a_value_can_be_none() {
        assert_eq!(maybe_size("none"), Ok(Maybe(None)));
        assert_eq!(maybe_size("4k"), Ok(Maybe(Some(4096))));
        assert_eq!(maybe_number("none"), Ok(Maybe(None)));
        assert_eq!(maybe_number("0.5"), Ok(Maybe(Some(0.5))));
        for text in ["", "0", "-1", "None", "x"] {
            assert!(maybe_size(text).is_err() && maybe_number(text).is_err(), "{text}");
        }
        assert!(maybe_number("inf").is_err() && maybe_number("NaN").is_err());
    }

    #[test]
    fn products_of_sizes_and_ranges() {
        let parse = |text: &str| text.parse().map(|Products::<3>(p)| p);
        assert_eq!(parse("128x3072x768"), Ok(vec![[128, 3072, 768]]));
        assert_eq!(parse("1x2x3,4x5x6"), Ok(vec![[1, 2, 3], [4, 5, 6]]));
        assert_eq!(parse("1-2x8x4-8*2"), Ok(vec![[1, 8, 4], [1, 8, 8], [2, 8, 4], [2, 8, 8]]));
        for text in ["128x3072", "1x2x3x4", "1x0x3", "x", "1-64x1-64x1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
