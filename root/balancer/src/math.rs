//! Whole numbers that neither wrap nor divide by zero.

/// `⌊a × b ÷ c⌋`, at most `u64::MAX`. Nobody divides by zero: a `c` of 0 counts as 1.
#[inline]
pub(crate) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let c = c.max(1);
    match a.checked_mul(b) {
        // Division of 128 bits is a loop in software, and most products are short.
        Some(product) => product / c,
        None => narrow(u128::from(a) * u128::from(b) / u128::from(c)),
    }
}

/// `⌈a × b ÷ c⌉`, likewise.
#[inline]
pub(crate) fn mul_div_up(a: u64, b: u64, c: u64) -> u64 {
    let c = c.max(1);
    match a.checked_mul(b) {
        Some(product) => product.div_ceil(c),
        None => narrow((u128::from(a) * u128::from(b)).div_ceil(u128::from(c))),
    }
}

/// The largest multiple of `step` up to `size`; a `step` of 0 counts as 1.
#[inline]
pub(crate) fn round_down(size: u64, step: u64) -> u64 {
    size - size % step.max(1)
}

/// The smallest multiple of `step` from `size` on, if there is one.
#[inline]
pub(crate) fn round_up(size: u64, step: u64) -> Option<u64> {
    size.checked_next_multiple_of(step.max(1))
}

/// A difference as a size: 0 if it is negative.
#[inline]
pub(crate) fn size(difference: i128) -> u64 {
    u64::try_from(difference.max(0)).unwrap_or(u64::MAX)
}

#[inline]
fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{mul_div, mul_div_up, round_down, round_up, size};

    #[test]
    fn products_of_more_than_64_bits_are_exact() {
        assert_eq!(mul_div(1 << 60, 1 << 20, 1 << 30), 1 << 50);
        assert_eq!(mul_div((1 << 60) + 1, 1 << 20, 1 << 21), 1 << 59);
        assert_eq!(mul_div_up((1 << 60) + 1, 1 << 20, 1 << 21), (1 << 59) + 1);
    }

    #[test]
    fn what_does_not_fit_is_the_largest_number() {
        assert_eq!(mul_div(u64::MAX, 2100, 100), u64::MAX);
        assert_eq!(mul_div_up(u64::MAX, 2100, 100), u64::MAX);
        assert_eq!(size(i128::MAX), u64::MAX);
    }

    #[test]
    fn zero_divides_as_one_and_nothing_is_below_zero() {
        assert_eq!((mul_div(7, 1, 0), mul_div_up(7, 1, 0)), (7, 7));
        assert_eq!((round_down(7, 0), round_up(7, 0)), (7, Some(7)));
        assert_eq!(size(-1), 0);
    }

    #[test]
    fn there_may_be_no_multiple_above() {
        assert_eq!((round_down(129, 128), round_up(129, 128)), (128, Some(256)));
        assert_eq!(round_up(u64::MAX, 2), None);
    }
}
