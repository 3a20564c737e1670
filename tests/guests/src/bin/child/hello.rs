//! Boots by the `protocol=` of the command line and looks at what it was given: `module=TEXT` on the command line is how
//! its module begins.
#![no_std]
#![no_main]

use guests::metal::Boot;
use guests::{child, println};

child!(main);

fn main(boot: &Boot) {
    let protocol = if boot.is_multiboot() {
        "multiboot"
    } else {
        "pvh"
    };
    println!("hello by {protocol}: {:?}", boot.cmdline);
    assert_eq!(boot.value("protocol"), Some(protocol));
    let module = boot.module(0).expect("the definition names a module");
    let wanted = boot
        .value("module")
        .expect("module=TEXT on the command line");
    assert!(module.starts_with(wanted.as_bytes()), "{module:?}");
    println!("ok hello");
}
