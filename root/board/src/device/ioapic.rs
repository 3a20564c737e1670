//! The I/O APIC: 24 pins, each with a redirection entry that turns it into an interrupt message.

use alloc::vec::Vec;

/// Pins.
pub const PINS: usize = 24;
/// Version 0x20 (has an EOI register), and the last pin.
const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;

// Register window.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const EOI: u64 = 0x40;

// Redirection entry.
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// What the guest may write: not delivery status, not remote IRR, not the reserved bits.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

/// How an interrupt is delivered; the numbers are those of the redirection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Delivery {
    /// To the addressed processor, with the vector.
    Fixed = 0,
    /// To the one of lowest priority.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Non-maskable interrupt.
    Nmi = 4,
    /// INIT.
    Init = 5,
    /// From an external PIC.
    ExtInt = 7,
}

/// An interrupt to assert in the guest (AssertVirtualInterrupt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptRequest {
    /// Vector.
    pub vector: u8,
    /// APIC id, or logical destination.
    pub destination: u8,
    /// `destination` is logical.
    pub logical: bool,
    /// Ended by an EOI that the board must hear of.
    pub level: bool,
    /// Way of delivery.
    pub delivery: Delivery,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    entry: u64,
    /// The line is active.
    line: bool,
    /// An edge was seen and is not delivered yet.
    edge: bool,
}

/// An I/O APIC.
#[derive(Debug)]
pub struct IoApic {
    id: u32,
    selected: u8,
    pins: [Pin; PINS],
    requests: Vec<InterruptRequest>,
}

impl Default for IoApic {
    /// State after reset: everything masked.
    fn default() -> Self {
        let pin = Pin {
            entry: MASKED,
            line: false,
            edge: false,
        };
        Self {
            id: 0,
            selected: 0,
            pins: [pin; PINS],
            requests: Vec::with_capacity(PINS),
        }
    }
}

impl IoApic {
    /// Reads at `offset` in the register window. Registers are 32 bits wide; a narrow read sees its part of one.
    pub fn read(&self, offset: u64) -> u64 {
        let register = match offset & !3 {
            SELECT => u32::from(self.selected),
            WINDOW => self.register(),
            _ => 0,
        };
        u64::from(register) >> ((offset & 3) * 8)
    }

    /// Writes at `offset` in the register window.
    pub fn write(&mut self, offset: u64, value: u64) {
        match offset {
            SELECT => self.selected = value as u8,
            WINDOW => self.set_register(value as u32),
            EOI => self.end_of_interrupt(value as u8),
            _ => {}
        }
    }

    /// Sets the line of a pin. Pins that do not exist are not connected.
    #[inline]
    pub fn set_line(&mut self, pin: u32, active: bool) {
        let Some(state) = self.pins.get_mut(pin as usize) else {
            return;
        };
        if state.line != active {
            state.line = active;
            state.edge |= active;
            self.service(pin as usize);
        }
    }

    /// A processor has ended a level interrupt. A line that is still active interrupts again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for pin in 0..PINS {
            let state = &mut self.pins[pin];
            if state.entry & LEVEL != 0 && state.entry as u8 == vector {
                state.entry &= !REMOTE_IRR;
                self.service(pin);
            }
        }
    }

    /// The next interrupt to assert.
    #[inline]
    pub fn take_request(&mut self) -> Option<InterruptRequest> {
        self.requests.pop()
    }

    fn register(&self) -> u32 {
        match self.selected {
            0 | 2 => self.id << 24,
            1 => VERSION,
            index => match self.selected_pin(index) {
                Some((pin, high)) => (self.pins[pin].entry >> if high { 32 } else { 0 }) as u32,
                None => 0,
            },
        }
    }

    fn set_register(&mut self, value: u32) {
        if self.selected == 0 {
            self.id = value >> 24 & 0x0F;
        } else if let Some((pin, high)) = self.selected_pin(self.selected) {
            let old = self.pins[pin].entry;
            let value = u64::from(value);
            let merged = if high {
                old & 0xFFFF_FFFF | value << 32
            } else {
                old & !0xFFFF_FFFF | value
            };
            self.set_entry(pin, merged);
        }
    }

    fn selected_pin(&self, index: u8) -> Option<(usize, bool)> {
        let index = usize::from(index).checked_sub(0x10)?;
        (index < 2 * PINS).then_some((index / 2, index % 2 == 1))
    }

    /// Remote IRR is the device's own, but goes away with level mode: kernels switch to edge and back to clear it.
    fn set_entry(&mut self, pin: usize, value: u64) {
        let state = &mut self.pins[pin];
        let kept = if value & LEVEL != 0 {
            state.entry & REMOTE_IRR
        } else {
            0
        };
        state.entry = value & WRITABLE | kept;
        self.service(pin);
    }

    /// Sends the pin's interrupt if there is one to send.
    ///
    /// An edge that comes while the pin is masked is kept until it is unmasked. Real ones lose it; but a line whose
    /// edge was lost stays active for good when its driver waits for the interrupt before it serves the device.
    fn service(&mut self, pin: usize) {
        let state = &mut self.pins[pin];
        let entry = state.entry;
        let Some(delivery) = delivery(entry) else {
            return;
        };
        // Only vectors can be ended, so only they can be level-triggered.
        let level =
            entry & LEVEL != 0 && matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        let wanted = if level {
            state.line && entry & REMOTE_IRR == 0
        } else {
            state.edge
        };
        if !wanted || entry & MASKED != 0 {
            return;
        }
        state.edge = false;
        if level {
            state.entry |= REMOTE_IRR;
        }
        self.requests.push(InterruptRequest {
            vector: entry as u8,
            destination: (entry >> 56) as u8,
            logical: entry & LOGICAL != 0,
            level,
            delivery,
        });
    }
}

