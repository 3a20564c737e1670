//! For how long a VM has held far too much (section 4.1, `low_for`).

use crate::pressure::pressure;
use crate::trim::TRIM_PRESSURE;

/// Remembers since when a VM's average pressure is at the trim threshold or below. The moments are the caller's, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dwell {
    since: Option<u64>,
}

impl Dwell {
    /// At `now` the VM has these numbers, in whatever unit; returns the seconds since the pressure came down. Call it once a
    /// round: what happens between two calls is not seen. A clock that goes backwards starts the count anew.
    pub fn low_for(&mut self, now: u64, smoothed: u64, assigned: u64) -> u32 {
        if pressure(smoothed, assigned) > TRIM_PRESSURE {
            self.since = None;
            return 0;
        }
        let since = self.since.filter(|since| *since <= now).unwrap_or(now);
        self.since = Some(since);
        u32::try_from(now - since).unwrap_or(u32::MAX)
    }
}
