//! A 16550 UART.

use x86_64::instructions::port::Port;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const RECEIVED: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const NOTHING_PENDING: u8 = 1 << 0;
/// DTR, RTS and OUT2, which lets the interrupt through.
const MODEM_LINES: u8 = 0x0B;

/// Interrupt when something was received.
pub const ON_RECEIVED: u8 = 1 << 0;
/// Interrupt when the transmitter is ready.
pub const ON_READY: u8 = 1 << 1;
/// What an empty transmitter takes, bytes.
pub const FIFO_SIZE: usize = 16;

/// The registers of a serial port.
#[derive(Clone, Copy, Debug)]
pub struct Uart(u16);

impl Uart {
    /// The first serial port.
    pub const COM1: Self = Self(0x3F8);
    /// The second.
    pub const COM2: Self = Self(0x2F8);

    fn read(self, register: u16) -> u8 {
        // SAFETY: a register of a serial port; reading it affects the UART alone.
        unsafe { Port::new(self.0 + register).read() }
    }

    fn write(self, register: u16, value: u8) {
        // SAFETY: a register of a serial port; writing it affects the UART alone.
        unsafe { Port::new(self.0 + register).write(value) }
    }

    /// Finds it and sets it to 115200 8N1 with FIFOs, without interrupts. `false` if there is none.
    pub fn init(self) -> bool {
        self.write(SCRATCH, 0x5A);
        if self.read(SCRATCH) != 0x5A {
            return false;
        }
        self.write(INTERRUPT_ENABLE, 0);
        self.write(LINE_CONTROL, 0x80);
        self.write(DATA, 1);
        self.write(INTERRUPT_ENABLE, 0);
        self.write(LINE_CONTROL, 0x03);
        self.write(FIFO_CONTROL, 0xC7);
        self.write(MODEM_CONTROL, MODEM_LINES);
        true
    }

    /// Which interrupts it makes from now on.
    pub fn interrupt(self, on: u8) {
        self.write(INTERRUPT_ENABLE, on);
    }

    /// Whether an interrupt is pending. One of the transmitter is acknowledged by this.
    pub fn pending(self) -> bool {
        self.read(INTERRUPT_ID) & NOTHING_PENDING == 0
    }

    /// A byte that was received.
    pub fn receive(self) -> Option<u8> {
        (self.read(LINE_STATUS) & RECEIVED != 0).then(|| self.read(DATA))
    }

    /// Whether the transmitter takes [`FIFO_SIZE`] bytes.
    pub fn ready(self) -> bool {
        self.read(LINE_STATUS) & TRANSMITTER_EMPTY != 0
    }

    /// Sends a byte, if the transmitter takes one.
    pub fn send(self, byte: u8) {
        self.write(DATA, byte);
    }
}
