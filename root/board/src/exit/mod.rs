//! From an intercept message to device accesses and back to the guest.
//!
//! The VP is suspended while its message is handled, so its registers stand still. The hypervisor never advances RIP of
//! an intercepted instruction: that is done here, together with the instruction's effect on registers and memory.

mod alu;
mod completion;
mod error;
mod fetch;
mod hypercall;
mod linear;
mod memory;
mod msr;
mod operand;
mod port;
mod registers;
mod string;

use tlfs::{
    HvConnectionId, HvMessage, HvMessageType, HvStatus, HvX64ApicEoiMessage,
    HvX64CpuidInterceptMessage, HvX64InterceptMessageHeader, HvX64IoPortInterceptMessage,
    HvX64MemoryInterceptMessage, HvX64UnrecoverableExceptionMessage,
    HvX64UnsupportedFeatureMessage,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use completion::Completion;
pub use error::{Fault, InstructionBytes};
pub use hypercall::PostedMessage;
pub use msr::GuestCrash;
pub use registers::{EFER_LMA, Registers};

use crate::device::testdev::SintTarget;
use crate::ram::GuestRam;

/// The devices behind ports and device memory.
pub trait Bus {
    /// Reads a port; `size` is 1, 2 or 4, the upper bytes of the result are ignored.
    fn port_read(&mut self, port: u16, size: u8, now: u64) -> u32;
    /// Writes a port; the bytes of `value` beyond `size` are 0.
    fn port_write(&mut self, port: u16, size: u8, value: u32, now: u64);
    /// Reads device memory; `size` is 1 to 8, the upper bytes of the result are ignored.
    fn memory_read(&mut self, gpa: u64, size: u8, now: u64) -> u64;
    /// Writes device memory; the bytes of `value` beyond `size` are 0.
    fn memory_write(&mut self, gpa: u64, size: u8, value: u64, now: u64);
    /// A processor has ended a level interrupt.
    fn end_of_interrupt(&mut self, vector: u8);
    /// Where messages to a connection go, if it is a device's.
    fn message_connection(&self, to: HvConnectionId) -> Option<SintTarget>;
    /// Where events of a connection go, if it is a device's.
    fn event_connection(&self, to: HvConnectionId) -> Option<SintTarget>;
    /// Whether the last accesses ended the machine's run. Asked once after each intercept.
    fn take_end(&mut self) -> Option<Outcome>;
}

/// Guest memory as the intercepted VP sees it.
pub trait Guest: GuestRam {
    /// The VP touched this address, which nothing is mapped at. Dynamic Memory may have taken the page away, and gives it back
    /// then (sheet of Dynamic Memory, 2.7).
    fn touched(&mut self, gpa: u64) -> Touched;

    /// Translates a guest virtual address (linear: segmentation is done already) as the VP would at its current
    /// privilege level. Paging is on. What it leads to may be mapped nowhere.
    fn translate(&mut self, gva: u64, access: Access) -> Result<u64, TranslateError>;

    /// The guest posts a message to a connection that the hypervisor does not know.
    ///
    /// # Errors
    /// The status that the guest gets.
    fn post_message(&mut self, message: &PostedMessage<'_>) -> Result<(), HvStatus>;

    /// The guest signals flag `flag` of a connection that the hypervisor does not know.
    ///
    /// # Errors
    /// The status that the guest gets.
    fn signal_event(&mut self, to: HvConnectionId, flag: u16) -> Result<(), HvStatus>;

    /// A message that the guest posts to a device's connection comes back to it, at a SINT.
    ///
    /// # Errors
    /// The status that the guest gets.
    fn echo_message(&mut self, to: SintTarget, message: &PostedMessage<'_>)
    -> Result<(), HvStatus>;

    /// An event that the guest signals to a device's connection comes back to it, as flag `flag` of a SINT.
    ///
    /// # Errors
    /// The status that the guest gets.
    fn echo_event(&mut self, to: SintTarget, flag: u16) -> Result<(), HvStatus>;

    /// Slots for messages to this VP, found full before, are free: bit n for SINTn.
    fn slots_free(&mut self, sints: u16);

    /// The guest says that it has crashed. Its parameters are in the partition's crash registers.
    fn crashed(&mut self, crash: &GuestCrash);
}

/// What is at an address that a VP touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// No RAM: a device, or nothing.
    NotRam,
    /// RAM that is there again, or was before: the VP executes its instruction again.
    Backed,
    /// RAM that cannot be there yet, because memory is short.
    Waits,
}

/// Kind of an access by virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// Why an address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslateError {
    /// Page not present: the guest's own page fault.
    NotPresent,
    /// Present, but not for this access.
    Protection,
    /// A reserved bit is set in a page table entry.
    ReservedBits,
    /// This page of the page tables is mapped nowhere.
    Unmapped(u64),
    /// The page tables cannot be walked; the translation's result code.
    Failed(u32),
}

/// What is to be done with the VP or its VM after an intercept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Let the VP run on.
    Resume,
    /// Let the VP execute its instruction again later: memory that it needs is not there yet.
    Wait,
    /// Let the VP run on, after what its instruction brings about beside its registers.
    Complete(Completion),
    /// Let the VP run on with an exception in the intercepted instruction.
    Inject(Exception),
    /// The guest switched its machine off.
    PowerOff,
    /// The guest reset its machine.
    Reset(ResetReason),
    /// A test payload ended with a status.
    DebugExit(u32),
    /// The VM cannot go on.
    Fault(Fault),
}

