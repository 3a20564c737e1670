//! The search for the target pressure (section 4.4).
//!
//! What a VM shall have falls with one number `k` that is common to all. The search finds the least `k` with which all of it
//! fits: so memory is used up, or else everybody has ample.

use crate::levels::Live;
use crate::math::mul_div;
use crate::settings::Weight;

/// One, in fixed point.
pub const FP: u64 = 1 << 20;
/// Where the search ends: there even the heaviest VM wants nothing but its minimum.
pub const K_MAX: u64 = 3 * FP;
/// `W`, the weight at which the shortage is shared evenly.
pub const REFERENCE_WEIGHT: u64 = 5000;
/// Pressure, in per cent, at which a VM has ample memory and gets no more.
pub const MINIMUM_PRESSURE: u64 = 75;

/// Target pressure that is shown when there is no limit to it.
pub const NO_LIMIT: u32 = 65_535;

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// `k`, 0 to [`K_MAX`]: up to [`FP`] everybody has at least its buffer, beyond there is shortage.
    pub k: u64,
    /// Not even the minimums fit.
    pub over_commit: bool,
}

impl Target {
    /// The pressure, in per cent, of a VM with the default buffer and weight that no limit holds.
    ///
    /// From `s` = [`FP`] on it is [`NO_LIMIT`]. Just below, the sheet's formula gives up to 87 million, more than what follows;
    /// the reading here is that nothing shown is above [`NO_LIMIT`], so that more `k` never shows less.
    pub fn pressure(&self) -> u32 {
        let shown = match self.k.checked_sub(FP) {
            None | Some(0) => 1500 * FP / (20 * FP - 2 * self.k),
            Some(s) if s < FP => 500 * FP / (6 * (FP - s)),
            Some(_) => return NO_LIMIT,
        };
        u32::try_from(shown).map_or(NO_LIMIT, |shown| shown.min(NO_LIMIT))
    }
}

/// Finds the smallest `k` with which the goals sum up to at most `capacity`, and sets them.
pub(crate) fn search(live: &mut [Live<'_>], capacity: i128) -> Target {
    let target = find(live, capacity);
    for live in live {
        live.goal = if target.over_commit {
            live.lower
        } else {
            goal(live, target.k)
        };
    }
    target
}

fn find(live: &[Live<'_>], capacity: i128) -> Target {
    let fits = |k| sum(live, k) <= capacity;
    let found = |k| Target {
        k,
        over_commit: false,
    };
    if fits(0) {
        return found(0);
    }
    if !fits(K_MAX) {
        return Target {
            k: K_MAX,
            over_commit: true,
        };
    }
    // `short` does not fit and `enough` does.
    let (mut short, mut enough) = (0, K_MAX);
    while enough - short > 1 {
        let middle = short.midpoint(enough);
        if fits(middle) {
            enough = middle;
        } else {
            short = middle;
        }
    }
    found(enough)
}

fn sum(live: &[Live<'_>], k: u64) -> i128 {
    live.iter().map(|live| i128::from(goal(live, k))).sum()
}

/// What a VM shall have at `k`. It never rises with `k`.
#[inline]
pub(crate) fn goal(live: &Live<'_>, k: u64) -> u64 {
    let levels = live.levels;
    let wanted = match k.checked_sub(FP) {
        None | Some(0) => {
            let spare = u128::from(levels.ample - levels.buffer) * u128::from(FP - k);
            // No more than `ample`: FP − k is at most FP.
            levels.buffer + (spare / u128::from(FP)) as u64
        }
        Some(s) => below_buffer(levels.buffer, live.vm.weight, s),
    };
    live.limited(wanted)
}

/// The buffer level less its part of the shortage: `⌊n × (weight × FP − W × s) ÷ (weight × FP)⌋`, or 0.
#[inline]
fn below_buffer(buffer: u64, weight: Weight, s: u64) -> u64 {
    let whole = weight.get() * FP;
    let part = whole.saturating_sub(REFERENCE_WEIGHT * s);
    mul_div(buffer, part, whole)
}
