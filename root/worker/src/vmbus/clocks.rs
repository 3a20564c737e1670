//! The wall clock beside the guest's reference counter.

use tlfs::HvPartitionPropertyCode as Property;
use utilities::{Clocks, SECOND};

use crate::setup::get_property;
use crate::system::System;

/// From 1601-01-01 to 1970-01-01, in seconds.
const EPOCH_1601: u64 = 11_644_473_600;

/// What is needed to know both clocks at any time. The machine's clock counts seconds: what it showed once is remembered with
/// the reference time of that moment, so later readings are as fine as that.
#[derive(Clone, Copy, Debug)]
pub struct ClockPair {
    /// 100 ns since 1601 at reference time 0.
    wall: u64,
    /// The reference time at which the guest's counter was 0, in case that it cannot be read.
    created: u64,
}

impl ClockPair {
    /// Looks at both clocks. The partition has just been made.
    pub fn new<S: System>(system: &mut S) -> Self {
        let seconds = u64::try_from(system.wall_clock()).unwrap_or_default();
        let now = system.reference_time();
        let wall = seconds.saturating_add(EPOCH_1601).saturating_mul(SECOND);
        let counter = counter(system).unwrap_or_default();
        Self {
            wall: wall.saturating_sub(now),
            created: now.saturating_sub(counter),
        }
    }

    /// Both clocks, one right after the other.
    pub fn read<S: System>(&self, system: &mut S) -> Clocks {
        let reference = counter(system);
        let now = system.reference_time();
        Clocks {
            wall: self.wall.saturating_add(now),
            reference: reference.unwrap_or_else(|| now.saturating_sub(self.created)),
        }
    }
}

/// The partition's reference counter, which stands still when the partition does (root sheet D.1).
fn counter<S: System>(system: &mut S) -> Option<u64> {
    get_property(system, Property::REFERENCE_TIME)
}
