//! Events into the guest, and when it can take them.

use crate::arch::exit::Event;
use crate::arch::state::{Segment, SegmentName, efer, rflags, vector};

use super::vcpu::{NmiState, Vcpu};
use super::vmcb::{clean, event, exit_code, vintr};

/// Bit of `interrupt_shadow`: the instruction after STI or MOV SS runs without interrupts.
const SHADOW: u64 = 1;
/// DR6: single step.
const DR6_BS: u64 = 1 << 14;
/// DR6: an access to a debug register was refused.
const DR6_BD: u64 = 1 << 13;
/// DR7: general detect.
const DR7_GD: u64 = 1 << 13;

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
        let pending = self.pending_event();
        let event = match (pending, event) {
            (
                Some(Event::Exception { vector: first, .. }),
                Event::Exception {
                    vector: second,
                    error_code,
                },
            ) => match combine(first, second) {
                Combined::Second => Event::Exception {
                    vector: second,
                    error_code,
                },
                Combined::DoubleFault => Event::Exception {
                    vector: vector::DF,
                    error_code: Some(0),
                },
                Combined::TripleFault => return false,
            },
            _ => event,
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
            } if self.save().dr6 & DR6_BD != 0 => {
                // Delivery clears general detect, so that the handler can use the debug registers.
                self.save_mut().dr7 &= !DR7_GD;
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

    /// NMIs wait for an IRET.
    pub fn nmi_masked(&self) -> bool {
        match self.nmi {
            NmiState::Open => false,
            NmiState::Masked => true,
            NmiState::Returning { rip, .. } => rip == self.save().rip,
        }
    }

    /// Masks NMIs until an IRET, or unmasks them.
    pub fn set_nmi_masked(&mut self, masked: bool) {
        if masked != self.nmi_masked() {
            self.end_step();
            self.nmi = if masked {
                NmiState::Masked
            } else {
                NmiState::Open
            };
            self.refresh_intercepts();
        }
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

    /// Asks for [`crate::arch::exit::Exit::NmiWindow`] as soon as the IRET of the NMI in progress has executed.
    pub fn set_nmi_window(&mut self, wanted: bool) {
        self.nmi_window = wanted;
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
            self.save_mut().dr6 |= DR6_BS;
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

    /// After exit: an event whose delivery was interrupted is delivered again at the next entry. INT n, INT3 and INTO
    /// execute again instead, since RIP is still at them.
    pub(super) fn requeue_interrupted_event(&mut self) {
        let software = self.software_rip.take();
        let info = self.control().exit_int_info;
        // An exception in delivery that was intercepted is described by the exit, not by what it interrupted; `inject`
        // needs both, so even then the interrupted one is queued.
        let again = info & event::VALID != 0 && !executes_again(info);
        self.control_mut().event_inj = if again { info } else { 0 };
        if info & event::VALID == 0 {
            return;
        }
        if let Some((rip, next)) = software
            && executes_again(info)
            && self.save().rip == next
        {
            self.save_mut().rip = rip;
        }
    }

    /// The IRET exit: it has not executed yet.
    pub(super) fn iret_begins(&mut self) {
        let save = self.save();
        let (rip, own_tf) = (save.rip, save.rflags & rflags::TF != 0);
        let stepping = self.nmi_window.then_some(own_tf);
        if stepping.is_some() {
            self.save_mut().rflags |= rflags::TF;
        }
        self.nmi = NmiState::Returning { rip, stepping };
        self.refresh_intercepts();
    }

    /// After each exit: whether the IRET that was awaited has executed.
    pub(super) fn observe_iret(&mut self) {
        if let NmiState::Returning {
            rip,
            stepping: None,
        } = self.nmi
            && self.save().rip != rip
        {
            self.nmi = NmiState::Open;
        }
    }

    /// A #DB exit: whether it was the end of the step over IRET, and no one else's.
    pub(super) fn debug_exit_ends_step(&mut self) -> bool {
        let NmiState::Returning {
            stepping: Some(own_tf),
            ..
        } = self.nmi
        else {
            return false;
        };
        self.end_step();
        self.nmi = NmiState::Open;
        self.refresh_intercepts();
        if own_tf {
            return false;
        }
        let others = self.save().dr6 & 0xF;
        self.save_mut().dr6 &= !DR6_BS;
        self.dirty(clean::DR);
        others == 0
    }

    /// Gives the guest its own TF back if the step over IRET had set it.
    fn end_step(&mut self) {
        if let NmiState::Returning {
            stepping: Some(false),
            rip,
        } = self.nmi
        {
            // Once IRET has executed, RFLAGS is what it popped, and TF in it is the guest's.
            if self.save().rip == rip {
                self.save_mut().rflags &= !rflags::TF;
            }
        }
    }

    /// The length of the instruction that was intercepted, where the processor told.
    pub fn instruction_length(&self) -> Option<u8> {
        let control = self.control();
        let next = match control.exit_code {
            // Ports tell on every processor.
            exit_code::IOIO => control.exit_info2,
            code if self.caps.nrip_save && saves_next_rip(code) => control.next_rip,
            _ => return None,
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

const PAGE_FAULT: u64 = exit_code::EXCEPTION_0 + vector::PF as u64;

/// Manual volume 2, 15.7.1: next RIP is saved for instruction intercepts.
const fn saves_next_rip(code: u64) -> bool {
    matches!(
        code,
        exit_code::CR0_READ..=exit_code::DR15_WRITE
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

/// The processor's form of an event.
pub(super) fn encode(e: Event) -> u64 {
    event::VALID
        | match e {
            Event::Interrupt(vector) => event::TYPE_INTERRUPT | u64::from(vector),
            Event::Nmi => event::TYPE_NMI | u64::from(vector::NMI),
            Event::Software { vector, .. } => event::TYPE_SOFTWARE | u64::from(vector),
            Event::Exception { vector, error_code } => {
                let error =
                    error_code.map_or(0, |code| event::ERROR_CODE_VALID | u64::from(code) << 32);
                event::TYPE_EXCEPTION | u64::from(vector) | error
            }
        }
}

/// An event from the processor's form. `length` is a software interrupt's.
pub(super) fn decode(raw: u64, length: u8) -> Option<Event> {
    if raw & event::VALID == 0 {
        return None;
    }
    let vector = (raw & event::VECTOR_MASK) as u8;
    Some(match raw & event::TYPE_MASK {
        event::TYPE_INTERRUPT => Event::Interrupt(vector),
        event::TYPE_NMI => Event::Nmi,
        event::TYPE_EXCEPTION => Event::Exception {
            vector,
            error_code: (raw & event::ERROR_CODE_VALID != 0).then_some((raw >> 32) as u32),
        },
        event::TYPE_SOFTWARE => Event::Software { vector, length },
        _ => return None,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Combined {
    Second,
    DoubleFault,
    TripleFault,
}

/// What an exception raised while another is delivered becomes: manual volume 2, 8.2.9.
const fn combine(first: u8, second: u8) -> Combined {
    const fn contributory(vector: u8) -> bool {
        matches!(vector, vector::DE | 10..=13)
    }
    let second_counts = contributory(second) || second == vector::PF;
    if first == vector::DF {
        if second_counts {
            Combined::TripleFault
        } else {
            Combined::Second
        }
    } else if (contributory(first) && contributory(second))
        || (first == vector::PF && second_counts)
    {
        Combined::DoubleFault
    } else {
        Combined::Second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_in_delivery_follow_the_double_fault_table() {
        assert_eq!(combine(vector::GP, vector::GP), Combined::DoubleFault);
        assert_eq!(combine(vector::PF, vector::PF), Combined::DoubleFault);
        assert_eq!(combine(vector::PF, vector::GP), Combined::DoubleFault);
        assert_eq!(combine(vector::GP, vector::PF), Combined::Second);
        assert_eq!(combine(vector::DB, vector::AC), Combined::Second);
        assert_eq!(combine(vector::DF, vector::GP), Combined::TripleFault);
        assert_eq!(combine(vector::DF, vector::PF), Combined::TripleFault);
    }

    #[test]
    fn an_exception_encodes_as_the_manual_says() {
        let gp = Event::Exception {
            vector: 13,
            error_code: Some(0x18),
        };
        assert_eq!(encode(gp), 0x18_8000_0B0D);
        assert_eq!(encode(Event::Interrupt(0x30)), 0x8000_0030);
        assert_eq!(encode(Event::Nmi), 0x8000_0202);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<u8>().prop_map(Event::Interrupt),
            Just(Event::Nmi),
            (0u8..32, any::<Option<u32>>())
                .prop_map(|(vector, error_code)| Event::Exception { vector, error_code }),
            (any::<u8>(), 1u8..16).prop_map(|(vector, length)| Event::Software { vector, length }),
        ]
    }

    proptest! {
        #[test]
        fn events_survive_the_round_trip(e in any_event()) {
            let length = if let Event::Software { length, .. } = e { length } else { 0 };
            prop_assert_eq!(decode(encode(e), length), Some(e));
        }
    }
}
