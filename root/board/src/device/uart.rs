//! The 16550A of the serial line (guest sheet 12.4).
//!
//! The transmitter is infinitely fast: a byte has left when the write ends. So "transmitter empty" always holds, and
//! its interrupt is pending again right after every byte. Received bytes wait in a backlog in front of the FIFO
//! instead of overrunning it.

use alloc::collections::VecDeque;

use super::TICKS_PER_SECOND;
use super::console::ConsoleOutput;

/// Bytes of the FIFO.
const FIFO: usize = 16;
/// Most bytes of console input that wait for the FIFO.
const BACKLOG: usize = 4096;
/// Clock of the baud rate generator, in Hz.
const CLOCK: u64 = 1_843_200;
/// Bits of a character on the line, start and stop bit included.
const CHARACTER_BITS: u64 = 10;

// Interrupt enable register.
const IER_RDA: u8 = 1 << 0;
const IER_THRE: u8 = 1 << 1;
const IER_RLS: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;
// Interrupt identification, in falling priority.
const IIR_RLS: u8 = 0x06;
const IIR_RDA: u8 = 0x04;
const IIR_TIMEOUT: u8 = 0x0C;
const IIR_THRE: u8 = 0x02;
const IIR_MODEM: u8 = 0x00;
const IIR_NONE: u8 = 0x01;
const IIR_FIFOS: u8 = 0xC0;
// FIFO control register.
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
/// Line control: divisor latch at offsets 0 and 1.
const LCR_DLAB: u8 = 1 << 7;
// Modem control.
const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
// Line status.
const LSR_DATA: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_TRANSMITTER_EMPTY: u8 = 0x60;
// Modem status.
const MSR_DELTA: u8 = 0x0F;
const MSR_TRAILING_RI: u8 = 1 << 2;
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
/// The other end is there and ready.
const MSR_CONNECTED: u8 = MSR_CTS | MSR_DSR | MSR_DCD;

/// A 16550A.
#[derive(Debug)]
pub struct Uart {
    interrupt_enable: u8,
    line_control: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    divisor: u16,
    fifos: bool,
    trigger: usize,
    overrun: bool,
    /// The transmitter became empty and nobody has looked since.
    transmitter_interrupt: bool,
    received: VecDeque<u8>,
    backlog: VecDeque<u8>,
    /// When bytes below the trigger level are reported, if there are some.
    timeout_at: Option<u64>,
    timeout: bool,
}

impl Default for Uart {
    /// State after reset.
    fn default() -> Self {
        Self {
            interrupt_enable: 0,
            line_control: 0,
            modem_control: 0,
            modem_status: MSR_CONNECTED,
            scratch: 0,
            divisor: 1,
            fifos: false,
            trigger: 1,
            overrun: false,
            transmitter_interrupt: false,
            received: VecDeque::with_capacity(FIFO),
            backlog: VecDeque::with_capacity(BACKLOG),
            timeout_at: None,
            timeout: false,
        }
    }
}

impl Uart {
    /// Reads the register at `offset`, 0 to 7.
    pub fn read(&mut self, offset: u8, now: u64) -> u8 {
        let latch = self.line_control & LCR_DLAB != 0;
        match offset {
            0 if latch => self.divisor as u8,
            0 => self.receive(now),
            1 if latch => (self.divisor >> 8) as u8,
            1 => self.interrupt_enable,
            2 => self.identify(now),
            3 => self.line_control,
            4 => self.modem_control,
            5 => self.line_status(),
            6 => {
                let status = self.modem_status;
                self.modem_status &= !MSR_DELTA;
                status
            }
            _ => self.scratch,
        }
    }

    /// Writes the register at `offset`, 0 to 7; transmitted bytes go to `output`.
    pub fn write(&mut self, offset: u8, value: u8, now: u64, output: &mut ConsoleOutput) {
        let latch = self.line_control & LCR_DLAB != 0;
        match offset {
            0 if latch => self.divisor = self.divisor & 0xFF00 | u16::from(value),
            0 => self.transmit(value, now, output),
            1 if latch => self.divisor = self.divisor & 0x00FF | u16::from(value) << 8,
            1 => self.enable_interrupts(value),
            2 => self.control_fifos(value, now),
            3 => self.line_control = value,
            4 => self.control_modem(value, now),
            7 => self.scratch = value,
            // Line and modem status are read-only.
            _ => {}
        }
    }

    /// Console input. Takes as much as there is room for and returns how much that was.
    pub fn input(&mut self, bytes: &[u8], now: u64) -> usize {
        let taken = bytes.len().min(self.input_room());
        self.backlog.extend(&bytes[..taken]);
        self.fill(now);
        taken
    }

    /// How many bytes of console input there is room for.
    pub fn input_room(&self) -> usize {
        BACKLOG.saturating_sub(self.backlog.len())
    }

