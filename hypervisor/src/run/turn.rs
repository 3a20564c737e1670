//! Whose turn it is: choosing, switching, idling.

use tlfs::HvTraceGroups;
use tlfs::stats::{logical_processor as lp, vp as counter};

use super::Cpu;
use super::trace::Traced;
use crate::arch::{Backend, with_backend};
use crate::cpu;
use crate::mem::page_box::PageBox;
use crate::partition::table::VpPlace;
use crate::partition::{Vp, VpRef};

impl Cpu {
    /// Runs VPs for ever, `first` at first.
    pub(super) fn run(&mut self, first: PageBox<Vp>) -> ! {
        let mut hand = first;
        self.lp().run_clock.work(self.hv.now());
        self.load_fpu(&hand);
        // What came for the VP before the processor had it: the kick ended `join`, and comes only once.
        self.read_mail(&mut hand);
        loop {
            hand = self.choose(hand);
            self.turn(&mut hand);
        }
    }

    /// Waits to be kicked until there is a root VP for this processor, and runs VPs for ever.
    pub(super) fn join(&mut self) -> ! {
        loop {
            let arrived = self.halt();
            for vector in arrived.drain() {
                if !self.is_spurious(vector) {
                    self.apic.eoi();
                }
            }
            if let Some(first) = self.take(self.root_vp()) {
                self.run(first);
            }
        }
    }

    /// Runs the VP in hand until somebody else may have to run.
    #[inline(never)]
    fn turn(&mut self, vp: &mut Vp) {
        self.reschedule = false;
        if !vp.is_runnable() {
            return self.block(vp);
        }
        if vp.sint_due {
            vp.sint_due = false;
            self.retry_sints(vp, u16::MAX);
            if self.reschedule || !vp.is_runnable() {
                // As it was, or with a message for its parent.
                return self.block(vp);
            }
        }
        (vp.halted, vp.idle) = (false, false);
        with_backend!(vp.hw, B => {
            if self.load_directory_pointers(vp) {
                self.run_on::<B>(vp);
            }
        });
    }

    /// As [`turn`](Self::turn), for the VPs of one vendor: the way of an exit does not ask again and again whose it is.
    #[inline(always)]
    fn run_on<B: Backend>(&mut self, vp: &mut Vp) {
        loop {
            if vp.apic.wants_attention() {
                self.deliver_events(vp);
                if self.reschedule {
                    return;
                }
            }
            self.apic.look_again();
            let exit = self.enter::<B>(vp);
            if vp.lazy_eoi {
                self.end_lazily(vp);
            }
            let traces = self.hv.event_log.traces(HvTraceGroups::IM);
            let traced = traces.then(|| Traced::begin(vp, exit));
            self.handle::<B>(vp, exit);
            if let Some(traced) = traced {
                self.trace_exit(vp, traced);
            }
            if self.hv.event_log.has_news() {
                self.deliver_notices(vp);
            }
            if self.reschedule {
                return;
            }
        }
    }

    /// The VP whose turn it is, in hand. Idles until there is one.
    fn choose(&mut self, mut hand: PageBox<Vp>) -> PageBox<Vp> {
        loop {
            if self.release {
                hand = self.receive_visitor(hand);
            }
            let tsc = cpu::tsc();
            let now = self.hv.time_at(tsc);
            let turn = self.queue.pick(now);
            self.lp().residents.set_load(self.queue.load() as u32);
            let Some(turn) = turn else {
                self.end_slice_at(self.queue.next_release(), (tsc, now));
                self.idle(&mut hand);
                continue;
            };
            self.end_slice_at(turn.slice_end, (tsc, now));
            self.arm_timer();
            if turn.vp == hand.who {
                return hand;
            }
            self.show_run_time(&hand, now);
            let woken;
            (hand, woken) = self.exchange(hand, turn.vp);
            if hand.who != turn.vp {
                // It went away with its place in the queue: nobody takes one without the other.
                self.queue.block(turn.slot, now);
                continue;
            }
            if let Some((who, slot)) = self.queue.take_passed()
                && who != hand.who
            {
                self.share_load(&mut hand, who, slot);
            }
            if !woken {
                return hand;
            }
        }
    }

    /// Takes a VP out of its place.
    pub(super) fn take(&self, who: VpRef) -> Option<PageBox<Vp>> {
        let mut place = self.hv.partitions.vp(who).lock();
        let visited_until = match &*place {
            VpPlace::Home(vp) => vp.visited_until,
            VpPlace::Absent | VpPlace::Running { .. } => 0,
        };
        if visited_until != 0 && cpu::tsc() < visited_until {
            // Another processor looks at it (see `mail`), for which it needs the lock.
            drop(place);
            while cpu::tsc() < visited_until {
                core::hint::spin_loop();
            }
            place = self.hv.partitions.vp(who).lock();
        }
        match core::mem::take(&mut *place) {
            VpPlace::Home(vp) => {
                self.hv.show_addressing(&vp);
                *place = VpPlace::running(self.index());
                Some(vp)
            }
            other => {
                *place = other;
                None
            }
        }
    }

    /// Puts the VP in hand home and takes `to` in its place, or the same one again if `to` is not at home. True if what
    /// others had left for the first woke it.
    ///
    /// In this order: what others leave here for a VP in hand goes to the one that is, so there are never two.
    #[inline(always)]
    pub(super) fn exchange(&mut self, from: PageBox<Vp>, to: VpRef) -> (PageBox<Vp>, bool) {
        let who = from.who;
        let woken = self.put_home(from, 0);
        let hand = self.take_in_hand(to, who);
        if hand.who != who {
            self.lp().stats.count(lp::CONTEXT_SWITCHES);
            hand.stats.count(counter::LOGICAL_PROCESSOR_DISPATCHES);
        }
        (hand, woken)
    }

    /// Takes `to` in hand, or, if it is not at home, `before`, which was just put there.
    #[inline(always)]
    pub(super) fn take_in_hand(&mut self, to: VpRef, before: VpRef) -> PageBox<Vp> {
        let Some(hand) = self.take(to).or_else(|| self.take(before)) else {
            unreachable!("nobody else takes a VP that has its turns here");
        };
        self.load_fpu(&hand);
        hand
    }

    /// Puts the VP in hand home, with what others have left for it; for another processor to look at, if `visit` is so many
    /// ticks of the TSC. True if what was left wakes it.
    #[inline(always)]
    pub(super) fn put_home(&mut self, mut hand: PageBox<Vp>, visit: u64) -> bool {
        self.unload_fpu(&mut hand);
        Self::leave(&mut hand);
        let mut wanted = None;
        {
            let mut place = self.hv.partitions.vp(hand.who).lock();
            let taken = self.lp().mailbox.take_deliveries(&mut hand.apic);
            if taken != 0 {
                hand.stats.add(counter::SYNTHETIC_INTERRUPTS, taken);
                wanted = hand.wanted();
            }
            if visit != 0 {
                hand.visited_until = cpu::tsc().saturating_add(visit);
            }
            *place = VpPlace::Home(hand);
        }
        let woken = wanted.is_some();
        if woken {
            self.wake_wanted(wanted);
        }
        woken
    }

    /// Nobody wants to run: halts until an interrupt comes.
    fn idle(&mut self, hand: &mut Vp) {
        self.arm_timer();
        self.lp().stats.count(lp::PROCESSOR_HALTS);
        let since = self.hv.now();
        self.show_run_time(hand, since);
        self.lp().run_clock.rest(since);
        let arrived = self.halt();
        self.lp().run_clock.work(self.hv.now());
        self.serve(hand, arrived);
    }
}
