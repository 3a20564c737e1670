//! A message to VMBus and its answer.

use guests::metal::apic;
use guests::metal::bench::{self, Meter};
use guests::metal::cell::Pages;
use guests::metal::cpu::{wait_for_interrupt, write_msr};
use guests::metal::slot::Slot;
use guests::metal::trap::{Frame, set_handler};
use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HvCallCode,
    HvConnectionId, HvInputPostMessage, HvMessageType, HvStatus, HvSynicSint,
};
use zerocopy::{FromZeros, IntoBytes};

/// Where VMBus posts to, until version 5, and where it takes messages.
const SINT: u32 = 2;
const CONNECTION: HvConnectionId = HvConnectionId(1);
const VECTOR: u8 = 0x51;
const CHANNEL_MESSAGE: HvMessageType = HvMessageType(1);

/// Messages of VMBus: type and rest.
const INITIATE_CONTACT: u32 = 14;
const VERSION_RESPONSE: u32 = 15;
const VERSION_4_1: u32 = 4 << 16 | 1;
const GPADL_TEARDOWN: u32 = 11;
const GPADL_TORNDOWN: u32 = 12;
/// No GPADL of this guest's.
const HANDLE: u32 = 0x1234;

static INPUT: Pages<4096> = Pages::new();
static OUTPUT: Pages<4096> = Pages::new();
static MESSAGES: Pages<4096> = Pages::new();

/// GPADL_TEARDOWN and its answer: as little as there is to do for a message, which every connected guest gets answered.
pub fn row(meter: &Meter) {
    apic::enable();
    set_handler(VECTOR, Some(end));
    write_msr(HV_X64_MSR_SIMP, MESSAGES.gpa() | 1);
    let sint = HvSynicSint::new().with_vector(VECTOR);
    write_msr(HV_X64_MSR_SINT0 + SINT, sint.into_bits());
    write_msr(HV_X64_MSR_SCONTROL, 1);

    let contact = [INITIATE_CONTACT, 0, VERSION_4_1, 0, 0, 0, 0, 0, 0, 0];
    prepare(contact.as_bytes());
    let [answer, supported] = ask();
    assert_eq!((answer, supported & 0xFF), (VERSION_RESPONSE, 1));
    prepare([GPADL_TEARDOWN, 0, 1, HANDLE].as_bytes());
    meter.row("vmbus_message_round_trip", || {
        assert_eq!(ask(), [GPADL_TORNDOWN, HANDLE]);
    });
    write_msr(HV_X64_MSR_SCONTROL, 0);
}

fn prepare(payload: &[u8]) {
    let mut input = HvInputPostMessage {
        connection_id: CONNECTION,
        message_type: CHANNEL_MESSAGE,
        payload_size: payload.len() as u32,
        ..HvInputPostMessage::new_zeroed()
    };
    input.payload[..payload.len()].copy_from_slice(payload);
    INPUT.write(input.as_bytes());
}

/// Posts the message, sleeps until the interrupt for the answer, and takes it: its type, and what stands behind the header.
#[inline(always)]
fn ask() -> [u32; 2] {
    let (code, done) = (HvCallCode::POST_MESSAGE, HvStatus::SUCCESS);
    bench::hypercall(code, INPUT.gpa(), &OUTPUT, done);
    let slot = Slot::of(&MESSAGES, SINT);
    loop {
        wait_for_interrupt();
        if slot.kind() != HvMessageType::NONE {
            break;
        }
    }
    let answer = [0, 8].map(|at| slot.payload(at));
    slot.empty();
    if slot.is_pending() {
        write_msr(HV_X64_MSR_EOM, 0);
    }
    answer
}

fn end(_: &mut Frame) {
    apic::eoi();
}