impl Outcome {
    /// Whether the VP executes its instruction again, now or later.
    fn is_again(&self) -> bool {
        matches!(self, Self::Resume | Self::Wait)
    }
}

/// An exception to raise in a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector.
    pub vector: u8,
    /// Error code.
    pub error_code: u32,
    /// CR2 for a page fault, else 0.
    pub parameter: u64,
}

impl Exception {
    /// General protection fault.
    const GENERAL_PROTECTION: Self = Self {
        vector: 13,
        error_code: 0,
        parameter: 0,
    };
}

/// How a machine came to be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// By the ACPI reset register.
    Register,
    /// By the keyboard controller's reset line.
    KeyboardController,
    /// By the synthetic MSR RESET.
    Msr,
    /// By a triple fault, the processor's own way of a reset. Often a crash, so the place is told.
    TripleFault {
        /// VP index.
        vp: u32,
        /// RIP of the instruction.
        rip: u64,
    },
}

impl core::fmt::Display for ResetReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Register => f.write_str("reset register"),
            Self::KeyboardController => f.write_str("keyboard controller reset"),
            Self::Msr => f.write_str("reset MSR"),
            Self::TripleFault { vp, rip } => write!(f, "triple fault of VP {vp} at RIP {rip:#x}"),
        }
    }
}

/// Everything an intercept may touch.
struct Machine<'a, 'r, B, G> {
    bus: &'a mut B,
    guest: &'a mut G,
    registers: &'a mut Registers<'r>,
    now: u64,
    completion: Completion,
}

/// Result of handling an intercept in parts.
type Handled = Result<(), Outcome>;

