//! A small machine in host memory for tests: a root partition with a VP, and children with memory and VPs.
//!
//! Everything is what it is on a real machine but the guests, which do not run. Objects that live for ever there are
//! leaked here. Whatever looks at the hardware half of a VP is tested on [each](Machine::each) vendor's machine.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

use spin::Mutex;
use tlfs::{HvPartitionCreationFlags, HvPartitionId, HvPartitionPrivilegeMask, HvVpIndex};

use super::{Hypervisor, ROOT_ID, RootPages};
use crate::arch::VcpuKind;
use crate::arch::cpuid::{CpuidResult, CpuidSource};
use crate::arch::fpu::FpuFormat;
use crate::arch::maps::PermissionMaps;
use crate::arch::msr::MsrSource;
use crate::arch::page::HwPages;
use crate::arch::testing::Vendor;
use crate::cpu::apic::LocalApic;
use crate::event_log::EventLog;
use crate::intercept::{PORT_MAP_PAGES, PortMap};
use crate::lp::{LogicalProcessor, Mailbox, Residents, RootVpPages, RunClock};
use crate::mem::addr::{Gpa, Gpfn, PAGE_SIZE, Spa, Spfn};
use crate::mem::format::{LeafSize, MemoryType, Rights, SecondLevel};
use crate::mem::frames::{ChildSource, FrameEntry, FrameTable, PartitionSlot, RootSource, Slot};
use crate::mem::mtrr::Mtrrs;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::table::SecondLevelTable;
use crate::mem::testing::TestMemory;
use crate::mem::tlb::CpuMark;
use crate::partition::memory::Mapping;
use crate::partition::overlay::Overlays;
use crate::partition::table::{PartitionTable, VpPlace, slot_of};
use crate::partition::vp_pages::VpPages;
use crate::partition::{MAX_PARTITIONS, Partition, PartitionState, Vp, VpRef};
use crate::sched::Reserves;
use crate::stats::StatsPage;
use crate::synic::{EventFlagsPage, MessagePage};
use crate::time::{RefTime, ReferenceClock, ReferenceTscPage, TscAgreement, TscScale};

/// Size of the machine.
const MEBIBYTES: usize = 16;
/// Frames of the machine.
pub const FRAMES: u64 = (MEBIBYTES as u64) << 8;
/// Frames from 0 on that are the hypervisor's.
pub const HYPERVISOR_FRAMES: u64 = 512;
/// Frames of those in reserve.
const RESERVE: u64 = 256;
/// Bits of a physical address.
const PHYSICAL_BITS: u8 = 48;
/// TSC ticks a second.
const TSC_HZ: u64 = 2_000_000_000;

/// How a child is made as Linux makes one: device model in the root, intercept pages, local APICs, large leaves.
pub const LINUX_CHILD: HvPartitionCreationFlags = HvPartitionCreationFlags::EXO_PARTITION
    .union(HvPartitionCreationFlags::INTERCEPT_MESSAGE_PAGE_ENABLED)
    .union(HvPartitionCreationFlags::GPA_SUPER_PAGES_ENABLED)
    .union(HvPartitionCreationFlags::LAPIC_ENABLED)
    .union(HvPartitionCreationFlags::X2APIC_CAPABLE);
/// Pages of memory that [`Machine::child`] gives, from GPA 0 on.
pub const CHILD_PAGES: u64 = 512;
/// Pages that [`Machine::child`] deposits.
pub const CHILD_POOL: u64 = 64;

/// The machine.
pub struct Machine {
    hypervisor: Box<Hypervisor>,
    // Behind the hypervisor, which uses it.
    _memory: TestMemory,
    next_root_frame: u64,
    next_slot: u16,
}

impl Deref for Machine {
    type Target = Hypervisor;

