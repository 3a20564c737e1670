//! The physical local APIC of this processor, in either mode.

use core::ptr::NonNull;

use x86_64::registers::model_specific::Msr;

use super::tsc::{scale, tsc};
use super::{VECTOR_SPURIOUS, VECTOR_TIMER};
use crate::arch::cpuid::CpuidSource;
use crate::mem::addr::Spa;

const MSR_APIC_BASE: u32 = 0x1B;
const MSR_TSC_DEADLINE: u32 = 0x6E0;
/// MSR of register 0 in x2APIC mode; registers are 16 bytes apart in memory and 1 apart as MSRs.
const MSR_X2APIC: u32 = 0x800;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const ID: u32 = 0x20;
const VERSION: u32 = 0x30;
const TPR: u32 = 0x80;
const EOI: u32 = 0xB0;
const SPURIOUS: u32 = 0xF0;
const ISR: u32 = 0x100;
const TMR: u32 = 0x180;
const ESR: u32 = 0x280;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_THERMAL: u32 = 0x330;
const LVT_PERFORMANCE: u32 = 0x340;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3E0;

const SPURIOUS_ENABLED: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
const LVT_PERIODIC: u32 = 1 << 17;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_NMI: u32 = 4 << 8;
const ICR_ALL_BUT_SELF: u32 = 3 << 18;
const DIVIDE_BY_1: u32 = 0b1011;
/// Shortest period of a timer that repeats, in its ticks: a shorter one would keep an emulator busy with itself.
const SHORTEST_PERIOD: u32 = 10_000;
/// Ticks of the TSC for which the timer's speed is measured, as a fraction of a second.
const MEASURE_FRACTION: u64 = 100;

/// How registers are reached.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// Memory, mapped uncached.
    Memory(NonNull<u32>),
    /// MSRs.
    Msr,
}

/// How the timer is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// By the TSC value at which it fires.
    Deadline,
    /// By a count: so many of its ticks in 2^32 ticks of the TSC.
    Count { ratio: u64 },
}

/// What the boot code knows about local APICs before it maps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Registers in memory at this address, to be mapped uncached.
    XApic(Spa),
    /// Registers are MSRs.
    X2Apic,
}

impl Mode {
    /// The mode this processor will use: x2APIC where it has it.
    pub fn choose(cpu: &impl CpuidSource) -> Self {
        if cpu.cpuid_checked(1, 0).ecx & 1 << 21 != 0 {
            return Self::X2Apic;
        }
        // SAFETY: every 64-bit processor has this MSR.
        Self::XApic(Spa(unsafe { Msr::new(MSR_APIC_BASE).read() } & BASE_ADDRESS))
    }
}

/// The local APIC of the processor that this runs on.
#[derive(Debug)]
pub struct LocalApic {
    access: Access,
    timer: Timer,
    /// Below a hypervisor or in an emulator, see [`Self::look_again`].
    forgetful: bool,
    /// MSR writes that went to it, for the statistics.
    msr_writes: u64,
}

impl LocalApic {
    /// Turns it on: software-enabled, task priority 0, every local source masked but NMI on LINT1 and the timer, the
    /// timer stopped. `mapped` is where [`Mode::XApic`]'s address is mapped. `tsc_hz` serves to measure the timer.
    ///
    /// # Safety
    /// Ring 0 on the processor concerned, interrupts off; `mapped` is right, uncached and lasting; the value stays here.
    pub unsafe fn enable(
        mode: Mode,
        mapped: Option<NonNull<u32>>,
        cpu: &impl CpuidSource,
        tsc_hz: u64,
    ) -> Self {
        let access = match (mode, mapped) {
            (Mode::XApic(_), Some(registers)) => Access::Memory(registers),
            _ => Access::Msr,
        };
        let mut base = Msr::new(MSR_APIC_BASE);
        // SAFETY: the MSR exists; x2APIC is entered only where it is supported, from the enabled state as the manual wants.
        unsafe {
            let value = base.read() | BASE_ENABLED;
            base.write(value);
            if matches!(access, Access::Msr) {
                base.write(value | BASE_X2APIC);
            }
        }
        let mut apic = Self {
            access,
            timer: Timer::Deadline,
            forgetful: cpu.cpuid_checked(1, 0).ecx & tlfs::HV_CPUID_HYPERVISOR_PRESENT != 0,
            msr_writes: 0,
        };
        apic.write(SPURIOUS, SPURIOUS_ENABLED | u32::from(VECTOR_SPURIOUS));
        apic.write(TPR, 0);
        // Entries beyond the last one do not exist, and writing them faults in x2APIC mode.
        let last = apic.read(VERSION) >> 16 & 0xFF;
        for (lvt, from) in [
            (LVT_LINT0, 0),
            (LVT_ERROR, 3),
            (LVT_PERFORMANCE, 4),
            (LVT_THERMAL, 5),
        ] {
            if last >= from {
                apic.write(lvt, LVT_MASKED);
            }
        }
        apic.write(LVT_LINT1, LVT_NMI);
        apic.write(ESR, 0);
        if cpu.cpuid_checked(1, 0).ecx & 1 << 24 == 0 {
            apic.timer = Timer::Count {
                ratio: apic.measure(tsc_hz),
            };
            let repeat = if apic.forgetful { LVT_PERIODIC } else { 0 };
            apic.write(LVT_TIMER, u32::from(VECTOR_TIMER) | repeat);
        } else {
            apic.write(LVT_TIMER, u32::from(VECTOR_TIMER) | LVT_TSC_DEADLINE);
        }
        apic.stop_timer();
        apic
    }

