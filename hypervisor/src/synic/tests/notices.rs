use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Partition and index.
type Id = (u64, u32);

#[derive(Default)]
struct Links(BTreeMap<Id, Link<Id>>);

impl NoticeLinks for Links {
    type Id = Id;

    fn link(&self, id: Id) -> Link<Id> {
        self.0.get(&id).copied().unwrap_or_default()
    }

    fn set_link(&mut self, id: Id, link: Link<Id>) {
        self.0.insert(id, link);
    }
}

fn describe((partition, vp): Id) -> (HvPartitionId, HvVpIndex) {
    (HvPartitionId(partition), HvVpIndex(vp))
}

#[test]
fn a_notice_says_which_vp_of_whom() {
    let (mut queue, mut links, page) = (NoticeQueue::new(), Links::default(), FakePage::default());
    assert!(queue.push(&mut links, (0x55, 3)));
    let signal = queue.deliver(&mut links, &enabled(), &page, describe);
    assert_eq!(signal, Some(Signal::Interrupt { vector: 0xF3 }));
    let held = page.held(Sint::INTERCEPTS);
    assert_eq!(held.message_type, HvMessageType::OPAQUE_INTERCEPT.0);
    assert_eq!((held.sender, held.pending), (0x55, false));
    assert_eq!(held.payload, 3u32.to_le_bytes());
    assert!(queue.is_empty());
}

#[test]
fn notices_wait_for_the_slot_and_mark_it() {
    let (mut queue, mut links, page) = (NoticeQueue::new(), Links::default(), FakePage::default());
    let synic = enabled();
    for vp in 0..3 {
        queue.push(&mut links, (1, vp));
    }
    for vp in 0..3u32 {
        assert!(queue.deliver(&mut links, &synic, &page, describe).is_some());
        assert_eq!(queue.deliver(&mut links, &synic, &page, describe), None);
        let (held, eom) = page.take(Sint::INTERCEPTS).unwrap();
        assert_eq!(held.payload, vp.to_le_bytes());
        assert_eq!(eom, vp < 2);
    }
}

#[test]
fn a_notice_that_comes_while_the_slot_is_full_makes_the_guest_write_eom() {
    let (mut queue, mut links, page) = (NoticeQueue::new(), Links::default(), FakePage::default());
    let synic = enabled();
    queue.push(&mut links, (1, 0));
    assert!(queue.deliver(&mut links, &synic, &page, describe).is_some());
    assert!(!page.held(Sint::INTERCEPTS).pending);
    queue.push(&mut links, (1, 1));
    assert_eq!(queue.deliver(&mut links, &synic, &page, describe), None);
    assert!(page.held(Sint::INTERCEPTS).pending);
}

#[test]
fn nothing_is_lost_while_the_sint_is_off() {
    let (mut queue, mut links, page) = (NoticeQueue::new(), Links::default(), FakePage::default());
    queue.push(&mut links, (1, 0));
    let off = Synic::new();
    assert_eq!(queue.deliver(&mut links, &off, &page, describe), None);
    assert!(
        queue
            .deliver(&mut links, &enabled(), &page, describe)
            .is_some()
    );
}

#[test]
fn one_intercept_gets_one_notice() {
    let (mut queue, mut links) = (NoticeQueue::new(), Links::default());
    assert!(queue.push(&mut links, (1, 0)));
    assert!(!queue.push(&mut links, (1, 0)));
    assert_eq!(queue.pop(&mut links), Some(Notice::Vp((1, 0))));
    assert_eq!(queue.pop(&mut links), None);
    assert!(queue.push(&mut links, (1, 0)));
}

#[test]
fn a_sint_that_is_signalled_twice_is_noticed_once() {
    let (mut queue, mut links, page) = (NoticeQueue::new(), Links::default(), FakePage::default());
    let synic = enabled();
    queue.push(&mut links, (1, 9));
    for _ in 0..2 {
        queue.push_sint(Sint::new(5).unwrap());
    }
    assert!(queue.deliver(&mut links, &synic, &page, describe).is_some());
    let (held, eom) = page.take(Sint::INTERCEPTS).unwrap();
    assert_eq!(held.message_type, HvMessageType::SYNIC_SINT_INTERCEPT.0);
    assert_eq!(held.payload, 5u32.to_le_bytes());
    assert!(eom, "the VP's notice waits");
    assert_eq!(queue.pop(&mut links), Some(Notice::Vp((1, 9))));
    assert!(queue.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Push(Id),
    Pop,
    Remove(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..4, 0u32..6).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => (0u64..4).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_is_a_queue_without_duplicates(steps in steps()) {
        let (mut queue, mut links) = (NoticeQueue::new(), Links::default());
        let mut model: VecDeque<Id> = VecDeque::new();
        for step in steps {
            match step {
                Step::Push(id) => {
                    let new = !model.contains(&id);
                    prop_assert_eq!(queue.push(&mut links, id), new);
                    if new {
                        model.push_back(id);
                    }
                }
                Step::Pop => {
                    prop_assert_eq!(queue.pop(&mut links), model.pop_front().map(Notice::Vp));
                }
                Step::Remove(partition) => {
                    queue.remove_if(&mut links, |id| id.0 == partition);
                    model.retain(|id| id.0 != partition);
                }
            }
            prop_assert_eq!(queue.first(), model.front().copied().map(Notice::Vp));
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            let linked = links.0.values().filter(|link| **link != Link::Out).count();
            prop_assert_eq!(linked, model.len());
        }
    }
}
