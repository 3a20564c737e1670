//! The MSRs of the hypervisor.

use guests::metal::cell::Pages;
use guests::metal::cpu::{cpuid, rdmsr, tsc, wrmsr};
use guests::metal::reference::ReferencePage;
use guests::metal::trap::expect_protection;
use guests::metal::vendor::vendor;
use guests::metal::window::{Registers, call};
use guests::metal::{memory, time};
use guests::{println, probe};
use tlfs::{
    HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_CRASH_CTL, HV_X64_MSR_CRASH_P0, HV_X64_MSR_CRASH_P4,
    HV_X64_MSR_EOI, HV_X64_MSR_EOM, HV_X64_MSR_FIRST, HV_X64_MSR_GUEST_IDLE,
    HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL, HV_X64_MSR_LAST,
    HV_X64_MSR_REENLIGHTENMENT_CONTROL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_RESET,
    HV_X64_MSR_SCONTROL, HV_X64_MSR_SINT0, HV_X64_MSR_SINT15, HV_X64_MSR_STIMER0_CONFIG,
    HV_X64_MSR_STIMER3_COUNT, HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_TSC_EMULATION_STATUS,
    HV_X64_MSR_TSC_FREQUENCY, HV_X64_MSR_TSC_INVARIANT_CONTROL, HV_X64_MSR_VP_ASSIST_PAGE,
    HV_X64_MSR_VP_INDEX, HV_X64_MSR_VP_RUNTIME, HvCallCode, HvFeatureFlags, HvHypercallInput,
};

use super::{Privileges, absent, privileges};

static OVERLAID: Pages<4096> = Pages::new();
static OUTPUT: Pages<4096> = Pages::new();

/// Whether a synthetic MSR exists for a child with these privileges and features; `None` where both are fine.
fn offered(msr: u32, privileges: Privileges) -> Option<bool> {
    let has = |privilege: Privileges| Some(privileges.0 & privilege.0 != 0);
    let features = HvFeatureFlags(cpuid(0x4000_0003, 0).edx);
    match msr {
        HV_X64_MSR_GUEST_OS_ID | HV_X64_MSR_HYPERCALL => has(Privileges::ACCESS_HYPERCALL_MSRS),
        HV_X64_MSR_VP_INDEX => has(Privileges::ACCESS_VP_INDEX),
        HV_X64_MSR_RESET => has(Privileges::ACCESS_RESET_MSR),
        HV_X64_MSR_VP_RUNTIME => has(Privileges::ACCESS_VP_RUNTIME_MSR),
        HV_X64_MSR_TIME_REF_COUNT => has(Privileges::ACCESS_PARTITION_REFERENCE_COUNTER),
        HV_X64_MSR_REFERENCE_TSC => has(Privileges::ACCESS_PARTITION_REFERENCE_TSC),
        HV_X64_MSR_TSC_FREQUENCY | HV_X64_MSR_APIC_FREQUENCY => {
            has(Privileges::ACCESS_FREQUENCY_MSRS)
        }
        // Linux writes it whatever it was told (guest sheet trap 35).
        HV_X64_MSR_VP_ASSIST_PAGE if privileges.0 & Privileges::ACCESS_APIC_MSRS.0 == 0 => None,
        HV_X64_MSR_EOI..=HV_X64_MSR_VP_ASSIST_PAGE => has(Privileges::ACCESS_APIC_MSRS),
        // The ring buffer page is the root's.
        0x4000_0085 => Some(false),
        HV_X64_MSR_SCONTROL..=HV_X64_MSR_EOM | HV_X64_MSR_SINT0..=HV_X64_MSR_SINT15 => {
            has(Privileges::ACCESS_SYNIC_MSRS)
        }
        HV_X64_MSR_STIMER0_CONFIG..=HV_X64_MSR_STIMER3_COUNT => {
            has(Privileges::ACCESS_SYNTHETIC_TIMER_MSRS)
        }
        HV_X64_MSR_GUEST_IDLE => has(Privileges::ACCESS_GUEST_IDLE_MSR),
        HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4 | HV_X64_MSR_CRASH_CTL => {
            Some(features.0 & HvFeatureFlags::GUEST_CRASH_REGS_AVAILABLE.0 != 0)
        }
        HV_X64_MSR_REENLIGHTENMENT_CONTROL..=HV_X64_MSR_TSC_EMULATION_STATUS => {
            has(Privileges::ACCESS_REENLIGHTENMENT_CTRLS)
        }
        HV_X64_MSR_TSC_INVARIANT_CONTROL => has(Privileges::ACCESS_TSC_INVARIANT_CONTROLS),
        _ => Some(false),
    }
}

