//! The local APIC: end of interrupt, the one-shot timer, interrupts for other processors.

use root_kernel::sched::{PROCESSORS, Processor};

use super::cell::Global;
use super::cpu::{read_msr, write_msr};
use super::{block, memory};

const IA32_APIC_BASE: u32 = 0x1B;
const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;

/// Registers, as x2APIC MSRs.
const ID: u32 = 0x802;
const TASK_PRIORITY: u32 = 0x808;
const END_OF_INTERRUPT: u32 = 0x80B;
const SPURIOUS: u32 = 0x80F;
const COMMAND: u32 = 0x830;
/// Upper half of the command register, where there is no x2APIC.
const COMMAND_HIGH: u32 = 0x831;
const LVT_TIMER: u32 = 0x832;
const LVT_LINT0: u32 = 0x835;
const LVT_LINT1: u32 = 0x836;
const LVT_ERROR: u32 = 0x837;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83E;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const NMI: u32 = 4 << 8;
const DIVIDE_BY_1: u32 = 0b1011;

/// Interrupt commands (bits 10:8, and assert, as fixed interrupts and NMIs need it).
const ASSERT: u32 = 1 << 14;
const SEND_NMI: u32 = 4 << 8 | ASSERT;
const SEND_INIT: u32 = 5 << 8 | ASSERT;
const SEND_STARTUP: u32 = 6 << 8 | ASSERT;
/// Destination shorthand.
const ALL_BUT_SELF: u32 = 3 << 18;
/// Reads of the command register before a command that is not sent is forgotten.
const PATIENCE: u32 = 100_000;
const DELIVERY_PENDING: u32 = 1 << 12;

/// Vector that only wakes.
const WAKE_VECTOR: u8 = 0xED;
/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 0xEC;
/// Vector of SINT0.
pub const SYNIC_VECTOR: u8 = 0xEF;
/// Spurious vector.
pub const SPURIOUS_VECTOR: u8 = 0xFF;

/// How the registers are reached.
#[derive(Clone, Copy)]
enum Access {
    X2,
    /// Address of the register page: processors without x2APIC.
    Page(u64),
}

static ACCESS: Global<Access> = Global::new(Access::X2);
/// APIC ids of the processors.
static IDS: Global<[u32; PROCESSORS]> = Global::new([0; PROCESSORS]);

fn read(register: u32) -> u32 {
    match ACCESS.with(|access| *access) {
        // SAFETY: x2APIC mode is on, and the register is one of the constants above.
        Access::X2 => unsafe { read_msr(register) as u32 },
        // SAFETY: the page is mapped as device memory; registers are 16 bytes apart.
        Access::Page(page) => unsafe { page_register(page, register).read_volatile() },
    }
}

fn write(register: u32, value: u32) {
    match ACCESS.with(|access| *access) {
        // SAFETY: as in `read`; values are legal for their registers.
        Access::X2 => unsafe { write_msr(register, u64::from(value)) },
        // SAFETY: as in `read`.
        Access::Page(page) => unsafe { page_register(page, register).write_volatile(value) },
    }
}

fn page_register(page: u64, register: u32) -> *mut u32 {
    page.wrapping_add(u64::from(register & 0x7F) << 4) as *mut u32
}

/// Switches the local APIC of this processor on, timer stopped, nothing masked by priority.
pub fn init() {
    // SAFETY: every processor of the last twenty years has this MSR.
    let base = unsafe { read_msr(IA32_APIC_BASE) };
    // SAFETY: CPUID can always be asked.
    let x2apic = core::arch::x86_64::__cpuid(1).ecx & (1 << 21) != 0;
    if x2apic {
        // SAFETY: turning on x2APIC mode keeps the APIC's state; from disabled it must go through xAPIC mode.
        unsafe {
            write_msr(IA32_APIC_BASE, base | ENABLED);
            write_msr(IA32_APIC_BASE, base | ENABLED | X2APIC);
        }
    } else {
        if !matches!(ACCESS.with(|access| *access), Access::Page(_)) {
            let page = memory::map_device(base & 0xF_FFFF_F000, 4096);
            let page = page.unwrap_or_else(|error| panic!("local APIC: {error}"));
            ACCESS.with(|access| *access = Access::Page(page));
        }
    }
    write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    write(TASK_PRIORITY, 0);
    write(LVT_LINT0, MASKED);
    write(LVT_LINT1, NMI);
    write(LVT_ERROR, MASKED);
    write(DIVIDE, DIVIDE_BY_1);
    write(LVT_TIMER, u32::from(TIMER_VECTOR));
    write(INITIAL_COUNT, 0);
    let id = id();
    IDS.with(|ids| {
        if let Some(place) = ids.get_mut(block::processor().index()) {
            *place = id;
        }
    });
}

/// Wakes another processor from HLT, or makes it look at what has changed when it runs a process. It has been set up.
pub fn wake(processor: Processor) {
    let id = IDS.with(|ids| ids.get(processor.index()).copied());
    if let Some(id) = id {
        command(id, ASSERT | u32::from(WAKE_VECTOR));
    }
}

/// Puts the processor with that APIC id into the state after a reset, where it waits for [`start`].
pub fn reset(id: u32) {
    command(id, SEND_INIT);
}

/// Lets a processor that waits after a reset begin in real mode at a page below 1 MiB.
pub fn start(id: u32, page: u8) {
    command(id, SEND_STARTUP | u32::from(page));
}

/// An NMI for all other processors. For the end of the kernel: does nothing if the APIC is in use.
pub fn nmi_to_others() {
    if let Some(access) = ACCESS.try_with(|access| *access) {
        command_by(access, 0, ALL_BUT_SELF | SEND_NMI);
    }
}

fn command(id: u32, low: u32) {
    command_by(ACCESS.with(|access| *access), id, low);
}

fn command_by(access: Access, id: u32, low: u32) {
    match access {
        // SAFETY: x2APIC mode is on; the commands are those above, which do to other processors what the kernel wants.
        Access::X2 => unsafe { write_msr(COMMAND, u64::from(id) << 32 | u64::from(low)) },
        // SAFETY: the page is mapped as device memory, and the rest as above; the lower half sends.
        Access::Page(page) => unsafe {
            page_register(page, COMMAND_HIGH).write_volatile(id << 24);
            page_register(page, COMMAND).write_volatile(low);
            let pending = || page_register(page, COMMAND).read_volatile() & DELIVERY_PENDING != 0;
            let _ = (0..PATIENCE).any(|_| !pending());
        },
    }
}

/// Physical id of this processor.
pub fn id() -> u32 {
    let id = read(ID);
    ACCESS.with(|access| {
        if matches!(access, Access::X2) {
            id
        } else {
            id >> 24
        }
    })
}

/// Ends the interrupt being served.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Starts the timer: one interrupt after that many of its ticks (at least one).
pub fn start_timer(ticks: u64) {
    write(INITIAL_COUNT, ticks.clamp(1, u64::from(u32::MAX)) as u32);
}

/// What is left of the timer's count.
pub fn timer_left() -> u32 {
    read(CURRENT_COUNT)
}
