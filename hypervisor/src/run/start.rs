//! From the machine that the boot code describes to the root's first instruction.

use arrayvec::ArrayVec;
use boot_archive::start_info::{self, MemoryMapEntry, Module, kind};
use spin::Mutex;
use tlfs::stats::hypervisor as counter;
use tlfs::{HvPartitionCreationFlags, HvPartitionPrivilegeMask as P};

use super::Cpu;
use super::processors::{CpuParts, MAX_PROCESSORS, logical_processors, start_others};
use crate::arch::cpuid::{CpuidSource, GIB_PAGES, INVARIANT_TSC, ThisProcessor};
use crate::arch::maps::PermissionMaps;
use crate::arch::msr::ThisProcessorMsrs;
use crate::arch::state::{Segment, SegmentName, cr0, rflags};
use crate::arch::{Capabilities, VcpuKind};
use crate::boot::Machine;
use crate::boot::memory::MemoryKind;
use crate::boot::pool::Pool;
use crate::event_log::EventLog;
use crate::hv::{Hypervisor, ROOT_ID, RootPages};
use crate::mem::addr::{PAGE_SIZE, Spa, Spfn};
use crate::mem::format::{LeafSize, Rights};
use crate::mem::frames::{FrameEntry, FrameTable, PartitionSlot, RootSource, Slot};
use crate::mem::mtrr::Mtrrs;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::phys::PhysMap;
use crate::mem::table::SecondLevelTable;
use crate::mem::tlb::CpuMark;
use crate::partition::overlay::hypercall_code;
use crate::partition::table::{MAX_PARTITIONS, PartitionTable, VpPlace};
use crate::partition::vp_pages::VpPages;
use crate::partition::{Partition, PartitionState, Vp};
use crate::sched::Reserves;
use crate::stats::StatsPage;
use crate::time::{RefTime, ReferenceClock, ReferenceTscPage, TscAgreement, TscScale};

/// The root's privileges (root sheet F.1): what a root needs, without what is not offered.
pub const ROOT_PRIVILEGES: P = P::from_bits_retain(
    P::ACCESS_VP_RUNTIME_MSR.0
        | P::ACCESS_PARTITION_REFERENCE_COUNTER.0
        | P::ACCESS_SYNIC_MSRS.0
        | P::ACCESS_APIC_MSRS.0
        | P::ACCESS_HYPERCALL_MSRS.0
        | P::ACCESS_VP_INDEX.0
        | P::ACCESS_PARTITION_REFERENCE_TSC.0
        | P::ACCESS_FREQUENCY_MSRS.0
        | P::CREATE_PARTITIONS.0
        | P::ACCESS_PARTITION_ID.0
        | P::ACCESS_MEMORY_POOL.0
        | P::POST_MESSAGES.0
        | P::SIGNAL_EVENTS.0
        | P::CREATE_PORT.0
        | P::CONNECT_PORT.0
        | P::ACCESS_STATS.0
        | P::CPU_MANAGEMENT.0
        | P::ACCESS_VP_REGISTERS.0,
);

/// The root's address space: what one table of 1 GiB leaves translates.
const ROOT_SPACE: u64 = 512 << 30;

static PARTITIONS: PartitionTable = PartitionTable::new();

/// Gives the machine to the root partition. Never returns.
pub fn start(mut machine: Machine) -> ! {
    let Some(cpu) = prepare(&mut machine) else {
        crate::log::refuse("the hypervisor's own memory is used up before it starts");
    };
    let vp = match start_root(cpu.hv, &machine) {
        Ok(vp) => vp,
        Err(reason) => crate::log::refuse(reason),
    };
    cpu.queue.wake(vp.queue_slot);
    ::log::info!("starting the root partition");
    crate::log::serial_to_root();
    cpu.run(vp)
}

