//! The end: reason, registers, way here, last events; then halt. An invariant of the hypervisor failed, a bug by
//! definition, and running on could only spread it: the other processors halt as well.

use core::fmt::{Display, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use super::{LastWords, events};
use spin::Once;

use crate::cpu::apic::CommandPort;
use crate::cpu::exceptions::ExceptionFrame;

/// Frames of the way here.
const BACKTRACE_DEPTH: usize = 24;
/// Lowest address that can be the hypervisor's: the upper half.
const UPPER_HALF: u64 = 0xFFFF_8000_0000_0000;

static DYING: AtomicBool = AtomicBool::new(false);
/// How the other processors are stopped, once there are some.
static ALARM: Once<CommandPort> = Once::new();

/// There are other processors from now on, and a panic has to stop them.
pub fn stops_others_by(commands: CommandPort) {
    ALARM.call_once(|| commands);
}

/// Another processor has panicked: this one stops as well. Asked after each NMI, which is how it is told.
pub fn stop_with_the_others() {
    if DYING.load(Ordering::Acquire) {
        crate::cpu::halt_forever();
    }
}

/// Reports a panic and halts for good.
pub fn report(reason: impl Display) -> ! {
    let frame_pointer: u64;
    // SAFETY: copies a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack, preserves_flags))
    };
    die(reason, None, frame_pointer)
}

/// Reports an exception in the hypervisor and halts for good.
pub fn report_exception(frame: &ExceptionFrame) -> ! {
    die(frame.name(), Some(frame), frame.rbp)
}

fn die(reason: impl Display, frame: Option<&ExceptionFrame>, frame_pointer: u64) -> ! {
    x86_64::instructions::interrupts::disable();
    if DYING.swap(true, Ordering::AcqRel) {
        // A fault while reporting, or a second processor: the first report is the one that counts.
        crate::cpu::halt_forever();
    }
    if let Some(commands) = ALARM.get() {
        commands.stop_all_others();
    }
    // SAFETY: other processors print nothing once DYING is set; this one does not return.
    let mut out = unsafe {
        events::force_unlock();
        LastWords::take_over()
    };
    out.clear_screen();
    let _ = writeln!(out, "\nPartita stopped: {reason}");
    if let Some(frame) = frame {
        let _ = write!(out, "{frame}");
    }
    let _ = write!(out, "way here:");
    backtrace(frame_pointer, |address| {
        let _ = write!(out, " {address:#x}");
    });
    let _ = writeln!(out, "\nimage base {:#x}", crate::boot::image_base());
    events::with(|ring| {
        let _ = writeln!(out, "last events of {}:", ring.total());
        for entry in ring.last(events::PRINTED) {
            let _ = writeln!(out, "  {entry}");
        }
    });
    let _ = writeln!(out, "halted");
    crate::cpu::halt_forever()
}

/// Follows saved frame pointers upwards as long as they look like a stack of ours: aligned, in the upper half, rising.
fn backtrace(mut frame_pointer: u64, mut each: impl FnMut(u64)) {
    for _ in 0..BACKTRACE_DEPTH {
        if frame_pointer < UPPER_HALF || !frame_pointer.is_multiple_of(8) {
            return;
        }
        // SAFETY: with frame pointers forced, RBP points to saved RBP and return address, on a stack that is mapped. Were it
        // garbage after all, the page fault would find DYING set and halt.
        let [next, address] = unsafe { core::ptr::read_volatile(frame_pointer as *const [u64; 2]) };
        if address == 0 {
            return;
        }
        each(address);
        if next <= frame_pointer {
            return;
        }
        frame_pointer = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_ends_where_frames_stop_rising() {
        // Host stacks lie in the lower half: nothing may be read.
        let mut seen = 0;
        backtrace(0x7FFF_0000_0000, |_| seen += 1);
        backtrace(UPPER_HALF + 1, |_| seen += 1);
        assert_eq!(seen, 0);
    }
}