/// Handles the intercept described by `message`. `registers` are those of the VP it names.
pub fn handle<B: Bus, G: Guest>(
    bus: &mut B,
    message: &HvMessage,
    registers: &mut Registers<'_>,
    guest: &mut G,
    now: u64,
) -> Outcome {
    let mut machine = Machine {
        bus,
        guest,
        registers,
        now,
        completion: Completion::NOTHING,
    };
    match machine.dispatch(message) {
        Ok(()) => match machine.bus.take_end() {
            Some(end) => end,
            None if machine.completion == Completion::NOTHING => Outcome::Resume,
            None => Outcome::Complete(machine.completion),
        },
        // A part of a repetition may be done.
        Err(again) if again.is_again() => machine.bus.take_end().unwrap_or(again),
        Err(outcome) => outcome,
    }
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    fn dispatch(&mut self, message: &HvMessage) -> Handled {
        match message.header.message_type {
            HvMessageType::X64_IO_PORT_INTERCEPT => {
                let intercept: &HvX64IoPortInterceptMessage = payload(message)?;
                if intercept.access_info.string_op() {
                    self.string_port(intercept)
                } else {
                    self.port(intercept)
                }
            }
            kind @ (HvMessageType::UNMAPPED_GPA | HvMessageType::GPA_INTERCEPT) => {
                let intercept: &HvX64MemoryInterceptMessage = payload(message)?;
                // What is mapped is there, so nothing can come that would help.
                if kind == HvMessageType::UNMAPPED_GPA {
                    self.wait_for_page(intercept.guest_physical_address)?;
                }
                self.memory(intercept)
            }
            HvMessageType::X64_APIC_EOI => {
                let intercept: &HvX64ApicEoiMessage = payload(message)?;
                self.bus.end_of_interrupt(intercept.interrupt_vector as u8);
                Ok(())
            }
            HvMessageType::HYPERCALL_INTERCEPT => self.hypercall(payload(message)?),
            HvMessageType::SYNIC_SINT_DELIVERABLE => self.slots_free(payload(message)?),
            HvMessageType::X64_CPUID_INTERCEPT => self.cpuid(payload(message)?),
            HvMessageType::X64_MSR_INTERCEPT => self.msr(payload(message)?),
            _ => Err(fatal(message)?),
        }
    }

    /// A CPUID that the hypervisor wants confirmed: the board has no opinion of its own.
    fn cpuid(&mut self, intercept: &HvX64CpuidInterceptMessage) -> Handled {
        self.registers.set(0, intercept.default_result_rax);
        self.registers.set(1, intercept.default_result_rcx);
        self.registers.set(2, intercept.default_result_rdx);
        self.registers.set(3, intercept.default_result_rbx);
        self.advance(
            &intercept.header,
            usize::from(intercept.header.instruction_length()),
        )
    }

    /// Moves RIP behind the intercepted instruction, which ends with that.
    #[inline]
    fn advance(&mut self, header: &HvX64InterceptMessageHeader, length: usize) -> Handled {
        if length == 0 {
            return Err(Outcome::Fault(Fault::NoInstructionLength {
                rip: header.rip,
            }));
        }
        let next = header.rip.wrapping_add(length as u64);
        let wide = is_wide(header);
        // Outside of 64-bit mode there is no address beyond 4 GiB to go on at.
        self.registers
            .set_rip(if wide { next } else { next & 0xFFFF_FFFF });
        if completion::matters(header) {
            self.complete(header);
        }
        Ok(())
    }
}

/// Whether the VP was in 64-bit mode.
#[inline]
fn is_wide(header: &HvX64InterceptMessageHeader) -> bool {
    header.execution_state.efer_lma() && header.cs_segment.attributes.long()
}

/// The payload of a message, in place.
#[inline]
fn payload<T: FromBytes + KnownLayout + Immutable>(message: &HvMessage) -> Result<&T, Outcome> {
    T::ref_from_prefix(&message.payload)
        .map(|(payload, _)| payload)
        .map_err(|_| unexpected(message))
}

fn unexpected(message: &HvMessage) -> Outcome {
    Outcome::Fault(Fault::UnexpectedMessage(message.header.message_type.0))
}

/// Messages that end the run.
#[cold]
fn fatal(message: &HvMessage) -> Result<Outcome, Outcome> {
    Ok(match message.header.message_type {
        HvMessageType::UNRECOVERABLE_EXCEPTION => {
            let intercept: &HvX64UnrecoverableExceptionMessage = payload(message)?;
            Outcome::Reset(ResetReason::TripleFault {
                vp: intercept.header.vp_index.0,
                rip: intercept.header.rip,
            })
        }
        HvMessageType::INVALID_VP_REGISTER_VALUE => Outcome::Fault(Fault::InvalidState),
        HvMessageType::UNSUPPORTED_FEATURE => {
            let intercept: &HvX64UnsupportedFeatureMessage = payload(message)?;
            Outcome::Fault(Fault::UnsupportedFeature {
                code: intercept.feature_code.0,
                parameter: intercept.feature_parameter,
            })
        }
        _ => unexpected(message),
    })
}

#[cfg(test)]
mod tests;
