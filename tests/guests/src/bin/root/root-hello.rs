//! The least a payload root can do: find itself where the root loader promises, and hear its own exceptions.
#![no_std]
#![no_main]

use boot_archive::start_info::{kind, module};
use guests::metal::{Boot, memory, trap};
use guests::{println, probe, root};

root!(main);

fn main(boot: &Boot) {
    let ram: u64 = boot
        .memory_map()
        .filter(|entry| entry.kind == kind::RAM)
        .map(|entry| entry.size)
        .sum();
    println!("root-hello: {} MiB of RAM", ram >> 20);
    assert!(ram > 16 << 20);
    assert!(
        boot.module(module::ARCHIVE)
            .is_some_and(|archive| archive.starts_with(b"PARTITA\0"))
    );
    let here = memory::physical(main as *const () as u64);
    assert_eq!(
        memory::read::<[u8; 16]>(here),
        // SAFETY: the function's own code.
        unsafe { *(main as *const [u8; 16]) }
    );
    let fault = probe!("ud2").unwrap_err();
    assert_eq!(fault.vector, trap::vector::UNDEFINED);
    println!("ok root-hello");
}
