//! Events into the guest, and when it can take them.

use crate::arch::exit::Event;
use crate::arch::merge::merge;
use crate::arch::state::{Segment, SegmentName, cr0, dr6, dr7, efer, rflags, vector};

use super::bits::{clean, event, exit_code, vintr};
use super::codec::{decode, encode};
use super::vcpu::{NmiState, Vcpu};

/// Bit of `interrupt_shadow`: the instruction after STI or MOV SS runs without interrupts.
const SHADOW: u64 = 1;
/// What a posted interrupt sets in `vintr`, but for its vector.
const POST: u64 = vintr::IRQ | vintr::PRIORITY_HIGHEST | vintr::IGNORE_TPR;
/// What a posted interrupt uses of `vintr`.
const POSTED: u64 = POST | vintr::VECTOR_MASK;

impl Vcpu {
    /// The event that the next entry delivers: one that was injected, or whose delivery the last exit interrupted.
    pub fn pending_event(&self) -> Option<Event> {
        decode(self.control().event_inj, self.software_length())
    }

    /// Replaces the event of the next entry, without the rules of [`Self::inject`]. For setting state from outside.
    pub fn set_pending_event(&mut self, pending: Option<Event>) {
        self.software_rip = None;
        self.control_mut().event_inj = 0;
        if let Some(event) = pending {
            self.put(event);
        }
    }

    /// Delivers `event` at the next entry. An exception that meets one still in delivery becomes what the processor would
    /// make of it. Callers ask [`Self::can_take_interrupt`] and [`Self::can_take_nmi`] before they inject those.
    ///
    /// False for a triple fault: nothing is injected, and the VP shuts down.
    #[must_use = "a triple fault is the VP's end"]
    pub fn inject(&mut self, event: Event) -> bool {
        let Some(event) = merge(self.pending_event(), event) else {
            return false;
        };
        self.set_pending_event(Some(event));
        true
    }

    fn put(&mut self, event: Event) {
        match event {
            Event::Nmi => {
                self.nmi = NmiState::Masked;
                self.refresh_intercepts();
            }
            Event::Exception {
                vector: vector::DB, ..
            } => {
                // Delivery clears general detect, so that the handler can use the debug registers.
                self.save_mut().dr7 &= !dr7::GD;
                self.dirty(clean::DR);
            }
            Event::Software { length, .. } => {
                let rip = self.save().rip;
                let next = self.wrap_rip(rip.wrapping_add(u64::from(length)));
                self.software_rip = Some((rip, next));
            }
            _ => {}
        }
        self.control_mut().event_inj = encode(event);
    }

    /// Whether an external interrupt could be delivered at the next entry. The task priority is the caller's affair.
    pub fn can_take_interrupt(&self) -> bool {
        self.save().rflags & rflags::IF != 0
            && !self.interrupt_shadow()
            && self.control().event_inj & event::VALID == 0
    }

    /// Whether an NMI could be delivered at the next entry.
    pub fn can_take_nmi(&self) -> bool {
        !self.nmi_masked()
            && !self.interrupt_shadow()
            && self.control().event_inj & event::VALID == 0
    }

    /// The instruction at RIP runs without interrupts (after STI or MOV SS).
    pub fn interrupt_shadow(&self) -> bool {
        self.control().interrupt_shadow & SHADOW != 0
    }

    /// Sets or clears the interrupt shadow.
    pub fn set_interrupt_shadow(&mut self, shadow: bool) {
        let control = self.control_mut();
        control.interrupt_shadow = control.interrupt_shadow & !SHADOW | u64::from(shadow);
    }

    /// Asks for [`crate::arch::exit::Exit::InterruptWindow`] as soon as RFLAGS.IF and the shadow allow an interrupt.
    pub fn set_interrupt_window(&mut self, wanted: bool) {
        if wanted != self.window_requested() {
            let control = self.control_mut();
            let bits = vintr::IRQ | vintr::PRIORITY_HIGHEST | vintr::IGNORE_TPR;
            control.vintr = if wanted {
                control.vintr | bits
            } else {
                control.vintr & !bits
            };
            self.dirty(clean::TPR);
            self.refresh_intercepts();
        }
    }

    pub(super) fn window_requested(&self) -> bool {
        self.control().vintr & vintr::IRQ != 0
    }

    /// The event of the next entry is an interrupt that the processor may deliver twice (see `post_interrupt`), unless
    /// something ends the run as soon as it is delivered: there is a window besides, so it cannot be posted.
    pub fn repeats_event(&self) -> bool {
        self.caps.repeats_interrupts && self.has_interrupt_event() && self.window_requested()
    }

