//! Every intercept that a parent can have of its child (root sheet B): installed, hit, its message read field by field,
//! and the child resumed with changed registers.
#![no_std]
#![no_main]

mod exceptions;
mod guest;
mod interrupts;
mod memory;
mod msrs;
mod pae;
mod ports;
mod processor;
mod results;
mod run_time;
mod state;
mod translate;

use guests::metal::Boot;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, report};

root!(main);

fn main(start: &Boot) {
    let mut root = Root::start(start);
    let before = Holdings::look(&mut root);
    for test in [
        ports::fields,
        ports::masks,
        msrs::named,
        msrs::all,
        processor::named_leaf,
        processor::every_leaf,
        results::cpuid,
        results::msr,
        exceptions::fields,
        exceptions::page_fault,
        exceptions::delivered_again,
        memory::unmapped,
        memory::narrowed,
        interrupts::level,
        interrupts::halt,
        interrupts::external,
        state::triple_fault,
        state::refused_by_hardware,
        state::control_registers,
        pae::set_from_outside,
        translate::results,
        translate::flags,
        state::local_apic,
        run_time::counts,
    ] {
        test(&mut root);
    }
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    guests::ok!("everything is as before: {after:?}");
    report::done()
}
