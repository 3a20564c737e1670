//! A virtual processor.

use core::sync::atomic::Ordering;

use tlfs::{
    HvDeliverabilityNotificationsRegister, HvInterceptSuspendRegister, HvPartitionId,
    HvPartitionPrivilegeMask, HvStatus, HvVpIndex,
};

use super::code_cache::CodeCache;
use super::cpuid_cache::CpuidCache;
use super::lazy_eoi::AssistPage;
use super::overlay::Overlay;
use super::page_cache::PageCache;
use super::table::Home;
use super::vp_pages::{OverlayPages, VpPages};
use super::{Partition, register_page};
use crate::apic::LocalApic;
use crate::arch::fpu::Fpu;
use crate::arch::page::HwPages;
use crate::arch::state::rflags;
use crate::arch::{CrIntercepts, VcpuConfig, VcpuKind, VpHw};
use crate::hv::Hypervisor;
use crate::intercept::NamedMsrs;
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::tlb::VpTag;
use crate::sched::{Account, Slot};
use crate::stats::StatsPage;
use crate::synic::{EventFlagsPage, Link, MessagePage, SintVectors, SyntheticTimers, VpSynic};
use crate::time::{RefTime, earlier};

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

    /// The VPs that a partition can have, whether they exist or not.
    pub fn all(slot: PartitionSlot) -> impl Iterator<Item = Self> {
        (0..MAX_VPS as u16).map(move |index| Self { slot, index })
    }

    /// The reverse of [`key`](Self::key).
    pub const fn from_key(key: usize) -> Self {
        Self {
            slot: PartitionSlot((key / MAX_VPS) as u16),
            index: (key % MAX_VPS) as u16,
        }
    }
}

/// Where a VP has its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// The VP.
    pub who: VpRef,
    /// Index of its processor.
    pub processor: u32,
    /// Its place in that one's queue.
    pub slot: Slot,
}

impl Turns {
    /// No processor: of a VP that is about to end.
    pub const NOWHERE: u32 = u32::MAX;
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
    /// Property Suspend of the partition.
    pub partition: bool,
}

/// A virtual processor while no processor is inside it.
#[derive(Debug)]
pub struct Vp {
    /// Its name.
    pub who: VpRef,
    /// Its partition's place.
    pub home: Home,
    /// Its partition's id.
    pub partition_id: HvPartitionId,
    /// Registers and control block.
    pub hw: VpHw,
    /// Local APIC.
    pub apic: LocalApic,
    /// What it may do: its partition's privileges, which do not change while there are VPs.
    pub privileges: HvPartitionPrivilegeMask,
    /// The vectors of its SynIC, which lies in the partition table.
    pub sints: SintVectors,
    /// Synthetic timers.
    pub stimers: SyntheticTimers,
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
    /// It sleeps because it has read GUEST_IDLE: an interrupt ends that also while it takes none.
    pub idle: bool,
    /// Index of the processor where it has its turns: of the root's, its own; of a child's, its home (see [`crate::lp`]).
    pub processor: u32,
    /// Place in that processor's run queue.
    pub queue_slot: Slot,
    /// What it has run elsewhere, while it is on its way to its processor.
    pub account: Option<Account>,
    /// It is to leave its processor for good.
    pub leaving: bool,
    /// Until this TSC value its processor leaves it at home: another one looks at it.
    pub visited_until: u64,
    /// In the queue of intercept notices.
    pub link: Link<VpRef>,
    /// Register page.
    pub register_page: StatePage,
    /// Intercept message page.
    pub intercept_page: StatePage,
    /// What the root wants to be told of.
    pub notifications: HvDeliverabilityNotificationsRegister,
    /// Its slots are to be looked at when it has its next turn, which it gets for that.
    pub sint_due: bool,
    /// VP_ASSIST_PAGE as written.
    pub assist_page: u64,
    /// The VP assist page of a child's.
    pub assist: Option<PageBox<AssistPage>>,
    /// The page says that the interrupt in service needs no EOI, or has said so at the last look.
    pub lazy_eoi: bool,
    /// TLB tag.
    pub tag: VpTag,
    /// CR0 and CR4 bits whose change is intercepted, and the control register (HvX64RegisterCrIntercept…).
    pub cr_intercept: CrIntercept,
    /// MOV to CR8 exits: the task priority holds an interrupt back.
    pub cr8_watched: bool,
    /// Where its code was found last.
    pub code: CodeCache,
    /// Where its hypercall pages were found last.
    pub pages: PageCache,
    /// The MSRs that its parent has asked for by name.
    pub named_msrs: NamedMsrs,
    /// What it was told about its processor last.
    pub cpuid: CpuidCache,
}

