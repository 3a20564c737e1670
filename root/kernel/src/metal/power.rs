//! Ends of the machine: off, reset, panic.

use core::fmt::Write;
use core::panic::PanicInfo;

use x86_64::instructions::port::Port;

use super::acpi::{Machine, PowerOff};
use super::cell::Global;
use super::{apic, console, cpu, hypervisor, lock, processors};

/// Reads of a register before the machine is given up.
const PATIENCE: u32 = 1_000_000;

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
        take_over(&how);
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
        // The machine may take a moment.
        let _ = (0..PATIENCE).any(|_| !handed_over(&how));
    }
    console::line(format_args!("the machine can be switched off now"));
    console::flush();
    cpu::halt();
}

/// Whether the power registers are the operating system's (SCI_EN).
fn handed_over(how: &PowerOff) -> bool {
    // SAFETY: reading a PM1 control register has no effect.
    unsafe { Port::<u16>::new(how.pm1a).read() & 1 != 0 }
}

/// Has the firmware hand over the power registers, unless it has done so.
fn take_over(how: &PowerOff) {
    if let Some((port, value)) = how.enable.filter(|_| !handed_over(how)) {
        // SAFETY: the FADT's SMI command port with its command for this purpose.
        unsafe { Port::<u8>::new(port).write(value) };
        let _ = (0..PATIENCE).any(|_| handed_over(how));
    }
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

/// Stops the other processors: in a process, at their next entry, and where they wait for the kernel.
fn end_of_kernel() {
    lock::end();
    if processors::running() > 1 {
        apic::nmi_to_others();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // The others stop, and whatever is taken stays taken: this uses the UART directly.
    end_of_kernel();
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