    fn has_interrupt_event(&self) -> bool {
        let event = self.control().event_inj;
        event & (event::VALID | event::TYPE_MASK) == event::VALID | event::TYPE_INTERRUPT
    }

    /// Moves RIP behind an instruction of `length` bytes that was emulated: the interrupt shadow and RF end, and a
    /// single-stepping guest gets its #DB. RIP wraps as the code segment's width says.
    pub fn advance_rip(&mut self, length: u8) {
        let next = self.wrap_rip(self.save().rip.wrapping_add(u64::from(length)));
        self.set_interrupt_shadow(false);
        let save = self.save_mut();
        save.rip = next;
        save.rflags &= !rflags::RF;
        if save.rflags & rflags::TF != 0
            && !matches!(
                self.nmi,
                NmiState::Returning {
                    stepping: Some(false),
                    ..
                }
            )
        {
            self.save_mut().dr6 |= dr6::BS;
            self.dirty(clean::DR);
            // Nothing else is in delivery: the instruction executed.
            self.set_pending_event(Some(Event::Exception {
                vector: vector::DB,
                error_code: None,
            }));
        }
    }

    /// The guest executes 64-bit code.
    pub fn in_64_bit_code(&self) -> bool {
        self.save().efer & efer::LMA != 0
            && self.segment(SegmentName::Cs).attributes & Segment::LONG != 0
    }

    pub(super) fn wrap_rip(&self, rip: u64) -> u64 {
        if self.in_64_bit_code() {
            rip
        } else {
            rip & 0xFFFF_FFFF
        }
    }

    fn software_length(&self) -> u8 {
        self.software_rip
            .map_or(0, |(rip, next)| next.wrapping_sub(rip) as u8)
    }

    /// Before entry with an event: how this processor takes it.
    #[inline(never)]
    pub(super) fn prepare_event(&mut self) {
        if self.software_rip.is_some() {
            self.prepare_software_event();
        }
        if self.save().cr0 & cr0::PE == 0 {
            // In real mode no event has an error code.
            let code = event::ERROR_CODE_VALID;
            let control = self.control_mut();
            if control.event_inj & event::TYPE_MASK == event::TYPE_EXCEPTION {
                control.event_inj &= !code;
            }
        }
        if self.caps.repeats_interrupts {
            self.post_interrupt();
        }
    }

    /// Before entry: a software interrupt returns behind its instruction. With next-RIP the processor takes it from there,
    /// without it RIP itself is what is pushed.
    pub(super) fn prepare_software_event(&mut self) {
        if let Some((_, next)) = self.software_rip {
            if self.caps.nrip_save {
                self.control_mut().next_rip = next;
            } else {
                self.save_mut().rip = next;
            }
        }
    }

    /// Before entry, where an interrupt injected as an event may come twice: makes a virtual interrupt of it.
    ///
    /// QEMU (7.2, and others) delivers an injected interrupt inside VMRUN, and leaves a note of it that only the next
    /// #VMEXIT takes away. If the emulator has to leave its loop before (for a timer, or for a byte on the serial line), it
    /// finds the note and delivers the same interrupt again, whatever RFLAGS.IF says. A virtual interrupt takes another way.
    /// It comes before the guest's next instruction just the same, because it is used only when the guest can take it; while
    /// a window is asked for, which is a virtual interrupt too, the event stays an event, and something has to end the run
    /// ([`Self::repeats_event`]).
    pub(super) fn post_interrupt(&mut self) {
        let event = self.control().event_inj;
        if !self.has_interrupt_event()
            || self.save().rflags & rflags::IF == 0
            || self.interrupt_shadow()
            || self.window_requested()
        {
            return;
        }
        let vector = event & event::VECTOR_MASK;
        let control = self.control_mut();
        control.event_inj = 0;
        control.vintr = control.vintr & !POSTED | POST | vector << vintr::VECTOR_SHIFT;
        self.posted = Some(vector as u8);
        self.dirty(clean::TPR);
    }

    /// After exit: if the virtual interrupt was not taken, because something else ended the run before, it is an event
    /// again whose delivery was interrupted.
    #[inline(never)]
    pub(super) fn settle_interrupt(&mut self) {
        let Some(vector) = self.posted.take() else {
            return;
        };
        let ready = self.save().rflags & rflags::IF != 0 && !self.interrupt_shadow();
        let control = self.control_mut();
        let waits = control.vintr & vintr::IRQ != 0;
        control.vintr &= !POSTED;
        self.dirty(clean::TPR);
        // QEMU: when a nested page fault ends the delivery, the virtual interrupt is still there, and the event is called an
        // exception. When a fault of the guest's ends it, the guest goes on without the interrupt, as on any processor.
        let interrupted = event::VALID | event::TYPE_EXCEPTION | u64::from(vector);
        let info = self.control().exit_int_info;
        let same = info & (event::VALID | event::TYPE_MASK | event::VECTOR_MASK) == interrupted;
        if waits && (same || ready && info & event::VALID == 0) {
            self.control_mut().exit_int_info =
                event::VALID | event::TYPE_INTERRUPT | u64::from(vector);
        }
    }

