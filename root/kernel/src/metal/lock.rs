//! The lock of the whole kernel: whoever executes kernel code has it, but for the first instructions of an entry, HLT,
//! and the end of the machine.
//!
//! It is taken when a processor comes from ring 3 or wakes from HLT, and given back on the way there. Tickets make it
//! fair: processors get it in the order in which they ask.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{block, cpu};

/// The next ticket. The first processor has ticket 0 from the start.
static NEXT: AtomicU32 = AtomicU32::new(1);
/// The ticket that has the lock.
static SERVED: AtomicU32 = AtomicU32::new(0);
/// The kernel has come to its end; nobody gets the lock any more.
static OVER: AtomicBool = AtomicBool::new(false);

/// Takes the lock, which this processor does not have.
#[inline]
pub fn take() {
    let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
    if SERVED.load(Ordering::Acquire) != ticket {
        wait(ticket);
    }
    block::set_holder(true);
}

/// Takes the lock unless this processor has it.
#[inline]
pub fn ensure() {
    if !block::is_holder() {
        take();
    }
}

/// Gives the lock back, which this processor has.
#[inline]
pub extern "C" fn give() {
    block::set_holder(false);
    // Only the holder writes it.
    let mine = SERVED.load(Ordering::Relaxed);
    SERVED.store(mine.wrapping_add(1), Ordering::Release);
}

#[cold]
fn wait(ticket: u32) {
    while SERVED.load(Ordering::Acquire) != ticket {
        if OVER.load(Ordering::Relaxed) {
            cpu::halt();
        }
        // PAUSE, at which the hypervisor takes the interrupts that wait for it: who has the lock may be waiting for it to
        // get something done here.
        spin_loop();
    }
}

/// The kernel ends on this processor: the others will not get into it any more.
pub fn end() {
    OVER.store(true, Ordering::Relaxed);
}

/// Whether the kernel has come to its end.
pub fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}
