//! Counters of the hypervisor: its stats pages, and how the manager sees them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use manager::VmId;
use manager::counters::{Object, Page, Whose};
use root_kernel::addr::Pfn;
use root_kernel::frames::Slot;
use root_kernel::hv::{Hv, Retry, simple};
use tlfs::stats::hypervisor;
use tlfs::{
    HV_STATS_COUNTERS_PER_PAGE, HvCallCode, HvInputStatsPage, HvOutputMapStatsPage, HvPartitionId,
    HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvVpIndex,
};
use zerocopy::IntoBytes;

use super::cell::Global;
use super::heap;
use super::hypervisor::{Metal, own_id};
use super::memory::{self, FRAMES};
use super::process::TABLE;

/// A page that is mapped.
type Mapped = (Object, Pfn);

/// Pages that stay mapped: of each logical processor, and of the root's partition and VPs. A child's are its partition's.
static PAGES: Global<(Vec<Mapped>, Vec<Mapped>)> = Global::new((Vec::new(), Vec::new()));

/// Maps the pages that stay. What is refused has no counters to show.
pub fn init() {
    let area = HvStatsAreaType::SELF;
    let processors = with_hypervisor(|page| counter(page, hypervisor::LOGICAL_PROCESSORS));
    let processors = u32::try_from(processors.unwrap_or(0)).unwrap_or(0);
    let logical = |index| {
        let identity = HvStatsObjectIdentity::logical_processor(index, area);
        let page = map(&input(HvStatsObjectType::LOGICAL_PROCESSOR, identity))?;
        Some((Object::LogicalProcessor(index), page))
    };
    let partition = HvStatsObjectIdentity::partition(own_id(), area);
    let partition = map(&input(HvStatsObjectType::PARTITION, partition));
    // The root has a VP for each processor.
    let vp = |index| {
        let identity = HvStatsObjectIdentity::vp(own_id(), HvVpIndex(index), area);
        let page = map(&input(HvStatsObjectType::VP, identity))?;
        Some((Object::VirtualProcessor(index), page))
    };
    let machine = (0..processors).filter_map(logical).collect();
    let root = partition.map(|page| (Object::Partition, page));
    let root = root.into_iter().chain((0..processors).filter_map(vp));
    PAGES.set((machine, root.collect()));
}

/// Shows the pages of `whose`.
pub fn show(whose: Whose, look: &mut dyn FnMut(Object, &Page)) {
    let mut copy = Box::new([0; HV_STATS_COUNTERS_PER_PAGE]);
    let mut show = |object, page| {
        // One that is not RAM of the root is mapped first.
        if memory::map_provided(page).is_ok() {
            memory::read_frame(page, 0, copy.as_mut_bytes());
            look(object, &copy);
        }
    };
    // Mapping a page brings what the hypervisor keeps elsewhere into the pages of this processor.
    let pages = match whose {
        Whose::Machine => {
            with_hypervisor(|page| show(Object::Hypervisor, page));
            PAGES.with(|(machine, _)| machine.clone())
        }
        Whose::Root => PAGES.with(|(_, root)| root.clone()),
        Whose::Vm(vm) => {
            let (id, pages) = child(vm).unwrap_or((HvPartitionId::INVALID, Vec::new()));
            for (object, _) in &pages {
                if let Object::VirtualProcessor(index) = object {
                    bring_up_to_date(id, *index);
                }
            }
            pages
        }
    };
    for (object, page) in pages {
        show(object, page);
    }
}

/// Lets the hypervisor bring the page of a child's VP up to date: one that runs on another processor, and leaves its guest
/// for nothing, has the figures of its last exit there. Whoever asks for the page makes it exit, also one who has the page
/// already, and is refused for that. (So would GetVpRegisters, but that takes over what a worker is about to change.)
fn bring_up_to_date(partition: HvPartitionId, vp: u32) {
    let identity = HvStatsObjectIdentity::vp(partition, HvVpIndex(vp), HvStatsAreaType::SELF);
    let object = input(HvStatsObjectType::VP, identity);
    let _ = simple::<_, HvOutputMapStatsPage>(&mut Metal, HvCallCode::MAP_STATS_PAGE, &object);
}

/// The partition of a VM, and its pages.
fn child(vm: VmId) -> Option<(HvPartitionId, Vec<Mapped>)> {
    TABLE.with(|table| {
        let partition = table.partition_of(vm.0)?;
        let own = partition.stats_page().map(|page| (Object::Partition, page));
        let vps = partition.vps();
        let vps = vps.map(|(index, pages)| (Object::VirtualProcessor(index), pages.stats));
        Some((partition.id(), own.into_iter().chain(vps).collect()))
    })
}

/// Pages that the hypervisor keeps for itself, as far as it says.
pub fn hypervisor_pages() -> u64 {
    with_hypervisor(|page| counter(page, hypervisor::TOTAL_PAGES)).unwrap_or_default()
}

fn input(stats_type: HvStatsObjectType, identity: HvStatsObjectIdentity) -> HvInputStatsPage {
    HvInputStatsPage {
        stats_type,
        padding: 0,
        identity,
    }
}

fn map(object: &HvInputStatsPage) -> Option<Pfn> {
    heap::replenish();
    let mapped = FRAMES.with(|frames| {
        let mut hv = Hv {
            calls: &mut Metal,
            frames,
        };
        hv.paid::<_, HvOutputMapStatsPage>(HvCallCode::MAP_STATS_PAGE, Retry::ROOT, object)
    });
    Some(Pfn(mapped.ok()?.map_location))
}

/// Maps the hypervisor's own page for as long as `work` takes.
fn with_hypervisor<R>(work: impl FnOnce(Pfn) -> R) -> Option<R> {
    let identity = HvStatsObjectIdentity::hypervisor(HvStatsAreaType::SELF);
    let object = input(HvStatsObjectType::HYPERVISOR, identity);
    let result = work(map(&object)?);
    // What cannot be unmapped stays mapped: the page is read only, and the hypervisor's.
    let _ = simple::<_, [u8; 0]>(&mut Metal, HvCallCode::UNMAP_STATS_PAGE, &object);
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

fn counter(page: Pfn, index: u32) -> u64 {
    let mut bytes = [0; 8];
    if memory::map_provided(page).is_ok() {
        memory::read_frame(page, index as usize * 8, &mut bytes);
    }
    u64::from_le_bytes(bytes)
}
