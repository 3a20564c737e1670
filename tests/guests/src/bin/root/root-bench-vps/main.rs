//! What several VPs and many VMs on one processor cost, in instructions: an exit with more and more VMs that exist, a switch
//! between two VPs, an interrupt of one VP for another and back, a message and an event through a port.
#![no_std]
#![no_main]

mod exits;
mod switches;

use guests::metal::{Boot, bench};
use guests::root::child::VMM_FLAGS;
use guests::root::removal::Removal;
use guests::root::trips::{Kind, MOST, Traveller};
use guests::root::work::Counts;
use guests::root::{Child, Root, report};
use guests::statistics::Summary;
use guests::{check, println, root, say};

root!(main);

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    switches::rows(&mut root);
    same_processor(&mut root, "ipi_same_processor", Kind::Ipi);
    same_processor(
        &mut root,
        "synthetic_ipi_same_processor",
        Kind::SyntheticIpi,
    );
    to_itself(&mut root, "post_message", Kind::Post);
    to_itself(&mut root, "signal_event", Kind::Signal);
    shootdown_of_nobody(&mut root);
    exits::rows(&mut root);
    println!("ok root-bench-vps");
    report::done()
}

/// Interrupts between two VPs. Both ends wait in HLT: one processor, so there is a switch for each interrupt.
fn same_processor(root: &mut Root, key: &str, kind: Kind) {
    let trips = MOST as u64;
    let pair = Traveller::new(root, kind);
    let vps = [0, 1].map(|index| pair.vp(root, index));
    vps.iter().for_each(|vp| vp.resume(root));
    // They run to their first HLT; then once for caches.
    root.messages.sleep(1000);
    pair.make(root, trips);
    let counts = Counts::during(root, |root| pair.make(root, trips));
    let (switches, ipis) = (counts.switches(), counts.ipis());
    check!(
        (2 * trips..2 * trips + trips / 10).contains(&switches),
        "{switches} switches for {trips} round trips: somebody did not wait, or somebody else ran"
    );
    check!(ipis == 0, "{ipis} interrupts for the only processor");
    bench::report(key, pair.took());
    say!("counts {key}{}", counts.per(trips));
    pair.child.end(root);
}

/// What a VP sends to itself through a port. It looks for it instead of being interrupted, so this is the call.
fn to_itself(root: &mut Root, key: &str, kind: Kind) {
    let trips = MOST as u64;
    let sender = Traveller::new(root, kind);
    sender.vp(root, 0).resume(root);
    root.messages.sleep(1000);
    sender.make(root, trips);
    let counts = Counts::during(root, |root| sender.make(root, trips));
    bench::report(key, sender.took());
    say!("counts {key}{}", counts.per(trips));
    sender.child.end(root);
}

/// Taking a page away from a VM none of whose VPs runs: what the caller does for itself.
fn shootdown_of_nobody(root: &mut Root) {
    let mut samples = [0; 200];
    let mut child = Child::with_ram(root, VMM_FLAGS);
    let page = Removal::new(root, &mut child);
    for sample in &mut samples {
        page.give(root, &child);
        let (start, end) = page.take(root);
        *sample = end - start;
    }
    if let Some(cost) = Summary::of(&mut samples) {
        bench::report("shootdown_0_processors", cost);
    }
    child.end(root);
}
