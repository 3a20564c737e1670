//! A virtual processor.

use tlfs::{
    HvDeliverabilityNotificationsRegister, HvInterceptSuspendRegister, HvPartitionId, HvVpIndex,
};

use crate::apic::LocalApic;
use crate::arch::VpHw;
use crate::arch::fpu::Fpu;
use crate::arch::state::rflags;
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::tlb::VpTag;
use crate::sched::Slot;
use crate::stats::StatsPage;
use crate::synic::{Link, Synic};
use crate::time::RefTime;

/// Most VPs of a partition.
pub const MAX_VPS: usize = 16;

/// Names a VP of any partition: the place of its partition and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpRef {
    /// Its partition's place in the table.
    pub slot: PartitionSlot,
    /// Its index, below [`MAX_VPS`].
    pub index: u16,
}

impl VpRef {
    /// A dense number, for arrays of one element a VP.
    pub const fn key(self) -> usize {
        self.slot.0 as usize * MAX_VPS + self.index as usize % MAX_VPS
    }
}

/// A page of a VP that the root can map: in use by the hypervisor from the VP's creation to its end.
#[derive(Debug)]
pub struct StatePage {
    /// The frame.
    pub frame: Frame,
    /// The root has it mapped (HvCallMapVpStatePage).
    pub mapped: bool,
}

impl StatePage {
    /// A page that only the hypervisor uses yet.
    pub const fn new(frame: Frame) -> Self {
        Self {
            frame,
            mapped: false,
        }
    }
}

/// Why a VP does not run (root sheet B.4). It runs when nothing here holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspend {
    /// ExplicitSuspend.
    pub explicit: bool,
    /// InterceptSuspend: suspended, and TLB locked by a memory intercept.
    pub intercept: HvInterceptSuspendRegister,
    /// DispatchSuspend.
    pub dispatch: bool,
}

/// A virtual processor while no processor is inside it.
#[derive(Debug)]
pub struct Vp {
    /// Its name.
    pub who: VpRef,
    /// Its partition's id.
    pub partition_id: HvPartitionId,
    /// Registers and control block.
    pub hw: VpHw,
    /// Local APIC.
    pub apic: LocalApic,
    /// SynIC, in the root only so far.
    pub synic: Option<Synic>,
    /// Floating point state while it is not in the processor.
    pub fpu: Fpu,
    /// Counters.
    pub stats: PageBox<StatsPage>,
    /// The root has the counters mapped.
    pub stats_mapped: bool,
    /// Suspend registers.
    pub suspend: Suspend,
    /// HLT was executed, and nothing has woken it.
    pub halted: bool,
    /// Place in its processor's run queue.
    pub queue_slot: Slot,
    /// In the queue of intercept notices.
    pub link: Link<VpRef>,
    /// Register page.
    pub register_page: StatePage,
    /// Intercept message page.
    pub intercept_page: StatePage,
    /// What the root wants to be told of.
    pub notifications: HvDeliverabilityNotificationsRegister,
    /// VP_ASSIST_PAGE as written. The page itself is not used.
    pub assist_page: u64,
    /// TLB tag.
    pub tag: VpTag,
    /// When it was created, by the machine's clock: origin of its partition's time.
    pub epoch: RefTime,
    /// CR0 and CR4 bits whose change is intercepted, and the control register (HvX64RegisterCrIntercept…).
    pub cr_intercept: CrIntercept,
}

/// The control-register intercept registers, 0xE0000 to 0xE0003.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrIntercept {
    /// Which accesses are intercepted: bit 0 CR0 write, 1 CR4 write, 2 XCR0 write, 3 IA32_MISC_ENABLE read, 4 write.
    pub control: u64,
    /// CR0 bits whose change is reported.
    pub cr0_mask: u64,
    /// CR4 bits whose change is reported.
    pub cr4_mask: u64,
    /// IA32_MISC_ENABLE bits whose change is reported.
    pub misc_enable_mask: u64,
}

impl Vp {
    /// Whether this is a VP of the root partition.
    pub fn is_root(&self) -> bool {
        self.who.slot == PartitionSlot::ROOT
    }

    /// VP index as the TLFS has it.
    pub fn index(&self) -> HvVpIndex {
        HvVpIndex(u32::from(self.who.index))
    }

    /// Whether the VP is stopped by its parent or by an intercept: its registers may be changed.
    pub fn is_suspended(&self) -> bool {
        self.suspend.explicit || self.suspend.intercept.suspended() || self.suspend.dispatch
    }

    /// Whether something ends a HLT: an NMI, INIT or SIPI, or an interrupt if the VP takes them.
    pub fn has_wake_event(&self) -> bool {
        self.apic.has_unmaskable()
            || (self.hw.rflags() & rflags::IF != 0 && self.apic.has_interrupt())
            || self.hw.pending_event().is_some()
    }

    /// Whether the VP wants a processor.
    pub fn is_runnable(&self) -> bool {
        if self.is_suspended() {
            return false;
        }
        if self.apic.is_waiting_for_startup() {
            return self.apic.has_unmaskable();
        }
        !self.halted || self.has_wake_event()
    }
}
