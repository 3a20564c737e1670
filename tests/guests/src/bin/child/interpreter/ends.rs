//! How a program ends its VM, in the midst of everything.

use guests::metal::cpu::{outb, outl, wrmsr};
use guests::metal::{Boot, exit, memory, trap};
use guests::println;
use tlfs::HV_X64_MSR_RESET;

/// Where no RAM is, nor anything else.
const NOWHERE: u64 = 0x8000_0000;

/// Ends the VM in the way that `end=` on the command line says, if it does.
pub fn end(boot: &Boot) {
    let Some(way) = boot.value("end") else { return };
    println!("ends by {way}");
    match way {
        "keyboard" => outb(0x64, 0xFE),
        "register" => outb(0x602, 1),
        "msr" => {
            let _ = wrmsr(HV_X64_MSR_RESET, 1);
        }
        "off" => outb(0x600, 1 << 5 | 5 << 2),
        "debug" => outl(exit::PORT, 0x22),
        "triple" => {
            trap::load_empty_idt();
            memory::write(!7, 0u8);
        }
        "jump" => {
            // SAFETY: this does not come back.
            unsafe { core::arch::asm!("jmp {}", in(reg) NOWHERE, options(noreturn)) };
        }
        "nowhere" => {
            // An instruction that the board does not execute for its guest, at an address where there is nothing.
            // SAFETY: it changes no register.
            unsafe { core::arch::asm!("fxsave [{}]", in(reg) NOWHERE) };
        }
        other => panic!("no end by {other}"),
    }
    panic!("still there after {way}");
}
