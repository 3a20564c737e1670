//! The device of the Hyper-V guest tests.

use board::device::testdev::SintTarget;
use board::exit::PostedMessage;
use tlfs::HvConnectionId;

use super::running::hypercall;
use super::*;
use crate::testdev::Echoes;

const POST: HvCallCode = HvCallCode::POST_MESSAGE_DIRECT;
const SIGNAL: HvCallCode = HvCallCode::SIGNAL_EVENT_DIRECT;
const ASSERT: HvCallCode = HvCallCode::ASSERT_VIRTUAL_INTERRUPT;
/// Where the kernel has its message, to connection 0x10.
const MESSAGE: u64 = 0x10_0080;
const SINT: u8 = 8;

/// OUT of a control word: for VP 1.
fn control(what: u8, sint: u8, id: u8) -> Step {
    let mut page = registers();
    page.gp_registers[0] = u32::from_le_bytes([sint, 1, what, id]).into();
    let intercept = HvX64IoPortInterceptMessage {
        header: header(),
        port_number: 0x3000,
        access_info: HvX64IoPortAccessInfo::new().with_access_size(4),
        ..Default::default()
    };
    let kind = HvMessageType::X64_IO_PORT_INTERCEPT;
    Step::Intercept(page, message(kind, &intercept))
}

