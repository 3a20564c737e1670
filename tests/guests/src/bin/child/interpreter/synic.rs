//! The SynIC: its pages, messages that come, and interrupts.

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::cpu::{rdmsr, write_msr, wrmsr};
use guests::metal::slot::Slot;
use guests::metal::trap::{Frame, Handler, set_gate_present, set_handler, vector};
use guests::metal::{apic, cpu, memory};
use guests::program::Program;
use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC,
    HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0,
    HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT, HV_X64_MSR_VP_ASSIST_PAGE, HvMessageType,
};

use crate::calls::MESSAGE;
use crate::counts::Counts;
use crate::pages::{FLAGS, MESSAGES, play_page};

/// Type of the messages of VMBus.
const CHANNEL_MESSAGE: HvMessageType = HvMessageType(1);
/// SINT of VMBus.
pub const SINT: u32 = 2;
/// Its vector.
const VECTOR: u64 = 0x52;
const SLOTS: u32 = 16;
/// Bytes of the event flags of a SINT.
const FLAG_BYTES: u64 = 256;
/// Interrupts that are taken at once. Timers may be faster than their handler.
const MOST_AT_ONCE: u64 = 32;
const INTERRUPT_FLAG: u64 = 1 << 9;

/// Interrupts taken since interrupts were let in.
static IN_WINDOW: AtomicU64 = AtomicU64::new(0);

/// Prepares for interrupts at any vector that an APIC can deliver.
pub fn init() {
    for number in 16..=u8::MAX {
        set_handler(number, Some(interrupt as Handler));
    }
    // The processor pushes an error code with exceptions of these vectors, but with no interrupt: so they become another
    // exception, which has one whatever comes.
    for number in [17, 21, 29, 30] {
        set_gate_present(number, false);
    }
    set_handler(vector::NOT_PRESENT, Some(interrupt as Handler));
}

fn interrupt(frame: &mut Frame) {
    let _ = wrmsr(apic::register::EOI, 0);
    let count = IN_WINDOW.fetch_add(1, Ordering::Relaxed);
    if count >= MOST_AT_ONCE {
        frame.rflags &= !INTERRUPT_FLAG;
    }
}

/// Takes interrupts that wait; how many.
pub fn take_interrupts() -> u64 {
    IN_WINDOW.store(0, Ordering::Relaxed);
    cpu::interrupt_window();
    IN_WINDOW.load(Ordering::Relaxed)
}

/// All as a driver has it, whatever was done before.
pub fn restore() {
    write_msr(HV_X64_MSR_REFERENCE_TSC, 0);
    write_msr(HV_X64_MSR_VP_ASSIST_PAGE, 0);
    write_msr(HV_X64_MSR_HYPERCALL, 0);
    write_msr(HV_X64_MSR_GUEST_OS_ID, 0x8100_0000_0001_0000);
    for timer in 0..4 {
        write_msr(HV_X64_MSR_STIMER0_CONFIG + 2 * timer, 0);
    }
    write_msr(HV_X64_MSR_SIEFP, FLAGS.gpa() | 1);
    write_msr(HV_X64_MSR_SIMP, MESSAGES.gpa() | 1);
    write_msr(HV_X64_MSR_SINT0 + SINT, VECTOR);
    write_msr(HV_X64_MSR_SCONTROL, 1);
    write_msr(apic::register::SVR, apic::SVR_ENABLE | 0xFF);
    write_msr(apic::register::TPR, 0);
}

/// A message.
pub struct Message {
    kind: HvMessageType,
    payload: [u8; MESSAGE],
}

impl Message {
    /// Whether it is one of VMBus. Timers send some too.
    pub fn is_of_channels(&self) -> bool {
        self.kind == CHANNEL_MESSAGE
    }

    /// A word of it.
    pub fn word(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4);
        bytes.map_or(0, |bytes| {
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        })
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.payload.get(at).copied().unwrap_or(0)
    }
}

/// Takes a message of VMBus.
pub fn take_of_channels() -> Option<Message> {
    take(SINT).filter(Message::is_of_channels)
}

/// Takes the message in a slot of the message page.
fn take(sint: u32) -> Option<Message> {
    let slot = Slot::of(&MESSAGES, sint);
    let kind = slot.kind();
    if kind == HvMessageType::NONE {
        return None;
    }
    let payload = slot.payload(0);
    slot.empty();
    let _ = wrmsr(HV_X64_MSR_EOM, 0);
    Some(Message { kind, payload })
}

/// Takes the event flags of all SINTs: those of channels are in the first word of each.
fn take_flags(counts: &mut Counts) {
    for sint in 0..u64::from(SLOTS) {
        let at = FLAGS.gpa() + sint * FLAG_BYTES;
        counts.flags += u64::from(memory::read::<u64>(at).count_ones());
        memory::write(at, 0u64);
    }
}

/// Takes all that waits. Whether there was something.
pub fn take_all(counts: &mut Counts, mut each: impl FnMut(&mut Counts, &Message)) -> bool {
    let flags = counts.flags;
    let mut messages = 0;
    for sint in 0..SLOTS {
        // As many as the host may have in its queue; a timer's messages never end.
        while messages < 64 {
            let Some(message) = take(sint) else { break };
            messages += 1;
            if message.is_of_channels() {
                each(counts, &message);
            }
        }
    }
    take_flags(counts);
    let interrupts = take_interrupts();
    messages + interrupts != 0 || flags != counts.flags
}

/// Changes something of it. Whether that was accepted.
pub fn operation(program: &mut Program<'_>, which: u8) -> bool {
    let sint = HV_X64_MSR_SINT0 + program.below(16) as u32;
    let timer = 2 * program.below(4) as u32;
    let (msr, value) = match which {
        0 => (HV_X64_MSR_SCONTROL, program.below(2)),
        1 => (HV_X64_MSR_SIMP, play_page(program) | program.below(2)),
        2 => (HV_X64_MSR_SIEFP, play_page(program) | program.below(2)),
        3 => (HV_X64_MSR_SIMP, MESSAGES.gpa() | 1),
        4 => (HV_X64_MSR_SIEFP, FLAGS.gpa() | 1),
        5 | 6 => (HV_X64_MSR_EOM, 0),
        7 => (apic::register::EOI, 0),
        // Vector; masked, automatic EOI, polling.
        8 | 9 => (sint, program.number(1) | program.below(8) << 16),
        10 => (
            HV_X64_MSR_SINT0 + SINT,
            program.number(1) | program.below(8) << 16,
        ),
        11 => (HV_X64_MSR_SINT0 + SINT, VECTOR),
        // Enabled, periodic, lazy, automatic; direct or by a SINT.
        12 | 13 => {
            let modes = program.below(16) | program.number(1) << 4;
            (
                HV_X64_MSR_STIMER0_CONFIG + timer,
                modes | program.below(2) << 12 | program.below(16) << 16,
            )
        }
        14 => (HV_X64_MSR_STIMER0_COUNT + timer, program.odd_value()),
        _ => return rdmsr(sint).is_ok(),
    };
    wrmsr(msr, value).is_ok()
}
