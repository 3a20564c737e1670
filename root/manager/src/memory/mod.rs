//! Dynamic Memory: once a second the balancer is asked who is to get and who to give, and its orders go to the workers.
//!
//! | Where | What |
//! |---|---|
//! | `told` | one VM: what its worker tells, and what has been ordered |
//! | `scope` | what one balancer balances: the machine, or a NUMA node |
//! | `look` | the machine, or a node: whose its memory is |
//! | `round` | a round, and its orders |
//! | `starts` | VMs that want to start: at once, when memory is free, or not |
//! | `queue` | those that wait, and what is set aside for them |
//! | `alerts` | what an administrator should know without asking |
//! | `counters` | the performance counters |
//! | `table`, `watch` | what `mem` and `mem --watch` show |
//!
//! There are rounds only while there is somebody to balance: a VM with Dynamic Memory that has a worker, or one that waits. What
//! a round is about, the machine or a node, is a [`scope::Scope`].
//!
//! Section numbers, rules (DM-), traps (T) and vectors named in comments are those of the sheet of Dynamic Memory.

mod alerts;
pub mod counters;
mod look;
mod queue;
mod round;
mod scope;
mod starts;
mod table;
mod told;
mod watch;

#[cfg(test)]
pub(crate) use scope::Scope;
pub(crate) use starts::Admission;
pub use told::VmMemory;
pub(crate) use told::{BOOT_TIME, QUIET_TIME};
pub use watch::Watch;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::TryFromIntError;

use balancer::HostReserve;

use crate::host::VmId;
use crate::life::SECOND;

/// Bytes of a page: what sizes in news and orders count.
pub const PAGE: u64 = 4096;
/// From one round to the next, 100 ns.
pub const PERIOD: u64 = SECOND;

/// Bytes as pages.
pub fn pages(bytes: u64) -> u64 {
    bytes / PAGE
}

/// Pages as MiB.
pub fn mib(pages: u64) -> u64 {
    pages / 256
}

impl From<VmId> for balancer::VmId {
    fn from(id: VmId) -> Self {
        Self(id.0.into())
    }
}

impl TryFrom<balancer::VmId> for VmId {
    type Error = TryFromIntError;

    fn try_from(id: balancer::VmId) -> Result<Self, Self::Error> {
        u16::try_from(id.0).map(Self)
    }
}

/// What the manager remembers from round to round, beside what it does of each VM.
#[derive(Clone, Debug, Default)]
pub struct Balancing {
    /// What the host keeps for itself.
    pub reserve: HostReserve,
    /// When the next round is, reference time.
    due: u64,
    /// Which [`balancer::TRIM_INTERVAL`] since the root started the last round was in.
    interval: u64,
    /// What the last rounds found, of each balancer; empty if there are none that still hold.
    figures: Vec<(scope::Scope, counters::Figures)>,
    alerts: BTreeMap<scope::Scope, alerts::Alerts>,
}
