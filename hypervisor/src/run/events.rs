//! Interrupts, NMIs and exceptions into the VP in hand.

use tlfs::stats::vp as counter;

use super::Cpu;
use super::instruction::code_mode;
use crate::apic::Effect;
use crate::arch::exit::{Event, ExceptionExit};
use crate::arch::state::{Segment, SegmentName, rflags, vector};
use crate::event_log::Event as Trace;
use crate::insn::{self, Instruction};
use crate::partition::Vp;

impl Cpu {
    /// Gives the VP in hand what its APIC has for it, as far as it can take it now; for the rest, asks for an exit when
    /// it can.
    #[inline(never)]
    pub fn deliver_events(&mut self, vp: &mut Vp) {
        // Something waits, maybe for what is in service.
        vp.require_eoi();
        if vp.apic.has_unmaskable() {
            self.deliver_unmaskable(vp);
            if self.reschedule {
                return;
            }
        }
        let Some(next) = next_interrupt(vp) else {
            return wait_for_priority(vp);
        };
        self.end_halt_in_shadow(vp);
        if vp.hw.pending_event().is_some() || !vp.hw.can_take_interrupt() {
            return self.ask_for_window(vp);
        }
        self.begin(vp, next);
        vp.stats.count(counter::VIRTUAL_INTERRUPTS);
        self.inject(vp, Event::Interrupt(next.vector));
        match next_interrupt(vp) {
            Some(_) => self.ask_for_window(vp),
            None => wait_for_priority(vp),
        }
    }

    /// Asks for an exit as soon as the VP can take an interrupt.
    fn ask_for_window(&mut self, vp: &mut Vp) {
        vp.hw.set_interrupt_window(true);
        if vp.hw.repeats_event() {
            // An interrupt for this processor ends the run behind the delivery, before it can be repeated.
            self.hv.kick(self.index());
        }
    }

    /// STI; HLT with an interrupt pending, interrupted between the two: the HLT ends as soon as it begins, so it is done here.
    ///
    /// QEMU (7.2 at least) saves the interrupt shadow at #VMEXIT and does not bring it back at VMRUN. The interrupt would
    /// come before the HLT there, and nobody would end that.
    fn end_halt_in_shadow(&mut self, vp: &mut Vp) {
        let between = vp.hw.interrupt_shadow()
            && vp.hw.rflags() & rflags::IF != 0
            && vp.hw.pending_event().is_none();
        if !between {
            return;
        }
        // With its prefixes, as anywhere. What the last exit told of length and bytes is of another instruction.
        let code = self.read_code(vp);
        let length = insn::length(Instruction::Hlt, code.as_slice(), code_mode(vp));
        if let Ok(length) = length {
            vp.hw.advance_rip(length);
        }
    }

    fn begin(&mut self, vp: &mut Vp, next: Next) {
        if next.external {
            vp.apic.take_ext_int();
            return;
        }
        if vp.sints.is_auto_eoi(next.vector) {
            vp.apic.begin_auto_eoi(next.vector);
        } else {
            vp.apic.begin(next.vector);
            vp.offer_lazy_eoi();
        }
    }

    fn deliver_unmaskable(&mut self, vp: &mut Vp) {
        if vp.apic.take_init() {
            vp.hw.reset(self.hv.signature);
            vp.tag.invalidate();
            (vp.halted, vp.idle) = (false, false);
            // Of the APIC; SynIC and synthetic timers are as they were.
            self.apply(vp, Effect::Readdressed);
            // The startup IPI may have come in the meantime.
            if vp.apic.is_waiting_for_startup() && !vp.apic.has_unmaskable() {
                return self.block(vp);
            }
        }
        if let Some(page) = vp.apic.take_startup() {
            let code = Segment {
                base: u64::from(page) << 12,
                selector: u16::from(page) << 8,
                ..vp.hw.segment(SegmentName::Cs)
            };
            vp.hw.set_segment(SegmentName::Cs, &code);
            vp.hw.set_rip(0);
        }
        if vp.apic.nmi_pending() {
            if vp.hw.pending_event().is_none() && vp.hw.can_take_nmi() {
                vp.apic.take_nmi();
                self.inject(vp, Event::Nmi);
            } else {
                vp.hw.set_nmi_window(true);
            }
        }
    }

    /// An event at the next entry. A triple fault ends the VP.
    pub(super) fn inject(&mut self, vp: &mut Vp, event: Event) {
        if !vp.hw.inject(event) {
            self.shutdown(vp);
        }
    }

    /// An exception at the next entry.
    pub(super) fn inject_exception(&mut self, vp: &mut Vp, vector: u8, error_code: Option<u32>) {
        let rip = vp.hw.rip();
        self.trace(vp, Trace::ReflectedException { rip, vector });
        self.inject(vp, Event::Exception { vector, error_code });
    }