/// Makes everything that lives as long as the machine runs.
fn prepare(machine: &mut Machine) -> Option<&'static mut Cpu> {
    let pool = &mut machine.pool;
    let phys = machine.phys;
    // The hypervisor's own block, which the map calls reserved, may be the last piece of RAM.
    let end = machine.memory.end_of_memory().max(machine.own.1);
    let frames = end.0 / PAGE_SIZE;
    let entries = pool.array(frames as usize, |_| FrameEntry::default())?;
    let slots = pool.array(MAX_PARTITIONS, |_| Slot::default())?;
    let processors = machine.processors.as_slice().len().clamp(1, MAX_PROCESSORS);
    let marks = pool.array(processors, |_| CpuMark::new())?;
    let lps = logical_processors(phys, pool, processors)?;
    let scale = TscScale::new(machine.tsc_hz)?;
    let clock = ReferenceClock::new(scale, crate::cpu::tsc(), RefTime::ZERO);
    let physical_bits = physical_bits();
    let guest_bits = physical_bits.min(48);
    let child_format = machine.capabilities.second_level(
        VcpuKind::Child,
        physical_bits,
        guest_bits,
        LeafSize::Size2M,
    );
    let hypervisor = Hypervisor {
        phys,
        capabilities: machine.capabilities,
        fpu_format: machine.fpu_format,
        tsc_hz: machine.tsc_hz,
        tsc_agreement: TscAgreement::new(),
        constant_tsc: ThisProcessor.cpuid_checked(0x8000_0007, 0).edx & INVARIANT_TSC != 0,
        clock,
        frames: Mutex::new(FrameTable::new(entries, slots)),
        partitions: &PARTITIONS,
        marks,
        child_maps: maps(pool, machine.capabilities, false)?,
        root_maps: maps(pool, machine.capabilities, true)?,
        child_format,
        memory_types: child_format.replaces_mtrrs().then(|| {
            // SAFETY: ring 0, and MTRRs are asked for as far as CPUID tells of them.
            let msrs = unsafe { ThisProcessorMsrs::new() };
            Mtrrs::read(&ThisProcessor, &msrs, physical_bits)
        }),
        physical_bits,
        root_pages: root_pages(phys, pool, &machine.capabilities)?,
        stats: boxed(phys, pool, StatsPage::new())?,
        lps,
        commands: machine.apic.as_ref()?.commands(),
        stats_mapped: false.into(),
        signature: ThisProcessor.cpuid(1, 0).eax,
        reserves: Reserves::new(lps.len()),
        next_serial: core::sync::atomic::AtomicU64::new(2),
        event_log: EventLog::new(),
    };
    let hv: &'static Hypervisor = pool.place(hypervisor)?;
    let parts = CpuParts::take(hv, &mut machine.pool)?;
    // SAFETY: ring 0 on the processor that booted, whose tables are installed; the boot code has probed it.
    let cpu = unsafe { parts.make(machine.local, machine.apic.take()?)? };
    let running = start_others(hv, machine);
    if hv.tsc_agreement.is_common() {
        hv.root_pages.reference_tsc.publish(&hv.clock, &mut 0);
    }
    own_frames(hv, machine, running);
    root_partition(hv, machine, running)?;
    // They wait for the root's VPs.
    (1..running).for_each(|processor| hv.kick(processor));
    Some(cpu)
}

fn physical_bits() -> u8 {
    match ThisProcessor.cpuid_checked(0x8000_0008, 0).eax as u8 {
        0 => 36,
        bits => bits.min(52),
    }
}

fn maps(pool: &mut Pool, capabilities: Capabilities, root: bool) -> Option<PermissionMaps> {
    let ports = pool.hw_pages(PermissionMaps::port_pages(&capabilities))?;
    let msrs = pool.hw_pages(PermissionMaps::msr_pages(&capabilities))?;
    if root {
        PermissionMaps::root(ports, msrs, &capabilities, &[])
    } else {
        PermissionMaps::child(ports, msrs, &capabilities)
    }
}

pub(super) fn boxed<T>(phys: PhysMap, pool: &mut Pool, value: T) -> Option<PageBox<T>> {
    let frame = pool.frame()?;
    PageBox::new_in(phys, frame, value).ok()
}

pub(super) fn zeroed(phys: PhysMap, pool: &mut Pool) -> Option<Frame> {
    let frame = pool.frame()?;
    phys.zero_page(frame.spfn()).ok()?;
    Some(frame)
}

fn root_pages(phys: PhysMap, pool: &mut Pool, capabilities: &Capabilities) -> Option<RootPages> {
    let hypercall = zeroed(phys, pool)?;
    let code = hypercall_code(capabilities);
    phys.copy_to(hypercall.spfn().address(), &code).ok()?;
    Some(RootPages {
        hypercall,
        reference_tsc: boxed(phys, pool, ReferenceTscPage::new())?,
    })
}

/// Tells the frame table who owns what. What is left of the pool becomes the reserve for the root's tables.
fn own_frames(hv: &Hypervisor, machine: &Machine, processors: u32) {
    let mut frames = hv.frames.lock();
    for range in machine.memory.ranges() {
        if range.kind == MemoryKind::Ram {
            let pages = range.len() / PAGE_SIZE;
            let done = frames.mark_root_ram(range.start.page(), pages);
            assert_eq!(done, Ok(()), "the memory map lists RAM once");
        }
    }
    let (start, end) = machine.own;
    let pages = (end.0 - start.0) / PAGE_SIZE;
    let done = frames.mark_hypervisor(start.page(), pages);
    assert_eq!(done, Ok(()), "the block is in the machine's memory");
    hv.stats.set(counter::TOTAL_PAGES, pages);
    hv.stats.set(counter::LOGICAL_PROCESSORS, processors.into());
    hv.stats.set(counter::PARTITIONS, 1);
    hv.stats.set(counter::VIRTUAL_PROCESSORS, processors.into());
}

