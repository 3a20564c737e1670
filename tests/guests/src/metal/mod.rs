//! The machine as a payload sees it.
//!
//! # Safety of what is called safe here
//!
//! A payload owns its whole machine, runs on one processor, and exists to do things to that machine that a program should
//! not do. Its functions that touch the hardware are therefore not `unsafe`: what a wrong value breaks is the partition under
//! test, which is the experiment. `unsafe` remains for memory that Rust code shares with the hardware.

pub mod apic;
pub mod balloon;
pub mod bench;
pub mod boot;
pub mod cell;
pub mod console;
pub mod cpu;
pub mod exit;
pub mod hypercall;
pub mod line;
pub mod memory;
pub mod reference;
pub mod serial_input;
pub mod slot;
pub mod startup;
pub mod time;
pub mod trap;
pub mod vendor;
pub mod vmbus;
pub mod window;

pub use boot::Boot;

use crate::println;

/// Makes the program a child payload whose work is `$main`, a `fn(&Boot)`. When it returns, the payload has passed.
#[macro_export]
macro_rules! child {
    ($main:path) => {
        ::core::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metal/child.s")),
            options(att_syntax)
        );

        /// Called by the entry code, on the payload's stack.
        #[unsafe(no_mangle)]
        extern "C" fn payload_start(info: u64, magic: u64) -> ! {
            $crate::metal::run_child(info, magic, $main)
        }
    };
}

/// Makes the program a payload root whose work is `$main`, a `fn(&Boot)`. When it returns, the payload has passed.
#[macro_export]
macro_rules! root {
    ($main:path) => {
        ::core::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metal/root.s")),
            options(att_syntax)
        );

        /// Called by the entry code, on the payload's stack.
        #[unsafe(no_mangle)]
        extern "C" fn payload_start(info: u64, _zero: u64) -> ! {
            $crate::metal::run_root(info, $main)
        }
    };
}

/// Runs a child payload: sets up exceptions and the console, reads the boot information, works, ends the VM.
///
/// With `wait` on its command line it waits for a byte from the serial line before it ends.
pub fn run_child(info: u64, magic: u64, main: fn(&Boot)) -> ! {
    trap::init();
    console::init();
    let boot = Boot::of_child(info, magic);
    main(&boot);
    if boot.has("wait") {
        // Whoever attaches to the serial line late has missed nothing, the end included.
        println!("payload: done, waiting for a key");
        while console::get().is_none() {}
    }
    exit::success()
}

/// Runs a payload root: as [`run_child`], with the memory that the root loader has mapped.
pub fn run_root(info: u64, main: fn(&Boot)) -> ! {
    trap::init();
    console::init();
    let boot = Boot::of_root(info);
    main(&boot);
    exit::success()
}

/// Does one test and says that it held: `work` panics if it did not.
pub fn test(name: &str, work: impl FnOnce()) {
    work();
    println!("ok {name}");
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("payload: {info}");
    exit::failure()
}
