//! The longest stretch of the hypervisor with interrupts off, for `cargo xtask bench`.
//!
//! Only with the feature `section-meter`, which the image has not: without it, all of this is nothing. A stretch begins when
//! a guest is left, and behind a window for interrupts; it ends when a guest is entered, and before such a window.

/// Behind a window for interrupts, or an idle processor's: beyond any exit code of a vendor.
pub const AFTER_WINDOW: u64 = 1 << 32;

/// A stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Ticks of the TSC.
    pub ticks: u64,
    /// Exit code of the vendor, or [`AFTER_WINDOW`].
    pub exit: u64,
    /// RCX at the exit: a hypercall's control word, an MSR's number.
    pub rcx: u64,
}

/// The longest stretch of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    #[cfg(feature = "section-meter")]
    meter: Meter,
}

impl Section {
    /// A stretch begins; `of` gives exit code and RCX.
    #[inline(always)]
    pub fn begin(&mut self, of: impl FnOnce() -> (u64, u64)) {
        #[cfg(feature = "section-meter")]
        self.meter.begin(crate::cpu::tsc(), of());
        #[cfg(not(feature = "section-meter"))]
        let _ = of;
    }

    /// It ends.
    #[inline(always)]
    pub fn end(&mut self) {
        #[cfg(feature = "section-meter")]
        self.meter.end(crate::cpu::tsc());
    }

    /// The longest; zeros without the feature.
    pub fn longest(&self) -> Stretch {
        #[cfg(feature = "section-meter")]
        return self.meter.longest;
        #[cfg(not(feature = "section-meter"))]
        Stretch::default()
    }
}

#[cfg(any(test, feature = "section-meter"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Meter {
    /// The stretch under way, with the time of its beginning in place of its length.
    since: Option<Stretch>,
    longest: Stretch,
}

#[cfg(any(test, feature = "section-meter"))]
impl Meter {
    fn begin(&mut self, now: u64, (exit, rcx): (u64, u64)) {
        self.since = Some(Stretch {
            ticks: now,
            exit,
            rcx,
        });
    }

    fn end(&mut self, now: u64) {
        // Before the first guest there is none.
        let Some(begun) = self.since.take() else {
            return;
        };
        let ticks = now.saturating_sub(begun.ticks);
        if ticks > self.longest.ticks {
            self.longest = Stretch { ticks, ..begun };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER_WINDOW, Meter, Stretch};

    #[test]
    fn the_longest_stretch_is_kept_with_what_began_it() {
        let mut meter = Meter::default();
        meter.end(1_000_000);
        assert_eq!(meter.longest, Stretch::default());
        for (start, end, of) in [
            (10, 20, (0x72, 1)),
            (30, 90, (0x81, 0x4B)),
            (95, 99, (AFTER_WINDOW, 0)),
        ] {
            meter.begin(start, of);
            meter.end(end);
        }
        let longest = Stretch {
            ticks: 60,
            exit: 0x81,
            rcx: 0x4B,
        };
        assert_eq!(meter.longest, longest);
    }
}
