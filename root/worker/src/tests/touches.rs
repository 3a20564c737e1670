//! Accesses to memory that is mapped nowhere.

use super::*;

const DYNAMIC: &[u8] =
    b"name = 'a'\nstartup = 32\nminimum = 32\nmaximum = 32\nkernel = 'guest/kernel'\n";

/// A read of RAM that the worker has not taken away.
fn touch() -> Step {
    let intercept = HvX64MemoryInterceptMessage {
        header: HvX64InterceptMessageHeader {
            rip: 0x1234,
            ..header()
        },
        guest_physical_address: 0x20_0000,
        ..Default::default()
    };
    Step::Intercept(
        registers(),
        message(HvMessageType::UNMAPPED_GPA, &intercept),
    )
}

fn end(script: impl IntoIterator<Item = Step>) -> Exit {
    let fake = Fake::default();
    fake.0.borrow_mut().script.extend(script);
    live(fake, DYNAMIC, &OneFile::kernel())
}

#[test]
fn a_vp_that_never_finds_memory_that_is_there_does_not_loop() {
    let touches = |count| std::iter::repeat_with(touch).take(count);
    assert_eq!(end(touches(64)).reason, ExitReason::Stopped);
    let exit = end(touches(65));
    assert_eq!(exit.reason, ExitReason::GuestFault);
    assert_eq!(exit.text, "no access to RAM at GPA 0x200000 (RIP 0x1234)");
    // What it does between begins the count anew.
    let script = touches(60).chain([out(0x80, 0)]).chain(touches(60));
    assert_eq!(end(script).reason, ExitReason::Stopped);
}

#[test]
fn a_string_at_memory_that_is_mapped_nowhere_goes_through_the_page_tables_too() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    fake.0.borrow_mut().translation.gpa_page = 0x100;
    fake.0.borrow_mut().is_unmapped = true;
    let mut kernel = OneFile::kernel();
    kernel.0[0x40] = b'h';
    let exit = live(fake.clone(), DYNAMIC, &kernel);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    assert_eq!(printed(asked), "h");
    let inputs = inputs(asked, HvCallCode::TRANSLATE_VIRTUAL_ADDRESS);
    let flags: Vec<u8> = inputs.iter().map(|input| input[16]).collect();
    assert_eq!(flags, [0x11, 0x10]);
}

#[test]
fn a_page_table_that_is_mapped_nowhere_and_no_ram_ends_the_vm() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    fake.0.borrow_mut().translation.gpa_page = 0xF_0000;
    fake.0.borrow_mut().translation.result_code = HvTranslateGvaResultCode::GPA_UNMAPPED;
    let exit = live(fake, DYNAMIC, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::GuestFault);
    assert_eq!(exit.text, "cannot translate address 0x3040: result 4");
}
