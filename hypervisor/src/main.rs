//! The entry point on the bare machine. Everything is in the library.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use bootloader_api::BootInfo;

bootloader_api::entry_point!(entry, config = &hypervisor::boot::LOADER_CONFIG);

fn entry(info: &'static mut BootInfo) -> ! {
    // SAFETY: the loader calls this once, with its hand-over.
    unsafe { hypervisor::boot::enter(info, hypervisor::start) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hypervisor::log::panic::report(info)
}
