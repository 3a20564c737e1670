//! Stats pages.

use tlfs::stats::hypervisor;
use tlfs::{
    HvCallCode, HvInputStatsPage, HvOutputMapStatsPage, HvPartitionId, HvStatsAreaType,
    HvStatsObjectIdentity, HvStatsObjectType, HvStatus,
};

use super::memory::{self, PAGE};
use super::{Root, report};

/// Input of the calls.
pub fn object(stats_type: HvStatsObjectType, identity: HvStatsObjectIdentity) -> HvInputStatsPage {
    HvInputStatsPage {
        stats_type,
        padding: 0,
        identity,
    }
}

/// The hypervisor's own page.
pub fn of_hypervisor() -> HvInputStatsPage {
    object(
        HvStatsObjectType::HYPERVISOR,
        HvStatsObjectIdentity::hypervisor(HvStatsAreaType::SELF),
    )
}

/// MapStatsPage, paid from the root's pool; the page's physical address.
pub fn map(root: &mut Root, input: &HvInputStatsPage) -> u64 {
    let output: HvOutputMapStatsPage = root.pay(HvPartitionId::SELF, "MapStatsPage", |calls| {
        calls.ask(HvCallCode::MAP_STATS_PAGE, input)
    });
    output.map_location * PAGE
}

/// UnmapStatsPage, which must succeed.
#[track_caller]
pub fn unmap(root: &Root, input: &HvInputStatsPage) {
    let status = root.calls.order(HvCallCode::UNMAP_STATS_PAGE, input);
    report::status(status, HvStatus::SUCCESS, "UnmapStatsPage");
}

/// What must be the same before and after: pages and objects of the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Partitions.
    pub partitions: u64,
    /// VPs.
    pub vps: u64,
    /// Pages.
    pub pages: u64,
    /// Pages of the root's pool, unused and in use.
    pub own: u64,
    /// Frames that the root has given away.
    pub frames: u64,
}

impl Holdings {
    /// Looks, with everything unused withdrawn from the root's pool. The page of counters is unmapped again.
    pub fn look(root: &mut Root) -> Self {
        let input = of_hypervisor();
        let page = map(root, &input);
        let counter = |index: u32| memory::read(page + 8 * u64::from(index));
        let partitions = counter(hypervisor::PARTITIONS);
        let vps = counter(hypervisor::VIRTUAL_PROCESSORS);
        let pages = counter(hypervisor::TOTAL_PAGES);
        unmap(root, &input);
        root.withdraw_all(HvPartitionId::SELF);
        let own = root.balance(HvPartitionId::SELF);
        Self {
            partitions,
            vps,
            pages,
            own: own.pages_available + own.pages_in_use,
            frames: root.memory.used(),
        }
    }
}
