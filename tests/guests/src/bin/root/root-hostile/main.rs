//! A root that does everything it may, in every order: each call to each of its statuses, then 100,000 pseudo-random calls
//! against partitions in all states. Afterwards nothing is lost.
#![no_std]
#![no_main]

mod directed;
mod random;
mod table;
mod world;

use guests::metal::Boot;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, report, work};
use guests::{check, ok};

root!(main);

/// How many random calls.
const CALLS: u32 = 100_000;
/// Same seed, same calls.
const SEED: u64 = 0x05EE_D0FA_110F_1E55;

fn main(start: &Boot) {
    let mut root = Root::start(start);
    root.calls.watch = Some(table::record);
    let before = Holdings::look(&mut root);
    directed::all(&mut root);
    let between = Holdings::look(&mut root);
    report::same(between, before, "partitions, VPs, pages and frames");
    ok!("every call was led to every status");
    random::storm(&mut root, SEED, CALLS);
    let missing = table::print();
    check!(
        missing == 0,
        "{missing} pairs of call and status were not reached"
    );
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    ok!("everything is as before: {after:?}");
    work::longest_section(&mut root);
    report::done()
}
