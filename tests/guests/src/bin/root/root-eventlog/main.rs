//! The event log (docs/event-log.md): its calls in order and out of order, its buffers, its messages.
#![no_std]
#![no_main]

mod global;
mod local;
mod log;
mod order;

use guests::metal::Boot;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, report};

root!(main);

fn main(start: &Boot) {
    let mut root = Root::start(start);
    let before = Holdings::look(&mut root);
    order::without_a_group(&root);
    order::geometry(&mut root);
    order::states(&mut root);
    order::several_pages(&mut root);
    local::events(&mut root);
    local::full(&mut root);
    global::events(&mut root);
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    guests::ok!("everything is as before: {after:?}");
    report::done()
}
