//! Into the guest and back: the only `unsafe` of the run loop.

use super::Cpu;
use crate::arch::Backend;
use crate::arch::exit::Exit;
use crate::mem::tlb;
use crate::partition::Vp;

impl Cpu {
    /// Runs the VP in hand until its next exit.
    #[inline(always)]
    pub(super) fn enter<B: Backend>(&mut self, vp: &mut Vp) -> Exit {
        vp.hw.is_of::<B>();
        let decision = tlb::enter(&mut self.tags, self.mark, &mut vp.tag, &vp.home.domain);
        // SAFETY: `Cpu` is made on its processor and stays there. A partition's tables map nothing but what the frame
        // table has bound to it (for the root: nothing of the hypervisor's), and are changed only with a shootdown behind;
        // permission maps are made at start and intercept what the hypervisor stands on.
        let exit = unsafe { vp.hw.run(&mut self.processor, decision.tag, decision.flush) };
        self.mark.leave();
        vp.hw.is_of::<B>();
        exit
    }

    /// The VP in hand will not be it any more.
    pub(super) fn leave(vp: &mut Vp) {
        // SAFETY: a VP in hand runs on this processor.
        unsafe { vp.hw.leave() }
    }

    /// A VP that had its turns here has them elsewhere from now on.
    pub(super) fn depart(vp: &mut Vp) {
        // SAFETY: a VP that has its turns here ran here last, if it did; it is not in hand.
        unsafe { vp.hw.depart() }
    }

    /// Makes a VP that has its turns here readable for other processors.
    pub(super) fn settle(vp: &mut Vp) {
        // SAFETY: a VP that has its turns here ran here last, if it did.
        unsafe { vp.hw.settle() }
    }

    /// Takes the floating point state of the VP in hand out of the processor, before it goes home.
    pub(super) fn unload_fpu(&mut self, hand: &mut Vp) {
        // SAFETY: this processor's unit; the VP in hand is the one whose state is in it.
        unsafe {
            self.fpu
                .unload(&mut hand.fpu, self.processor.counters_mut())
        }
    }

    /// Puts the floating point state of the VP in hand into the processor: it was taken in hand, or its stored state was
    /// changed.
    pub fn load_fpu(&mut self, hand: &Vp) {
        // SAFETY: this processor's unit; what was in it is stored.
        unsafe { self.fpu.load(&hand.fpu, self.processor.counters_mut()) }
    }

    /// Stores the floating point state of the VP in hand, for somebody who looks at it.
    pub fn store_fpu(&mut self, hand: &mut Vp) {
        // SAFETY: as in `unload_fpu`.
        unsafe { self.fpu.store(&mut hand.fpu, self.processor.counters_mut()) }
    }

    /// XCR0 of the VP in hand has changed.
    pub(super) fn load_xcr0(&mut self, hand: &Vp) {
        // SAFETY: as in `unload_fpu`.
        unsafe { self.fpu.load_xcr0(&hand.fpu, self.processor.counters_mut()) }
    }
}
