//! Writes of the MSRs that workers ask to see.

use tlfs::{HV_X64_MSR_CRASH_CTL, HV_X64_MSR_CRASH_P0, HV_X64_MSR_RESET, HvX64MsrInterceptMessage};

use super::*;

impl Vp {
    fn msr(&mut self, access: HvInterceptAccessType, msr_number: u32, value: u64) -> Outcome {
        let intercept = HvX64MsrInterceptMessage {
            header: self.header(access, 2),
            msr_number,
            // What is above the low halves does not count.
            rax: 0xDEAD << 32 | value & 0xFFFF_FFFF,
            rdx: 0xDEAD << 32 | value >> 32,
            ..Default::default()
        };
        self.send(HvMessageType::X64_MSR_INTERCEPT, &intercept)
    }
}

const WRITE: HvInterceptAccessType = HvInterceptAccessType::WRITE;

#[test]
fn a_crash_is_told_once_with_its_place_and_the_vp_goes_on() {
    let mut vp = Vp::new();
    vp.page.gp_registers[4] = 0x7000;
    let control = 3 << 62 | 1 << 58;
    let outcome = vp.msr(WRITE, HV_X64_MSR_CRASH_CTL, control);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP + 2));
    assert_eq!(vp.guest.given, [Given::Crash(control, RIP, 0x7000)]);
}

#[test]
fn a_control_word_without_notification_tells_nothing() {
    let mut vp = Vp::new();
    let outcome = vp.msr(WRITE, HV_X64_MSR_CRASH_CTL, 1 << 62);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP + 2));
    assert_eq!(vp.guest.given, []);
}

#[test]
fn bit_0_of_the_reset_msr_resets_and_the_others_do_nothing() {
    let mut vp = Vp::new();
    let outcome = vp.msr(WRITE, HV_X64_MSR_RESET, !1);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP + 2));
    let outcome = vp.msr(WRITE, HV_X64_MSR_RESET, 1);
    assert_eq!(outcome, Outcome::Reset(ResetReason::Msr));
    assert_eq!(ResetReason::Msr.to_string(), "reset MSR");
}

#[test]
fn other_accesses_are_of_msrs_that_do_not_exist() {
    let mut vp = Vp::new();
    let fault = Outcome::Inject(Exception::GENERAL_PROTECTION);
    let read = HvInterceptAccessType::READ;
    for (access, msr) in [
        (read, HV_X64_MSR_CRASH_CTL),
        (read, HV_X64_MSR_RESET),
        (WRITE, HV_X64_MSR_CRASH_P0),
        (WRITE, 0x10),
    ] {
        assert_eq!(vp.msr(access, msr, 1 << 63 | 1), fault, "{msr:#x}");
    }
    assert_eq!((vp.page.rip, vp.guest.given), (RIP, vec![]));
}