    /// #GP(0).
    pub fn inject_gp(&mut self, vp: &mut Vp) {
        self.raise(vp, vector::GP, Some(0));
    }

    /// #UD.
    pub fn undefined(&mut self, vp: &mut Vp) {
        self.raise(vp, vector::UD, None);
    }

    /// An exception of the instruction at RIP, which the processor did not raise by itself: the parent's if it asked for
    /// it, as if the processor had.
    fn raise(&mut self, vp: &mut Vp, vector: u8, error_code: Option<u32>) {
        let exception = ExceptionExit {
            vector,
            error_code,
            parameter: 0,
        };
        self.exception(vp, &exception);
    }
}

/// An interrupt that passes the priorities.
#[derive(Clone, Copy)]
struct Next {
    vector: u8,
    /// From a PIC, past the APIC.
    external: bool,
}

fn next_interrupt(vp: &Vp) -> Option<Next> {
    let of = |external| move |vector| Next { vector, external };
    let pic = vp.apic.pending_ext_int().map(of(true));
    pic.or_else(|| vp.apic.next_interrupt().map(of(false)))
}

/// Nothing can be injected. If only the task priority holds an interrupt back, MOV to CR8 has to exit: otherwise it does
/// not.
///
/// The processor could compare a pending virtual interrupt's priority with CR8 by itself; but the manual says that it
/// takes one that is greater, and QEMU takes an equal one, with which nothing can be done.
fn wait_for_priority(vp: &mut Vp) {
    vp.hw.set_interrupt_window(false);
    let blocked = vp.apic.is_blocked_by_task_priority();
    if blocked != vp.cr8_watched {
        vp.cr8_watched = blocked;
        vp.refresh_cr_intercepts();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apic::{Delivery, Trigger};
    use crate::arch::testing::Vendor;
    use crate::cpu::VECTOR_WAKE;
    use crate::mem::addr::Gpa;
    use crate::run::testing::Bench;

    const VECTOR: u8 = 0x41;

    /// RIP's way from an instruction in the shadow of an STI, with an interrupt pending, on each vendor's processor.
    fn ways_of(bytes: &[u8]) -> Vec<u64> {
        Bench::each().map(|bench| way_of(bench, bytes)).collect()
    }

    fn way_of(mut bench: Bench, bytes: &[u8]) -> u64 {
        let start = bench.hand().hw.rip();
        bench.write(Gpa(start), bytes);
        let (cpu, vp) = bench.parts();
        vp.hw.set_rflags(rflags::FIXED | rflags::IF);
        vp.hw.set_interrupt_shadow(true);
        vp.apic.switch_on();
        let trigger = Trigger::Edge;
        assert!(vp.apic.accept(Delivery::Fixed {
            vector: VECTOR,
            trigger
        }));
        cpu.deliver_events(vp);
        vp.hw.rip() - start
    }

    #[test]
    fn a_halt_in_the_shadow_of_an_sti_ends_before_the_interrupt_that_waits() {
        assert_eq!(ways_of(&[0xF4]), [1; 2]);
        // With prefixes: segment, operand size, REX.
        assert_eq!(ways_of(&[0x3E, 0xF4]), [2; 2]);
        assert_eq!(ways_of(&[0x66, 0x2E, 0x48, 0xF4]), [4; 2]);
    }

    /// The vector of the interrupt that the processor sends itself when a VP has an interrupt in delivery, and, if `two`,
    /// another one waits.
    fn kick_of(mut bench: Bench, two: bool) -> u8 {
        let (cpu, vp) = bench.parts();
        vp.hw.repeat_interrupts();
        vp.hw.set_rflags(rflags::FIXED | rflags::IF);
        vp.apic.switch_on();
        vp.hw.set_pending_event(Some(Event::Interrupt(VECTOR)));
        if two {
            let trigger = Trigger::Edge;
            let vector = VECTOR + 0x10;
            assert!(vp.apic.accept(Delivery::Fixed { vector, trigger }));
        }
        cpu.deliver_events(vp);
        cpu.hv.commands.last_vector()
    }

    #[test]
    fn a_run_is_ended_in_time_that_would_repeat_an_interrupt_beside_a_window() {
        assert_eq!(kick_of(Bench::of(Vendor::Amd), true), VECTOR_WAKE);
        assert_eq!(kick_of(Bench::of(Vendor::Amd), false), 0);
        assert_eq!(kick_of(Bench::of(Vendor::Intel), true), 0);
    }

    #[test]
    fn no_other_instruction_in_the_shadow_is_touched() {
        assert_eq!(ways_of(&[0x90, 0xF4]), [0; 2]);
        assert_eq!(ways_of(&[0x0F, 0xA2]), [0; 2]);
    }
}
