//! A guest that is not ready: its slot is full, its SynIC off.

use utilities::SECOND;

use super::super::*;
use super::guest::*;

const MILLISECOND: u64 = 10_000;
const POST: HvCallCode = HvCallCode::POST_MESSAGE_DIRECT;
const SIGNAL: HvCallCode = HvCallCode::SIGNAL_EVENT_DIRECT;

/// A guest with a message that found the slot of VP 1 full.
fn full() -> Guest {
    let mut guest = Guest::new();
    guest.answers(POST, HvStatus::OBJECT_IN_USE);
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    guest
}

#[test]
fn a_full_slot_is_tried_again_when_its_vp_says_that_it_is_free() {
    let mut guest = full();
    let asked = guest.tries(HvCallCode::SET_VP_REGISTERS);
    assert_eq!(u32_at(&asked[0], 8), 1, "of the VP whose slot it is");
    let register = HvRegisterAssoc::read_from_bytes(&asked[0][16..]).unwrap();
    assert_eq!(register.name, HvRegisterName::DELIVERABILITY_NOTIFICATIONS);
    assert_eq!(register.value.low, 1 << 50);
    guest.post(&words(&[3, 0])).unwrap();
    guest.vmbus.slots_free(0);
    guest.run();
    assert_eq!(guest.tries(POST), [] as [Vec<u8>; 0], "another VP's slot");
    guest.answers(POST, HvStatus::SUCCESS);
    guest.vmbus.slots_free(1);
    guest.run();
    let types: Vec<_> = guest
        .messages()
        .iter()
        .map(|message| u32_at(&message.payload, 0))
        .collect();
    assert_eq!(types, [15, 1, 1, 1, 1, 4], "in their order");
}

#[test]
fn a_full_slot_that_nobody_speaks_of_is_tried_every_second() {
    let mut guest = full();
    guest.tries(POST);
    guest.pass(SECOND - 1);
    assert_eq!(guest.tries(POST).len(), 0);
    guest.pass(SECOND);
    assert_eq!(guest.tries(POST).len(), 1);
    guest.answers(POST, HvStatus::SUCCESS);
    guest.pass(2 * SECOND);
    assert_eq!(guest.messages().len(), 1);
    assert_eq!(guest.vmbus.deadline(), u64::MAX);
}

#[test]
fn a_guest_that_connects_anew_does_not_wait_for_the_slot_of_the_one_before() {
    let mut guest = Guest::connected();
    guest.answers(POST, HvStatus::OBJECT_IN_USE);
    guest.post(&words(&[3, 0])).unwrap();
    guest.run();
    guest.answers(POST, HvStatus::SUCCESS);
    guest.messages();
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    let messages = guest.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(u32_at(&messages[0].payload, 0), 15);
}

#[test]
fn while_the_synic_is_off_messages_wait_and_pauses_get_longer() {
    let mut guest = Guest::new();
    guest.answers(POST, HvStatus::INVALID_SYNIC_STATE);
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let next = guest.vmbus.deadline();
        pauses.push((next - guest.now) / MILLISECOND);
        guest.pass(next);
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    guest.answers(POST, HvStatus::SUCCESS);
    guest.messages();
    // Something that the guest posts is a reason to look at once.
    guest.post(&words(&[3, 0])).unwrap();
    guest.run();
    assert_eq!(guest.messages().len(), 6);
}

#[test]
fn a_flag_that_could_not_be_set_is_set_later() {
    let mut guest = Guest::connected();
    guest.answers(SIGNAL, HvStatus::INVALID_SYNIC_STATE);
    guest.open(HEARTBEAT);
    assert_eq!(guest.flags(), []);
    guest.answers(SIGNAL, HvStatus::SUCCESS);
    guest.pass(guest.now + 10 * MILLISECOND);
    assert_eq!(guest.flags(), [(0, 2, HEARTBEAT as usize)]);
}

#[test]
fn a_channel_whose_interrupts_move_is_signalled_at_its_new_place() {
    let mut guest = Guest::connected();
    guest.open(HEARTBEAT);
    guest.flags();
    guest.post(&words(&[22, 0, HEARTBEAT, 1])).unwrap();
    guest.run();
    assert_eq!(guest.flags(), [(1, 2, HEARTBEAT as usize)]);
}
