//! What the host keeps for itself (section 4.3, DM-19).

use crate::math::{mul_div, mul_div_up};

/// How much memory no VM gets, in MiB: for the root, its caches and the hypervisor's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostReserve {
    /// MiB whatever the machine has.
    pub base: u64,
    /// MiB for each GiB of the machine.
    pub per_gib: u64,
    /// MiB on top of that (DM-20).
    pub extra: u64,
}

impl Default for HostReserve {
    fn default() -> Self {
        Self {
            base: 400,
            per_gib: 30,
            extra: 0,
        }
    }
}

impl HostReserve {
    /// MiB of a machine with `total` MiB.
    pub fn of_machine(&self, total: u64) -> u64 {
        self.base
            .saturating_add(mul_div(total, self.per_gib, 1024))
            .saturating_add(self.extra)
    }

    /// MiB of a node with `node` of the machine's `total` MiB: its share of the machine's reserve, not a reserve of its own
    /// (trap T36).
    pub fn of_node(&self, node: u64, total: u64) -> u64 {
        mul_div_up(self.of_machine(total), node, total)
    }
}
