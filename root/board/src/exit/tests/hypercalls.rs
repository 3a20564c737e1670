//! Messages and events of the guest.

use tlfs::HvX64SynicSintDeliverableMessage;
use tlfs::{HvCallCode, HvHypercallInput, HvX64HypercallInterceptMessage};

use super::*;

/// Where the guest has its parameters.
const INPUT: u64 = 0x8000;
const LENGTH: u64 = 3;

fn parameters(connection: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let words = [connection, 0, kind, payload.len() as u32];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(payload);
    bytes.resize(256, 0xEE);
    bytes
}

fn control(code: HvCallCode) -> HvHypercallInput {
    HvHypercallInput::simple(code)
}

impl Vp {
    /// A hypercall in 64-bit mode.
    fn call(&mut self, control: HvHypercallInput, input: u64) -> Outcome {
        let intercept = HvX64HypercallInterceptMessage {
            header: self.header(HvInterceptAccessType::EXECUTE, LENGTH as u8),
            rax: 0xAAAA,
            rcx: control.into_bits(),
            rdx: input,
            ..Default::default()
        };
        self.send(HvMessageType::HYPERCALL_INTERCEPT, &intercept)
    }

    /// A message posted from memory that holds `bytes`; the status.
    fn post(&mut self, bytes: &[u8]) -> HvStatus {
        self.guest.ram.write(INPUT, bytes).unwrap();
        self.page.rip = RIP;
        assert_eq!(
            self.call(control(HvCallCode::POST_MESSAGE), INPUT),
            Outcome::Resume
        );
        assert_eq!(self.page.rip, RIP + LENGTH, "also after an error");
        HvStatus(self.page.gp_registers[RAX] as u16)
    }
}

#[test]
fn a_message_is_copied_out_of_the_guests_memory() {
    let mut vp = Vp::new();
    assert_eq!(vp.post(&parameters(4, 1, b"hello")), HvStatus::SUCCESS);
    assert_eq!(vp.guest.given, [Given::Message(4, 1, b"hello".to_vec())]);
    assert_eq!(vp.page.gp_registers[RAX], 0);
    let longest = [7; 240];
    assert_eq!(vp.post(&parameters(4, 1, &longest)), HvStatus::SUCCESS);
    assert_eq!(vp.guest.given[1], Given::Message(4, 1, longest.to_vec()));
}

#[test]
fn the_status_of_the_connection_is_the_guests_result() {
    let mut vp = Vp::new();
    vp.guest.answer = Err(HvStatus::INSUFFICIENT_BUFFERS);
    assert_eq!(
        vp.post(&parameters(4, 1, b"")),
        HvStatus::INSUFFICIENT_BUFFERS
    );
}

#[test]
fn what_the_hypervisor_has_checked_is_checked_in_the_copy_again() {
    let mut vp = Vp::new();
    for (at, value, status) in [
        (3, 1, HvStatus::INVALID_CONNECTION_ID),
        (4, 1, HvStatus::INVALID_PARAMETER),
        (8, 0, HvStatus::INVALID_PARAMETER),
        (11, 0x80, HvStatus::INVALID_PARAMETER),
        (12, 241, HvStatus::INVALID_PARAMETER),
        (15, 1, HvStatus::INVALID_PARAMETER),
    ] {
        let mut bytes = parameters(4, 1, b"");
        bytes[at] = value;
        assert_eq!(vp.post(&bytes), status, "byte {at}");
    }
    let post = control(HvCallCode::POST_MESSAGE);
    for (control, input) in [
        (post, INPUT + 4),
        (post, !7),
        (post, (1 << 20) - 248),
        (post.with_fast(true), INPUT),
        (control(HvCallCode::FLUSH_VIRTUAL_ADDRESS_SPACE), INPUT),
    ] {
        assert_eq!(vp.call(control, input), Outcome::Resume);
        assert_ne!(vp.page.gp_registers[RAX], 0);
    }
    assert_eq!(vp.guest.given, []);
}

#[test]
fn an_event_comes_in_a_register_or_from_memory() {
    let mut vp = Vp::new();
    let word = 9 << 32 | 0x2001;
    let signal = control(HvCallCode::SIGNAL_EVENT);
    vp.call(signal.with_fast(true), word);
    vp.guest.ram.write(INPUT, &u64::to_le_bytes(word)).unwrap();
    vp.call(signal, INPUT);
    assert_eq!(
        vp.guest.given,
        [Given::Event(0x2001, 9), Given::Event(0x2001, 9)]
    );
    assert_eq!(
        (vp.page.gp_registers[RAX], vp.page.rip),
        (0, RIP + 2 * LENGTH)
    );
    vp.call(signal.with_fast(true), word | 1 << 48);
    assert_eq!(
        vp.page.gp_registers[RAX],
        u64::from(HvStatus::INVALID_PARAMETER.0)
    );
    assert_eq!(vp.guest.given.len(), 2);
}