/// Each is there if it is offered, and only then.
pub fn synthetic_by_privilege() {
    let privileges = privileges();
    let mut there = 0;
    for msr in HV_X64_MSR_FIRST..=HV_X64_MSR_LAST {
        match offered(msr, privileges) {
            Some(false) => absent(msr),
            // Reading EOI is #GP, reading GUEST_IDLE halts, and RESET is for later.
            Some(true) if msr != HV_X64_MSR_EOI && msr != HV_X64_MSR_GUEST_IDLE => {
                let value = rdmsr(msr);
                assert!(value.is_ok(), "MSR {msr:#x} is offered: {value:x?}");
                there += 1;
            }
            _ => {}
        }
    }
    println!("{there} synthetic MSRs");
    assert!(there >= 3);
}

/// VP_INDEX.
pub fn vp_index() {
    assert_eq!(rdmsr(HV_X64_MSR_VP_INDEX), Ok(0));
    expect_protection("writing VP_INDEX", wrmsr(HV_X64_MSR_VP_INDEX, 0));
}

/// The reference counter.
pub fn reference_time() {
    expect_protection(
        "writing TIME_REF_COUNT",
        wrmsr(HV_X64_MSR_TIME_REF_COUNT, 0),
    );
    let mut last = time::reference();
    for _ in 0..1000 {
        let now = time::reference();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    // It runs with the TSC: 20 ms by one are 20 ms by the other, within 1 in 100. The TSC is read before and after it.
    let look = || (tsc(), time::reference(), tsc());
    let (before, start, after) = look();
    time::wait(20_000, || false);
    let (least, end, most) = look();
    let units = |ticks: u64| (u128::from(ticks) * 10_000_000 / u128::from(time::tsc_hz())) as u64;
    let (passed, least, most) = (end - start, units(least - after), units(most - before));
    let slack = passed / 100;
    assert!(
        passed + slack >= least && passed <= most + slack,
        "{passed} units by the counter, {least} to {most} by the TSC"
    );
}

/// TSC_FREQUENCY and APIC_FREQUENCY.
pub fn frequencies() {
    let (tsc, apic) = (time::tsc_hz(), time::apic_hz());
    println!("TSC {tsc} Hz, APIC timer {apic} Hz");
    assert!((100_000_000..20_000_000_000).contains(&tsc));
    assert!((1_000_000..20_000_000_000).contains(&apic));
    expect_protection(
        "writing TSC_FREQUENCY",
        wrmsr(HV_X64_MSR_TSC_FREQUENCY, tsc),
    );
    expect_protection(
        "writing APIC_FREQUENCY",
        wrmsr(HV_X64_MSR_APIC_FREQUENCY, apic),
    );
    assert_eq!((time::tsc_hz(), time::apic_hz()), (tsc, apic));
}

/// Guest sheet 4.4.
pub fn reference_page() {
    const MARK: u8 = 0xA5;
    if privileges().0 & Privileges::ACCESS_PARTITION_REFERENCE_TSC.0 == 0 {
        return;
    }
    OVERLAID.fill(MARK);
    let page = ReferencePage::lay(&OVERLAID);
    assert_eq!(rdmsr(HV_X64_MSR_REFERENCE_TSC), Ok(OVERLAID.gpa() | 1));
    page.expect_counter();
    let write = probe!("mov byte ptr [{page}], 1", page = in(reg) OVERLAID.gpa());
    expect_protection("writing the reference TSC page", write);
    expect_protection(
        "a page outside of memory",
        wrmsr(HV_X64_MSR_REFERENCE_TSC, 1 << 60 | 1),
    );
    assert!(page.time().is_some(), "nothing has changed");
    page.remove();
    let first: [u8; 4] = memory::read(OVERLAID.gpa());
    assert_eq!(first, [MARK; 4], "what was below reappears");
}

/// Guest sheet 4.12: parameters are kept, and the control register says what it can do, whatever is written to it. (What
/// comes of a report is the parent's.)
pub fn crash_registers() {
    if offered(HV_X64_MSR_CRASH_CTL, privileges()) != Some(true) {
        return;
    }
    for msr in HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4 {
        for value in [u64::MAX, u64::from(msr) << 20] {
            wrmsr(msr, value).expect("a parameter");
            assert_eq!(rdmsr(msr), Ok(value));
        }
    }
    for msr in HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4 {
        assert_eq!(rdmsr(msr), Ok(u64::from(msr) << 20), "each has its own");
    }
    let supported = rdmsr(HV_X64_MSR_CRASH_CTL).expect("CRASH_CTL");
    assert_eq!(supported, 0xC000_0000_0000_0000);
    wrmsr(HV_X64_MSR_CRASH_CTL, 0).expect("no report");
    assert_eq!(rdmsr(HV_X64_MSR_CRASH_CTL), Ok(supported));
}

/// Guest sheet 4.13.
pub fn tsc_invariant() {
    const INVARIANT: u32 = 1 << 8;
    let shown = || cpuid(0x8000_0007, 0).edx & INVARIANT != 0;
    let control = HV_X64_MSR_TSC_INVARIANT_CONTROL;
    assert!(!shown(), "nobody has asked for it");
    if privileges().0 & Privileges::ACCESS_TSC_INVARIANT_CONTROLS.0 == 0 {
        return println!("TSC not invariant");
    }
    assert_eq!(rdmsr(control), Ok(0));
    expect_protection("a reserved bit", wrmsr(control, 3));
    assert!(!shown());
    wrmsr(control, 1).expect("the one bit");
    assert_eq!(rdmsr(control), Ok(1));
    assert!(shown(), "the guest has asked for it");
    expect_protection("hiding it again", wrmsr(control, 0));
    assert!(shown());
    println!("TSC invariant");
}

/// Guest sheet 4.1 and 4.2.
pub fn hypercall_page() {
    const MARK: u8 = 0x5A;
    let code = vendor().hypercall_page();
    let page = OVERLAID.gpa();
    let first = || memory::read::<[u8; 4]>(page);
    OVERLAID.fill(MARK);
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0).expect("GUEST_OS_ID");
    wrmsr(HV_X64_MSR_HYPERCALL, page | 1).expect("no fault without an OS id");
    assert_eq!(
        rdmsr(HV_X64_MSR_HYPERCALL).map(|value| value & 1),
        Ok(0),
        "not without an OS id"
    );
    assert_eq!(first(), [MARK; 4]);

    let id = 0x8100_0607_0800_0000;
    wrmsr(HV_X64_MSR_GUEST_OS_ID, id).expect("GUEST_OS_ID");
    assert_eq!(rdmsr(HV_X64_MSR_GUEST_OS_ID), Ok(id));
    wrmsr(HV_X64_MSR_HYPERCALL, page | 1).expect("a page of ours");
    assert_eq!(rdmsr(HV_X64_MSR_HYPERCALL), Ok(page | 1));
    assert_eq!(first(), code, "hypercall, RET");
    // Reserved bits are kept.
    wrmsr(HV_X64_MSR_HYPERCALL, page | 0x7F1).expect("RsvdP bits");
    assert_eq!(rdmsr(HV_X64_MSR_HYPERCALL), Ok(page | 0x7F1));
    wrmsr(HV_X64_MSR_HYPERCALL, page | 1).expect("a page of ours");

    OUTPUT.fill(0);
    let mut registers = Registers {
        rax: u64::MAX,
        rbx: 7,
        rcx: HvHypercallInput::simple(HvCallCode::GET_PARTITION_ID).into_bits(),
        rsi: 8,
        rdi: 9,
        r8: OUTPUT.gpa(),
        ..Registers::default()
    };
    call(page, &mut registers).expect("the page is executable");
    if privileges().0 & Privileges::ACCESS_PARTITION_ID.0 != 0 {
        assert_eq!(registers.rax, 0);
        assert_ne!(memory::read::<u64>(OUTPUT.gpa()), 0);
    } else {
        assert_eq!(registers.rax, 6, "HV_STATUS_ACCESS_DENIED");
    }
    assert_eq!((registers.rbx, registers.rsi, registers.rdi), (7, 8, 9));

    let write = probe!("mov byte ptr [{page}], 0x90", page = in(reg) page);
    expect_protection("writing the hypercall page", write);
    assert_eq!(first(), code);
    expect_protection(
        "a page outside of memory",
        wrmsr(HV_X64_MSR_HYPERCALL, 1 << 60 | 1),
    );

    wrmsr(HV_X64_MSR_HYPERCALL, page).expect("disable");
    assert_eq!(first(), [MARK; 4], "what was below reappears");
    wrmsr(HV_X64_MSR_HYPERCALL, page | 1).expect("enable again");
    assert_eq!(first(), code);
    wrmsr(HV_X64_MSR_GUEST_OS_ID, 0).expect("GUEST_OS_ID");
    assert_eq!(
        rdmsr(HV_X64_MSR_HYPERCALL).map(|value| value & 1),
        Ok(0),
        "goes with the OS id"
    );
    assert_eq!(first(), [MARK; 4]);
}
