//! The serial console on COM1: a 16550, by interrupt once its interrupt is routed, polled before and in a panic.

use core::fmt::{self, Write};

use root_kernel::ring::ByteRing;
use x86_64::instructions::port::Port;

use super::cell::Global;

const BASE: u16 = 0x3F8;
const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const INTERRUPT_ID: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;
const SCRATCH: u16 = BASE + 7;

const RECEIVED: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const ENABLE_RECEIVED: u8 = 1 << 0;
const ENABLE_TRANSMITTER: u8 = 1 << 1;
/// DTR, RTS and OUT2, which lets the interrupt through.
const MODEM_LINES: u8 = 0x0B;
const FIFO_SIZE: usize = 16;
const NOTHING_PENDING: u8 = 1 << 0;
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

fn read(port: u16) -> u8 {
    // SAFETY: a register of COM1; reading it affects the UART alone.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: a register of COM1; writing it affects the UART alone.
    unsafe { Port::new(port).write(value) }
}

/// Finds the UART and sets it to 115200 8N1 with FIFOs, polled.
pub fn init() {
    write(SCRATCH, 0x5A);
    let present = read(SCRATCH) == 0x5A;
    if present {
        write(INTERRUPT_ENABLE, 0);
        write(LINE_CONTROL, 0x80);
        write(DATA, 1);
        write(INTERRUPT_ENABLE, 0);
        write(LINE_CONTROL, 0x03);
        write(FIFO_CONTROL, 0xC7);
        write(MODEM_CONTROL, MODEM_LINES);
    }
    CONSOLE.with(|console| console.present = present);
}

/// From now on the UART interrupts.
pub fn enable_interrupts() {
    CONSOLE.with(|console| {
        console.interrupts = console.present;
        if console.present {
            write(INTERRUPT_ENABLE, ENABLE_RECEIVED);
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
                if !console.interrupts || read(INTERRUPT_ID) & NOTHING_PENDING != 0 {
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
            if read(LINE_STATUS) & RECEIVED == 0 {
                break;
            }
            let _ = self.input.push(read(DATA));
        }
    }

    /// Gives the UART what its FIFO takes, and asks for an interrupt if there is more.
    fn fill_fifo(&mut self) {
        if read(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            for _ in 0..FIFO_SIZE {
                let Some(byte) = self.output.pop() else { break };
                write(DATA, byte);
            }
        }
        if self.interrupts {
            let more = if self.output.is_empty() {
                0
            } else {
                ENABLE_TRANSMITTER
            };
            write(INTERRUPT_ENABLE, ENABLE_RECEIVED | more);
        }
    }

    /// Waits for the transmitter and gives it a FIFO's worth; a UART that never gets ready loses bytes.
    fn drain_some(&mut self) {
        let ready = wait_for_transmitter();
        for _ in 0..FIFO_SIZE {
            let Some(byte) = self.output.pop() else { break };
            if ready {
                write(DATA, byte);
            }
        }
    }
}

fn wait_for_transmitter() -> bool {
    (0..PATIENCE).any(|_| read(LINE_STATUS) & TRANSMITTER_EMPTY != 0)
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
    write(DATA, byte);
}
