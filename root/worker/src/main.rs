//! The worker as a process of the root kernel: entry, heap, panic, system calls.
#![no_std]
#![no_main]

extern crate alloc;

mod metal;

use core::panic::PanicInfo;

use alloc::format;
use metal::{calls, files, kernel::Kernel, start};
use root_abi::{ExitReason, StartInfo};

/// Called by the entry code with what the kernel passes.
extern "C" fn main(info: &'static StartInfo) -> ! {
    metal::heap::init();
    let exit = worker::live(
        Kernel,
        start::definition(info),
        &files::MappedFiles::new(info),
    );
    calls::exit(exit.reason, &exit.text)
}

/// A bug of ours ends this VM and nothing else.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Formatting needs the heap, which may be what failed: then the place must do.
    match info.location() {
        Some(place) if metal::heap::has_room() => calls::exit(
            ExitReason::WorkerFault,
            &format!("{}:{}: {}", place.file(), place.line(), info.message()),
        ),
        Some(place) => calls::exit(ExitReason::WorkerFault, place.file()),
        None => calls::exit(ExitReason::WorkerFault, "panic"),
    }
}