fn kernel() -> OneFile {
    let mut kernel = OneFile::kernel();
    let words: [u32; 6] = [0x10, 0, 0x1234, 8, 0x55, 0xAA];
    for (place, word) in kernel.0[0x80..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    kernel.0.resize(0x80 + 256, 0);
    kernel
}

/// A VM with two VPs and without VMBus, and what came of the script.
fn run(fake: &Fake, script: impl IntoIterator<Item = Step>) -> Vec<Asked> {
    fake.0.borrow_mut().script.extend(script);
    let keys = b"processors = 2\nvmbus = false\nhyperv_testdev = true\n";
    let exit = live(fake.clone(), &[DEFINITION, keys].concat(), &kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    fake.0.borrow_mut().asked.split_off(0)
}

fn sint_reads(fake: &Fake, control: u64, sint: u64) {
    let name = HvRegisterName(HvRegisterName::SINT0.0 + u32::from(SINT));
    let values = [((1, HvRegisterName::SCONTROL), control), ((1, name), sint)];
    fake.0.borrow_mut().registers.extend(values);
}

fn post() -> Step {
    hypercall(HvCallCode::POST_MESSAGE, MESSAGE)
}

/// VP 0 is told that a slot of its is free.
fn slot_free(sints: u16) -> Step {
    let intercept = tlfs::HvX64SynicSintDeliverableMessage {
        header: header(),
        deliverable_sints: sints,
        ..Default::default()
    };
    let kind = HvMessageType::SYNIC_SINT_DELIVERABLE;
    Step::Intercept(registers(), message(kind, &intercept))
}

#[test]
fn a_vm_with_the_device_hears_of_unknown_connections_without_vmbus() {
    let installed = |definition: &[u8]| {
        let fake = Fake::default();
        live(fake.clone(), definition, &kernel());
        let asked = fake.0.borrow_mut().asked.split_off(0);
        inputs(&asked, HvCallCode::INSTALL_INTERCEPT)
            .iter()
            .any(|input| {
                let input = HvInputInstallIntercept::read_from_bytes(input).unwrap();
                input.intercept_type == HvInterceptType::UNKNOWN_SYNIC_CONNECTION
            })
    };
    for device in [true, false] {
        let keys = format!("vmbus = false\nhyperv_testdev = {device}\n");
        assert_eq!(installed(&[DEFINITION, keys.as_bytes()].concat()), device);
    }
}

#[test]
fn a_sint_is_raised_with_the_vector_that_the_guest_gave_it() {
    let fake = Fake::default();
    // With automatic EOI, which is the hypervisor's business.
    sint_reads(&fake, 1, 0x2_00B5);
    let asked = run(&fake, [control(1, SINT, 0), control(3, SINT, 0)]);
    let asserted = inputs(&asked, ASSERT);
    let input = HvInputAssertVirtualInterrupt::read_from_bytes(&asserted[0]).unwrap();
    assert_eq!((input.vector, input.dest_addr), (0xB5, 1));
    assert_eq!(input.control.into_bits(), 0, "fixed, edge, physical");
    assert_eq!(asserted.len(), 1);
}

#[test]
fn a_sint_that_is_masked_or_polled_or_off_stays_quiet() {
    for (on, sint) in [(1, 0x1_00B5), (1, 0x4_00B5), (0, 0xB5)] {
        let fake = Fake::default();
        sint_reads(&fake, on, sint);
        let asked = run(&fake, [control(1, SINT, 0), control(3, SINT, 0)]);
        assert_eq!(inputs(&asked, ASSERT).len(), 0, "{on} {sint:#x}");
    }
}

#[test]
fn a_message_comes_back_at_its_sint() {
    let fake = Fake::default();
    let asked = run(&fake, [control(4, SINT, 0x10), post()]);
    let [echo] = &inputs(&asked, POST)[..] else {
        panic!("{asked:?}");
    };
    assert_eq!((u32_at(echo, 8), u32_at(echo, 16)), (1, SINT.into()));
    assert_eq!(echo[20..28], [0x34, 0x12, 0, 0, 8, 0, 0, 0]);
    assert_eq!((u32_at(echo, 36), u32_at(echo, 40)), (0x55, 0xAA));
}

#[test]
fn an_event_comes_back_as_the_flag_of_its_connection() {
    let fake = Fake::default();
    let signal = hypercall(HvCallCode::SIGNAL_EVENT, MESSAGE);
    let asked = run(&fake, [control(6, SINT, 0x10), signal]);
    let [echo] = &inputs(&asked, SIGNAL)[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(u32_at(echo, 8), 1);
    assert_eq!(echo[12..16], [0, SINT, 0x10, 0]);
}

#[test]
fn a_connection_that_is_gone_echoes_nothing() {
    let fake = Fake::default();
    let asked = run(&fake, [control(4, SINT, 0x10), control(5, 0, 0x10), post()]);
    assert_eq!(inputs(&asked, POST).len(), 0);
}

#[test]
fn a_message_for_a_full_slot_waits_and_is_not_lost() {
    let full = Fake::default();
    full.0
        .borrow_mut()
        .statuses
        .insert(POST.0, HvStatus::OBJECT_IN_USE);
    // Somebody else waits for another slot of that VP.
    let notifications = (1, HvRegisterName::DELIVERABILITY_NOTIFICATIONS);
    full.0.borrow_mut().registers.insert(notifications, 1 << 50);
    let asked = run(&full, [control(4, SINT, 0x10), post()]);
    let asked_for = inputs(&asked, HvCallCode::SET_VP_REGISTERS).pop().unwrap();
    let register = HvRegisterAssoc::read_from_bytes(&asked_for[16..]).unwrap();
    assert_eq!(register.name, notifications.1);
    assert_eq!(register.value.low, 1 << 56 | 1 << 50);
}

/// Posts of a guest, one byte each.
struct Poster {
    fake: Fake,
    echoes: Echoes,
}

impl Poster {
    const TO: SintTarget = SintTarget { vp: 1, sint: SINT };

    fn new() -> Self {
        let (fake, echoes) = (Fake::default(), Echoes::default());
        Self { fake, echoes }
    }

    fn answers(&self, status: HvStatus) {
        self.fake.0.borrow_mut().statuses.insert(POST.0, status);
    }

    fn post(&mut self, byte: u8) -> Result<(), HvStatus> {
        let message = PostedMessage {
            connection: HvConnectionId(0x10),
            kind: HvMessageType(7),
            payload: &[byte],
        };
        self.echoes.message(&mut self.fake, Self::TO, &message)
    }

    fn slots_free(&mut self, vp: u32, sints: u16) {
        self.echoes.slots_free(&mut self.fake, vp, sints);
    }

    /// The bytes of all messages that were delivered.
    fn delivered(&self) -> Vec<u8> {
        let shared = self.fake.0.borrow();
        let delivered = shared
            .calls
            .iter()
            .filter(|(code, _, status)| *code == POST && *status == HvStatus::SUCCESS);
        delivered.map(|(_, input, _)| input[36]).collect()
    }
}

#[test]
fn one_message_waits_for_a_full_slot_and_the_next_is_refused() {
    let mut guest = Poster::new();
    guest.answers(HvStatus::OBJECT_IN_USE);
    assert_eq!(guest.post(1), Ok(()));
    assert_eq!(guest.post(2), Err(HvStatus::INSUFFICIENT_BUFFERS));
    guest.answers(HvStatus::SUCCESS);
    guest.slots_free(0, 1 << SINT);
    guest.slots_free(1, !(1 << SINT));
    assert_eq!(guest.delivered(), [0_u8; 0], "another slot");
    guest.slots_free(1, 1 << SINT);
    guest.slots_free(1, 1 << SINT);
    assert_eq!(guest.delivered(), [1], "once");
}

#[test]
fn what_waits_is_not_overtaken() {
    let mut guest = Poster::new();
    guest.answers(HvStatus::OBJECT_IN_USE);
    assert_eq!(guest.post(1), Ok(()));
    // The slot has become free, and nobody has said so yet.
    guest.answers(HvStatus::SUCCESS);
    assert_eq!(guest.post(2), Ok(()));
    assert_eq!(guest.delivered(), [1, 2]);
}

#[test]
fn a_synic_that_is_off_takes_nothing_and_keeps_nothing_waiting() {
    let mut guest = Poster::new();
    guest.answers(HvStatus::OBJECT_IN_USE);
    assert_eq!(guest.post(1), Ok(()));
    guest.answers(HvStatus::INVALID_SYNIC_STATE);
    assert_eq!(guest.post(2), Err(HvStatus::INVALID_SYNIC_STATE));
    guest.answers(HvStatus::SUCCESS);
    assert_eq!(guest.post(3), Ok(()));
    assert_eq!(guest.delivered(), [3]);
}

#[test]
fn a_slot_that_becomes_free_is_reported_to_the_device() {
    let fake = Fake::default();
    fake.0
        .borrow_mut()
        .statuses
        .insert(POST.0, HvStatus::OBJECT_IN_USE);
    // The message goes to VP 0, whose slots the fake can free.
    let create = {
        let Step::Intercept(mut page, message) = control(4, SINT, 0x10) else {
            unreachable!()
        };
        page.gp_registers[0] &= !0xFF00;
        Step::Intercept(page, message)
    };
    let asked = run(&fake, [create, post(), slot_free(1 << SINT)]);
    assert_eq!(inputs(&asked, POST).len(), 2);
}

#[test]
fn a_word_without_a_meaning_is_told_once() {
    let fake = Fake::default();
    run(&fake, [control(9, 0, 0), control(9, 0, 0)]);
    let logs = &fake.0.borrow().logs;
    let told = logs.iter().filter(|line| line.contains("0x00090100"));
    assert_eq!(told.count(), 1, "{logs:?}");
}
