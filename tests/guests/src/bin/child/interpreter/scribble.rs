//! The second processor: while it is told to, it writes into the rings what it likes, so that they change while the host reads
//! them.

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::cell::Pages;
use guests::metal::{apic, memory, startup, time};
use guests::rng::Rng;

use crate::pages::{CHANNELS, RING_PAGES};
use crate::vmbus::ring_gpa;

/// What it is told: to rest, or to write.
const REST: u64 = 0;
const WRITE: u64 = 1;
/// Microseconds in which it has to hear of it.
const PATIENCE: u64 = 60_000_000;

static STACK: Pages<0x4000> = Pages::new();
static TOLD: AtomicU64 = AtomicU64::new(REST);
static DOES: AtomicU64 = AtomicU64::new(WRITE);

/// Starts it, at rest.
pub fn start() {
    apic::enable();
    startup::install(arrive);
    startup::start(1, STACK.end());
    tell(REST);
}

/// Lets it write.
pub fn go_on() {
    tell(WRITE);
}

/// Has it rest: it does when this returns.
pub fn rest() {
    tell(REST);
}

fn tell(what: u64) {
    TOLD.store(what, Ordering::SeqCst);
    let heard = || DOES.load(Ordering::SeqCst) == what;
    assert!(
        time::wait(PATIENCE, heard),
        "the other processor does not hear"
    );
}

extern "C" fn arrive(number: u64) -> ! {
    let mut rng = Rng::new(number);
    loop {
        let told = TOLD.load(Ordering::SeqCst);
        DOES.store(told, Ordering::SeqCst);
        if told == REST {
            core::hint::spin_loop();
            continue;
        }
        let channel = rng.below(CHANNELS as u64) as usize;
        let ring = ring_gpa(channel) + rng.below(2) * RING_PAGES as u64 * 4096;
        // Mostly what may pass for an index, and what may be a descriptor.
        match rng.below(8) {
            0..=2 => memory::write(ring + rng.below(4) * 4, rng.below(1024) as u32 * 8),
            3 => memory::write(ring + rng.below(4) * 4, rng.odd_value() as u32),
            4..=6 => memory::write(
                ring + 4096 + rng.below(1024) * 8,
                0x0000_0003_0002_0006 | rng.below(64) << 32,
            ),
            _ => memory::write(ring + 4096 + rng.below(1024) * 8, rng.odd_value()),
        }
        // The host is to do something in between.
        for _ in 0..rng.below(512) {
            core::hint::spin_loop();
        }
    }
}