    /// An APIC for tests on the host: its registers are plain memory that does nothing.
    #[cfg(any(test, feature = "test-support"))]
    pub const fn for_test(registers: &'static mut [u32; 1024]) -> Self {
        Self {
            access: Access::Memory(NonNull::from_mut(registers).cast()),
            timer: Timer::Count { ratio: 1 << 32 },
            forgetful: false,
            msr_writes: 0,
        }
    }

    /// How many MSR writes went to it.
    pub const fn msr_writes(&self) -> u64 {
        self.msr_writes
    }

    /// Ticks of the counting timer in 2^32 ticks of the TSC.
    fn measure(&mut self, tsc_hz: u64) -> u64 {
        self.write(TIMER_DIVIDE, DIVIDE_BY_1);
        self.write(LVT_TIMER, LVT_MASKED | u32::from(VECTOR_TIMER));
        self.write(TIMER_INITIAL, u32::MAX);
        let start = tsc();
        let start_count = self.read(TIMER_CURRENT);
        while tsc().wrapping_sub(start) < tsc_hz / MEASURE_FRACTION {
            core::hint::spin_loop();
        }
        let end_count = self.read(TIMER_CURRENT);
        let elapsed = tsc().wrapping_sub(start);
        self.write(TIMER_INITIAL, 0);
        scale(
            u64::from(start_count.saturating_sub(end_count)),
            1 << 32,
            elapsed,
        )
    }

    /// The processor's physical APIC id.
    pub fn id(&self) -> u32 {
        match self.access {
            Access::Memory(_) => self.read(ID) >> 24,
            Access::Msr => self.read(ID),
        }
    }

    /// Ends the interrupt in service with the highest priority.
    pub fn eoi(&mut self) {
        self.write(EOI, 0);
    }

    /// Whether the interrupt in service on `vector` came as a level, so that its end goes to the I/O APIC as well.
    pub fn is_level(&self, vector: u8) -> bool {
        self.has(TMR, vector)
    }

    /// Whether an interrupt on `vector` has arrived that is to be ended. A spurious one has not: the processor was told of an
    /// interrupt, and when it asked for it there was none that it could have.
    pub fn is_in_service(&self, vector: u8) -> bool {
        self.has(ISR, vector)
    }

    /// A bit of the eight registers from `first` on.
    fn has(&self, first: u32, vector: u8) -> bool {
        self.read(first + u32::from(vector / 32) * 16) & 1 << (vector % 32) != 0
    }

    /// For tests: an interrupt on `vector` arrives as hardware tells it, in service or spurious.
    #[cfg(test)]
    pub fn arrive(&mut self, vector: u8, in_service: bool) {
        let bit = u32::from(in_service) << (vector % 32);
        self.write(ISR + u32::from(vector / 32) * 16, bit);
        self.write(EOI, u32::MAX);
    }

    /// For tests: whether an interrupt was ended since the last one arrived.
    #[cfg(test)]
    pub fn has_ended_one(&self) -> bool {
        self.read(EOI) == 0
    }

    /// Fires [`VECTOR_TIMER`] once, when the TSC reaches `deadline`, or at once if it has. A timer that only counts may
    /// fire early for a deadline that is far away: its owner looks at the clock.
    pub fn set_timer(&mut self, deadline: u64) {
        match self.timer {
            Timer::Deadline => {
                self.msr_writes += 1;
                // SAFETY: CPUID tells of the MSR; 0 would stop the timer, and no deadline is that early.
                unsafe { Msr::new(MSR_TSC_DEADLINE).write(deadline.max(1)) };
            }
            Timer::Count { ratio } => {
                let wait = deadline.saturating_sub(tsc());
                let count = (u128::from(wait) * u128::from(ratio)) >> 32;
                let least = if self.forgetful { SHORTEST_PERIOD } else { 1 };
                self.write(
                    TIMER_INITIAL,
                    count.clamp(least.into(), u128::from(u32::MAX)) as u32,
                );
            }
        }
    }

