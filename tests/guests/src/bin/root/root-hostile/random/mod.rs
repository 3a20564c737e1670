//! Pseudo-random calls.

mod calls;
mod lists;
pub mod ports;

use guests::ok;
use guests::root::Root;
use guests::say;

use crate::world::World;

/// Calls between two chances for children to run.
const STRIDE: u32 = 64;
/// How long they run then, microseconds.
const TURN: u64 = 200;

/// Makes `calls` calls, and ends everything that they have begun.
pub fn storm(root: &mut Root, seed: u64, calls: u32) {
    let mut world = World::new(root, seed);
    say!("random calls with the seed {seed:#x}");
    let (mut turn, mut report) = (STRIDE, calls / 10);
    while world.calls < calls {
        calls::one(root, &mut world);
        if world.calls >= turn {
            turn = world.calls + STRIDE;
            root.messages.nap(TURN);
        }
        if world.calls >= report {
            say!("   {} calls", world.calls);
            report = world.calls + calls / 10;
        }
    }
    calls::end_logs(root);
    world.own.end(root);
    calls::unmap_own_counters(root);
    let made = world.calls;
    world.end(root);
    ok!("{made} random calls");
}
