//! Clocks that all processors of a VM share: none goes back, whoever reads it and wherever his processor has its turns.
//!
//! Each of `processors=N` reads for `seconds=N` what the hypervisor and the processor offer: the reference counter, the
//! reference TSC page, the TSC. Before each reading it looks at the latest that anybody has read. A tenth of a second long two
//! of them (or one) have work while the others sleep, and then others: so loads differ, and VPs move.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::cell::{Global, Pages};
use guests::metal::cpu::{disable_interrupts, enable_interrupts, tsc, wait_for_interrupt};
use guests::metal::reference::ReferencePage;
use guests::metal::trap::{self, Handler, set_handler};
use guests::metal::{Boot, apic, startup, test, time};
use guests::rng::Rng;
use guests::{child, println};

child!(main);

const MOST: usize = 16;
const TIMER: u8 = 0x60;
const SECOND: u64 = 1_000_000;
/// Readings between two looks at how late it is.
const BURST: u32 = 50;
/// For how long the same ones work, in 100 ns.
const SHIFT: u64 = time::SECOND / 10;

static STACKS: [Pages<0x4000>; MOST] = [const { Pages::new() }; MOST];
static OVERLAID: Pages<4096> = Pages::new();
static PAGE: Global<Option<ReferencePage>> = Global::new(None);
/// Reference time at which all stop; 0 while they wait.
static END: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(1);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static READINGS: AtomicU64 = AtomicU64::new(0);
static SLEEPS: AtomicU64 = AtomicU64::new(0);

/// A clock, as all have seen it.
struct Clock {
    latest: AtomicU64,
    /// The most that it was behind.
    behind: AtomicU64,
}

static COUNTER: Clock = Clock::new();
static BY_PAGE: Clock = Clock::new();
static TSC: Clock = Clock::new();

impl Clock {
    const fn new() -> Self {
        Self {
            latest: AtomicU64::new(0),
            behind: AtomicU64::new(0),
        }
    }

    fn read(&self, read: impl FnOnce() -> u64) {
        let latest = self.latest.load(Ordering::SeqCst);
        let now = read();
        if now < latest {
            self.behind.fetch_max(latest - now, Ordering::SeqCst);
        }
        self.latest.fetch_max(now, Ordering::SeqCst);
    }
}

fn main(boot: &Boot) {
    let count = boot.number("processors").unwrap_or(1);
    let seconds = boot.number("seconds").unwrap_or(1);
    assert!((1..=MOST as u64).contains(&count), "{count} processors");
    COUNT.store(count, Ordering::SeqCst);
    set_handler(TIMER, Some((|_| apic::eoi()) as Handler));
    apic::enable();
    test("the page says the time of the counter", page_and_counter);
    startup::install(arrive);
    test("the others start", || (1..count).for_each(start));
    test("no clock goes back", || {
        END.store(time::reference() + seconds * time::SECOND, Ordering::SeqCst);
        look(0);
        let all = || DONE.load(Ordering::SeqCst) == count;
        assert!(time::wait(60 * SECOND, all), "not all came to the end");
        for (name, clock) in [("counter", &COUNTER), ("page", &BY_PAGE), ("TSC", &TSC)] {
            let behind = clock.behind.load(Ordering::SeqCst);
            assert_eq!(behind, 0, "the {name} went back");
            assert_ne!(clock.latest.load(Ordering::SeqCst), 0, "{name}");
        }
        let (readings, sleeps) = (
            READINGS.load(Ordering::SeqCst),
            SLEEPS.load(Ordering::SeqCst),
        );
        println!("{readings} readings and {sleeps} sleeps in {seconds} s");
        // Less than that is no test.
        assert!(readings > 1_000 * seconds && sleeps > seconds * (count - 1));
    });
}

/// One right after the other, within the resolution of both.
fn page_and_counter() {
    let page = ReferencePage::lay(&OVERLAID);
    PAGE.set(Some(page));
    for _ in 0..1000 {
        page.expect_counter();
    }
}

fn start(number: u64) {
    startup::start(number, STACKS[number as usize].end());
    let arrived = || ARRIVED.load(Ordering::SeqCst) == number;
    assert!(time::wait(30 * SECOND, arrived), "{number} does not start");
}

extern "C" fn arrive(number: u64) -> ! {
    trap::load_idt();
    apic::enable();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while END.load(Ordering::SeqCst) == 0 {
        sleep(SECOND / 1000);
    }
    look(number);
    loop {
        wait_for_interrupt();
    }
}

/// What each one does.
fn look(number: u64) {
    let page = PAGE.get().expect("laid by the first one");
    let end = END.load(Ordering::SeqCst);
    loop {
        let now = time::reference();
        if now >= end {
            break;
        }
        if !works(number, now / SHIFT) {
            SLEEPS.fetch_add(1, Ordering::SeqCst);
            sleep((SHIFT - now % SHIFT) / 10);
            continue;
        }
        // With interrupts on: Bochs' processor does not leave a guest that keeps them off and has exits all the time.
        enable_interrupts();
        for _ in 0..BURST {
            COUNTER.read(time::reference);
            BY_PAGE.read(|| page.time().unwrap_or(0));
            TSC.read(tsc);
        }
        disable_interrupts();
        READINGS.fetch_add(3 * u64::from(BURST), Ordering::SeqCst);
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}

/// Whether it is this one's shift.
fn works(number: u64, shift: u64) -> bool {
    let count = COUNT.load(Ordering::SeqCst);
    let mut rng = Rng::new(shift + 1);
    [rng.below(count), rng.below(count)].contains(&number)
}

/// For so long, or a little less.
fn sleep(micros: u64) {
    let ticks = time::apic_hz() / SECOND * micros;
    apic::start_timer(u64::from(TIMER), (ticks as u32).max(1));
    wait_for_interrupt();
}
