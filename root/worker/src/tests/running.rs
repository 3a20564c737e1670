//! The event loop.

use super::*;

#[test]
fn output_is_printed_by_the_line_and_the_vp_resumed_after_every_byte() {
    let (exit, asked) = play(b"hi\n".map(|byte| out(COM1_PORT, byte)));
    assert_eq!(exit.reason, ExitReason::Stopped);
    assert_eq!(printed(&asked), "hi\n");
    let waits: Vec<_> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Wait(deadline, resume) => Some((*deadline, *resume)),
            _ => None,
        })
        .collect();
    // What is not yet a line waits no longer than 2 ms.
    let forever = (u64::MAX, Some(0));
    assert_eq!(
        waits,
        [forever, (20_000, Some(0)), (20_000, Some(0)), forever]
    );
}

#[test]
fn a_prompt_without_end_of_line_is_printed_when_its_time_is_up() {
    let timeout = Step::Event(event::TIMEOUT, 0, 20_000);
    let (_, asked) = play([out(COM1_PORT, b'$'), timeout]);
    let place = asked
        .iter()
        .position(|asked| *asked == Asked::Printed("$".into()));
    let last_wait = Asked::Wait(u64::MAX, None);
    assert_eq!(
        asked[place.unwrap() + 1..],
        [last_wait],
        "nothing was left to resume"
    );
}

#[test]
fn power_off_reset_and_faults_end_the_run_with_what_was_printed() {
    let (exit, asked) = play([out(COM1_PORT, b'.'), out(SLEEP_CONTROL_PORT, 0x34)]);
    assert_eq!(
        (exit.reason, printed(&asked)),
        (ExitReason::PowerOff, ".".into())
    );
    let (exit, _) = play([out(RESET_PORT, 1)]);
    assert_eq!(exit.reason, ExitReason::Reset);
    let (exit, _) = play([out(0xF4, 0x21)]);
    assert_eq!(exit.reason, ExitReason::PowerOff);
    assert!(exit.text.contains("status 0x21"), "{}", exit.text);
    let fault = message(HvMessageType::UNRECOVERABLE_EXCEPTION, &header());
    let (exit, _) = play([Step::Intercept(registers(), fault)]);
    assert_eq!(exit.reason, ExitReason::Reset);
    assert!(
        exit.text.contains("triple fault of VP 0 at RIP 0x0"),
        "{}",
        exit.text
    );
    let refused = message(HvMessageType::INVALID_VP_REGISTER_VALUE, &[0u8; 8]);
    let (exit, _) = play([Step::Intercept(registers(), refused)]);
    assert_eq!(exit.reason, ExitReason::GuestFault);
}

#[test]
fn typed_input_becomes_an_interrupt_before_anything_else_runs() {
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let (_, asked) = play([
        ioapic(0, entry),
        ioapic(0x10, 0x8000 | 0x24),
        ioapic(0, entry + 1),
        ioapic(0x10, 3 << 24),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x01),
        Step::Typed(b"x"),
    ]);
    let interrupts = inputs(&asked, HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let input = HvInputAssertVirtualInterrupt::read_from_bytes(&interrupts[0]).unwrap();
    assert_eq!((input.vector, input.dest_addr), (0x24, 3));
    assert!(input.control.level_triggered() && !input.control.logical_dest_mode());
    assert_eq!(interrupts.len(), 1);
    let last = &asked[asked.len() - 2..];
    assert!(
        matches!(last, [Asked::Hypercall(..), Asked::Wait(..)]),
        "{last:?}"
    );
}