    fn deref(&self) -> &Hypervisor {
        &self.hypervisor
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A machine for what is the same on every vendor's.
    pub fn new() -> Self {
        Self::of(Vendor::Amd)
    }

    /// A machine of each vendor, one after the other.
    pub fn each() -> impl Iterator<Item = Self> {
        Vendor::each().map(Self::of)
    }

    /// One processor, 16 MiB, all but the lowest 2 MiB the root's. The root partition has VP 0, at rest.
    pub fn of(vendor: Vendor) -> Self {
        let memory = TestMemory::new(MEBIBYTES);
        let mut machine = Self {
            hypervisor: Box::new(hypervisor(&memory, vendor)),
            _memory: memory,
            next_root_frame: HYPERVISOR_FRAMES,
            next_slot: 1,
        };
        machine.add_root();
        machine
    }

    /// The format of children's tables from now on, whatever the processor would need.
    pub fn set_child_format(&mut self, format: SecondLevel) {
        self.hypervisor.child_format = format;
    }

    fn add_root(&mut self) {
        let hv = &*self.hypervisor;
        let stats = self.in_reserve(StatsPage::new());
        let mut root = Partition::new(
            ROOT_ID,
            PartitionSlot::ROOT,
            HvPartitionCreationFlags::empty(),
            HvPartitionPrivilegeMask(u64::MAX),
            stats,
        );
        root.state = PartitionState::Active;
        let mut frames = hv.frames.lock();
        let format = hv.capabilities.second_level(
            VcpuKind::Root,
            PHYSICAL_BITS,
            PHYSICAL_BITS,
            LeafSize::Size1G,
        );
        let mut source = RootSource(&mut frames);
        let mut table = SecondLevelTable::new(format, hv.phys, &mut source).expect("reserve");
        let ram = (Spfn(HYPERVISOR_FRAMES), FRAMES - HYPERVISOR_FRAMES);
        table
            .map_as_it_is(&mut source, hv.memory_types.as_ref(), ram, Rights::RWX)
            .expect("reserve");
        drop(frames);
        root.memory = Some(table);
        let pages = VpPages {
            control: self.reserve_frame(),
            fpu: self.reserve_frame(),
            registers: self.reserve_frame(),
            intercept: self.reserve_frame(),
            stats: self.reserve_frame(),
            object: self.reserve_frame(),
            synic: self.reserve_frame(),
            overlays: None,
        };
        let vp = Vp::new(hv, &mut root, 0, pages).expect("the root has memory");
        self.settle(vp);
        root.vp_count = 1;
        let root = self.in_reserve(root);
        let place = hv.partitions.entry(PartitionSlot::ROOT).claim();
        place.expect("nobody is there").put(root, RefTime::ZERO);
    }

    fn reserve_frame(&self) -> Frame {
        reserve_frame(&self.hypervisor)
    }

    fn in_reserve<T>(&self, value: T) -> PageBox<T> {
        boxed(&self.hypervisor, self.reserve_frame(), value)
    }

    /// The machine, which lives for ever then.
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// Takes `pages` pages of the root's that nobody has used yet. They stay the root's.
    ///
    /// # Panics
    /// When there are no more.
    pub fn root_pages_unused(&mut self, pages: u64) -> Spfn {
        let first = self.next_root_frame;
        self.next_root_frame += pages;
        assert!(self.next_root_frame <= FRAMES, "the machine is too small");
        Spfn(first)
    }

    /// A partition that is created and not initialized, with `pool` pages in its pool besides those it needed.
    pub fn uninitialized(&mut self, flags: HvPartitionCreationFlags, pool: u64) -> HvPartitionId {
        let slot = PartitionSlot(self.next_slot);
        self.next_slot += 1;
        self.deposit(slot, pool + 2);
        let hv = &*self.hypervisor;
        let id = hv.new_id(slot);
        let stats = hv.place(slot, StatsPage::new()).expect("deposited");
        let child = Partition::new(id, slot, flags, hv.all_child_privileges(), stats);
        let child = hv.place(slot, child).expect("deposited");
        let place = hv.partitions.entry(slot).claim();
        place.expect("nobody is there").put(child, hv.now());
        id
    }

    /// Deposits pages of the root's.
    pub fn deposit(&mut self, slot: PartitionSlot, pages: u64) {
        let Spfn(first) = self.root_pages_unused(pages);
        let list: Vec<Spfn> = (first..first + pages).map(Spfn).collect();
        let hv = &*self.hypervisor;
        hv.set_root_rights(Spfn(first), pages, None)
            .expect("reserve");
        hv.frames.lock().deposit(slot, &list).expect("the root's");
    }

    /// A child as Linux makes it: initialized, [`CHILD_PAGES`] pages of zeroed memory from GPA 0 on, and what is left of
    /// [`CHILD_POOL`] pages.
    pub fn child(&mut self) -> HvPartitionId {
        self.child_with(LINUX_CHILD)
    }

    /// The same with other flags.
    pub fn child_with(&mut self, flags: HvPartitionCreationFlags) -> HvPartitionId {
        let id = self.uninitialized(flags, CHILD_POOL);
        self.initialize(id);
        self.map(id, Gpfn(0), CHILD_PAGES, Rights::RWX);
        id
    }

    /// Makes an uninitialized partition active.
    pub fn initialize(&self, id: HvPartitionId) {
        let hv = &*self.hypervisor;
        let mut child = hv.partitions.lookup(id).expect("exists");
        let slot = child.slot;
        let table = {
            let mut frames = hv.frames.lock();
            let mut source = ChildSource {
                frames: &mut frames,
                slot,
            };
            SecondLevelTable::new(hv.child_format, hv.phys, &mut source).expect("deposited")
        };
        child.memory = Some(table);
        child.overlays = Overlays::new(hv, slot).expect("deposited");
        let ports = [(); PORT_MAP_PAGES].map(|()| hv.allocate(slot).expect("deposited"));
        child.intercepts.ports = Some(PortMap::new(hv.phys, ports));
        child.state = PartitionState::Active;
    }

    /// Maps unused pages of the root's into a child.
    pub fn map(&mut self, id: HvPartitionId, first: Gpfn, pages: u64, rights: Rights) -> Spfn {
        let source = self.root_pages_unused(pages);
        let mapping = Mapping {
            source: Some(source),
            rights,
            memory_type: MemoryType::WriteBack,
        };
        let mut child = self.partitions.lookup(id).expect("exists");
        self.hypervisor
            .map_child(&mut child, first, pages, &mapping)
            .expect("deposited");
        source
    }

    /// Creates a VP, at rest, from the partition's pool.
    pub fn add_vp(&self, id: HvPartitionId, index: u16) -> VpRef {
        let hv = &*self.hypervisor;
        let mut child = hv.partitions.lookup(id).expect("exists");
        let pages = VpPages::allocate(hv, child.slot).expect("deposited");
        let vp = Vp::new(hv, &mut child, index, pages).expect("initialized");
        child.vp_count += 1;
        self.settle(vp)
    }

    fn settle(&self, vp: PageBox<Vp>) -> VpRef {
        let who = vp.who;
        *self.hypervisor.partitions.vp(who).lock() = VpPlace::Home(vp);
        who
    }

    /// A child with its VP 0.
    pub fn child_with_vp(&mut self) -> (HvPartitionId, HvVpIndex) {
        let id = self.child();
        (id, HvVpIndex(u32::from(self.add_vp(id, 0).index)))
    }

    /// Works on a partition and a VP of it that is at rest.
    ///
    /// # Panics
    /// When there is no such VP, or it is not at rest.
    pub fn with_vp<R>(
        &self,
        id: HvPartitionId,
        index: u16,
        work: impl FnOnce(&mut Partition, &mut Vp) -> R,
    ) -> R {
        let mut partition = self.partitions.lookup(id).expect("exists");
        let slot = slot_of(id).expect("exists");
        let mut place = self.partitions.vp(VpRef { slot, index }).lock();
        match &mut *place {
            VpPlace::Home(vp) => work(&mut partition, vp),
            other => panic!("the VP is {other:?}"),
        }
    }

    /// Writes into a partition's memory, at most to the end of a page.
    ///
    /// # Panics
    /// Where it has none.
    pub fn write(&self, id: HvPartitionId, at: Gpa, bytes: &[u8]) {
        let spa = self.resolve(id, at, bytes.len());
        self.phys.copy_to(spa, bytes).expect("RAM");
    }

    /// Reads from a partition's memory, at most to the end of a page.
    ///
    /// # Panics
    /// Where it has none.
    pub fn read(&self, id: HvPartitionId, at: Gpa, bytes: &mut [u8]) {
        let spa = self.resolve(id, at, bytes.len());
        self.phys.copy_from(spa, bytes).expect("RAM");
    }

    fn resolve(&self, id: HvPartitionId, at: Gpa, length: usize) -> Spa {
        assert!(at.offset() + length <= PAGE_SIZE as usize, "crosses pages");
        let partition = self.partitions.lookup(id).expect("exists");
        partition.resolve(at, Rights::empty()).expect("mapped")
    }
}

/// A processor with every state component that is switched, where Intel has them, and with memory that is cached.
struct WideProcessor;

impl CpuidSource for WideProcessor {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        const MTRRS: u32 = 1 << 12;
        let [eax, ebx, ecx] = match (leaf, subleaf) {
            (0, _) => [0x16, 0, 0],
            (1, _) => [0, 0, 1 << 26],
            (0xD, 0) => [0x2E7, 0, 0],
            (0xD, 2) => [256, 576, 0],
            (0xD, 5) => [64, 1088, 0],
            (0xD, 6) => [512, 1152, 0],
            (0xD, 7) => [1024, 1664, 0],
            (0xD, 9) => [8, 2688, 0],
            _ => [0; 3],
        };
        CpuidResult {
            eax,
            ebx,
            ecx,
            edx: if leaf == 1 { MTRRS } else { 0 },
        }
    }
}

