//! Events into the guest, and when it can take them.

use crate::arch::exit::Event;
use crate::arch::merge::merge;
use crate::arch::state::{cr0, dr6, dr7, rflags, vector};

use super::fields::{Control, Guest, Info};
use super::vcpu::Vcpu;

/// Interruption information of entries and exits, and IDT-vectoring information: SDM volume 3, 25.8.3 and 25.9.2.
pub(super) mod information {
    /// Vector, bits 7:0.
    pub const VECTOR_MASK: u64 = 0xFF;
    /// Type, bits 10:8.
    pub const TYPE_MASK: u64 = 7 << 8;
    /// External interrupt.
    pub const EXTERNAL_INTERRUPT: u64 = 0 << 8;
    /// NMI.
    pub const NMI: u64 = 2 << 8;
    /// Hardware exception.
    pub const HARDWARE_EXCEPTION: u64 = 3 << 8;
    /// INT n.
    pub const SOFTWARE_INTERRUPT: u64 = 4 << 8;
    /// INT1.
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u64 = 5 << 8;
    /// INT3 or INTO.
    pub const SOFTWARE_EXCEPTION: u64 = 6 << 8;
    /// There is an error code.
    pub const ERROR_CODE: u64 = 1 << 11;
    /// Exits: IRET had ended the blocking of NMIs.
    pub const NMI_UNBLOCKED: u64 = 1 << 12;
    /// The field holds an event.
    pub const VALID: u64 = 1 << 31;
}

/// Interruptibility state: SDM volume 3, table 25-3.
pub(super) mod interruptibility {
    /// Blocking by STI.
    pub const STI: u64 = 1 << 0;
    /// Blocking by MOV SS.
    pub const MOV_SS: u64 = 1 << 1;
    /// Either.
    pub const SHADOW: u64 = STI | MOV_SS;
    /// Blocking by NMI.
    pub const NMI: u64 = 1 << 3;
}

/// An event in the processor's form, without its error code.
fn encode(event: Event) -> u64 {
    use information as i;
    i::VALID
        | match event {
            Event::Interrupt(vector) => i::EXTERNAL_INTERRUPT | u64::from(vector),
            Event::Nmi => i::NMI | u64::from(vector::NMI),
            Event::Software { vector, .. } => {
                let kind = match vector {
                    vector::DB => i::PRIVILEGED_SOFTWARE_EXCEPTION,
                    3 | 4 => i::SOFTWARE_EXCEPTION,
                    _ => i::SOFTWARE_INTERRUPT,
                };
                kind | u64::from(vector)
            }
            Event::Exception { vector, error_code } => {
                let error = if error_code.is_some() {
                    i::ERROR_CODE
                } else {
                    0
                };
                i::HARDWARE_EXCEPTION | u64::from(vector) | error
            }
        }
}

/// An event from the processor's form.
pub(super) fn decode(
    raw: u64,
    error_code: impl FnOnce() -> u64,
    length: impl FnOnce() -> u64,
) -> Option<Event> {
    use information as i;
    if raw & i::VALID == 0 {
        return None;
    }
    let vector = (raw & i::VECTOR_MASK) as u8;
    Some(match raw & i::TYPE_MASK {
        i::EXTERNAL_INTERRUPT => Event::Interrupt(vector),
        i::NMI => Event::Nmi,
        i::HARDWARE_EXCEPTION => Event::Exception {
            vector,
            error_code: (raw & i::ERROR_CODE != 0).then(|| error_code() as u32),
        },
        i::SOFTWARE_INTERRUPT | i::PRIVILEGED_SOFTWARE_EXCEPTION | i::SOFTWARE_EXCEPTION => {
            Event::Software {
                vector,
                length: length() as u8,
            }
        }
        _ => return None,
    })
}

impl Vcpu {
    /// The event that the next entry delivers: one that was injected, or whose delivery the last exit interrupted.
    #[inline]
    pub fn pending_event(&self) -> Option<Event> {
        decode(
            self.control.get(Control::EntryInterruption),
            || self.control.get(Control::EntryErrorCode),
            || self.control.get(Control::EntryInstructionLength),
        )
    }

