//! A guest with Dynamic Memory, every page of which has a pattern with its name. What it is given has to be zero.
//!
//! It needs as much as its command line says (`plan`), gives what it is asked for and takes what it gets, and says what that
//! was when its time is over; it goes on then. A line typed at its console changes what it needs: a number of MiB. It also
//! takes `reset`, `off`, and `touch`: then it uses all that it has given away.
#![no_std]
#![no_main]

mod plan;
mod work;

use guests::metal::balloon::{Arena, Driver, MIB};
use guests::metal::line::Line;
use guests::metal::{Boot, exit, time, vmbus};
use guests::{child, println};
use spin::Mutex;

use plan::Plan;
use work::Work;

child!(main);

/// Microseconds from one look to the next.
const PERIOD: u64 = 250_000;

static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

fn main(boot: &Boot) {
    let plan = Plan::of(boot);
    let mut arena = ARENA.lock();
    arena.take(boot, plan.name);
    println!(
        "{}: {} MiB of pattern",
        plan.name,
        arena.owned().count() / MIB
    );
    vmbus::start(PERIOD);
    let driver = Driver::open().expect("Dynamic Memory is offered");
    let mut work = Work::new(plan, &mut arena, driver);
    work.begin();
    let (start, mut line) = (time::reference(), Line::default());
    let (mut reported, mut is_finished) = (0, false);
    loop {
        vmbus::sleep();
        work.serve();
        let seconds = time::seconds_since(start);
        let number = seconds / plan.each;
        if !is_finished && plan.times.is_some_and(|times| number >= times) {
            work.finish();
            is_finished = true;
        }
        if seconds == reported {
            continue;
        }
        reported = seconds;
        work.report(plan.size(number));
        match line.take() {
            Some("reset") => exit::reset(),
            Some("off") => exit::success(),
            Some("touch") => work.touch_all(),
            Some(size) => work.set_size(size.parse().ok()),
            None => {}
        }
    }
}
