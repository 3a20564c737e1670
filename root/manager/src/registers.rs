//! `registers NAME`: what the VPs of a VM are about to do, and what keeps them from it.

use alloc::format;
use alloc::string::String;

use tlfs::{HvRegisterName as Name, HvRegisterValue};

use crate::console::Table;

/// What is asked for, in this order: why a VP does not run, where it is, its interrupts and its timers.
static NAMES: [Name; 80] = [
    Name::EXPLICIT_SUSPEND,
    Name::INTERCEPT_SUSPEND,
    Name::DISPATCH_SUSPEND,
    Name::INTERNAL_ACTIVITY_STATE,
    Name::PENDING_INTERRUPTION,
    Name::INTERRUPT_STATE,
    Name::DELIVERABILITY_NOTIFICATIONS,
    Name::RIP,
    Name::RFLAGS,
    Name::RAX,
    Name::RBX,
    Name::RCX,
    Name::RDX,
    Name::RSI,
    Name::RDI,
    Name::RBP,
    Name::RSP,
    Name::R8,
    Name::R9,
    Name::R10,
    Name::R11,
    Name::R12,
    Name::R13,
    Name::R14,
    Name::R15,
    Name::CS,
    Name::CR0,
    Name::CR2,
    Name::CR3,
    Name::CR4,
    Name::CR8,
    Name::EFER,
    Name::GS,
    Name::KERNEL_GS_BASE,
    Name::APIC_SPURIOUS,
    Name::APIC_ISR0,
    Name::APIC_ISR1,
    Name::APIC_ISR2,
    Name::APIC_ISR3,
    Name::APIC_ISR4,
    Name::APIC_ISR5,
    Name::APIC_ISR6,
    Name::APIC_ISR7,
    Name::APIC_IRR0,
    Name::APIC_IRR1,
    Name::APIC_IRR2,
    Name::APIC_IRR3,
    Name::APIC_IRR4,
    Name::APIC_IRR5,
    Name::APIC_IRR6,
    Name::APIC_IRR7,
    Name::APIC_LVT_TIMER,
    Name::APIC_INIT_COUNT,
    Name::APIC_CURRENT_COUNT,
    Name::TIME_REF_COUNT,
    Name::STIMER0_CONFIG,
    Name::STIMER0_COUNT,
    Name::STIMER1_CONFIG,
    Name::STIMER1_COUNT,
    Name::STIMER2_CONFIG,
    Name::STIMER2_COUNT,
    Name::STIMER3_CONFIG,
    Name::STIMER3_COUNT,
    Name::VP_ASSIST_PAGE,
    Name::SCONTROL,
    Name::SIMP,
    Name::SIEFP,
    Name::SINT0,
    Name::SINT1,
    Name::SINT2,
    Name::SINT3,
    Name::SINT4,
    Name::SINT5,
    Name::SINT6,
    Name::SINT7,
    Name::GUEST_OS_ID,
    Name::HYPERCALL,
    Name::REFERENCE_TSC,
    Name::GUEST_CRASH_P0,
    Name::GUEST_CRASH_CTL,
];

/// Shows the VPs, each with the values of the names that it is given.
type Show<'a> = &'a mut dyn FnMut(u32, &[HvRegisterValue]);

/// The answer: `ask` is to show the VPs of `vm`. What is zero is left out.
pub fn report(vm: &str, ask: impl FnOnce(&[Name], Show<'_>)) -> String {
    let mut table = Table::new(["REGISTER", ">VALUE"]);
    ask(&NAMES, &mut |vp, values| {
        table.line(format!("{vm}:Hv VP {vp}"));
        for (name, value) in NAMES.iter().zip(values) {
            if value.as_u128() != 0 {
                let name = name.name().unwrap_or_default().into();
                table.row([name, format!("{:#x}", value.as_u128())]);
            }
        }
    });
    if table.is_empty() {
        return format!("{vm} has no VPs; a VM has them while it runs, see \"vm list\"\n");
    }
    table.text()
}