    /// Replaces the event of the next entry, without the rules of [`Self::inject`]. For setting state from outside.
    pub fn set_pending_event(&mut self, pending: Option<Event>) {
        let Some(event) = pending else {
            if self.control.get(Control::EntryInterruption) != 0 {
                self.control.set(Control::EntryInterruption, 0);
            }
            return;
        };
        self.control.set(Control::EntryInterruption, encode(event));
        match event {
            Event::Exception { vector, error_code } => {
                if let Some(code) = error_code {
                    self.control.set(Control::EntryErrorCode, code.into());
                }
                if vector == vector::DB && self.dr7() & dr7::GD != 0 {
                    // Delivery clears general detect, so that the handler can use the debug registers.
                    self.set_dr7(self.dr7() & !dr7::GD);
                }
            }
            Event::Software { length, .. } => {
                self.control
                    .set(Control::EntryInstructionLength, length.into());
            }
            Event::Interrupt(_) | Event::Nmi => {}
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

    /// Whether an external interrupt could be delivered at the next entry. The task priority is the caller's affair.
    #[inline]
    pub fn can_take_interrupt(&self) -> bool {
        self.rflags() & rflags::IF != 0 && !self.interrupt_shadow() && self.is_free()
    }

    /// Whether an NMI could be delivered at the next entry.
    pub fn can_take_nmi(&self) -> bool {
        !self.nmi_masked() && !self.interrupt_shadow() && self.is_free()
    }

    /// No processor with VMX delivers an event twice.
    pub const fn repeats_event(&self) -> bool {
        false
    }

    fn is_free(&self) -> bool {
        self.control.get(Control::EntryInterruption) & information::VALID == 0
    }

    /// The instruction at RIP runs without interrupts (after STI or MOV SS).
    #[inline]
    pub fn interrupt_shadow(&self) -> bool {
        self.known(Guest::Interruptibility) & interruptibility::SHADOW != 0
    }

    /// Sets or clears the interrupt shadow.
    #[inline]
    pub fn set_interrupt_shadow(&mut self, shadow: bool) {
        let old = self.known(Guest::Interruptibility);
        let cleared = old & !interruptibility::SHADOW;
        if !shadow && old != cleared {
            self.guest.set(Guest::Interruptibility, cleared);
        } else if shadow && old == cleared {
            self.guest
                .set(Guest::Interruptibility, old | interruptibility::STI);
        }
    }

    /// NMIs wait for an IRET.
    pub fn nmi_masked(&self) -> bool {
        self.known(Guest::Interruptibility) & interruptibility::NMI != 0
    }

    /// Masks NMIs until an IRET, or unmasks them.
    pub fn set_nmi_masked(&mut self, masked: bool) {
        let old = self.known(Guest::Interruptibility);
        let new = if masked {
            old | interruptibility::NMI
        } else {
            old & !interruptibility::NMI
        };
        if new != old {
            self.guest.set(Guest::Interruptibility, new);
        }
    }

    /// Moves RIP behind an instruction of `length` bytes that was emulated: the interrupt shadow and RF end, and a
    /// single-stepping guest gets its #DB. RIP wraps as the code segment's width says.
    #[inline(always)]
    pub fn advance_rip(&mut self, length: u8) {
        let rip = self.rip();
        let next = rip.wrapping_add(u64::from(length));
        self.set_rip(next);
        let shadow = self.known(Guest::Interruptibility) & interruptibility::SHADOW;
        let flags = self.rflags() & (rflags::RF | rflags::TF);
        if shadow | flags | (rip ^ next) >> 32 != 0 {
            self.end_instruction(next);
        }
    }

    /// The rare part of it.
    #[cold]
    fn end_instruction(&mut self, next: u64) {
        // Only 64-bit code is above 4 GiB.
        if next >> 32 == 1 && !self.in_64_bit_code() {
            self.set_rip(next & 0xFFFF_FFFF);
        }
        self.set_interrupt_shadow(false);
        let flags = self.rflags();
        self.set_rflags(flags & !rflags::RF);
        if flags & rflags::TF != 0 {
            self.set_dr6(self.dr6() | dr6::BS);
            // Nothing else is in delivery: the instruction executed.
            self.set_pending_event(Some(Event::Exception {
                vector: vector::DB,
                error_code: None,
            }));
        }
    }

    /// Before entry with an event: in real mode none has an error code.
    #[cold]
    pub(super) fn settle_error_code(&mut self) {
        let raw = self.control.get(Control::EntryInterruption);
        if raw & information::ERROR_CODE != 0 && self.cr0() & cr0::PE == 0 {
            self.control
                .set(Control::EntryInterruption, raw & !information::ERROR_CODE);
        }
    }

    /// Before entry with changed flags or a changed shadow: what the processor wants to agree.
    #[cold]
    pub(super) fn reconcile_shadow(&mut self) {
        const SINGLE_STEP: u64 = dr6::BS;
        let state = self.known(Guest::Interruptibility);
        if state & interruptibility::SHADOW == 0 {
            return;
        }
        let flags = self.rflags();
        if flags & rflags::IF == 0 && state & interruptibility::STI != 0 {
            let moved = state & !interruptibility::STI | interruptibility::MOV_SS;
            self.guest.set(Guest::Interruptibility, moved);
        }
        let pending = self.field(Guest::PendingDebugExceptions);
        let stepping = if flags & rflags::TF != 0 {
            pending | SINGLE_STEP
        } else {
            pending & !SINGLE_STEP
        };
        self.guest.set(Guest::PendingDebugExceptions, stepping);
    }

    /// After an exit that may have interrupted the delivery of an event: it is delivered again at the next entry.
    pub(super) fn requeue_interrupted_event(&mut self) {
        let raw = self.told(Info::IdtVectoringInformation);
        if raw & information::VALID == 0 {
            return;
        }
        let kept = information::VALID
            | information::ERROR_CODE
            | information::TYPE_MASK
            | information::VECTOR_MASK;
        if raw & information::ERROR_CODE != 0 {
            let code = self.told(Info::IdtVectoringErrorCode);
            self.control.set(Control::EntryErrorCode, code);
        }
        match raw & information::TYPE_MASK {
            information::NMI => self.set_nmi_masked(false),
            information::SOFTWARE_INTERRUPT
            | information::PRIVILEGED_SOFTWARE_EXCEPTION
            | information::SOFTWARE_EXCEPTION => {
                let length = self.told(Info::InstructionLength);
                self.control.set(Control::EntryInstructionLength, length);
            }
            _ => {}
        }
        self.control.set(Control::EntryInterruption, raw & kept);
    }

    /// After an exit that an IRET has caused (`unblocked` is the bit that tells): NMIs are blocked again, since it will be
    /// executed again.
    pub(super) fn block_nmis_again(&mut self, told: u64) {
        if told & information::NMI_UNBLOCKED != 0
            && self.told(Info::IdtVectoringInformation) & information::VALID == 0
        {
            self.set_nmi_masked(true);
        }
    }
}