/// Bit of [`CrIntercept::control`]: CR0 writes.
pub const CR_INTERCEPT_CR0_WRITE: u64 = 1 << 0;
/// CR4 writes.
pub const CR_INTERCEPT_CR4_WRITE: u64 = 1 << 1;
/// XCR0 writes.
pub const CR_INTERCEPT_XCR0_WRITE: u64 = 1 << 2;

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
    /// A VP in the state after reset. One of a child is suspended explicitly (root sheet A.3.4); one that is not the first
    /// waits for a startup IPI besides, if its partition has local APICs. Its place in a run queue is the caller's to fill in.
    ///
    /// # Errors
    /// INVALID_PARTITION_STATE for a partition without memory (its pages come back), that is, one that is not initialized.
    pub fn new(
        hypervisor: &Hypervisor,
        partition: &mut Partition,
        index: u16,
        pages: VpPages,
    ) -> Result<PageBox<Self>, (VpPages, HvStatus)> {
        let Some(memory) = partition.memory.as_ref() else {
            return Err((pages, HvStatus::INVALID_PARTITION_STATE));
        };
        let root = partition.is_root();
        let (kind, maps) = if root {
            (VcpuKind::Root, &hypervisor.root_maps)
        } else {
            (VcpuKind::Child, &hypervisor.child_maps)
        };
        let config = VcpuConfig {
            kind,
            nested_root: memory.root().address(),
            port_map: maps.port_map(),
            msr_map: maps.msr_map(),
        };
        let control = hardware_page(hypervisor, pages.control);
        let mut hw = VpHw::new(control, &hypervisor.capabilities, &config);
        let who = VpRef {
            slot: partition.slot,
            index,
        };
        let (synic, assist) = match pages.overlays {
            Some(overlays) => {
                let (synic, assist) = lay_out(hypervisor, partition, index, overlays);
                (synic, Some(assist))
            }
            None => (hypervisor.root_synic(index), None),
        };
        let synic = in_page(hypervisor, pages.synic, synic);
        *hypervisor.partitions.synic(who).lock() = Some(synic);
        hw.reset(hypervisor.signature);
        let vp = Self {
            who,
            home: Home(hypervisor.partitions.entry(partition.slot)),
            partition_id: partition.id,
            hw,
            apic: new_apic(hypervisor, partition, index),
            privileges: partition.privileges,
            sints: SintVectors::default(),
            stimers: SyntheticTimers::new(),
            fpu: Fpu::new(hardware_page(hypervisor, pages.fpu), hypervisor.fpu_format),
            stats: in_page(hypervisor, pages.stats, StatsPage::new()),
            stats_mapped: false,
            suspend: Suspend {
                explicit: !root,
                ..Suspend::default()
            },
            halted: false,
            idle: false,
            processor: if root { index.into() } else { 0 },
            queue_slot: Slot::ROOT,
            account: None,
            leaving: false,
            visited_until: 0,
            link: Link::Out,
            register_page: StatePage::new(pages.registers),
            intercept_page: StatePage::new(pages.intercept),
            notifications: HvDeliverabilityNotificationsRegister::new(),
            sint_due: false,
            assist_page: 0,
            assist,
            lazy_eoi: false,
            tag: VpTag::new(),
            cr_intercept: CrIntercept::default(),
            cr8_watched: false,
            code: CodeCache::new(),
            pages: PageCache::new(),
            named_msrs: NamedMsrs::default(),
            cpuid: CpuidCache::default(),
        };
        // The root may map the page before the VP has run (root sheet, trap 33).
        register_page::publish_stored(hypervisor, &vp);
        Ok(in_page(hypervisor, pages.object, vp))
    }

    /// Ends a VP of a child, and gives its pages back. It is in no queue, its floating point state is in no processor, and the
    /// root has none of its pages mapped.
    pub fn end(this: PageBox<Self>, hypervisor: &Hypervisor, child: &mut Partition) {
        let (mut vp, object) = this.into_parts();
        vp.set_intercept_suspend(HvInterceptSuspendRegister::new());
        let (slot, index) = (child.slot, vp.who.index);
        let overlays = Overlay::of(index);
        let lies = |overlay| child.overlays.place(overlay).is_some();
        if overlays.into_iter().any(lies) {
            for overlay in overlays {
                hypervisor.remove_overlay(child, overlay);
            }
            // Nobody reaches the pages any more when they have a new owner.
            hypervisor.shoot_down(slot);
        }
        child.overlays.remove_vp(hypervisor, slot, index);
        let synic = hypervisor.partitions.synic(vp.who).lock().take();
        let (synic_pages, synic_object) = match synic.map(PageBox::into_parts) {
            Some((synic, object)) => (synic.into_frames(), Some(object)),
            None => (None, None),
        };
        let pages = [
            single_frame(vp.hw.into_page()),
            single_frame(vp.fpu.into_page()),
            vp.register_page.frame,
            vp.intercept_page.frame,
            vp.stats.into_frame(),
            object,
        ];
        let others = synic_pages.into_iter().flatten().chain(synic_object);
        let assist = vp.assist.map(PageBox::into_frame);
        for frame in pages.into_iter().chain(others).chain(assist) {
            hypervisor.release(slot, frame);
        }
    }

    /// Makes the processor intercept the control registers that somebody waits for.
    pub fn refresh_cr_intercepts(&mut self) {
        let wanted = CrIntercepts {
            cr8: self.cr8_watched,
            ..self.cr_intercept.hardware()
        };
        self.hw.set_cr_intercepts(&wanted);
    }

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
        self.suspend.explicit
            || self.suspend.intercept.suspended()
            || self.suspend.dispatch
            || self.suspend.partition
    }

    /// Whether something ends a HLT: an NMI, INIT or SIPI, or an interrupt if the VP takes it. What a guest waits for that
    /// has read GUEST_IDLE comes when RFLAGS.IF or an interrupt in service holds it back: any request is enough.
    pub fn has_wake_event(&self) -> bool {
        self.apic.has_unmaskable()
            || (self.idle && self.apic.wants_attention())
            || (self.hw.rflags() & rflags::IF != 0 && self.apic.has_interrupt())
            || self.hw.pending_event().is_some()
    }

    /// Changes InterceptSuspend.
    pub fn set_intercept_suspend(&mut self, new: HvInterceptSuspendRegister) {
        let old = core::mem::replace(&mut self.suspend.intercept, new);
        if old.tlb_locked() == new.tlb_locked() {
            return;
        }
        let bit = 1 << (self.who.index % MAX_VPS as u16);
        // Ordered with the generation of the translations: see `flush`, and `locks_a_past`.
        if new.tlb_locked() {
            self.home.tlb_locked.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.home.tlb_locked.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// When its next timer is due, by the machine's time.
    pub fn next_deadline(&self) -> Option<RefTime> {
        let synthetic = self.stimers.next_deadline();
        let synthetic = synthetic.and_then(|at| self.home.clock.machine_time(at));
        earlier(self.apic.next_deadline(), synthetic)
    }

    /// Where it wants to run, if it does.
    pub fn wanted(&self) -> Option<Turns> {
        self.is_runnable().then_some(self.turns())
    }

    /// Where its turns are.
    pub const fn turns(&self) -> Turns {
        Turns {
            who: self.who,
            processor: self.processor,
            slot: self.queue_slot,
        }
    }

    /// Whether the VP wants a processor.
    pub fn is_runnable(&self) -> bool {
        if self.is_suspended() {
            return false;
        }
        if self.apic.is_waiting_for_startup() {
            return self.apic.has_unmaskable();
        }
        if self.sint_due {
            return true;
        }
        !self.halted || self.has_wake_event()
    }
}

/// The SynIC and the VP assist page of a child's new VP, which lie nowhere yet.
fn lay_out(
    hypervisor: &Hypervisor,
    child: &mut Partition,
    index: u16,
    pages: OverlayPages,
) -> (VpSynic, PageBox<AssistPage>) {
    let messages = in_page(hypervisor, pages.messages, MessagePage::new());
    let event_flags = in_page(hypervisor, pages.event_flags, EventFlagsPage::new());
    let assist = in_page(hypervisor, pages.assist, AssistPage::new());
    let frames = [messages.spfn(), event_flags.spfn(), assist.spfn()];
    child.overlays.add_vp(index, frames, pages.reserve);
    (VpSynic::new(messages, event_flags), assist)
}

/// The APIC of a new VP. Without an emulated one the parent starts the VP itself.
fn new_apic(hypervisor: &Hypervisor, partition: &Partition, index: u16) -> LocalApic {
    let slot = partition.slot;
    let id = hypervisor.apic_id(VpRef { slot, index });
    let mut apic = LocalApic::new(id, index == 0);
    if !partition.has_lapic() {
        let enabled = apic.base().value();
        // Clearing the two mode bits leaves a value that the register can have.
        let _ = apic.set_base(enabled & !(1 << 10 | 1 << 11));
        apic.set_waiting_for_startup(false);
    }
    apic
}

/// Frames of pools lie in the direct map (the frame table has no others), so these three cannot fail.
fn hardware_page(hypervisor: &Hypervisor, frame: Frame) -> HwPages {
    match HwPages::from_frame(hypervisor.phys, frame) {
        Ok(page) => page,
        Err(frame) => unreachable!("{frame:?} of a pool outside the direct map"),
    }
}

/// A page of a pool that holds `value`.
pub fn in_page<T>(hypervisor: &Hypervisor, frame: Frame, value: T) -> PageBox<T> {
    match PageBox::new_in(hypervisor.phys, frame, value) {
        Ok(page) => page,
        Err((frame, _)) => unreachable!("{frame:?} of a pool outside the direct map"),
    }
}

fn single_frame(page: HwPages) -> Frame {
    match page.into_frame() {
        Some(frame) => frame,
        None => unreachable!("a VP's hardware pages are single"),
    }
}
