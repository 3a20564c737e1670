//! From two looks at a counter to what happens in a second.

use tlfs::stats::vp;

use crate::counters::{Object, Whose, get};
use crate::host::Host;
use crate::life::SECOND;

/// A share in tenths of a percent.
pub type PerMille = u64;

/// What share `part` is of `whole`.
pub fn per_mille(part: u64, whole: u64) -> PerMille {
    if whole == 0 {
        return 0;
    }
    let share = u128::from(part) * 1000 / u128::from(whole);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// How many there are in a second, if there were `count` within `time`, 100 ns.
pub fn per_second(count: u64, time: u64) -> u64 {
    if time == 0 {
        return 0;
    }
    let rate = u128::from(count) * u128::from(SECOND) / u128::from(time);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// How long the VPs have run so far, all together, 100 ns.
pub fn run_time(host: &impl Host, whose: Whose) -> u64 {
    let mut time = 0u64;
    host.counters(whose, &mut |object, page| {
        if matches!(object, Object::VirtualProcessor(_)) {
            time = time.saturating_add(get(page, vp::TOTAL_RUN_TIME));
        }
    });
    time
}

/// What a VM had used when somebody looked: the figure of `vm list` is what it has used since then.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuLook {
    time: u64,
    used: u64,
    shown: Option<PerMille>,
}

impl CpuLook {
    /// Nothing is used yet.
    pub fn at_start(now: u64) -> Self {
        Self {
            time: now,
            ..Self::default()
        }
    }

    /// The share of one processor that was used since the last look, or since the start; a look less than a second after
    /// the last one sees what that saw. `None` if no time has passed.
    pub fn look(&mut self, now: u64, used: u64) -> Option<PerMille> {
        let time = now.saturating_sub(self.time);
        if time >= SECOND || self.shown.is_none() && time > 0 {
            let share = per_mille(used.saturating_sub(self.used), time);
            *self = Self {
                time: now,
                used,
                shown: Some(share),
            };
        }
        self.shown
    }
}
