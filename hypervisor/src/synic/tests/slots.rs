use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::rc::Rc;

#[test]
fn a_message_fills_its_slot_and_raises_the_vector() {
    let synic = enabled();
    let page = FakePage::default();
    let signal = post(&synic, &page, VMBUS, &message(b"hello"), false);
    assert_eq!(signal, Ok(Signal::Interrupt { vector: 0xF3 }));
    let held = page.held(VMBUS);
    assert_eq!(
        (held.message_type, held.sender, held.pending),
        (1, 7, false)
    );
    assert_eq!(held.payload, b"hello");
}

#[test]
fn a_full_slot_is_marked_and_left_alone() {
    let synic = enabled();
    let page = FakePage::default();
    assert!(post(&synic, &page, VMBUS, &message(b"one"), false).is_ok());
    let second = post(&synic, &page, VMBUS, &message(b"two"), false);
    assert_eq!(second, Err(NotPosted::SlotBusy));
    let held = page.held(VMBUS);
    assert_eq!((held.payload.as_slice(), held.pending), (&b"one"[..], true));
}

#[test]
fn a_guest_that_empties_the_slot_before_the_mark_gets_the_message() {
    // The type is read (0), then the guest takes the message and sees no mark, then the mark is set (1).
    let page = FakePage::with_guest(|slots, accesses| {
        if accesses == 1 {
            let slot = &mut slots.borrow_mut()[VMBUS.index()];
            assert!(!slot.pending, "it will not write EOM");
            slot.message_type = 0;
        }
    });
    page.slots.borrow_mut()[VMBUS.index()].message_type = 1;
    let posted = post(&enabled(), &page, VMBUS, &message(b"two"), false);
    assert!(posted.is_ok());
    let held = page.held(VMBUS);
    assert_eq!(
        (held.payload.as_slice(), held.pending),
        (&b"two"[..], false)
    );
}

#[test]
fn a_guest_that_empties_the_slot_after_the_second_look_sees_the_mark() {
    let page = FakePage::default();
    let synic = enabled();
    assert!(post(&synic, &page, VMBUS, &message(b"one"), false).is_ok());
    assert!(post(&synic, &page, VMBUS, &message(b"two"), false).is_err());
    let (_, eom) = page.take(VMBUS).unwrap();
    assert!(eom);
    // EOM makes the hypervisor look again; a mark left in an empty slot does no harm.
    assert!(post(&synic, &page, VMBUS, &message(b"two"), false).is_ok());
    assert!(!page.held(VMBUS).pending);
}

#[test]
fn nothing_is_written_while_the_synic_is_off() {
    let page = FakePage::default();
    let posted = post(&Synic::new(), &page, VMBUS, &message(b"x"), false);
    assert_eq!(posted, Err(NotPosted::Inactive));
    assert_eq!(page.accesses.get(), 0);
}

#[test]
fn only_empty_slots_are_deliverable_and_the_others_will_say_so() {
    let page = FakePage::default();
    let synic = enabled();
    assert!(post(&synic, &page, VMBUS, &message(b"one"), false).is_ok());
    assert_eq!(free_slots(&page, 0b1110), 0b1010);
    let (_, eom) = page.take(VMBUS).unwrap();
    assert!(eom);
    assert_eq!(free_slots(&page, 0b100), 0b100);
}

#[test]
fn the_page_has_the_tlfs_layout() {
    let page = MessagePage::new();
    let text: Vec<u8> = (1..=13).collect();
    let message = HvMessage::new(
        HvMessageType(0x8001_0000),
        0x1122_3344_5566,
        text.as_slice(),
    );
    let message = message.unwrap();
    page.write(VMBUS, &Message::from(&message), true);
    let slot = format!("{:x?}", page);
    assert_eq!(page.message_type(VMBUS), HvMessageType(0x8001_0000));
    // Type, then size 13 with flag bit 0 of the next byte, sender, payload from the lowest byte on.
    let expected = "Slot { message_type: 80010000, size_and_flags: 10d, sender: 112233445566, \
                    payload: [807060504030201, d0c0b0a09, 0,";
    assert!(slot.contains(expected), "{slot}");
    assert_eq!(page.message_type(Sint(3)), HvMessageType::NONE);
    page.set_message_pending(Sint(3));
    assert_eq!(page.message_type(Sint(3)), HvMessageType::NONE);
}

#[test]
fn a_payload_that_is_too_long_is_cut_off() {
    let page = MessagePage::new();
    page.write(VMBUS, &message(&[0xAA; 300]), false);
    assert!(format!("{:x?}", page).contains("size_and_flags: f0,"));
}

/// A guest that follows the protocol in two steps: take the message and clear the type; look at the mark and write EOM.
/// The second may come any time after the first.
#[derive(Default)]
struct Guest {
    taken: RefCell<Vec<u8>>,
    cleared: Cell<bool>,
    eoms: Cell<u32>,
}

impl Guest {
    fn step(&self, slots: &RefCell<[Held; 16]>) {
        let slot = &mut slots.borrow_mut()[VMBUS.index()];
        if self.cleared.take() {
            self.eoms.set(self.eoms.get() + u32::from(slot.pending));
        } else if slot.message_type != 0 {
            self.taken.borrow_mut().push(slot.payload[0]);
            slot.message_type = 0;
            self.cleared.set(true);
        }
    }
}

proptest! {
    /// A sender with a queue and a guest that follows the protocol, which may act between any two accesses.
    #[test]
    fn every_message_arrives_in_order(
        sends in prop::collection::vec(0u8..4, 1..100),
        in_between in prop::collection::vec(0u8..4, 1..400),
    ) {
        let synic = enabled();
        let guest = Rc::new(Guest::default());
        let page = {
            // Before each access the guest takes as many steps as the next number says.
            let (guest, steps) = (guest.clone(), RefCell::new(in_between));
            FakePage::with_guest(move |slots, _| {
                for _ in 0..steps.borrow_mut().pop().unwrap_or(0) {
                    guest.step(slots);
                }
            })
        };
        let mut queue = VecDeque::new();
        let retry = |queue: &mut VecDeque<u8>| {
            if let Some(&first) = queue.front()
                && post(&synic, &page, VMBUS, &message(&[first]), queue.len() > 1).is_ok()
            {
                queue.pop_front();
            }
        };
        for (number, &steps) in (0u8..).zip(&sends) {
            queue.push_back(number);
            retry(&mut queue);
            for _ in 0..steps {
                guest.step(&page.slots);
            }
            while guest.eoms.take() > 0 {
                retry(&mut queue);
            }
        }
        // Nothing new is sent. Whatever is still queued has to come out by the guest's own doing.
        while page.held(VMBUS).message_type != 0 || guest.cleared.get() || guest.eoms.get() > 0 {
            guest.step(&page.slots);
            while guest.eoms.take() > 0 {
                retry(&mut queue);
            }
        }
        prop_assert_eq!(queue.len(), 0, "messages are stuck");
        prop_assert_eq!(&*guest.taken.borrow(), &(0..sends.len() as u8).collect::<Vec<_>>());
    }
}
