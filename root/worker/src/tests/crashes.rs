//! What a guest says about its end, and its own reset.

use root_abi::news::Crash;
use tlfs::{HV_X64_MSR_CRASH_CTL, HV_X64_MSR_RESET};

use super::*;
use crate::crash::MOST_CRASHES;

const NOTIFY: u64 = 1 << 63;
const WITH_TEXT: u64 = NOTIFY | 1 << 62;
/// The kernel is at 1 MiB, and this in it.
const TEXT_AT: u64 = 0x10_0080;
const TEXT: &[u8] = b"Kernel panic\n";
/// RAM ends here.
const END: u64 = 8 << 20;

/// What the manager is told of crashes when the guest has these parameters, and plays this.
fn told(
    parameters: [u64; 5],
    script: impl IntoIterator<Item = Step>,
) -> (Exit, Vec<(Crash, Vec<u8>)>, Fake) {
    let fake = Fake::default();
    fake.0.borrow_mut().crash = parameters;
    fake.0.borrow_mut().script.extend(script);
    let mut kernel = OneFile::kernel();
    kernel.0[0x80..][..TEXT.len()].copy_from_slice(TEXT);
    let exit = live(fake.clone(), DEFINITION, &kernel);
    let told = std::mem::take(&mut fake.0.borrow_mut().told);
    let crashes = told.into_iter().filter_map(|news| match news {
        WorkerNews::Crash(crash, text) => Some((crash, text.into_owned())),
        _ => None,
    });
    (exit, crashes.collect(), fake)
}

#[test]
fn a_crash_is_told_with_registers_and_text_and_the_guest_goes_on() {
    let parameters = [1, 2, 3, TEXT_AT, TEXT.len() as u64];
    let (exit, crashes, fake) = told(parameters, [wrmsr(HV_X64_MSR_CRASH_CTL, WITH_TEXT)]);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let crash = Crash {
        parameters,
        control: WITH_TEXT,
        rip: 0x1234,
        rsp: 0x7000,
        vp: 0,
        reserved: 0,
    };
    assert_eq!(crashes, [(crash, TEXT.to_vec())]);
    let resumed = fake
        .0
        .borrow()
        .asked
        .iter()
        .rev()
        .find_map(|asked| match asked {
            Asked::Wait(_, resume) => Some(*resume),
            _ => None,
        });
    assert_eq!(resumed, Some(Some(0)));
}

#[test]
fn without_the_message_bit_the_last_two_parameters_are_no_text() {
    let parameters = [0, 0, 0, TEXT_AT, TEXT.len() as u64];
    let (_, crashes, _) = told(parameters, [wrmsr(HV_X64_MSR_CRASH_CTL, NOTIFY)]);
    assert_eq!(crashes.len(), 1);
    assert_eq!(crashes[0].0.parameters, parameters);
    assert!(crashes[0].1.is_empty());
}

#[test]
fn a_text_is_at_most_a_page_and_in_ram_or_not_there() {
    for (gpa, len, copied) in [
        (TEXT_AT, u64::MAX, 4096),
        (TEXT_AT, 0, 0),
        (END - 10, 10, 10),
        (END - 10, 11, 0),
        (END, 1, 0),
        (u64::MAX, 4096, 0),
        (0xFEC0_0000, 16, 0),
    ] {
        let script = [wrmsr(HV_X64_MSR_CRASH_CTL, WITH_TEXT)];
        let (exit, crashes, _) = told([0, 0, 0, gpa, len], script);
        assert_eq!(exit.reason, ExitReason::Stopped);
        assert_eq!(crashes.len(), 1);
        assert_eq!(crashes[0].1.len(), copied, "{gpa:#x}, {len}");
    }
}

#[test]
fn a_guest_that_crashes_in_a_loop_is_told_a_few_times_and_nothing_is_read_for_the_rest() {
    let script = (0..100).map(|_| wrmsr(HV_X64_MSR_CRASH_CTL, WITH_TEXT));
    let (exit, crashes, fake) = told([0, 0, 0, TEXT_AT, 4096], script);
    assert_eq!(exit.reason, ExitReason::Stopped);
    assert_eq!(crashes.len(), MOST_CRASHES as usize);
    let reads = inputs(&fake.0.borrow().asked, HvCallCode::GET_VP_REGISTERS);
    assert_eq!(reads.len(), MOST_CRASHES as usize);
}

#[test]
fn a_crash_whose_registers_cannot_be_read_is_a_line() {
    let fake = Fake::default();
    fake.0.borrow_mut().refuse = Some(HvCallCode::GET_VP_REGISTERS);
    let step = wrmsr(HV_X64_MSR_CRASH_CTL, WITH_TEXT);
    fake.0.borrow_mut().script.push_back(step);
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    let last = fake.0.borrow().logs.last().cloned().unwrap();
    assert!(last.contains("its guest has crashed"), "{last}");
}

#[test]
fn the_reset_msr_is_a_reset_as_the_boards_register_is() {
    let (exit, ..) = told([0; 5], [wrmsr(HV_X64_MSR_RESET, 1)]);
    assert_eq!((exit.reason, &*exit.text), (ExitReason::Reset, "reset MSR"));
    let (exit, ..) = told([0; 5], [wrmsr(HV_X64_MSR_RESET, 0)]);
    assert_eq!(exit.reason, ExitReason::Stopped, "it goes on");
}