    /// Before entry into an interrupt shadow, where the processor forgets it.
    ///
    /// QEMU (7.2 at least) saves the shadow at #VMEXIT and does not bring it back at VMRUN. If physical interrupts end the
    /// run twice in a row before the instruction in the shadow executes, it is lost here too; and if that is the HLT of an
    /// STI; HLT, the interrupt that it waits for would come before it, and nobody would end it
    /// (`Cpu::end_halt_in_shadow`).
    #[cold]
    pub(super) fn note_shadow(&mut self) {
        if self.caps.forgets_shadow && self.control().event_inj == 0 {
            self.shadowed_at = Some(self.save().rip);
        }
    }

    /// After exit: the shadow of the entry is still there if nothing has executed. A loop that has come back to the same
    /// instruction looks alike; the shadow that it gets costs an exit for a window, which ends it. A HLT has not executed: it
    /// would have ended the run.
    #[cold]
    pub(super) fn settle_shadow(&mut self) {
        let nothing_done = matches!(self.control().exit_code, exit_code::INTR | exit_code::NMI);
        if self.shadowed_at.take() == Some(self.save().rip) && nothing_done {
            self.set_interrupt_shadow(true);
        }
    }

    /// After exit: an event whose delivery was interrupted is delivered again at the next entry. INT n, INT3 and INTO
    /// execute again instead, since RIP is still at them.
    pub(super) fn requeue_interrupted_event(&mut self) {
        let software = self.software_rip.take();
        let info = self.control().exit_int_info;
        if info & event::VALID == 0 {
            return;
        }
        // An exception in delivery that was intercepted is described by the exit, not by what it interrupted; `inject`
        // needs both, so even then the interrupted one is queued.
        if !executes_again(info) {
            self.control_mut().event_inj = info;
        }
        if let Some((rip, next)) = software
            && executes_again(info)
            && self.save().rip == next
        {
            self.save_mut().rip = rip;
        }
    }

    /// The length of the instruction that was intercepted, where the processor told.
    #[inline]
    pub fn instruction_length(&self) -> Option<u8> {
        let control = self.control();
        let next = if self.caps.nrip_save && saves_next_rip(control.exit_code) {
            control.next_rip
        } else if control.exit_code == exit_code::IOIO {
            // Ports tell on every processor.
            control.exit_info2
        } else {
            return None;
        };
        let length = self.wrap_rip(next.wrapping_sub(self.save().rip));
        u8::try_from(length).ok().filter(|l| (1..=15).contains(l))
    }

    /// The bytes at RIP that the processor saved with the last exit; empty where it does not.
    pub fn instruction_bytes(&self) -> &[u8] {
        let control = self.control();
        if !self.caps.decode_assists || !matches!(control.exit_code, exit_code::NPF | PAGE_FAULT) {
            return &[];
        }
        let count = usize::from(control.bytes_fetched & 0xF);
        control.instruction.get(..count).unwrap_or(&[])
    }
}

const BREAKPOINT: u64 = exit_code::EXCEPTION_0 + 3;
const OVERFLOW: u64 = exit_code::EXCEPTION_0 + 4;
const PAGE_FAULT: u64 = exit_code::EXCEPTION_0 + vector::PF as u64;

/// Manual volume 2, 15.7.1: next RIP is saved for instruction intercepts, and for the exceptions of INT3 and INTO.
const fn saves_next_rip(code: u64) -> bool {
    matches!(
        code,
        exit_code::CR0_READ..=exit_code::DR15_WRITE
            | BREAKPOINT..=OVERFLOW
            | exit_code::CR0_SEL_WRITE..=exit_code::MSR
            | exit_code::VMRUN..=exit_code::RDPRU
            | exit_code::INVLPGB..=exit_code::TLBSYNC
    )
}

/// A software interrupt or exception: RIP is still at its instruction.
const fn executes_again(info: u64) -> bool {
    let vector = info & event::VECTOR_MASK;
    match info & event::TYPE_MASK {
        event::TYPE_SOFTWARE => true,
        event::TYPE_EXCEPTION => vector == 3 || vector == 4,
        _ => false,
    }
}
