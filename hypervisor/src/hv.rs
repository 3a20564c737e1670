//! What all processors share.

#[cfg(any(test, feature = "test-support"))]
pub mod testing;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Mutex;
use tlfs::{HvPartitionId, HvStatus};

use crate::arch::Capabilities;
use crate::arch::fpu::FpuFormat;
use crate::arch::maps::PermissionMaps;
use crate::cpu::VECTOR_WAKE;
use crate::cpu::apic::CommandPort;
use crate::event_log::EventLog;
use crate::lp::LogicalProcessor;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::SecondLevel;
use crate::mem::frames::{ChildSource, FrameTable, PartitionSlot};
use crate::mem::mtrr::Mtrrs;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::phys::PhysMap;
use crate::mem::tlb::CpuMark;
use crate::partition::table::{PartitionTable, partition_id};
use crate::partition::{MAX_VPS, VpRef};
use crate::sched::Reserves;
use crate::stats::StatsPage;
use crate::synic::{Synic, VpSynic};
use crate::time::{RefTime, ReferenceClock, ReferenceTscPage, TscAgreement};

/// Pages that the hypervisor provides to the root as a whole; see [`crate::lp::RootVpPages`] for those of its VPs.
pub struct RootPages {
    /// Hypercall page.
    pub hypercall: Frame,
    /// Reference TSC page.
    pub reference_tsc: PageBox<ReferenceTscPage>,
}

/// What all processors share: set up once, and changed only behind the locks in it.
///
/// Order of locks: a child's partition, the root's partition, ports, connections, a VP's place, SynICs, the event log, the frames.
pub struct Hypervisor {
    /// All of memory.
    pub phys: PhysMap,
    /// What virtualization can do.
    pub capabilities: Capabilities,
    /// Floating point state.
    pub fpu_format: FpuFormat,
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// Whether the TSCs of all processors are one clock: only then guests may compute with what they read.
    pub tsc_agreement: TscAgreement,
    /// Whether they run at one rate in all power states, as the processor says ("invariant TSC").
    pub constant_tsc: bool,
    /// The machine's reference time. Partitions count from their creation.
    pub clock: ReferenceClock,
    /// Owners of all frames.
    pub frames: Mutex<FrameTable<'static>>,
    /// Partitions and VPs.
    pub partitions: &'static PartitionTable,
    /// Who is in which guest.
    pub marks: &'static [CpuMark],
    /// Ports and MSRs of children.
    pub child_maps: PermissionMaps,
    /// Ports and MSRs of the root.
    pub root_maps: PermissionMaps,
    /// Second-level format of children.
    pub child_format: SecondLevel,
    /// Memory types of the machine, where the root's tables have to name them.
    pub memory_types: Option<Mtrrs>,
    /// Bits of a physical address.
    pub physical_bits: u8,
    /// Pages provided to the root.
    pub root_pages: RootPages,
    /// Counters of the hypervisor.
    pub stats: PageBox<StatsPage>,
    /// The root has them mapped.
    pub stats_mapped: AtomicBool,
    /// The processors that run, by index.
    pub lps: &'static [LogicalProcessor],
    /// How they are kicked.
    pub commands: CommandPort,
    /// Signature of the processors (CPUID 1 EAX): EDX of a VP after reset.
    pub signature: u32,
    /// What the VPs have reserved of the processors.
    pub reserves: Reserves,
    /// Serial number of the next partition.
    pub next_serial: AtomicU64,
    /// What the root wants to be recorded.
    pub event_log: EventLog,
}

/// Id of the root partition.
pub const ROOT_ID: HvPartitionId = partition_id(1, PartitionSlot::ROOT);

impl Hypervisor {
    /// Whether a guest may take the TSC for a clock without asking anybody: one for all processors, of a constant rate.
    pub fn tsc_is_invariant(&self) -> bool {
        self.constant_tsc && self.tsc_agreement.is_common()
    }

    /// The machine's time at a TSC value.
    pub fn time_at(&self, tsc: u64) -> RefTime {
        self.clock.at(tsc)
    }

    /// The machine's time now.
    pub fn now(&self) -> RefTime {
        self.time_at(crate::cpu::tsc())
    }

    /// A new partition id for a place.
    pub fn new_id(&self, slot: PartitionSlot) -> HvPartitionId {
        partition_id(self.next_serial.fetch_add(1, Ordering::Relaxed), slot)
    }

