//! What other processors want of this one: see [`crate::lp`].

use tlfs::stats::vp as counter;

use super::Cpu;
use crate::cpu;
use crate::mem::page_box::PageBox;
use crate::partition::table::VpPlace;
use crate::partition::vp::Turns;
use crate::partition::{Vp, VpRef};

/// How long a VP that another processor wants to look at stays at home: a fraction of a second.
const VISIT: u64 = 50_000;

impl Cpu {
    /// Looks into the mailbox.
    pub(super) fn read_mail(&mut self, hand: &mut Vp) {
        let mailbox = &self.lp().mailbox;
        let taken = mailbox.take_deliveries(&mut hand.apic);
        if taken != 0 {
            hand.stats.add(counter::SYNTHETIC_INTERRUPTS, taken);
            self.wake_wanted(hand.wanted());
        }
        mailbox.take_vps(|who| self.look_at(hand, who));
        let place = &*self.hv.partitions.vp(hand.who).lock();
        if matches!(place, VpPlace::Running { wanted: true, .. }) {
            self.release = true;
            self.reschedule = true;
        }
    }

    /// Something of a VP that has its turns here was changed by another processor, or one wants to look at it.
    fn look_at(&mut self, hand: &mut Vp, who: VpRef) {
        let until = cpu::tsc().saturating_add(self.hv.tsc_hz / VISIT);
        let found = self.with_vp(hand, who, |vp| {
            if !vp.hw.is_settled() {
                Self::settle(vp);
                vp.visited_until = until;
            }
            (
                vp.turns(),
                vp.is_runnable(),
                vp.apic.next_deadline(),
                vp.leaving,
            )
        });
        let found = match found {
            // A VP in hand comes home first; whoever asked asks again.
            Some((turns, _, _, true)) if turns.processor == self.index() && who != hand.who => {
                return self.let_go(hand, turns);
            }
            found => found.map(|(turns, runnable, deadline, _)| (turns, runnable, deadline)),
        };
        match found {
            Some((turns, runnable, deadline)) if turns.processor == self.index() => {
                self.set_deadline(who, deadline);
                if runnable {
                    self.wake_wanted(Some(turns));
                } else if who != hand.who {
                    self.park(turns);
                }
            }
            _ => {}
        }
    }

    /// A VP that lies at home here is never coming back.
    fn let_go(&mut self, hand: &mut Vp, turns: Turns) {
        self.forget_notice(hand, turns.who);
        self.forget_vp(turns);
        let _ = self.with_vp(hand, turns.who, |vp| {
            Self::depart(vp);
            vp.processor = Turns::NOWHERE;
            vp.leaving = false;
        });
    }

    /// The VP in hand is at home for a moment, for another processor to look at, and in hand again.
    pub(super) fn receive_visitor(&mut self, mut hand: PageBox<Vp>) -> PageBox<Vp> {
        self.release = false;
        self.store_fpu(&mut hand);
        Self::settle(&mut hand);
        Self::leave(&mut hand);
        let who = hand.who;
        let until = cpu::tsc().saturating_add(self.hv.tsc_hz / VISIT);
        *self.hv.partitions.vp(who).lock() = VpPlace::Home(hand);
        while cpu::tsc() < until {
            core::hint::spin_loop();
        }
        let hand = self.take(who);
        let Some(hand) = hand else {
            unreachable!("nobody else takes a VP that has its turns here");
        };
        self.reload_fpu(&hand);
        hand
    }
}
