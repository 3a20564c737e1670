//! Messages that are no access of a device, and any message at all.

use super::*;

#[test]
fn code_outside_of_memory_and_intercepted_ram_are_faults() {
    let mut vp = Vp::new();
    let mut intercept = HvX64MemoryInterceptMessage {
        header: vp.header(HvInterceptAccessType::EXECUTE, 0),
        guest_physical_address: DEVICE,
        ..Default::default()
    };
    let outcome = vp.send(HvMessageType::UNMAPPED_GPA, &intercept);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::ExecuteOutsideRam {
            rip: RIP,
            gpa: DEVICE
        })
    );
    intercept.header.intercept_access_type = HvInterceptAccessType::WRITE;
    intercept.guest_physical_address = 0x3000;
    let outcome = vp.send(HvMessageType::GPA_INTERCEPT, &intercept);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::RamAccess {
            rip: RIP,
            gpa: 0x3000
        })
    );
}

#[test]
fn an_access_to_ram_that_was_away_is_executed_again_now_or_later() {
    let mut vp = Vp::new();
    for access in [
        HvInterceptAccessType::EXECUTE,
        HvInterceptAccessType::READ,
        HvInterceptAccessType::WRITE,
    ] {
        let intercept = HvX64MemoryInterceptMessage {
            header: vp.header(access, 0),
            guest_physical_address: 0x3000,
            ..Default::default()
        };
        for (touched, outcome) in [
            (Touched::Backed, Outcome::Resume),
            (Touched::Waits, Outcome::Wait),
        ] {
            vp.guest.touched = touched;
            assert_eq!(vp.send(HvMessageType::UNMAPPED_GPA, &intercept), outcome);
            assert_eq!(vp.page.rip, RIP, "the same instruction");
        }
    }
}

#[test]
fn only_what_is_mapped_nowhere_can_be_waited_for() {
    let mut vp = Vp::new();
    vp.guest.touched = Touched::Backed;
    let intercept = HvX64MemoryInterceptMessage {
        header: vp.header(HvInterceptAccessType::WRITE, 0),
        guest_physical_address: 0x3000,
        ..Default::default()
    };
    let outcome = vp.send(HvMessageType::GPA_INTERCEPT, &intercept);
    let (rip, gpa) = (RIP, 0x3000);
    assert_eq!(outcome, Outcome::Fault(Fault::RamAccess { rip, gpa }));
    assert_eq!(vp.guest.asked, []);
}

#[test]
fn a_triple_fault_is_a_reset_that_tells_its_place() {
    let mut vp = Vp::new();
    let header = vp.header(HvInterceptAccessType::READ, 0);
    let outcome = vp.send(
        HvMessageType::UNRECOVERABLE_EXCEPTION,
        &HvX64UnrecoverableExceptionMessage { header },
    );
    let reason = ResetReason::TripleFault { vp: 0, rip: RIP };
    assert_eq!(outcome, Outcome::Reset(reason));
    assert_eq!(reason.to_string(), "triple fault of VP 0 at RIP 0x1000");
}

#[test]
fn other_messages_end_the_vm_or_get_the_architectures_answer() {
    let mut vp = Vp::new();
    let outcome = vp.send(HvMessageType::INVALID_VP_REGISTER_VALUE, &[0u8; 8]);
    assert_eq!(outcome, Outcome::Fault(Fault::InvalidState));
    let outcome = vp.send(HvMessageType::X64_HALT, &[0u8; 40]);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::UnexpectedMessage(0x8001_0007))
    );
    let outcome = vp.send(HvMessageType::X64_MSR_INTERCEPT, &[0u8; 64]);
    assert!(matches!(
        outcome,
        Outcome::Inject(Exception { vector: 13, .. })
    ));
    let cpuid = HvX64CpuidInterceptMessage {
        header: vp.header(HvInterceptAccessType::EXECUTE, 2),
        default_result_rax: 1,
        default_result_rcx: 2,
        default_result_rdx: 3,
        default_result_rbx: 4,
        ..Default::default()
    };
    assert_eq!(
        vp.send(HvMessageType::X64_CPUID_INTERCEPT, &cpuid),
        Outcome::Resume
    );
    let got = [RAX, RCX, RDX, RBX].map(|index| vp.page.gp_registers[index]);
    assert_eq!((got, vp.page.rip), ([1, 2, 3, 4], RIP + 2));
}

#[test]
fn a_register_page_that_is_not_valid_is_not_used() {
    let mut page = HvX64RegisterPage::new_zeroed();
    assert!(Registers::new(&mut page).is_none());
}

fn message_type() -> impl Strategy<Value = HvMessageType> {
    prop_oneof![
        4 => Just(HvMessageType::X64_IO_PORT_INTERCEPT),
        4 => Just(HvMessageType::UNMAPPED_GPA),
        1 => Just(HvMessageType::X64_APIC_EOI),
        1 => any::<u32>().prop_map(HvMessageType),
        1 => proptest::sample::select(HvMessageType::NAMED),
    ]
}

proptest! {
    #[test]
    fn no_message_makes_the_board_panic(
        kind in message_type(),
        payload in proptest::collection::vec(any::<u8>(), 240),
        code in proptest::collection::vec(any::<u8>(), 0..15),
        registers in proptest::collection::vec(any::<u64>(), 16),
        attributes: u16,
        efer: u64,
        paging: bool,
        gpa in prop_oneof![any::<u64>(), (0u64..0x1000).prop_map(|offset| 0xFEC0_0000 + offset)],
    ) {
        let mut vp = Vp::new();
        vp.page.gp_registers.copy_from_slice(&registers);
        vp.page.segment[1].attributes = HvX64SegmentAttributes::from_bits(attributes);
        vp.page.efer = efer;
        vp.page.cr0 = if paging { 0x8000_0001 } else { 0 };
        let mut message = HvMessage::new(kind, 1, &payload[..]).unwrap();
        if kind == HvMessageType::UNMAPPED_GPA {
            message.payload[56..64].copy_from_slice(&gpa.to_le_bytes());
            message.payload[44] = code.len() as u8;
            message.payload[64..64 + code.len()].copy_from_slice(&code);
        }
        let mut board = DirectBoard::new(&crate::Options::default());
        let mut view = Registers::new(&mut vp.page).unwrap();
        handle(&mut board, &message, &mut view, &mut vp.guest, 0);
    }
}
