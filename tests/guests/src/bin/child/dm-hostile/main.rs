//! A guest that does all that the protocol of Dynamic Memory does not want.
//!
//! With `words` on its command line it sends messages that cannot be, or at the wrong time (`words`); then it behaves but for its
//! answers (`answers`): each request that it gets is answered in another wrong way, and it says so by `ok NAME`. It needs
//! `low=MiB` and `high=MiB` in turn, each for `each` seconds, so that it is asked for memory and is given some.
#![no_std]
#![no_main]

mod answers;
mod words;

use guests::metal::balloon::{Arena, Driver, MIB};
use guests::metal::{Boot, time, vmbus};
use guests::{child, println};
use spin::Mutex;

use answers::Answers;

child!(main);

/// Microseconds from one look to the next.
const PERIOD: u64 = 250_000;

static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

fn main(boot: &Boot) {
    let mut arena = ARENA.lock();
    arena.take(boot, "evil");
    vmbus::start(PERIOD);
    let mut driver = Driver::open().expect("Dynamic Memory is offered");
    if boot.has("words") {
        let rest = boot.number("rest").unwrap_or(0);
        words::say_all(&mut driver, arena.top(), rest);
        println!("ok words");
        pause(u64::MAX);
    }
    let each = boot.number("each").unwrap_or(60);
    let [low, high] = ["low", "high"].map(|name| boot.number(name).unwrap_or(0) * MIB);
    let mut answers = Answers::new(driver, arena);
    answers.begin();
    let start = time::reference();
    let mut reported = 0;
    loop {
        vmbus::sleep();
        answers.serve();
        let seconds = time::seconds_since(start);
        if seconds > reported {
            reported = seconds;
            let needed = if (seconds / each).is_multiple_of(2) {
                low
            } else {
                high
            };
            answers.report(needed);
        }
    }
}

/// Sleeps for so many seconds.
pub fn pause(seconds: u64) {
    let start = time::reference();
    while time::seconds_since(start) < seconds {
        vmbus::sleep();
    }
}