impl MsrSource for WideProcessor {
    /// One variable MTRR, for what lies behind the memory; the rest is WB.
    fn read(&self, msr: u32) -> u64 {
        match msr {
            0xFE => 1,
            0x2FF => 1 << 11 | 6,
            0x200 => FRAMES * PAGE_SIZE,
            0x201 => ((1 << PHYSICAL_BITS) - FRAMES * PAGE_SIZE) | 1 << 11,
            _ => panic!("MSR {msr:#x} does not exist here"),
        }
    }
}

/// A hypervisor without partitions.
fn hypervisor(memory: &TestMemory, vendor: Vendor) -> Hypervisor {
    let phys = memory.phys();
    let entries = Vec::leak(alloc::vec![FrameEntry::default(); FRAMES as usize]);
    let slots: Vec<Slot> = (0..MAX_PARTITIONS).map(|_| Slot::default()).collect();
    let mut frames = FrameTable::new(entries, Vec::leak(slots));
    frames
        .mark_hypervisor(Spfn(0), HYPERVISOR_FRAMES)
        .expect("fresh");
    frames
        .mark_root_ram(Spfn(HYPERVISOR_FRAMES), FRAMES - HYPERVISOR_FRAMES)
        .expect("fresh");
    frames
        .add_reserve(Spfn(HYPERVISOR_FRAMES - RESERVE), RESERVE)
        .expect("fresh");
    let mut page = || frames.allocate_reserve().expect("reserve");
    let capabilities = vendor.capabilities();
    let child_format =
        capabilities.second_level(VcpuKind::Child, PHYSICAL_BITS, 40, LeafSize::Size2M);
    let maps = |spa: u64| {
        let ports = PermissionMaps::port_pages(&capabilities);
        let msrs = PermissionMaps::msr_pages(&capabilities);
        (
            HwPages::for_test(spa, ports),
            HwPages::for_test(spa + ports as u64 * PAGE_SIZE, msrs),
        )
    };
    let (child_ports, child_msrs) = maps(0x10_0000);
    let (root_ports, root_msrs) = maps(0x11_0000);
    let in_page = "in the direct map";
    let root_pages = RootPages {
        hypercall: page(),
        reference_tsc: PageBox::new_in(phys, page(), ReferenceTscPage::new()).expect(in_page),
    };
    let [stats, lp_stats] =
        [(); 2].map(|()| PageBox::new_in(phys, page(), StatsPage::new()).expect(in_page));
    let lp = LogicalProcessor {
        mailbox: Mailbox::new(),
        residents: Residents::new(),
        run_clock: RunClock::running(),
        stats: lp_stats,
        stats_mapped: false.into(),
        root: RootVpPages {
            messages: PageBox::new_in(phys, page(), MessagePage::new()).expect(in_page),
            event_flags: PageBox::new_in(phys, page(), EventFlagsPage::new()).expect(in_page),
            event_ring: page(),
            assist: page(),
        },
    };
    let registers = Box::leak(Box::new([0; 1024]));
    let scale = TscScale::new(TSC_HZ).expect("fast enough");
    Hypervisor {
        phys,
        capabilities,
        fpu_format: FpuFormat::probe(&WideProcessor),
        tsc_hz: TSC_HZ,
        tsc_agreement: TscAgreement::new(),
        constant_tsc: true,
        clock: ReferenceClock::new(scale, crate::cpu::tsc(), RefTime::ZERO),
        frames: Mutex::new(frames),
        partitions: Box::leak(Box::new(PartitionTable::new())),
        marks: Vec::leak(alloc::vec![CpuMark::new()]),
        child_maps: PermissionMaps::child(child_ports, child_msrs, &capabilities).expect("size"),
        root_maps: PermissionMaps::root(root_ports, root_msrs, &capabilities, &[]).expect("size"),
        child_format,
        memory_types: child_format
            .replaces_mtrrs()
            .then(|| Mtrrs::read(&WideProcessor, &WideProcessor, PHYSICAL_BITS)),
        physical_bits: PHYSICAL_BITS,
        root_pages,
        stats,
        lps: Vec::leak(alloc::vec![lp]),
        commands: LocalApic::for_test(registers).commands(),
        stats_mapped: false.into(),
        signature: 0x0080_0F12,
        next_serial: 2.into(),
        reserves: Reserves::new(1),
        event_log: EventLog::new(),
    }
}

