//! COM1, which is the root's from its first instruction on.

use core::fmt;

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::LSR;
use uart_16550::{Config, Uart16550};

/// How often a busy transmitter is asked before a byte is dropped: far longer than a byte takes, short enough that a broken
/// port does not stop the machine.
const PATIENCE: u32 = 1_000_000;

/// The serial console; silent if the machine has no COM1.
pub struct Console(Option<Uart16550<PioBackend>>);

impl Console {
    /// Sets COM1 up: 115200 baud, 8N1, no interrupts.
    ///
    /// # Safety
    /// Nobody else uses COM1 as long as the value lives.
    pub unsafe fn open() -> Self {
        // SAFETY: 0x3F8 is COM1's base by PC convention, and the caller says that it is ours.
        let port = unsafe { Uart16550::new_port(0x3F8) };
        Self(port.ok().and_then(|mut port| {
            // The hypervisor's last line may still be on its way, and setting up empties the FIFO.
            let _ = (0..PATIENCE).find(|_| port.lsr().contains(LSR::TRANSMITTER_EMPTY));
            port.init(Config::default()).ok()?;
            Some(port)
        }))
    }

    fn byte(&mut self, byte: u8) {
        if let Some(port) = &mut self.0 {
            let _ = (0..PATIENCE).find(|_| port.try_send_byte(byte).is_ok());
        }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}
