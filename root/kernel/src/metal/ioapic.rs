//! The physical I/O APIC: routes the interrupts of the serial ports.

use x86_64::instructions::port::Port;

use super::acpi::{IoApic, IsaInterrupt};
use super::memory;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;
const LOW_ACTIVE: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// An I/O APIC whose pins are masked, but for those that were routed.
#[derive(Clone, Copy, Debug)]
pub struct Routes {
    registers: u64,
    first_gsi: u32,
    pins: u32,
}

impl Routes {
    /// Masks every pin. `None` if the I/O APIC cannot be reached.
    pub fn new(ioapic: IoApic) -> Option<Self> {
        mask_pics();
        let registers = memory::map_device(ioapic.address, 0x20).ok()?;
        let pins = (read(registers, VERSION) >> 16 & 0xFF).saturating_add(1);
        for pin in 0..pins {
            write(registers, REDIRECTION.saturating_add(pin * 2), MASKED);
        }
        Some(Self {
            registers,
            first_gsi: ioapic.first_gsi,
            pins,
        })
    }

    /// Routes an interrupt to a vector of the processor with that APIC id. `false` if it cannot be.
    pub fn route(&self, interrupt: IsaInterrupt, vector: u8, apic_id: u32) -> bool {
        // Without interrupt remapping a pin reaches APIC ids of 8 bits.
        let (Some(pin), Ok(target)) = (
            interrupt.gsi.checked_sub(self.first_gsi),
            u8::try_from(apic_id),
        ) else {
            return false;
        };
        if pin >= self.pins {
            return false;
        }
        let polarity = if interrupt.low { LOW_ACTIVE } else { 0 };
        let trigger = if interrupt.level { LEVEL } else { 0 };
        let entry = REDIRECTION.saturating_add(pin * 2);
        let high = u32::from(target) << 24;
        write(self.registers, entry.saturating_add(1), high);
        write(
            self.registers,
            entry,
            u32::from(vector) | polarity | trigger,
        );
        true
    }
}

/// The old interrupt controllers stay silent.
fn mask_pics() {
    for mask in [0x21, 0xA1] {
        // SAFETY: the mask registers of the two 8259s, which this kernel does not use.
        unsafe { Port::<u8>::new(mask).write(0xFF) };
    }
}

fn read(registers: u64, index: u32) -> u32 {
    // SAFETY: the I/O APIC's registers, mapped as device memory.
    unsafe {
        ((registers + SELECT) as *mut u32).write_volatile(index);
        ((registers + WINDOW) as *const u32).read_volatile()
    }
}

fn write(registers: u64, index: u32, value: u32) {
    // SAFETY: as in `read`; redirection entries only name vectors of this kernel.
    unsafe {
        ((registers + SELECT) as *mut u32).write_volatile(index);
        ((registers + WINDOW) as *mut u32).write_volatile(value);
    }
}