/// The root, with a VP for each of `processors`; all but the first wait for a startup IPI.
fn root_partition(hv: &'static Hypervisor, machine: &mut Machine, processors: u32) -> Option<()> {
    let phys = machine.phys;
    let pool = &mut machine.pool;
    let stats = boxed(phys, pool, StatsPage::new())?;
    let flags = HvPartitionCreationFlags::LAPIC_ENABLED | HvPartitionCreationFlags::X2APIC_CAPABLE;
    let mut root = Partition::new(ROOT_ID, PartitionSlot::ROOT, flags, ROOT_PRIVILEGES, stats);
    root.state = PartitionState::Active;
    root.vp_count = processors;
    root.msrs.hypercall = hv.root_pages.hypercall.spfn().address().0;
    root.msrs.reference_tsc = hv.root_pages.reference_tsc.spfn().address().0;
    let mut root = boxed(phys, pool, root)?;
    let mut pages = ArrayVec::<VpPages, MAX_PROCESSORS>::new();
    for _ in 0..processors {
        pages.push(vp_pages(phys, pool)?);
    }
    // The rest is for the root's tables.
    let (first, left) = pool.left();
    let taken = hv.frames.lock().add_reserve(first, left);
    assert_eq!(
        taken,
        Ok(()),
        "what is left of the block is the hypervisor's"
    );
    root.memory = Some(root_memory(hv, machine)?);
    let mut vps = ArrayVec::<_, MAX_PROCESSORS>::new();
    for (index, pages) in (0..).zip(pages) {
        let mut vp = Vp::new(hv, &mut root, index, pages).ok()?;
        // A read names the page before it is enabled (root sheet F.3).
        vp.assist_page = hv.lp(index.into()).root.assist.spfn().address().0;
        vps.push(vp);
    }
    let entry = PARTITIONS.entry(PartitionSlot::ROOT);
    entry.claim()?.put(root, RefTime::ZERO);
    for (place, vp) in entry.vps.iter().zip(vps) {
        *place.lock() = VpPlace::Home(vp);
    }
    Some(())
}

fn vp_pages(phys: PhysMap, pool: &mut Pool) -> Option<VpPages> {
    Some(VpPages {
        control: zeroed(phys, pool)?,
        fpu: zeroed(phys, pool)?,
        registers: zeroed(phys, pool)?,
        intercept: zeroed(phys, pool)?,
        stats: zeroed(phys, pool)?,
        object: zeroed(phys, pool)?,
        synic: zeroed(phys, pool)?,
        overlays: None,
    })
}

/// The root's second-level translations: everything at its own address, but for the hypervisor's block and the local APIC.
/// Memory types are those of the machine; what the root makes of them is its own affair.
fn root_memory(hv: &Hypervisor, machine: &Machine) -> Option<SecondLevelTable> {
    let largest = if ThisProcessor.cpuid_checked(0x8000_0001, 0).edx & GIB_PAGES != 0 {
        LeafSize::Size1G
    } else {
        LeafSize::Size2M
    };
    let bits = hv.physical_bits;
    let format = hv
        .capabilities
        .second_level(VcpuKind::Root, bits, bits.min(48), largest);
    let mut frames = hv.frames.lock();
    let mut source = RootSource(&mut frames);
    let mut table = SecondLevelTable::new(format, hv.phys, &mut source).ok()?;
    let apic = Spa(0xFEE0_0000);
    let apic = (apic, Spa(apic.0 + PAGE_SIZE));
    let holes = if machine.own < apic {
        [machine.own, apic]
    } else {
        [apic, machine.own]
    };
    let mut map = |start: Spa, end: Spa, rights| {
        let pages = (end.0 - start.0) / PAGE_SIZE;
        let types = hv.memory_types.as_ref();
        table.map_as_it_is(&mut source, types, (start.page(), pages), rights)
    };
    let mut from = Spa(0);
    for (start, end) in holes {
        map(from, start, Rights::RWX).ok()?;
        from = end;
    }
    map(from, Spa(ROOT_SPACE.min(1 << bits)), Rights::RWX).ok()?;
    let of_vps = hv.lps.iter().flat_map(|lp| {
        let pages = &lp.root;
        [
            (pages.messages.spfn(), Rights::RW),
            (pages.event_flags.spfn(), Rights::RW),
            (pages.event_ring.spfn(), Rights::RW),
            (pages.assist.spfn(), Rights::RW),
        ]
    });
    let pages = &hv.root_pages;
    let of_all = [
        (pages.hypercall.spfn(), Rights::RX),
        (pages.reference_tsc.spfn(), Rights::READ),
    ];
    for (frame, rights) in of_vps.chain(of_all) {
        let start = frame.address();
        map(start, Spa(start.0 + PAGE_SIZE), rights).ok()?;
    }
    Some(table)
}

