//! What a processor has.

use crate::arch::Processor;
use crate::arch::fpu::FpuUnit;
use crate::cpu::apic::LocalApic as PhysicalApic;
use crate::cpu::local::Local;
use crate::event_log::Event;
use crate::hv::Hypervisor;
use crate::hypercall::Buffers;
use crate::mem::tlb::{CpuMark, CpuTags};
use crate::partition::table::{MAX_PARTITIONS, VpPlace};
use crate::partition::{MAX_VPS, Vp, VpRef};
use crate::sched::{RunQueue, Slot};
use crate::synic::NoticeQueue;
use crate::time::RefTime;

use super::timers::TimerHeap;

/// Most VPs of children at home on a processor.
pub const MAX_QUEUE: usize = 256;
/// A timer for each VP that there can be.
pub const TIMERS: usize = MAX_PARTITIONS * MAX_VPS;

/// A processor, as the code that runs on it sees it.
///
/// The VP whose turn it is is *in hand*: taken out of its place, with its floating point state in the processor. It stays
/// in hand while the processor idles. Every function that may meet it gets it as an argument, `hand`.
pub struct Cpu {
    /// What all processors share.
    pub hv: &'static Hypervisor,
    /// The block that the exception entries write to.
    pub local: &'static Local,
    /// The physical local APIC.
    pub apic: PhysicalApic,
    /// Virtualization.
    pub(super) processor: Processor,
    /// Floating point.
    pub(super) fpu: FpuUnit,
    /// TLB tags.
    pub(super) tags: CpuTags,
    /// Tells others in which guest this processor is.
    pub(super) mark: &'static CpuMark,
    /// Who wants to run here.
    pub queue: RunQueue<VpRef, MAX_QUEUE>,
    /// APIC timers of the VPs at home here.
    pub(super) timers: TimerHeap<TIMERS>,
    /// What the root's VP here is to be told through SINT0.
    pub notices: NoticeQueue<VpRef>,
    /// End of the present turn.
    pub(super) slice_end: RefTime,
    /// TSC value at which the physical timer fires; `u64::MAX` if it does not.
    pub(super) armed: u64,
    /// For how long there was nothing to do.
    pub(super) idle_time: RefTime,
    /// Somebody else may have to run now.
    pub reschedule: bool,
    /// Copies of a hypercall's parameters, while none is under way.
    pub(crate) buffers: Option<&'static mut Buffers>,
}

impl Cpu {
    /// Calls `f` with a VP. `None` if there is no such VP.
    ///
    /// With a single processor a VP that exists is in hand or at home.
    pub fn with_vp<R>(&self, hand: &mut Vp, who: VpRef, f: impl FnOnce(&mut Vp) -> R) -> Option<R> {
        if who == hand.who {
            return Some(f(hand));
        }
        match &mut *self.hv.partitions.vp(who).lock() {
            VpPlace::Home(vp) => Some(f(vp)),
            VpPlace::Absent | VpPlace::Running(_) => None,
        }
    }

    /// The VP may run now: its turn comes, if it wants to.
    pub fn wake(&mut self, hand: &mut Vp, who: VpRef) {
        if let Some(slot) = self.with_vp(hand, who, |vp| vp.wanted_slot()) {
            self.wake_slot(slot);
        }
    }

    /// The VP in this place of the queue runs, if there is one that wants to.
    pub fn wake_slot(&mut self, wanted: Option<Slot>) {
        if wanted.is_some_and(|slot| self.queue.wake(slot)) {
            self.reschedule = true;
        }
    }

    /// The VP must not run now.
    pub fn block(&mut self, vp: &Vp) {
        self.queue.block(vp.queue_slot, self.hv.now());
        self.reschedule = true;
    }

    /// Records what happened to the VP in hand, or what it did, if the root wants that to be recorded.
    #[inline]
    pub fn trace(&self, vp: &Vp, event: Event) {
        self.hv.event_log.record(self.hv, Some(vp.who), event);
    }

    /// XMM0 to XMM5 of the VP in hand.
    pub fn live_xmm(&self) -> [u128; 6] {
        self.fpu.live_xmm()
    }
}
