//! Demand and pressure, and what a row of status reports makes of them (sections 4.3 and 4.8).

use crate::math::mul_div;

/// What the guest needs: `max(0, committed − ballooned)`. The guest counts its balloon as committed, so neither number alone
/// says it (trap T1). A balloon that a former driver instance has lost (section 2.5) is not in `ballooned` here.
pub const fn demand(committed: u64, ballooned: u64) -> u64 {
    committed.saturating_sub(ballooned)
}

/// `⌊100 × demand ÷ assigned⌋` per cent; 0 of a VM that has nothing. Above 100 the guest may be paging (DM-03).
pub fn pressure(demand: u64, assigned: u64) -> u64 {
    if assigned == 0 {
        return 0;
    }
    mul_div(demand, 100, assigned)
}

/// What Linux's driver leaves available in a guest with `memory`, and adds to what it reports as committed (section 1.9). Both in MiB.
pub const fn linux_floor(memory: u64) -> u64 {
    match memory {
        0..128 => 8 + memory / 2,
        128..512 => 40 + memory / 4,
        512..2048 => 104 + memory / 8,
        2048..8192 => 232 + memory / 16,
        _ => 488 + memory / 32,
    }
}

/// The demands that one guest reported, as the balancer looks at them. Give it only reports that came while no operation was
/// outstanding (section 2.3): others may contain pages that are not counted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand(Option<Reported>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reported {
    /// Newest first.
    last: [u64; 3],
    smoothed: u64,
}

impl Demand {
    /// A report arrived. The smoothed demand follows the settled one, a report that is a spike touches neither.
    ///
    /// The sheet calls both inputs `d`. That it is the settled demand shows in its B15: a jump that has just settled has
    /// moved the average by one step only (500 to 625).
    pub fn report(&mut self, demand: u64) {
        let reported = match self.0 {
            None => Reported {
                last: [demand; 3],
                smoothed: demand,
            },
            Some(Reported {
                last: [newest, before, _],
                smoothed,
            }) => {
                let last = [demand, newest, before];
                let smoothed = smooth(smoothed, settled(last));
                Reported { last, smoothed }
            }
        };
        self.0 = Some(reported);
    }

    /// Whether the guest has reported at all.
    pub const fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The demand of the newest report, for the counter *Current Pressure*; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.0.map_or(
            0,
            |Reported {
                 last: [newest, ..], ..
             }| newest,
        )
    }

    /// Settled demand: the lowest of the last three reports, because a spike of a second must not cause a hot-add, which
    /// cannot be undone (trap T32). With fewer reports the lowest of them; 0 before the first.
    pub fn settled(&self) -> u64 {
        self.0.map_or(0, |reported| settled(reported.last))
    }

    /// Smoothed demand: an eighth of the way to the settled one with each report; 0 before the first.
    pub fn smoothed(&self) -> u64 {
        self.0.map_or(0, |reported| reported.smoothed)
    }
}

fn settled([first, second, third]: [u64; 3]) -> u64 {
    first.min(second).min(third)
}

/// `a + ((d − a) >> 3)`, the shift arithmetic: up it stops 7 short, down it arrives.
pub(crate) const fn smooth(a: u64, d: u64) -> u64 {
    if d >= a {
        a + (d - a) / 8
    } else {
        a - (a - d).div_ceil(8)
    }
}
