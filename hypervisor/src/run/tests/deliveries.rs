//! What is for a VP reaches that VP, wherever it is at that moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::apic::{Delivery, Trigger};
use crate::partition::{Vp, VpRef};
use crate::run::testing::Bench;
use crate::time::RefTime;

/// Vector of each of two VPs.
const VECTORS: [u8; 2] = [0x41, 0x52];
/// How many interrupts each takes, and how long that may last.
const ENOUGH: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(100);
/// MSR of the local APIC.
const EOI: u32 = 0x80B;

/// Tells a thread to stop when it goes, also when a check has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes every interrupt that waits, and says how many there were. All are under `vector`.
fn take_all(vp: &mut Vp, vector: u8) -> usize {
    let mut taken = 0;
    while let Some(next) = vp.apic.next_interrupt() {
        assert_eq!(next, vector, "that is another VP's");
        vp.apic.begin(next);
        assert!(vp.apic.write(EOI, 0, RefTime::ZERO).is_ok());
        taken += 1;
    }
    taken
}

#[test]
fn a_delivery_never_reaches_the_vp_that_has_its_turn_next_or_had_it_before() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.add_vp(id, 1);
        bench.switch_to(id, 0);
        let slot = bench.hand().who.slot;
        let hv = bench.hv;
        let stop = AtomicBool::new(false);
        let (mut taken, start) = ([0; 2], Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (index, vector) in (0..).zip(VECTORS) {
                        let trigger = Trigger::Edge;
                        hv.deliver(VpRef { slot, index }, Delivery::Fixed { vector, trigger });
                    }
                    // Locks are fair: on a host of one processor each turn would wait for the end of a slice.
                    thread::yield_now();
                }
            });
            let _stop = Stop(&stop);
            let mut turn = 0;
            while taken.iter().any(|&count| count < ENOUGH) {
                turn = 1 - turn;
                bench.switch_to(id, turn as u16);
                bench.hand().apic.switch_on();
                taken[turn] += take_all(bench.hand(), VECTORS[turn]);
                assert!(start.elapsed() < PATIENCE, "{taken:?}");
                thread::yield_now();
            }
        });
    }
}
