//! The serial console on COM1: a 16550, by interrupt once its interrupt is routed, polled before and in a panic.

use core::fmt::{self, Write};

use root_kernel::ring::ByteRing;

use super::cell::Global;
use super::uart::{FIFO_SIZE, ON_READY, ON_RECEIVED, Uart};

const UART: Uart = Uart::COM1;
/// Bytes taken at once, and rounds in one interrupt: more than any UART holds, and an end if there is none.
const MOST_BYTES: usize = 256;
const MOST_ROUNDS: usize = 64;
/// Reads of the status register before the transmitter is given up.
const PATIENCE: u32 = 1_000_000;

struct Console {
    present: bool,
    interrupts: bool,
    output: ByteRing<16384>,
    input: ByteRing<1024>,
}

static CONSOLE: Global<Console> = Global::new(Console {
    present: false,
    interrupts: false,
    output: ByteRing::new(),
    input: ByteRing::new(),
});

/// Finds the UART and sets it to 115200 8N1 with FIFOs, polled.
pub fn init() {
    let present = UART.init();
    CONSOLE.with(|console| console.present = present);
}

/// From now on the UART interrupts.
pub fn enable_interrupts() {
    CONSOLE.with(|console| {
        console.interrupts = console.present;
        if console.present {
            UART.interrupt(ON_RECEIVED);
        }
    });
}

/// Serves the UART: in its interrupt, or polled. Returns whether there is input to take.
pub fn serve() -> bool {
    CONSOLE.with(|console| {
        if console.present {
            console.receive();
            console.fill_fifo();
            // The line is edge triggered: it must have been low for a moment before the handler ends, or no further
            // interrupt comes. Reading the identification acknowledges a transmitter interrupt.
            for _ in 0..MOST_ROUNDS {
                if !console.interrupts || !UART.pending() {
                    break;
                }
                console.receive();
                console.fill_fifo();
            }
        }
        !console.input.is_empty()
    })
}

/// Takes a typed byte.
pub fn input() -> Option<u8> {
    CONSOLE.with(|console| console.input.pop())
}

/// Sends bytes as they are.
pub fn send(bytes: &[u8]) {
    CONSOLE.with(|console| {
        if !console.present {
            return;
        }
        for byte in bytes {
            while !console.output.push(*byte) {
                console.drain_some();
            }
        }
        if console.interrupts {
            console.fill_fifo();
        } else {
            while !console.output.is_empty() {
                console.drain_some();
            }
        }
    });
}

/// Sends everything before the machine goes down.
pub fn flush() {
    CONSOLE.with(|console| {
        while !console.output.is_empty() {
            console.drain_some();
        }
    });
}

impl Console {
    /// Takes what has arrived. What does not fit is lost, as on any serial line without flow control.
    fn receive(&mut self) {
        for _ in 0..MOST_BYTES {
            let Some(byte) = UART.receive() else { break };
            let _ = self.input.push(byte);
        }
    }

    /// Gives the UART what its FIFO takes, and asks for an interrupt if there is more.
    fn fill_fifo(&mut self) {
        if UART.ready() {
            for _ in 0..FIFO_SIZE {
                let Some(byte) = self.output.pop() else { break };
                UART.send(byte);
            }
        }
        if self.interrupts {
            let more = if self.output.is_empty() { 0 } else { ON_READY };
            UART.interrupt(ON_RECEIVED | more);
        }
    }

    /// Waits for the transmitter and gives it a FIFO's worth; a UART that never gets ready loses bytes.
    fn drain_some(&mut self) {
        let ready = wait_for_transmitter();
        for _ in 0..FIFO_SIZE {
            let Some(byte) = self.output.pop() else { break };
            if ready {
                UART.send(byte);
            }
        }
    }
}

fn wait_for_transmitter() -> bool {
    (0..PATIENCE).any(|_| UART.ready())
}

/// Text with line ends as terminals want them.
struct Text;

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                send(b"\r\n");
            }
            send(line.as_bytes());
        }
        Ok(())
    }
}

/// Prints text; `\n` ends a line.
pub fn print(text: fmt::Arguments<'_>) {
    // Writing to `Text` cannot fail.
    let _ = Text.write_fmt(text);
}

/// Prints a line of the kernel.
pub fn line(text: fmt::Arguments<'_>) {
    print(format_args!("root: {text}\n"));
}

/// The console of a kernel that cannot go on: needs nothing that may be broken or taken.
pub struct Emergency;

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                emergency_byte(b'\r');
            }
            emergency_byte(byte);
        }
        Ok(())
    }
}

fn emergency_byte(byte: u8) {
    wait_for_transmitter();
    UART.send(byte);
}