    /// The timer has fired: an emulator's is stopped, which repeats until it is heard (see [`Self::look_again`]).
    pub fn timer_fired(&mut self) {
        if self.forgetful {
            self.stop_timer();
        }
    }

    /// Stops the timer. An interrupt that is already pending still comes.
    pub fn stop_timer(&mut self) {
        match self.timer {
            Timer::Deadline => {
                self.msr_writes += 1;
                // SAFETY: CPUID tells of the MSR.
                unsafe { Msr::new(MSR_TSC_DEADLINE).write(0) }
            }
            Timer::Count { .. } => self.write(TIMER_INITIAL, 0),
        }
    }

    /// Makes the APIC of an emulator look once more whether an interrupt is to be delivered: it is told its task priority,
    /// 0, again. A processor forgets nothing.
    ///
    /// QEMU (7.2 at least) keeps "an interrupt is pending" in a word that its VMRUN and #VMEXIT change without a lock, while
    /// another thread sets it; the interrupt is then in the IRR, and nobody looks. One that is lost at VMRUN would wait for
    /// as long as the guest loops without an exit: so the timer repeats there, which makes the APIC look again.
    pub fn look_again(&mut self) {
        if self.forgetful {
            self.write(TPR, 0);
        }
    }

    /// How commands are sent, here and on every other processor whose local APIC is on.
    pub const fn commands(&self) -> CommandPort {
        CommandPort(self.access)
    }

    fn read(&self, register: u32) -> u32 {
        match self.access {
            // SAFETY: the page of registers is mapped (`enable`), and the offset lies in it, 16-aligned.
            Access::Memory(base) => unsafe { base.byte_add(register as usize).read_volatile() },
            // SAFETY: x2APIC mode is on, and only registers that it has are read.
            Access::Msr => unsafe { Msr::new(MSR_X2APIC + (register >> 4)).read() as u32 },
        }
    }

    fn write(&mut self, register: u32, value: u32) {
        match self.access {
            // SAFETY: as in `read`; the registers have no effect on memory.
            Access::Memory(base) => unsafe {
                base.byte_add(register as usize).write_volatile(value)
            },
            Access::Msr => {
                self.msr_writes += 1;
                // SAFETY: as in `read`.
                unsafe { Msr::new(MSR_X2APIC + (register >> 4)).write(u64::from(value)) }
            }
        }
    }
}

/// The way to send commands from the local APIC of the processor that uses it: the same on all.
#[derive(Clone, Copy, Debug)]
pub struct CommandPort(Access);

// SAFETY: the registers are at the same address for every processor, and each one's are its own.
unsafe impl Send for CommandPort {}
// SAFETY: as above; nothing is kept here.
unsafe impl Sync for CommandPort {}

impl CommandPort {
    /// For tests, where a command does nothing: the vector of the last one, 0 if there was none.
    #[cfg(test)]
    pub fn last_vector(self) -> u8 {
        match self.0 {
            // SAFETY: the registers are a test's plain memory.
            Access::Memory(base) => unsafe {
                base.byte_add(ICR_LOW as usize).read_volatile() as u8
            },
            Access::Msr => 0,
        }
    }

    /// Sends `vector` to the processor with physical APIC id `target`, as an edge.
    pub fn interrupt(self, target: u32, vector: u8) {
        self.send(target, ICR_ASSERT | u32::from(vector));
    }

    /// Sends an NMI to all processors but this one.
    pub fn stop_all_others(self) {
        self.send(0, ICR_ALL_BUT_SELF | ICR_ASSERT | ICR_NMI);
    }

    /// Sends a command to the processor with physical APIC id `target`: `low` are ICR bits 31:0. Interrupts are off, so
    /// nobody else sends one in between.
    pub fn send(self, target: u32, low: u32) {
        match self.0 {
            // SAFETY: the page of registers is mapped (`LocalApic::enable`); a command has no effect on memory.
            Access::Memory(base) => unsafe {
                let register = |offset: u32| base.byte_add(offset as usize);
                while register(ICR_LOW).read_volatile() & ICR_PENDING != 0 {
                    core::hint::spin_loop();
                }
                register(ICR_HIGH).write_volatile(target << 24);
                register(ICR_LOW).write_volatile(low);
            },
            // SAFETY: x2APIC mode is on. Unlike memory, an MSR write does not wait for earlier stores.
            Access::Msr => unsafe {
                core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                Msr::new(MSR_X2APIC + (ICR_LOW >> 4))
                    .write(u64::from(target) << 32 | u64::from(low));
            },
        }
    }
}
