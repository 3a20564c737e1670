//! Counters of the hypervisor, read from its stats pages.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use root_kernel::addr::Pfn;
use root_kernel::frames::Slot;
use root_kernel::hv::{Hv, Retry, simple};
use tlfs::stats::{CounterName, hypervisor, logical_processor, partita, partition, vp};
use tlfs::{
    HvCallCode, HvInputStatsPage, HvOutputMapStatsPage, HvPartitionId, HvStatsAreaType,
    HvStatsObjectIdentity, HvStatsObjectType, HvVpIndex,
};

use super::heap;
use super::hypervisor::{Metal, own_id};
use super::memory::{self, FRAMES};

/// A counter's full name and value.
pub type Value = (String, u64);

/// Counters of the machine: hypervisor, first logical processor, the root's partition and VP.
pub fn machine() -> Vec<Value> {
    let area = HvStatsAreaType::SELF;
    let root = own_id();
    let objects = [
        (
            HvStatsObjectType::HYPERVISOR,
            HvStatsObjectIdentity::hypervisor(area),
            hypervisor::COUNTERS,
        ),
        (
            HvStatsObjectType::LOGICAL_PROCESSOR,
            HvStatsObjectIdentity::logical_processor(0, area),
            logical_processor::COUNTERS,
        ),
        (
            HvStatsObjectType::LOGICAL_PROCESSOR,
            HvStatsObjectIdentity::logical_processor(0, area),
            partita::COUNTERS,
        ),
        (
            HvStatsObjectType::PARTITION,
            HvStatsObjectIdentity::partition(root, area),
            partition::COUNTERS,
        ),
        (
            HvStatsObjectType::VP,
            HvStatsObjectIdentity::vp(root, HvVpIndex(0), area),
            vp::COUNTERS,
        ),
    ];
    let mut values = Vec::new();
    for (stats_type, identity, names) in objects {
        read_object(
            &HvInputStatsPage {
                stats_type,
                padding: 0,
                identity,
            },
            names,
            &mut values,
        );
    }
    values
}

/// Counters of a child: its partition, and its VPs by the pages that are mapped already.
pub fn child(id: HvPartitionId, vps: &[(u32, Pfn)]) -> Vec<Value> {
    let identity = HvStatsObjectIdentity::partition(id, HvStatsAreaType::SELF);
    let object = HvInputStatsPage {
        stats_type: HvStatsObjectType::PARTITION,
        padding: 0,
        identity,
    };
    let mut values = Vec::new();
    read_object(&object, partition::COUNTERS, &mut values);
    for (index, page) in vps {
        read_page(*page, &format!("VP {index} "), vp::COUNTERS, &mut values);
    }
    values
}

/// Pages that the hypervisor keeps for itself, as far as it says.
pub fn hypervisor_pages() -> u64 {
    let identity = HvStatsObjectIdentity::hypervisor(HvStatsAreaType::SELF);
    let object = HvInputStatsPage {
        stats_type: HvStatsObjectType::HYPERVISOR,
        padding: 0,
        identity,
    };
    with_page(&object, |page| counter(page, hypervisor::TOTAL_PAGES)).unwrap_or_default()
}

fn read_object(object: &HvInputStatsPage, names: &[CounterName], values: &mut Vec<Value>) {
    // An object whose page is refused has no counters to show.
    with_page(object, |page| read_page(page, "", names, values));
}

/// Maps an object's page for as long as `work` takes.
fn with_page<R>(object: &HvInputStatsPage, work: impl FnOnce(Pfn) -> R) -> Option<R> {
    heap::replenish();
    let mapped = FRAMES.with(|frames| {
        let mut hv = Hv {
            calls: &mut Metal,
            frames,
        };
        hv.paid::<_, HvOutputMapStatsPage>(HvCallCode::MAP_STATS_PAGE, Retry::ROOT, object)
    });
    let page = Pfn(mapped.ok()?.map_location);
    let result = work(page);
    // What cannot be unmapped stays mapped: the page is read only, and the hypervisor's.
    let _ = simple::<_, [u8; 0]>(&mut Metal, HvCallCode::UNMAP_STATS_PAGE, object);
    // A deposit that the page cost comes back.
    let _ = FRAMES.with(|frames| {
        Hv {
            calls: &mut Metal,
            frames,
        }
        .withdraw(HvPartitionId::SELF, Slot::KERNEL)
    });
    Some(result)
}

/// Values that are not zero.
fn read_page(page: Pfn, prefix: &str, names: &[CounterName], values: &mut Vec<Value>) {
    for (index, name, _) in names {
        let value = counter(page, *index);
        if value != 0 {
            values.push((format!("{prefix}{name}"), value));
        }
    }
}

fn counter(page: Pfn, index: u32) -> u64 {
    let mut bytes = [0; 8];
    memory::read_frame(page, index as usize * 8, &mut bytes);
    u64::from_le_bytes(bytes)
}
