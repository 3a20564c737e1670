//! For how long a VM has held far too much (section 4.1, `low_for`).

use crate::pressure::pressure;
use crate::trim::TRIM_PRESSURE;

/// Remembers since when a VM's average pressure is at the trim threshold or below. The moments are the caller's, in whatever unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dwell {
    since: Option<u64>,
}

impl Dwell {
    /// At `now` the VM has these numbers, in whatever unit. What happens between two calls is not seen. A clock that goes
    /// backwards starts the count anew.
    pub fn note(&mut self, now: u64, smoothed: u64, assigned: u64) {
        let is_low = pressure(smoothed, assigned) <= TRIM_PRESSURE;
        let since = self.since.filter(|since| *since <= now).unwrap_or(now);
        self.since = is_low.then_some(since);
    }

    /// How long the pressure has been low at `now`, in the unit of the moments; 0 if it is not.
    pub fn low_for(&self, now: u64) -> u64 {
        self.since.map_or(0, |since| now.saturating_sub(since))
    }
}
