//! The root's other VPs in 64-bit mode: each runs a function of the payload, with hypercalls and messages of its own.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use super::memory::{LARGE_PAGE, PAGE};
use super::{Root, forget_translations};
use crate::metal::cell::Pages;
use crate::metal::memory::{self, virtual_address};
use crate::metal::startup::{self, START};
use crate::metal::{time, trap};
use crate::read_cr;

const SECOND: u64 = 1_000_000;

/// What a VP does: it gets its number, and the root as it sees it.
pub type Work = fn(u64, &mut Root);

/// What the VP that starts is to do.
static SEED: Mutex<Option<(Work, Root)>> = Mutex::new(None);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

static DIRECTORY_POINTERS: Pages<4096> = Pages::new();
static DIRECTORY: Pages<4096> = Pages::new();
static TABLE: Pages<4096> = Pages::new();

/// Starts the root's VPs 1 to `count` - 1, one after the other, on `work`; what they find wrong ends the machine.
pub fn start(root: &mut Root, count: u64, work: Work) {
    prepare();
    for number in 1..count {
        let pages = root.memory.large(1);
        *SEED.lock() = Some((work, root.on_another_vp(pages)));
        let before = ARRIVED.load(Ordering::SeqCst);
        startup::start(number, virtual_address(pages + LARGE_PAGE));
        let arrived = time::wait(5 * SECOND, || ARRIVED.load(Ordering::SeqCst) > before);
        check!(arrived, "VP {number} of the root does not start");
    }
}

/// How many of the VPs have come to the end of their work.
pub fn done() -> u64 {
    DONE.load(Ordering::SeqCst)
}

/// Code and identity mapping for the step from real mode to the payload's page tables.
fn prepare() {
    let table = |page: &Pages<4096>| page.gpa() | 3;
    memory::write(TABLE.gpa() + START / PAGE * 8, START | 3);
    memory::write(DIRECTORY.gpa(), table(&TABLE));
    memory::write(DIRECTORY_POINTERS.gpa(), table(&DIRECTORY));
    let top = read_cr!(3) & 0x000F_FFFF_FFFF_F000;
    check!(top >> 32 == 0, "the page tables lie above 4 GiB");
    check!(
        memory::read::<u64>(top) & 1 == 0,
        "the lowest addresses are in use"
    );
    memory::write(top, table(&DIRECTORY_POINTERS));
    startup::install(arrive);
    forget_translations();
}

/// Where a VP arrives, on its own stack, interrupts off.
extern "C" fn arrive(number: u64) -> ! {
    trap::load_idt();
    let Some((work, mut root)) = SEED.lock().take() else {
        fail!("VP {number} of the root has started by itself")
    };
    root.messages.switch_on();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    work(number, &mut root);
    DONE.fetch_add(1, Ordering::SeqCst);
    loop {
        root.messages.nap(SECOND);
    }
}
