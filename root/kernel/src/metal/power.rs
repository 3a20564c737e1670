//! Ends of the machine: off, reset, panic.

use core::fmt::Write;
use core::panic::PanicInfo;

use x86_64::instructions::port::Port;

use super::acpi::Machine;
use super::cell::Global;
use super::{console, cpu, hypervisor};

static MACHINE: Global<Machine> = Global::empty();

/// Remembers what the firmware's tables say.
pub fn init(machine: Machine) {
    MACHINE.set(machine);
}

/// CMOS register of the century.
pub fn century() -> u8 {
    MACHINE.with(|machine| machine.century)
}

/// Switches the machine off. If the firmware does not say how, it only stops.
pub fn off() -> ! {
    console::flush();
    const SLEEP_ENABLE: u16 = 1 << 13;
    const SLEEP_TYPE: u16 = 7 << 10;
    if let Some(how) = MACHINE.with(|machine| machine.power_off) {
        let enter = |port: u16, kind: u8| {
            let mut port = Port::<u16>::new(port);
            // SAFETY: PM1 control registers of the FADT; the machine is meant to go off.
            unsafe {
                let kept = port.read() & !(SLEEP_TYPE | SLEEP_ENABLE);
                port.write(kept | u16::from(kind) << 10 | SLEEP_ENABLE);
            }
        };
        enter(how.pm1a, how.types.a);
        if let Some(pm1b) = how.pm1b {
            enter(pm1b, how.types.b);
        }
    }
    console::line(format_args!("the machine can be switched off now"));
    console::flush();
    cpu::halt();
}

/// Resets the machine: the FADT's register, then the chipset's, then the keyboard controller's.
pub fn reset() -> ! {
    console::flush();
    let reset = MACHINE.with(|machine| machine.reset);
    // SAFETY: reset registers; the machine is meant to reset.
    unsafe {
        if let Some(reset) = reset {
            Port::<u8>::new(reset.port).write(reset.value);
        }
        Port::<u8>::new(0xCF9).write(0x02);
        Port::<u8>::new(0xCF9).write(0x06);
        Port::<u8>::new(0x64).write(0xFE);
    }
    console::line(format_args!(
        "the machine does not reset; please do it by hand"
    ));
    console::flush();
    cpu::halt();
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Whatever is taken stays taken: this uses the UART directly.
    let _ = write!(console::Emergency, "\nroot kernel: {}\n", info.message());
    if let Some(location) = info.location() {
        let _ = writeln!(
            console::Emergency,
            "root kernel: at {}:{}",
            location.file(),
            location.line()
        );
        hypervisor::report_crash(0x524F_4F54, [u64::from(location.line()), 0, 0, 0]);
    }
    let _ = writeln!(
        console::Emergency,
        "root kernel: the root partition stops here"
    );
    cpu::halt();
}
