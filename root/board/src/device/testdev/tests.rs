use proptest::prelude::*;

use super::*;

fn word(what: u8, vp: u8, sint: u8, id: u8) -> u32 {
    u32::from_le_bytes([sint, vp, what, id])
}

fn device(words: impl IntoIterator<Item = u32>) -> TestDevice {
    let mut device = TestDevice::new(2);
    words.into_iter().for_each(|word| device.control(word));
    device
}

fn at(vp: u32, sint: u8) -> SintTarget {
    SintTarget { vp, sint }
}

#[test]
fn a_sint_is_raised_by_the_route_that_was_made_for_it() {
    let mut device = device([
        word(1, 1, 5, 0),
        word(1, 0, 15, 0),
        word(3, 1, 5, 0),
        word(3, 0, 15, 0),
    ]);
    let raised: Vec<_> = core::iter::from_fn(|| device.take_raised()).collect();
    assert_eq!(raised, [at(0, 15), at(1, 5)]);
    assert_eq!(device.take_ignored(), None);
    device.control(word(3, 1, 5, 0));
    assert_eq!(
        device.take_raised(),
        Some(at(1, 5)),
        "as often as one likes"
    );
}

#[test]
fn a_route_that_nobody_made_or_that_is_gone_raises_nothing() {
    let mut nobodys = device([word(3, 0, 2, 0)]);
    assert_eq!(nobodys.take_raised(), None);
    let mut gone = device([
        word(1, 0, 2, 0),
        word(3, 0, 2, 0),
        word(2, 0, 2, 0),
        word(3, 0, 2, 0),
    ]);
    assert_eq!(gone.take_raised(), None);
    assert_eq!(gone.take_ignored(), Some(word(3, 0, 2, 0)));
}

#[test]
fn vps_and_sints_that_there_are_not_are_ignored() {
    for what in [1, 4, 6] {
        for (vp, sint) in [(2, 0), (255, 0), (0, 16), (1, 255)] {
            let mut device = device([word(what, vp, sint, 7), word(3, vp, sint, 0)]);
            assert_eq!(device.take_raised(), None);
            assert_eq!(device.message_connection(HvConnectionId(7)), None);
            assert_eq!(device.event_connection(HvConnectionId(7)), None);
            assert_eq!(device.take_ignored(), Some(word(what, vp, sint, 7)));
        }
    }
}

#[test]
fn messages_and_events_have_connections_of_their_own() {
    let mut device = device([word(4, 1, 8, 0x10), word(6, 0, 9, 0x10)]);
    let id = HvConnectionId(0x10);
    assert_eq!(device.message_connection(id), Some(at(1, 8)));
    assert_eq!(device.event_connection(id), Some(at(0, 9)));
    // What is destroyed is named by its id alone.
    device.control(word(5, 0, 0, 0x10));
    assert_eq!(device.message_connection(id), None);
    assert_eq!(device.event_connection(id), Some(at(0, 9)));
    device.control(word(7, 0, 0, 0x10));
    assert_eq!(device.event_connection(id), None);
    assert_eq!(device.take_ignored(), None);
}

#[test]
fn a_connection_has_all_of_its_id_and_stays_where_it_is() {
    let mut device = device([word(4, 1, 8, 0x10), word(4, 0, 3, 0x10)]);
    assert_eq!(
        device.message_connection(HvConnectionId(0x10)),
        Some(at(1, 8))
    );
    for other in [0x110, 0x11, 0x0010_0000, 0x10 << 24] {
        assert_eq!(device.message_connection(HvConnectionId(other)), None);
    }
    assert_eq!(device.take_ignored(), Some(word(4, 0, 3, 0x10)));
}

#[test]
fn only_the_first_word_without_a_meaning_is_told() {
    let mut device = device([word(0, 0, 0, 0), word(8, 0, 0, 0)]);
    assert_eq!(device.take_ignored(), Some(word(0, 0, 0, 0)));
    device.control(word(255, 0, 0, 0));
    assert_eq!(device.take_ignored(), None);
}

proptest! {
    #[test]
    fn whatever_is_written_it_keeps_to_what_exists(
        words in proptest::collection::vec((0_u8..9, 0_u8..4, 0_u8..20, 0_u8..4), 0..200),
    ) {
        let mut device = device(words.into_iter().map(|(what, vp, sint, id)| word(what, vp, sint, id)));
        let connections = (0..4).flat_map(|id| {
            let id = HvConnectionId(id);
            [device.message_connection(id), device.event_connection(id)]
        });
        let mut targets: Vec<_> = connections.flatten().collect();
        targets.extend(core::iter::from_fn(|| device.take_raised()));
        prop_assert!(targets.len() <= 8 + 32);
        prop_assert!(targets.iter().all(|target| target.vp < 2 && target.sint < 16));
    }
}