#[test]
fn what_is_due_happens_even_if_events_keep_coming() {
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let (_, asked) = play([
        ioapic(0, entry),
        ioapic(0x10, 0x24),
        // FIFO with trigger level 8: one byte is reported when its time is up.
        out(COM1_PORT + 2, 0x87),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x01),
        Step::Typed(b"x"),
        Step::Event(77, 0, 3471),
        Step::Event(77, 0, 3472),
    ]);
    let assertion = |asked: &Asked| matches!(asked, Asked::Hypercall(code, _) if *code == HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let place = asked.iter().position(assertion);
    assert_eq!(
        place,
        Some(asked.len() - 2),
        "after the last event, not before"
    );
}

#[test]
fn an_interrupt_that_the_hypervisor_refuses_is_the_guests_loss() {
    let fake = Fake::default();
    fake.0.borrow_mut().refuse = Some(HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let script = [
        ioapic(0, entry),
        ioapic(0x10, 0),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x02),
    ];
    fake.0.borrow_mut().script.extend(script);
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    assert_eq!(inputs(asked, HvCallCode::ASSERT_VIRTUAL_INTERRUPT).len(), 1);
}

#[test]
fn string_output_goes_through_the_guests_page_tables() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    // The page holds the kernel, whose byte 0x40 is made a letter.
    fake.0.borrow_mut().translation.gpa_page = 0x100;
    let mut kernel = OneFile::kernel();
    kernel.0[0x40] = b'h';
    let exit = live(fake.clone(), DEFINITION, &kernel);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    assert_eq!(printed(asked), "h");
    let input = &inputs(asked, HvCallCode::TRANSLATE_VIRTUAL_ADDRESS)[0];
    assert_eq!(input[24..32], 3u64.to_le_bytes());
    assert_eq!(
        input[16..20],
        0x11u32.to_le_bytes(),
        "a read that sets the accessed bit"
    );
}

#[test]
fn a_page_fault_of_the_guest_is_raised_in_the_guest() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    fake.0.borrow_mut().translation.result_code = HvTranslateGvaResultCode::PAGE_NOT_PRESENT;
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    let inputs = inputs(asked, HvCallCode::SET_VP_REGISTERS);
    let entry = HvRegisterAssoc::read_from_bytes(&inputs[1][16..48]).unwrap();
    assert_eq!(entry.name, HvRegisterName::PENDING_EVENT0);
    // Pending, with error code, vector 14; the address in the upper half.
    assert_eq!((entry.value.low, entry.value.high), (0x000E_0101, 0x3040));
    assert_eq!(asked.last(), Some(&Asked::Wait(u64::MAX, Some(0))));
}

#[test]
fn the_worker_misbehaves_only_when_asked_and_unknown_events_change_nothing() {
    let script = [Step::Event(event::DEBUG, 3, 0), Step::Event(77, 0, 0)];
    let (exit, asked) = play(script);
    assert!(asked.contains(&Asked::Misbehave(3)));
    assert_eq!(exit.reason, ExitReason::Stopped);
    let (exit, _) = play([Step::Event(event::INTERCEPT, 9, 0)]);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
    // A register page that was never filled.
    let (exit, _) = play([Step::Event(event::INTERCEPT, 0, 0)]);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
}

#[test]
fn a_flood_of_input_is_taken_completely() {
    static FLOOD: [u8; 10_000] = [b'x'; 10_000];
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(Step::Typed(&FLOOD));
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    assert!(
        fake.0.borrow().typed.is_empty(),
        "or it would be reported for ever"
    );
}