#[test]
fn outside_of_64_bit_mode_parameters_and_result_are_in_pairs_of_registers() {
    let mut vp = Vp::new();
    vp.page.efer = 0;
    vp.page.segment[1].attributes = HvX64SegmentAttributes::from_bits(0xC09B);
    vp.guest.ram.write(INPUT, &parameters(1, 1, b"hi")).unwrap();
    vp.page.gp_registers[RDX] = 0xDD;
    let code = control(HvCallCode::POST_MESSAGE).into_bits();
    let intercept = HvX64HypercallInterceptMessage {
        header: vp.header(HvInterceptAccessType::EXECUTE, LENGTH as u8),
        rdx: 0xFFFF_FFFF_0000_0000 | code >> 32,
        rax: 0xFFFF_FFFF_0000_0000 | code,
        rbx: 0,
        rcx: INPUT,
        ..Default::default()
    };
    vp.guest.answer = Err(HvStatus::INSUFFICIENT_BUFFERS);
    vp.send(HvMessageType::HYPERCALL_INTERCEPT, &intercept);
    assert_eq!(vp.guest.given, [Given::Message(1, 1, b"hi".to_vec())]);
    assert_eq!(
        (vp.page.gp_registers[RAX], vp.page.gp_registers[RDX]),
        (0x13, 0)
    );
}

#[test]
fn a_vp_whose_slots_are_free_goes_on_where_it_was() {
    let mut vp = Vp::new();
    let intercept = HvX64SynicSintDeliverableMessage {
        header: vp.header(HvInterceptAccessType::READ, 0),
        deliverable_sints: 4,
        ..Default::default()
    };
    let outcome = vp.send(HvMessageType::SYNIC_SINT_DELIVERABLE, &intercept);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP));
    assert_eq!(vp.guest.given, [Given::Free(4)]);
}

const TARGET: SintTarget = SintTarget { vp: 1, sint: 8 };

#[test]
fn what_is_for_a_devices_connection_comes_back_to_the_guest() {
    let mut vp = Vp::new();
    vp.bus.connection = Some((HvConnectionId(0x10), TARGET));
    assert_eq!(vp.post(&parameters(0x10, 7, b"hello")), HvStatus::SUCCESS);
    assert_eq!(vp.post(&parameters(0x11, 7, b"")), HvStatus::SUCCESS);
    let signal = control(HvCallCode::SIGNAL_EVENT).with_fast(true);
    assert_eq!(vp.call(signal, 0x10), Outcome::Resume);
    assert_eq!(
        vp.guest.given,
        [
            Given::EchoedMessage(TARGET, 7, b"hello".to_vec()),
            Given::Message(0x11, 7, vec![]),
            Given::EchoedEvent(TARGET, 0x10),
        ]
    );
}

#[test]
fn a_devices_connection_has_one_flag() {
    let mut vp = Vp::new();
    vp.bus.connection = Some((HvConnectionId(0x10), TARGET));
    let signal = control(HvCallCode::SIGNAL_EVENT).with_fast(true);
    assert_eq!(vp.call(signal, 1 << 32 | 0x10), Outcome::Resume);
    assert_eq!(
        HvStatus(vp.page.gp_registers[RAX] as u16),
        HvStatus::INVALID_PORT_ID
    );
    assert_eq!(vp.guest.given, []);
}

#[test]
fn a_call_with_parameters_outside_of_ram_fails_and_the_guest_goes_on() {
    for code in [[0x0F, 0x01, 0xC1], [0x0F, 0x01, 0xD9]] {
        let mut vp = Vp::new();
        vp.page.gp_registers[RDX] = DEVICE;
        assert_eq!(vp.memory(&code), Outcome::Resume);
        let result = u64::from(HvStatus::INVALID_PARAMETER.0);
        assert_eq!(vp.page.gp_registers[RAX], result);
        assert_eq!(vp.page.gp_registers[RDX], DEVICE);
        assert_eq!(vp.page.rip, RIP + 3);
        assert_eq!(vp.bus.asked, []);
        // One whose page comes is made again.
        vp.guest.touched = Touched::Backed;
        assert_eq!(vp.memory(&code), Outcome::Resume);
        assert_eq!(vp.page.rip, RIP + 3);
    }
}
