//! What each interrupt vector is for.

use super::{apic, console, hypervisor, process, stream, time};

/// Vector of COM1.
pub const SERIAL_VECTOR: u8 = 0x24;
/// Vector of COM2.
pub const STREAM_VECTOR: u8 = 0x23;

/// Serves an interrupt. Runs with interrupts off and the kernel's lock, from ring 3, the idle loop or an interrupt window,
/// so nothing is taken.
pub fn handle(vector: u8) {
    match vector {
        apic::SYNIC_VECTOR => hypervisor::messages(),
        apic::TIMER_VECTOR => {
            apic::end_of_interrupt();
            time::rang();
            process::timer();
        }
        SERIAL_VECTOR => {
            if console::serve() {
                process::want_root_task();
            }
            apic::end_of_interrupt();
        }
        STREAM_VECTOR => {
            stream::serve();
            apic::end_of_interrupt();
        }
        apic::SPURIOUS_VECTOR => {}
        // `apic::WAKE_VECTOR` among them: what it is sent for is found on the way out of the kernel.
        _ => apic::end_of_interrupt(),
    }
}