fn reserve_frame(hypervisor: &Hypervisor) -> Frame {
    let frame = hypervisor.frames.lock().allocate_reserve();
    frame.expect("reserve")
}

fn boxed<T>(hypervisor: &Hypervisor, frame: Frame, value: T) -> PageBox<T> {
    match PageBox::new_in(hypervisor.phys, frame, value) {
        Ok(page) => page,
        Err(_) => panic!("reserve outside the direct map"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_memory_a_pool_and_a_suspended_processor_in_reset_state() {
        for mut machine in Machine::each() {
            let (id, _) = machine.child_with_vp();
            machine.write(id, Gpa(0x1FF8), b"contents");
            let mut back = [0; 8];
            machine.read(id, Gpa(0x1FF8), &mut back);
            assert_eq!(&back, b"contents");
            machine.with_vp(id, 0, |partition, vp| {
                assert_eq!(partition.state, PartitionState::Active);
                assert!(vp.suspend.explicit && !vp.is_runnable());
                assert_eq!((vp.hw.rip(), vp.hw.cr0()), (0xFFF0, 0x6000_0010));
                assert_eq!(vp.hw.gprs().rdx, u64::from(machine.signature));
            });
            machine.frames.lock().audit().unwrap();
        }
    }

    #[test]
    fn the_root_reaches_its_memory_but_neither_pools_nor_the_hypervisor() {
        for mut machine in Machine::each() {
            let id = machine.child();
            let pool = machine.hypervisor.frames.lock();
            let owned = (0..FRAMES).find(|&frame| {
                pool.owner(Spfn(frame))
                    == crate::mem::frames::Owner::Deposited(slot_of(id).unwrap())
            });
            drop(pool);
            let root = machine.partitions.lookup(ROOT_ID).unwrap();
            let reaches = |frame| root.resolve(Gpfn(frame).address(), Rights::READ);
            assert!(reaches(FRAMES - 1).is_ok());
            assert!(reaches(owned.unwrap()).is_err());
            assert!(reaches(0).is_err());
        }
    }

    #[test]
    fn a_processor_gives_back_the_pages_that_it_was_made_of() {
        for mut machine in Machine::each() {
            let id = machine.child();
            let slot = slot_of(id).unwrap();
            let before = machine.frames.lock().slot_counts(slot).unwrap();
            let who = machine.add_vp(id, 3);
            let place = core::mem::take(&mut *machine.partitions.vp(who).lock());
            let VpPlace::Home(vp) = place else { panic!() };
            let mut child = machine.partitions.lookup(id).unwrap();
            Vp::end(vp, &machine, &mut child);
            assert_eq!(machine.frames.lock().slot_counts(slot).unwrap(), before);
        }
    }
}
