//! What processors cost each other, in instructions: an interrupt of one VP for another on another processor and back, and
//! taking a page away from a VM whose VPs run on other processors.
//!
//! With -icount, QEMU's processors take turns in one thread, and one clock counts the instructions of all. (Bochs' clock does not.)
#![no_std]
#![no_main]

mod shootdown;

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::bench::Meter;
use guests::metal::cell::Pages;
use guests::metal::{Boot, bench, time};
use guests::root::trips::{Kind, MOST, Traveller};
use guests::root::work::Counts;
use guests::root::{Root, processors, report};
use guests::{check, println, root, say};
use shootdown::{MONITOR, PROCESSORS};
use spin::Mutex;
use tlfs::{HvCallCode, HvStatus};

root!(main);

static OUTPUT: Pages<4096> = Pages::new();

/// Pairs of VPs that interrupt each other, by their rows.
const KEYS: [(&str, Kind); 2] = [
    ("ipi_other_processor", Kind::Ipi),
    ("synthetic_ipi_other_processor", Kind::SyntheticIpi),
];
static PAIRS: Mutex<[Option<Traveller>; 2]> = Mutex::new([None, None]);
/// How many VPs of the root have made theirs.
static READY: AtomicU64 = AtomicU64::new(0);

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    for (place, (_, kind)) in PAIRS.lock().iter_mut().zip(KEYS) {
        let pair = Traveller::new(&mut root, kind);
        pair.vp(&mut root, 0).resume(&root);
        *place = Some(pair);
    }
    shootdown::prepare(&mut root);
    processors::start(&mut root, PROCESSORS, work);
    let all = time::wait(60_000_000, || {
        READY.load(Ordering::SeqCst) == PROCESSORS - 1
    });
    check!(all, "not all VPs of the root are ready");
    // What is known from a machine with one processor shows that the clock counts right here.
    Meter::new().row("null_hypercall_beside_halted", null_hypercall);
    for (place, (key, _)) in KEYS.iter().enumerate() {
        other_processor(&mut root, place, key);
    }
    shootdown::rows(&mut root);
    println!("ok root-bench-processors");
    report::done()
}

#[inline(always)]
fn null_hypercall() {
    let (code, done) = (HvCallCode::GET_PARTITION_ID, HvStatus::SUCCESS);
    bench::hypercall(code, 0, &OUTPUT, done);
}

/// What the root's other VPs do: a VP lives where it is made, or where there are fewest.
fn work(number: u64, root: &mut Root) {
    if number == 1 {
        for pair in PAIRS.lock().iter().flatten() {
            pair.vp(root, 1).resume(root);
        }
    }
    shootdown::make_vp(root, number);
    READY.fetch_add(1, Ordering::SeqCst);
    if number == MONITOR {
        shootdown::monitor(root);
    }
}

/// Both ends wait in HLT, and so do their processors.
fn other_processor(root: &mut Root, place: usize, key: &str) {
    let trips = MOST as u64;
    let pair = PAIRS.lock()[place].take();
    let Some(pair) = pair else {
        guests::fail!("there is no pair");
    };
    root.messages.sleep(10_000);
    pair.make(root, trips);
    let during = |root: &mut Root, trips| {
        Counts::on_all(root, PROCESSORS as u32, |root| pair.make(root, trips))
    };
    // All processors wake now and then.
    let nothing = during(root, 0);
    let counts = during(root, trips).less(nothing);
    let (halts, switches, ipis) = (counts.halts(), counts.switches(), counts.ipis());
    let wanted = 2 * trips..2 * trips + trips / 5;
    check!(
        wanted.contains(&ipis) && wanted.contains(&halts) && switches < trips / 5,
        "{trips} round trips: {ipis} interrupts between processors, {halts} halts, {switches} switches"
    );
    bench::report(key, pair.took());
    say!("counts {key}{}", counts.per(trips));
    pair.child.end(root);
}