    /// Whether the interrupt line is active at `now`. OUT2 gates it, as on every PC; in loopback OUT2 is off.
    pub fn interrupt(&mut self, now: u64) -> bool {
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout_at = None;
            self.timeout = true;
        }
        self.modem_control & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.cause() != IIR_NONE
    }

    /// When [`Self::interrupt`] may change without an access.
    pub fn deadline(&self) -> Option<u64> {
        self.timeout_at
            .filter(|_| self.interrupt_enable & IER_RDA != 0)
    }

    /// The pending cause of highest priority.
    fn cause(&self) -> u8 {
        let enabled = self.interrupt_enable;
        if enabled & IER_RLS != 0 && self.overrun {
            IIR_RLS
        } else if enabled & IER_RDA != 0 && self.received.len() >= self.trigger {
            IIR_RDA
        } else if enabled & IER_RDA != 0 && self.timeout && !self.received.is_empty() {
            IIR_TIMEOUT
        } else if enabled & IER_THRE != 0 && self.transmitter_interrupt {
            IIR_THRE
        } else if enabled & IER_MODEM != 0 && self.modem_status & MSR_DELTA != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    /// Interrupt identification. Looking at "transmitter empty" takes it back; the other causes end where their data is.
    fn identify(&mut self, now: u64) -> u8 {
        // Brings the timeout up to date.
        self.interrupt(now);
        let cause = self.cause();
        if cause == IIR_THRE {
            self.transmitter_interrupt = false;
        }
        cause | if self.fifos { IIR_FIFOS } else { 0 }
    }

    fn line_status(&mut self) -> u8 {
        let mut status = LSR_TRANSMITTER_EMPTY;
        if !self.received.is_empty() {
            status |= LSR_DATA;
        }
        if core::mem::take(&mut self.overrun) {
            status |= LSR_OVERRUN;
        }
        status
    }

    fn receive(&mut self, now: u64) -> u8 {
        let byte = self.received.pop_front().unwrap_or(0);
        self.fill(now);
        self.restart_timeout(now);
        byte
    }

    fn transmit(&mut self, byte: u8, now: u64, output: &mut ConsoleOutput) {
        if self.modem_control & MCR_LOOP == 0 {
            output.push(byte, now);
        } else if self.received.len() < self.capacity() {
            self.received.push_back(byte);
            self.restart_timeout(now);
        } else {
            self.overrun = true;
        }
        self.transmitter_interrupt = true;
    }

    /// Enabling "transmitter empty" while it is empty raises it, whether or not it was seen before: the 8250 driver
    /// starts every transmission this way, and tests for it.
    fn enable_interrupts(&mut self, value: u8) {
        let value = value & 0x0F;
        if (value & !self.interrupt_enable) & IER_THRE != 0 {
            self.transmitter_interrupt = true;
        }
        self.interrupt_enable = value;
    }

    fn control_fifos(&mut self, value: u8, now: u64) {
        let enable = value & FCR_ENABLE != 0;
        // Switching over empties the FIFOs; without FIFOs the other bits have no effect.
        if enable != self.fifos || (enable && value & FCR_CLEAR_RECEIVER != 0) {
            self.received.clear();
        }
        self.fifos = enable;
        self.trigger = match (enable, value >> 6) {
            (false, _) | (_, 0) => 1,
            (_, 1) => 4,
            (_, 2) => 8,
            (_, _) => 14,
        };
        self.fill(now);
        self.restart_timeout(now);
    }

    fn control_modem(&mut self, value: u8, now: u64) {
        self.modem_control = value & 0x1F;
        let lines = if value & MCR_LOOP == 0 {
            MSR_CONNECTED
        } else {
            let wired = [
                (MCR_RTS, MSR_CTS),
                (MCR_DTR, MSR_DSR),
                (MCR_OUT1, MSR_RI),
                (MCR_OUT2, MSR_DCD),
            ];
            wired
                .iter()
                .filter(|(output, _)| value & output != 0)
                .fold(0, |lines, (_, input)| lines | input)
        };
        let changed = (self.modem_status ^ lines) >> 4;
        // The ring indicator counts only when it ends.
        let ring_ended = self.modem_status & !lines & MSR_RI != 0;
        let deltas = changed & !MSR_TRAILING_RI | if ring_ended { MSR_TRAILING_RI } else { 0 };
        self.modem_status = lines | self.modem_status & MSR_DELTA | deltas;
        self.fill(now);
    }

    fn capacity(&self) -> usize {
        if self.fifos { FIFO } else { 1 }
    }

    /// Moves waiting input into the FIFO, as far as there is room. In loopback nothing comes from outside.
    fn fill(&mut self, now: u64) {
        if self.modem_control & MCR_LOOP != 0 {
            return;
        }
        while self.received.len() < self.capacity() {
            let Some(byte) = self.backlog.pop_front() else {
                break;
            };
            self.received.push_back(byte);
            self.restart_timeout(now);
        }
    }

    /// Four character times without a byte coming or going: then what is there is reported, however little.
    fn restart_timeout(&mut self, now: u64) {
        self.timeout = false;
        self.timeout_at = (self.fifos && !self.received.is_empty()).then(|| {
            let divisor = u64::from(self.divisor.max(1));
            let character = CHARACTER_BITS * 16 * divisor * TICKS_PER_SECOND / CLOCK;
            now.saturating_add(4 * character)
        });
    }
}

#[cfg(test)]
mod tests;
