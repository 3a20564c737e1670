//! Ports and connections: messages and events between the root and its children, and between children; full slots and full
//! queues, masks, ports for any VP, what is refused, and what the end of a partition ends.
#![no_std]
#![no_main]

mod events;
mod messages;
mod rules;
mod servant;

use guests::metal::Boot;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, report};

use servant::Servant;

root!(main);

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    // What the first use of anything leaves behind is no loss.
    Servant::new(&mut root).child.end(&mut root);
    let before = Holdings::look(&mut root);
    let one = Servant::new(&mut root);
    let two = Servant::new(&mut root);
    messages::tests(&mut root, &one, &two);
    events::tests(&mut root, &one, &two);
    rules::tests(&mut root, &one, &two);
    one.child.end(&mut root);
    rules::after_the_end(&mut root, &two);
    two.child.end(&mut root);
    let after = Holdings::look(&mut root);
    report::same(after, before, "what the hypervisor holds");
    guests::ok!("nothing is left of ports and connections");
    report::done()
}
