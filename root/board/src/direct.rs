//! The board without firmware: serial line, clock, I/O APIC, and switches for power and reset.
//!
//! Everything else is absent, in the way that a kernel recognizes as absence (guest sheet 12.5): reads give all ones,
//! writes go nowhere.

use tlfs::HvConnectionId;

use crate::board::Options;
use crate::device::console::ConsoleOutput;
use crate::device::ioapic::{InterruptRequest, IoApic};
use crate::device::rtc::Rtc;
use crate::device::testdev::{self, SintTarget, TestDevice};
use crate::device::uart::Uart;
use crate::exit::{Bus, Outcome, ResetReason};
use crate::layout::{
    COM1_GSI, COM1_PORT, IOAPIC_BASE, IOAPIC_LEN, RESET_PORT, RESET_VALUE, S5_TYPE,
    SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT,
};

const COM1_LAST: u16 = COM1_PORT + 7;
/// System control port B; its upper bits would report memory errors.
const SYSTEM_CONTROL_B: u16 = 0x61;
/// Keyboard controller command; there is none but for its reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
/// Keyboard controller command that pulls the reset line.
const PULSE_RESET: u8 = 0xFE;
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
/// Test payloads end with a status here.
const DEBUG_EXIT: u16 = 0xF4;
/// Edge/level control of a PIC that is not there. 0 keeps kernels from writing it back with a warning.
const ELCR_FIRST: u16 = 0x4D0;
const ELCR_LAST: u16 = 0x4D1;
const ABSENT: u8 = 0xFF;
/// Sleep control register: go to sleep, and the bits of SLP_TYP.
const SLEEP_ENABLE: u8 = 1 << 5;

/// The devices of a board without firmware.
#[derive(Debug)]
pub struct DirectBoard {
    uart: Uart,
    console: ConsoleOutput,
    rtc: Rtc,
    ioapic: IoApic,
    debug_exit: bool,
    testdev: Option<TestDevice>,
    end: Option<Outcome>,
}

impl DirectBoard {
    /// The board after power-on.
    pub fn new(options: &Options) -> Self {
        Self {
            uart: Uart::default(),
            console: ConsoleOutput::default(),
            rtc: Rtc::new(options.wall_clock, options.now),
            ioapic: IoApic::default(),
            debug_exit: options.debug_exit,
            testdev: options.hyperv_testdev.map(TestDevice::new),
            end: None,
        }
    }

    /// Lets time pass: what is due at `now` happens.
    pub fn tick(&mut self, now: u64) {
        let active = self.uart.interrupt(now);
        self.ioapic.set_line(COM1_GSI, active);
    }

    /// When [`Self::tick`] or a look at the console output is due next.
    pub fn next_deadline(&self) -> Option<u64> {
        match (self.uart.deadline(), self.console.deadline()) {
            (Some(uart), Some(console)) => Some(uart.min(console)),
            (uart, console) => uart.or(console),
        }
    }

    /// The next interrupt to assert.
    #[inline]
    pub fn take_interrupt(&mut self) -> Option<InterruptRequest> {
        self.ioapic.take_request()
    }

    /// The device of the Hyper-V guest tests, if there is one.
    #[inline]
    pub fn testdev(&mut self) -> Option<&mut TestDevice> {
        self.testdev.as_mut()
    }

    /// Typed input; returns how much of it was taken.
    pub fn console_input(&mut self, bytes: &[u8], now: u64) -> usize {
        let taken = self.uart.input(bytes, now);
        self.tick(now);
        taken
    }

    /// How many bytes of input there is room for.
    pub fn console_input_room(&self) -> usize {
        self.uart.input_room()
    }

    /// Console output that waits.
    pub fn console(&mut self) -> &mut ConsoleOutput {
        &mut self.console
    }

    #[inline]
    fn read_byte(&mut self, port: u16, now: u64) -> u8 {
        match port {
            COM1_PORT..=COM1_LAST => {
                let value = self.uart.read((port - COM1_PORT) as u8, now);
                self.tick(now);
                value
            }
            CMOS_DATA => self.rtc.read(now),
            SYSTEM_CONTROL_B | ELCR_FIRST | ELCR_LAST => 0,
            // Nothing sleeps, so nothing has woken.
            SLEEP_CONTROL_PORT | SLEEP_STATUS_PORT => 0,
            _ => ABSENT,
        }
    }

    #[inline]
    fn write_byte(&mut self, port: u16, value: u8, now: u64) {
        match port {
            COM1_PORT..=COM1_LAST => {
                let offset = (port - COM1_PORT) as u8;
                self.uart.write(offset, value, now, &mut self.console);
                self.tick(now);
            }
            CMOS_INDEX => self.rtc.select(value),
            CMOS_DATA => self.rtc.write(value, now),
            KEYBOARD_COMMAND if value == PULSE_RESET => {
                self.end = Some(Outcome::Reset(ResetReason::KeyboardController));
            }
            SLEEP_CONTROL_PORT if value & SLEEP_ENABLE != 0 && value >> 2 & 7 == S5_TYPE => {
                self.end = Some(Outcome::PowerOff);
            }
            RESET_PORT if value == RESET_VALUE => {
                self.end = Some(Outcome::Reset(ResetReason::Register));
            }
            _ => {}
        }
    }
}

impl Bus for DirectBoard {
    /// All devices but the test device are 8 bits wide: a wider access is one access to each port.
    #[inline]
    fn port_read(&mut self, port: u16, size: u8, now: u64) -> u32 {
        if size == 1 {
            return u32::from(self.read_byte(port, now));
        }
        if size == 4 && port == testdev::PORT && self.testdev.is_some() {
            return 0;
        }
        (0..size).fold(0, |value, index| {
            let byte = match port.checked_add(u16::from(index)) {
                Some(port) => self.read_byte(port, now),
                None => ABSENT,
            };
            value | u32::from(byte) << (u32::from(index) * 8)
        })
    }

    #[inline]
    fn port_write(&mut self, port: u16, size: u8, value: u32, now: u64) {
        if port == DEBUG_EXIT && self.debug_exit {
            self.end = Some(Outcome::DebugExit(value));
            return;
        }
        if size == 4
            && port == testdev::PORT
            && let Some(device) = &mut self.testdev
        {
            device.control(value);
            return;
        }
        for index in 0..size.min(4) {
            if let Some(port) = port.checked_add(u16::from(index)) {
                self.write_byte(port, (value >> (u32::from(index) * 8)) as u8, now);
            }
        }
    }

    fn memory_read(&mut self, gpa: u64, _size: u8, _now: u64) -> u64 {
        match gpa.checked_sub(IOAPIC_BASE) {
            Some(offset) if offset < IOAPIC_LEN => self.ioapic.read(offset),
            _ => u64::MAX,
        }
    }

    fn memory_write(&mut self, gpa: u64, _size: u8, value: u64, _now: u64) {
        if let Some(offset) = gpa.checked_sub(IOAPIC_BASE)
            && offset < IOAPIC_LEN
        {
            self.ioapic.write(offset, value);
        }
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        self.ioapic.end_of_interrupt(vector);
    }

    fn message_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.testdev.as_ref()?.message_connection(to)
    }

    fn event_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.testdev.as_ref()?.event_connection(to)
    }

    #[inline]
    fn take_end(&mut self) -> Option<Outcome> {
        self.end.take()
    }
}

#[cfg(test)]
mod tests;