    /// Whether a pool has `pages` pages to give: asked before a set of allocations, so that it is all or nothing.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY.
    pub fn require(&self, slot: PartitionSlot, pages: u64) -> Result<(), HvStatus> {
        let counts = self
            .frames
            .lock()
            .slot_counts(slot)
            .map_err(|_| HvStatus::INVALID_PARTITION_ID)?;
        if counts.available < pages {
            return Err(HvStatus::INSUFFICIENT_MEMORY);
        }
        Ok(())
    }

    /// A zeroed frame from a partition's pool.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY.
    pub fn allocate(&self, slot: PartitionSlot) -> Result<Frame, HvStatus> {
        let frame = self.frames.lock().allocate(slot);
        let frame = frame.ok().flatten().ok_or(HvStatus::INSUFFICIENT_MEMORY)?;
        // Every frame that has an owner lies in the direct map.
        let _ = self.phys.zero_page(frame.spfn());
        Ok(frame)
    }

    /// A page of a pool that holds `value`.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY.
    pub fn place<T>(&self, slot: PartitionSlot, value: T) -> Result<PageBox<T>, HvStatus> {
        let frame = self.allocate(slot)?;
        PageBox::new_in(self.phys, frame, value).map_err(|(frame, _)| {
            self.release(slot, frame);
            HvStatus::INSUFFICIENT_MEMORY
        })
    }

    /// Calls `f` with what a child's tables take their frames from.
    pub fn with_child_source<R>(
        &self,
        slot: PartitionSlot,
        f: impl FnOnce(&mut ChildSource<'_, 'static>) -> R,
    ) -> R {
        let mut frames = self.frames.lock();
        f(&mut ChildSource {
            frames: &mut frames,
            slot,
        })
    }

    /// Gives a frame back to its pool.
    pub fn release(&self, slot: PartitionSlot, frame: Frame) {
        let done = self.frames.lock().release(slot, frame);
        assert_eq!(done, Ok(()), "a frame goes back to the pool it is from");
    }

    /// The processor with this index; the first one for an index that none has, to which there is no way.
    pub fn lp(&self, index: u32) -> &'static LogicalProcessor {
        self.lps.get(index as usize).unwrap_or(&self.lps[0])
    }

    /// The APIC id of a VP: of the root's that of its processor, so that the machine's ACPI tables are right for it; of a
    /// child's its index.
    pub fn apic_id(&self, who: VpRef) -> u32 {
        let index = u32::from(who.index);
        let physical = || self.lps.get(index as usize)?.mailbox.apic_id();
        match who.slot {
            PartitionSlot::ROOT => physical().unwrap_or(index),
            _ => index,
        }
    }

    /// The VP of a partition that has, or would have, this APIC id.
    pub fn vp_with_apic_id(&self, slot: PartitionSlot, id: u32) -> Option<VpRef> {
        let index = match slot {
            PartitionSlot::ROOT => {
                let of_root = |lp: &LogicalProcessor| lp.mailbox.apic_id() == Some(id);
                self.lps.iter().position(of_root)?
            }
            _ => id as usize,
        };
        (index < MAX_VPS).then_some(VpRef {
            slot,
            index: index as u16,
        })
    }

    /// Makes another processor leave its guest, or its sleep, and look at its mailbox. Nothing happens to one that does not
    /// run.
    pub fn kick(&self, processor: u32) {
        if let Some(apic_id) = self.lp(processor).mailbox.apic_id() {
            self.commands.interrupt(apic_id, VECTOR_WAKE);
        }
    }

    /// The SynIC of one of the root's VPs, over the pages that are provided to it.
    pub fn root_synic(&self, index: u16) -> VpSynic {
        let pages = &self.lp(index.into()).root;
        let page = |frame: Spfn| Gpfn(frame.0);
        let registers = Synic::new_root(
            page(pages.messages.spfn()),
            page(pages.event_flags.spfn()),
            page(pages.event_ring.spfn()),
        );
        VpSynic::new_root(registers, pages)
    }

    /// Frames of the machine that some object has: RAM.
    pub fn is_ram(&self, frame: Spfn) -> bool {
        self.frames.lock().owner(frame) != crate::mem::frames::Owner::NotRam
    }
}
