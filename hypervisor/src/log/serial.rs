//! COM1, a 16550, polled.

use core::fmt;

use x86_64::instructions::port::Port;

/// Transmitter can take a byte.
const LSR_THR_EMPTY: u8 = 1 << 5;
/// Looks at the line status before a byte is given up: a port that is not there must not stop the machine.
const PATIENCE: u32 = 100_000;

/// A 16550 at some base port.
#[derive(Debug)]
pub struct Serial {
    base: u16,
}

impl Serial {
    /// COM1 of a PC.
    pub const COM1: Self = Self { base: 0x3F8 };

    /// 115200 baud, 8 bits, no parity, 1 stop bit, FIFO on, no interrupts.
    pub fn init(&mut self) {
        for (offset, value) in [
            (1, 0x00),
            (3, 0x80),
            (0, 0x01),
            (1, 0x00),
            (3, 0x03),
            (2, 0x07),
            (4, 0x03),
        ] {
            self.write(offset, value);
        }
    }

    fn put(&mut self, byte: u8) {
        for _ in 0..PATIENCE {
            if self.read(5) & LSR_THR_EMPTY != 0 {
                self.write(0, byte);
                return;
            }
            core::hint::spin_loop();
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        // SAFETY: the ports of the UART have no effect on memory.
        unsafe { Port::new(self.base + offset).write(value) }
    }

    fn read(&mut self, offset: u16) -> u8 {
        // SAFETY: as in `write`.
        unsafe { Port::new(self.base + offset).read() }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}