#[test]
fn a_single_stepping_vp_gets_its_trap_with_the_cause_added_to_dr6() {
    let mut page = registers();
    page.rflags = 1 << 8;
    page.interrupt_state = HvX64InterruptStateRegister::new().with_interrupt_shadow(true);
    let intercept = HvX64IoPortInterceptMessage {
        header: HvX64InterceptMessageHeader {
            rflags: page.rflags,
            execution_state: HvX64VpExecutionState::new().with_interrupt_shadow(true),
            ..header()
        },
        port_number: 0x80,
        access_info: HvX64IoPortAccessInfo::new().with_access_size(1),
        ..Default::default()
    };
    let kind = HvMessageType::X64_IO_PORT_INTERCEPT;
    let (_, asked) = play([Step::Intercept(page, message(kind, &intercept))]);
    let set = inputs(&asked, HvCallCode::SET_VP_REGISTERS);
    let last: Vec<_> = set[set.len() - 2..]
        .iter()
        .map(|input| HvRegisterAssoc::read_from_bytes(&input[16..]).unwrap())
        .collect();
    assert_eq!(last[0].name, HvRegisterName::INTERRUPT_STATE);
    assert_eq!(last[0].value.low, 0, "no shadow any more");
    assert_eq!(last[1].name, HvRegisterName::PENDING_EVENT0);
    let event = HvX64PendingExceptionEvent::from_bits(last[1].value.as_u128());
    assert!(event.event_pending() && !event.deliver_error_code());
    assert_eq!(event.vector(), 1);
    assert_eq!(event.exception_parameter(), DR6 | 1 << 14);
}

/// A hypercall in 64-bit mode.
pub fn hypercall(code: HvCallCode, input: u64) -> Step {
    let mut page = registers();
    page.segment[1].attributes = tlfs::HvX64SegmentAttributes::from_bits(0xA09B);
    let intercept = HvX64HypercallInterceptMessage {
        header: HvX64InterceptMessageHeader {
            execution_state: HvX64VpExecutionState::new().with_efer_lma(true),
            cs_segment: page.segment[1],
            ..header()
        },
        rcx: u64::from(code.0),
        rdx: input,
        ..Default::default()
    };
    let kind = HvMessageType::HYPERCALL_INTERCEPT;
    Step::Intercept(page, message(kind, &intercept))
}

/// A kernel with a message at 0x10_0080: INITIATE_CONTACT with version 5.3 to connection 4.
fn kernel_with_contact() -> OneFile {
    let mut kernel = OneFile::kernel();
    let words = [4, 0, 1, 40, 14, 0, 5 << 16 | 3, 0, 2];
    for (place, word) in kernel.0[0x80..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&u32::to_le_bytes(word));
    }
    kernel.0.resize(0x80 + 256, 0);
    kernel
}

#[test]
fn a_message_of_the_guest_is_answered_before_its_vp_goes_on() {
    for vmbus in [true, false] {
        let fake = Fake::default();
        let post = hypercall(HvCallCode::POST_MESSAGE, 0x10_0080);
        fake.0.borrow_mut().script.push_back(post);
        let vmbus_key = format!("vmbus = {vmbus}\n");
        let definition = [DEFINITION, vmbus_key.as_bytes()].concat();
        live(fake.clone(), &definition, &kernel_with_contact());
        let asked = &fake.0.borrow().asked;
        let answers = inputs(asked, HvCallCode::POST_MESSAGE_DIRECT);
        assert_eq!(answers.len(), usize::from(vmbus));
        if let [answer] = &answers[..] {
            assert_eq!(
                answer[36..52],
                [15, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]
            );
        }
        assert_eq!(asked.last(), Some(&Asked::Wait(u64::MAX, Some(0))));
    }
}

#[test]
fn a_vm_without_vmbus_says_that_it_cannot_be_shut_down() {
    for (vmbus, why) in [(true, "service is not there"), (false, "no VMBus")] {
        let fake = Fake::default();
        let wish = Step::Event(event::SHUTDOWN, event::POWER_OFF, 0);
        fake.0.borrow_mut().script.push_back(wish);
        let vmbus_key = format!("vmbus = {vmbus}\n");
        let definition = [DEFINITION, vmbus_key.as_bytes()].concat();
        let exit = live(fake.clone(), &definition, &OneFile::kernel());
        assert_eq!(exit.reason, ExitReason::Stopped, "it goes on");
        let logs = &fake.0.borrow().logs;
        assert!(logs.iter().any(|line| line.contains(why)), "{logs:?}");
    }
}
