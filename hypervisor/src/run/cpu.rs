//! What a processor has.

use crate::arch::Processor;
use crate::arch::fpu::FpuUnit;
use crate::cpu::apic::LocalApic as PhysicalApic;
use crate::cpu::local::Local;
use crate::event_log::Event;
use crate::hv::Hypervisor;
use crate::hypercall::Buffers;
use crate::lp::LogicalProcessor;
use crate::mem::frames::PartitionSlot;
use crate::mem::tlb::{CpuMark, CpuTags};
use crate::partition::table::{MAX_PARTITIONS, VpPlace};
use crate::partition::vp::Turns;
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
    /// What others see of this processor.
    lp: &'static LogicalProcessor,
    /// Who wants to run here.
    pub queue: RunQueue<VpRef, MAX_QUEUE>,
    /// APIC timers of the VPs at home here.
    pub(super) timers: TimerHeap<TIMERS>,
    /// What the root's VP here is to be told through SINT0.
    pub notices: NoticeQueue<VpRef>,
    /// End of the present turn.
    pub(super) slice_end: RefTime,
    /// TSC value at which it is over for sure; `u64::MAX` if it has no end.
    pub(super) slice_end_tsc: u64,
    /// TSC value at which the physical timer fires; `u64::MAX` if it does not.
    pub(super) armed: u64,
    /// Somebody else may have to run now.
    pub reschedule: bool,
    /// Another processor waits for the VP in hand.
    pub(super) release: bool,
    /// Copies of a hypercall's parameters, while none is under way.
    pub(crate) buffers: Option<&'static mut Buffers>,
}

impl Cpu {
    /// The processor of `local`, without a VP in hand yet. `None` if there is no mark for it, nothing that others see
    /// of it, or no TLB tag for guests.
    ///
    /// Some 60 KiB: inline, so that it is made where it stays rather than copied over the stack.
    #[inline(always)]
    pub(super) fn new(
        hv: &'static Hypervisor,
        local: &'static Local,
        apic: PhysicalApic,
        processor: Processor,
        fpu: FpuUnit,
        buffers: &'static mut Buffers,
    ) -> Option<Self> {
        let index = local.index();
        let kind = hv.capabilities.tag_kind();
        let root = VpRef {
            slot: PartitionSlot::ROOT,
            index: index as u16,
        };
        Some(Self {
            hv,
            local,
            apic,
            processor,
            fpu,
            tags: CpuTags::new(index, kind, hv.capabilities.tlb_tags())?,
            mark: hv.marks.get(index as usize)?,
            lp: hv.lps.get(index as usize)?,
            queue: RunQueue::new(root),
            timers: TimerHeap::new(),
            notices: NoticeQueue::new(),
            slice_end: RefTime::MAX,
            slice_end_tsc: u64::MAX,
            armed: u64::MAX,
            reschedule: false,
            release: false,
            buffers: Some(buffers),
        })
    }

    /// Index of the processor.
    pub const fn index(&self) -> u32 {
        self.local.index()
    }

    /// What others see of the processor.
    #[inline]
    pub const fn lp(&self) -> &'static LogicalProcessor {
        self.lp
    }

    /// Calls `f` with a VP. `None` if there is no such VP, or if another processor has it in hand.
    ///
    /// What the processor of a VP alone knows of it ([`crate::arch::VpHw::is_settled`]) others must not ask for: hypercalls
    /// go by [`crate::hypercall::Call::with_vp`].
    pub fn with_vp<R>(&self, hand: &mut Vp, who: VpRef, f: impl FnOnce(&mut Vp) -> R) -> Option<R> {
        if who == hand.who {
            return Some(f(hand));
        }
        match &mut *self.hv.partitions.vp(who).lock() {
            VpPlace::Home(vp) => Some(f(vp)),
            VpPlace::Absent | VpPlace::Running { .. } => None,
        }
    }

    /// A VP gets its turn where it has them, if it wants to.
    pub fn wake_wanted(&mut self, wanted: Option<Turns>) {
        match wanted {
            Some(turns) if turns.processor == self.index() && turns.slot != Slot::NONE => {
                self.reschedule |= self.queue.wake(turns.slot);
            }
            Some(turns) => self.tell(turns),
            None => {}
        }
    }

    /// A VP must not run now, wherever it has its turns. It is not in hand.
    pub fn park(&mut self, turns: Turns) {
        if turns.processor == self.index() {
            self.queue.block(turns.slot, self.hv.now());
        } else {
            self.tell(turns);
        }
    }

    /// The VP's processor is to look at it.
    pub fn tell(&self, turns: Turns) {
        self.hv.lp(turns.processor).mailbox.look_at(turns.who);
        self.hv.kick(turns.processor);
    }

    /// The timers of a VP are due at another time, wherever it has its turns: its processor is to look at it.
    pub fn retime(&self, who: VpRef) {
        let processor = match &*self.hv.partitions.vp(who).lock() {
            VpPlace::Home(vp) => vp.processor,
            VpPlace::Running { on, .. } => *on,
            VpPlace::Absent => return,
        };
        self.tell(Turns {
            who,
            processor,
            slot: Slot::NONE,
        });
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
