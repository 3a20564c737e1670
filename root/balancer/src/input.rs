//! What a round is told (section 4.1).

use crate::settings::{Buffer, Weight};
use crate::unit::Unit;

/// Who a VM is: the balancer compares names, and the lower one goes first when nothing else decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub u64);

/// Seconds, for what has never happened.
pub const LONG_AGO: u32 = u32::MAX;

/// A report older than this many seconds says nothing any more: the VM is frozen.
pub const REPORT_AGE_LIMIT: u32 = 5;

/// All that one round of one balancer knows. Sizes are in [`unit`](Self::unit), times in whole seconds. The order of the lists does not
/// matter; each id is in them once.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What sizes count.
    pub unit: Unit,
    /// The memory that this balancer deals with.
    pub node: Node,
    /// All VMs that have memory of the node.
    pub vms: &'a [Vm],
    /// VMs that wait to start on this node.
    pub starts: &'a [PendingStart],
    /// Whether this is the round, once in [`TRIM_INTERVAL`](crate::TRIM_INTERVAL) seconds, that also takes memory which nobody needs elsewhere.
    pub trim_tick: bool,
}

/// A NUMA node, or the sum of all with NUMA spanning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Machine memory.
    pub total: u64,
    /// What the host keeps ([`HostReserve`](crate::HostReserve)).
    pub reserve: u64,
    /// The sheet's *static*: the root's allowance beyond the reserve, VMs without Dynamic Memory, deposits to the hypervisor.
    pub fixed: u64,
}

impl Node {
    /// `F`: what nobody has, while all VMs together are assigned so much; negative if the host has outgrown its reserve.
    pub fn free(&self, assigned: i128) -> i128 {
        i128::from(self.total) - i128::from(self.reserve) - i128::from(self.fixed) - assigned
    }
}

/// A VM that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub id: VmId,
    /// Its share in shortage.
    pub weight: Weight,
    /// What it shall have beyond its demand.
    pub buffer: Buffer,
    /// Minimum RAM.
    pub minimum: u64,
    /// Maximum RAM.
    pub maximum: u64,
    /// Whether its guest is a 32-bit one, which never gets more than 4 GB (DM-22).
    pub is_32_bit: bool,
    /// What start and size of a hot-add are multiples of; 0 counts as 1.
    pub alignment: u64,
    /// Whether its guest gives pages away.
    pub can_balloon: bool,
    /// Whether its guest takes more than it has ever had. No more after a permanent refusal.
    pub can_hot_add: bool,
    /// What machine memory backs. Memory of an outstanding add is already in it, memory of an outstanding remove still.
    pub assigned: u64,
    /// What the guest has handed back and could get again; without a balloon that it has lost (section 2.5).
    pub ballooned: u64,
    /// `d`, the settled demand ([`Demand`](crate::Demand)).
    pub settled: u64,
    /// `a`, the smoothed demand.
    pub smoothed: u64,
    /// Whether it reports and the quiet time after its start is over.
    pub reporting: bool,
    /// Whether an operation is outstanding.
    pub in_flight: bool,
    /// Seconds since its last report.
    pub report_age: u32,
    /// Seconds since an add finished that was not partial, or [`LONG_AGO`].
    pub since_add: u32,
    /// Seconds since it gave less than it was asked for, or [`LONG_AGO`].
    pub since_refusal: u32,
    /// Seconds for which its average pressure has been low ([`Dwell`](crate::Dwell)).
    pub low_for: u32,
}

impl Vm {
    /// Whether operations may go to it. The others are frozen: their memory counts and stays.
    pub fn is_live(&self) -> bool {
        self.reporting && !self.in_flight && self.report_age <= REPORT_AGE_LIMIT
    }
}

/// A VM that waits to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingStart {
    /// Its name.
    pub id: VmId,
    /// Heavier VMs start first, and may take more from those that run (DM-09).
    pub weight: Weight,
    /// Startup RAM.
    pub startup: u64,
}