fn delivery(entry: u64) -> Option<Delivery> {
    Some(match entry >> 8 & 7 {
        0 => Delivery::Fixed,
        1 => Delivery::LowestPriority,
        2 => Delivery::Smi,
        4 => Delivery::Nmi,
        5 => Delivery::Init,
        7 => Delivery::ExtInt,
        // Reserved.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(apic: &mut IoApic, register: u8, value: u32) {
        apic.write(SELECT, u64::from(register));
        apic.write(WINDOW, u64::from(value));
    }

    fn get(apic: &mut IoApic, register: u8) -> u32 {
        apic.write(SELECT, u64::from(register));
        apic.read(WINDOW) as u32
    }

    /// Routes pin 4 to vector 0x31 of APIC 2.
    fn route(apic: &mut IoApic, flags: u64) {
        set(apic, 0x19, 2 << 24);
        set(apic, 0x18, 0x31 | flags as u32);
    }

    fn drain(apic: &mut IoApic) -> Vec<InterruptRequest> {
        core::iter::from_fn(|| apic.take_request()).collect()
    }

    const REQUEST: InterruptRequest = InterruptRequest {
        vector: 0x31,
        destination: 2,
        logical: false,
        level: false,
        delivery: Delivery::Fixed,
    };

    #[test]
    fn it_identifies_itself_and_starts_masked() {
        let mut apic = IoApic::default();
        assert_eq!(get(&mut apic, 1), 0x0017_0020);
        set(&mut apic, 0, 0xFF00_0000);
        assert_eq!(get(&mut apic, 0), 0x0F00_0000);
        for register in (0x10..0x40).step_by(2) {
            assert_eq!(get(&mut apic, register), 0x1_0000);
        }
        assert_eq!(get(&mut apic, 0x40), 0);
    }

    #[test]
    fn every_rising_edge_is_one_interrupt() {
        let mut apic = IoApic::default();
        route(&mut apic, 0);
        apic.set_line(4, true);
        apic.set_line(4, true);
        assert_eq!(drain(&mut apic), [REQUEST]);
        apic.set_line(4, false);
        assert_eq!(drain(&mut apic), []);
        apic.set_line(4, true);
        assert_eq!(drain(&mut apic), [REQUEST]);
        apic.set_line(99, true);
        assert_eq!(drain(&mut apic), []);
    }

    #[test]
    fn an_edge_that_comes_while_masked_is_delivered_on_unmask() {
        let mut apic = IoApic::default();
        route(&mut apic, MASKED);
        apic.set_line(4, true);
        assert_eq!(drain(&mut apic), []);
        route(&mut apic, 0);
        assert_eq!(drain(&mut apic), [REQUEST]);
        route(&mut apic, 0);
        assert_eq!(drain(&mut apic), []);
    }

    #[test]
    fn a_level_interrupt_waits_for_its_eoi_and_comes_again_while_the_line_is_active() {
        let mut apic = IoApic::default();
        let level = InterruptRequest {
            level: true,
            ..REQUEST
        };
        route(&mut apic, LEVEL);
        apic.set_line(4, true);
        assert_eq!(drain(&mut apic), [level]);
        assert_eq!(get(&mut apic, 0x18), 0xC031, "remote IRR is set");
        apic.set_line(4, false);
        apic.set_line(4, true);
        assert_eq!(drain(&mut apic), [], "not before the EOI");
        apic.end_of_interrupt(0x32);
        assert_eq!(drain(&mut apic), [], "of another vector");
        apic.end_of_interrupt(0x31);
        assert_eq!(drain(&mut apic), [level]);
        apic.set_line(4, false);
        apic.write(EOI, 0x31);
        assert_eq!(drain(&mut apic), []);
        assert_eq!(get(&mut apic, 0x18), 0x8031);
    }

    #[test]
    fn switching_to_edge_and_back_clears_remote_irr() {
        let mut apic = IoApic::default();
        route(&mut apic, LEVEL);
        apic.set_line(4, true);
        drain(&mut apic);
        apic.set_line(4, false);
        route(&mut apic, MASKED);
        route(&mut apic, LEVEL);
        assert_eq!(get(&mut apic, 0x18), 0x8031);
    }

    #[test]
    fn the_guest_cannot_write_the_status_bits() {
        let mut apic = IoApic::default();
        set(&mut apic, 0x18, 0xFFFF_FFFF);
        set(&mut apic, 0x19, 0xFFFF_FFFF);
        assert_eq!(get(&mut apic, 0x18), 0x0001_AFFF);
        assert_eq!(get(&mut apic, 0x19), 0xFF00_0000);
    }

    proptest! {
        #[test]
        fn a_level_interrupt_is_outstanding_at_most_once(
            steps in proptest::collection::vec((0..6u8, any::<u8>(), any::<u32>()), 1..200),
        ) {
            let mut apic = IoApic::default();
            for (step, small, value) in steps {
                let pin = u32::from(small % 26);
                match step {
                    0 => apic.set_line(pin, true),
                    1 => apic.set_line(pin, false),
                    2 => apic.end_of_interrupt(small),
                    3 => apic.write(u64::from(value), u64::from(value)),
                    4 => { apic.read(u64::from(value)); }
                    _ => set(&mut apic, small, value),
                }
                let requests = drain(&mut apic);
                let levels = requests.iter().filter(|request| request.level).count();
                let outstanding = apic.pins.iter().filter(|pin| pin.entry & REMOTE_IRR != 0).count();
                prop_assert!(levels <= outstanding);
            }
        }
    }
}