/// Puts the root's loader and its start info into the root's memory, and its VP at the loader's first instruction: the
/// state of the PVH boot protocol.
fn start_root(hv: &Hypervisor, machine: &Machine) -> Result<PageBox<Vp>, &'static str> {
    const INFO_PAGES: u64 = 4;
    let archive = &machine.archive;
    let loader_pages = archive.loader_length.div_ceil(PAGE_SIZE);
    let place = find_place(machine, loader_pages + INFO_PAGES)
        .ok_or("there is no free memory below 4 GiB for the root's loader")?;
    let outside = "the boot archive does not lie in the machine's memory";
    for page in 0..loader_pages {
        let from = Spa(archive.start.0 + archive.loader_offset + page * PAGE_SIZE).page();
        let to = Spfn(place.page().0 + page);
        hv.phys.copy_page(from, to).map_err(|_| outside)?;
    }
    let info = Spa(place.0 + loader_pages * PAGE_SIZE);
    let mut buffer = [0_u8; (INFO_PAGES * PAGE_SIZE) as usize];
    let map = machine.memory.ranges().iter().map(|range| MemoryMapEntry {
        addr: range.start.0,
        size: range.len(),
        kind: e820(range.kind),
        reserved: 0,
    });
    let module = Module {
        gpa: archive.start.0,
        size: archive.length,
        text: "archive",
    };
    let rsdp = machine.rsdp.map_or(0, |rsdp| rsdp.0);
    let used = start_info::compose(&mut buffer, info.0, rsdp, "", &[module], map)
        .map_err(|_| "the machine's memory map does not fit into the root's start info")?;
    let text = buffer.get(..used).unwrap_or(&[]);
    hv.phys.copy_to(info, text).map_err(|_| outside)?;
    let mut slot = PARTITIONS.entry(PartitionSlot::ROOT).vps[0].lock();
    let VpPlace::Home(mut vp) = core::mem::replace(&mut *slot, VpPlace::running(0)) else {
        return Err("the root partition has no processor");
    };
    hv.show_addressing(&vp);
    enter_by_pvh(&mut vp, place.0, info.0);
    Ok(vp)
}

const fn e820(memory: MemoryKind) -> u32 {
    match memory {
        MemoryKind::Ram => kind::RAM,
        MemoryKind::Reserved => kind::RESERVED,
        MemoryKind::Acpi => kind::ACPI,
        MemoryKind::Nvs => kind::NVS,
    }
}

/// RAM of the root between 1 MiB and 4 GiB that is not the archive's.
fn find_place(machine: &Machine, pages: u64) -> Option<Spa> {
    const LOWEST: u64 = 1 << 20;
    const END: u64 = 1 << 32;
    let archive = machine.archive;
    let archive = (archive.start.0, archive.start.0 + archive.length);
    let bytes = pages * PAGE_SIZE;
    let fits = |from: u64, to: u64| {
        let from = from.max(LOWEST);
        (from.saturating_add(bytes) <= to.min(END)).then_some(Spa(from))
    };
    let ram = machine.memory.ranges().iter();
    ram.filter(|range| range.kind == MemoryKind::Ram)
        .find_map(|range| {
            let (start, end) = (range.start.0, range.end.0);
            if archive.1 <= start || end <= archive.0 {
                return fits(start, end);
            }
            fits(start, archive.0).or_else(|| fits(archive.1.next_multiple_of(PAGE_SIZE), end))
        })
}

/// 32-bit protected mode, no paging, flat segments, interrupts off.
fn enter_by_pvh(vp: &mut Vp, entry: u64, start_info: u64) {
    const FLAT: u16 = Segment::PRESENT | Segment::BIG | Segment::GRANULAR;
    let flat = |selector, kind| Segment {
        base: 0,
        limit: u32::MAX,
        selector,
        attributes: FLAT | kind,
    };
    let hw = &mut vp.hw;
    hw.set_cr0(cr0::PE | cr0::ET);
    hw.set_segment(SegmentName::Cs, &flat(8, 0x1B));
    for name in [
        SegmentName::Ds,
        SegmentName::Es,
        SegmentName::Ss,
        SegmentName::Fs,
        SegmentName::Gs,
    ] {
        hw.set_segment(name, &flat(16, 0x13));
    }
    let task = Segment {
        base: 0,
        limit: 0x67,
        selector: 0,
        attributes: Segment::PRESENT | 0xB,
    };
    hw.set_segment(SegmentName::Tr, &task);
    hw.set_rflags(rflags::FIXED);
    hw.set_rip(entry);
    hw.gprs_mut().rbx = start_info;
}
