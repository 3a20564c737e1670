//! The second serial line, COM2: the counters, once a second (docs/counters.md).
//!
//! Nobody waits for it. Lines go into a buffer, whole or not at all, and from there to the UART when it is ready: by its
//! interrupt, or at a root task's turn if its interrupt cannot be had.

use manager::stream::{MAX_LINE, Stream};
use root_kernel::ring::ByteRing;
use tlfs::HV_REFERENCE_TIME_HZ;

use super::cell::Global;
use super::uart::{FIFO_SIZE, ON_READY, Uart};
use super::{console, heap, process};

const UART: Uart = Uart::COM2;
/// How often the counters are told, 100 ns.
const PERIOD: u64 = HV_REFERENCE_TIME_HZ;
/// How often a transmitter without an interrupt is looked at, 100 ns.
const POLL: u64 = 50_000;
/// Most FIFOs filled at once: an emulated UART is ready again immediately.
const MOST_ROUNDS: usize = 8;

struct Line {
    present: bool,
    interrupts: bool,
    output: ByteRing<MAX_LINE>,
}

struct Looks {
    stream: Stream,
    /// When the next look begins.
    due: u64,
    /// A look has begun and is not complete.
    looking: bool,
}

static LINE: Global<Line> = Global::new(Line {
    present: false,
    interrupts: false,
    output: ByteRing::new(),
});
static LOOKS: Global<Looks> = Global::empty();

/// Finds the UART. Returns whether it is there.
pub fn init() -> bool {
    let present = UART.init();
    LINE.with(|line| {
        line.present = present;
        // The firmware may have left a line without an end.
        let _ = line.output.push(b'\n');
    });
    LOOKS.set(Looks {
        stream: Stream::default(),
        due: 0,
        looking: false,
    });
    if !present {
        console::line(format_args!("no COM2: counters are not streamed"));
    }
    present
}

/// From now on the UART interrupts when it is ready for more.
pub fn enable_interrupts() {
    LINE.with(|line| line.interrupts = true);
}

/// Serves the UART in its interrupt.
pub fn serve() {
    LINE.with(Line::fill_fifo);
}

/// Does what is due at a root task's turn; `look` makes the lines of one step of a look, and says whether there are more.
/// Returns when the next turn is wanted.
pub fn work(
    now: u64,
    look: impl FnOnce(&mut Stream, &mut dyn FnMut(&str) -> bool) -> bool,
) -> Option<u64> {
    if !LINE.with(|line| line.present) {
        return None;
    }
    let next = LOOKS.with(|looks| {
        if looks.looking || looks.due <= now {
            if !looks.looking {
                looks.due = looks.due.saturating_add(PERIOD);
                // A look that is late does not make the next ones come in a row.
                if looks.due <= now {
                    looks.due = now.saturating_add(PERIOD);
                }
            }
            heap::replenish();
            looks.looking = look(&mut looks.stream, &mut send);
            if looks.looking {
                // Processes have their turn before the next step.
                process::want_root_task();
            }
        }
        looks.due
    });
    let behind = LINE.with(|line| {
        line.fill_fifo();
        !line.interrupts && !line.output.is_empty()
    });
    Some(if behind {
        next.min(now.saturating_add(POLL))
    } else {
        next
    })
}

/// Takes a line, if there is room for all of it.
fn send(text: &str) -> bool {
    LINE.with(|line| {
        if MAX_LINE - line.output.len() < text.len() {
            return false;
        }
        let taken = text.bytes().all(|byte| line.output.push(byte));
        line.fill_fifo();
        taken
    })
}

impl Line {
    /// Gives the UART what its FIFO takes, and asks for an interrupt if there is more.
    fn fill_fifo(&mut self) {
        if self.output.is_empty() {
            return;
        }
        if self.interrupts {
            // An emulated UART may be ready again after each byte, and would interrupt each time.
            UART.interrupt(0);
        }
        for _ in 0..MOST_ROUNDS {
            if self.output.is_empty() || !UART.ready() {
                break;
            }
            for _ in 0..FIFO_SIZE {
                let Some(byte) = self.output.pop() else { break };
                UART.send(byte);
            }
        }
        // The interrupt of a UART that is ready comes now: its line was low.
        if self.interrupts && !self.output.is_empty() {
            UART.interrupt(ON_READY);
        }
    }
}
