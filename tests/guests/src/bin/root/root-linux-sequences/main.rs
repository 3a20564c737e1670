//! The root's side of a Linux root with /dev/mshv: the calls of root sheet F.2, G.3 and A.5 in Linux's order and forms,
//! with the rubbish that Linux leaves in its pages.
#![no_std]
#![no_main]

mod boot;
mod deposits;
mod teardown;
mod vm;

use guests::metal::Boot;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, report};

root!(main);

fn main(start: &Boot) {
    boot::provided_pages(start);
    let mut root = Root::start(start);
    boot::module_load(&mut root);
    let before = Holdings::look(&mut root);
    vm::minimal_vmm(&mut root, vm::Payment::InAdvance);
    vm::minimal_vmm(&mut root, vm::Payment::PageByPage);
    deposits::all_or_none(&mut root);
    deposits::shared_fate(&mut root);
    teardown::never_initialized(&mut root);
    teardown::killed_while_running(&mut root);
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    guests::ok!("everything is as before: {after:?}");
    report::done()
}
