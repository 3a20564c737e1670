//! Channels are offered and opened, and their services work.

use manager::WorkerNews;
use root_abi::news::{GuestState, HEARTBEAT_LOST, HEARTBEAT_NONE, HEARTBEAT_OK};
use utilities::SECOND;
use utilities::shutdown::ShutdownKind;

use super::super::*;
use super::guest::*;

#[test]
fn the_guest_finds_four_channels_with_instances_that_stay() {
    let offers = || {
        let mut guest = Guest::new();
        guest.contact(5 << 16).unwrap();
        guest.post(&words(&[3, 0])).unwrap();
        guest.run();
        guest.messages()
    };
    let first = offers();
    assert_eq!(first, offers());
    assert!(
        first
            .iter()
            .all(|message| (message.vp, message.sint, message.kind) == (1, 2, 1))
    );
    let heartbeat = &first[1].payload;
    assert_eq!(heartbeat.len(), 196);
    // 57164f39-9115-4e78-ab55-382f3bd5422d in memory order.
    assert_eq!(
        heartbeat[8..16],
        [0x39, 0x4f, 0x16, 0x57, 0x15, 0x91, 0x78, 0x4e]
    );
    assert_ne!(heartbeat[24..40], [0; 16], "an instance");
    assert_eq!(u32_at(heartbeat, 184), HEARTBEAT);
    assert_eq!(u32_at(heartbeat, 192), 0x2000 + HEARTBEAT);
}

#[test]
fn a_guest_that_beats_is_alive_until_it_does_not() {
    let mut guest = Guest::connected();
    guest.open(HEARTBEAT);
    let result = guest.messages().pop().unwrap();
    assert_eq!(result.payload, words(&[6, 0, HEARTBEAT, HEARTBEAT, 0]));
    assert!(guest.answer(HEARTBEAT).is_some());
    let beat = guest
        .answer(HEARTBEAT)
        .expect("the first beat comes at once");
    assert_eq!(u64_at(&beat, 28), 1);
    assert!(
        guest
            .logs()
            .contains(&"heartbeat: the guest is alive".into())
    );
    assert!(guest.take(HEARTBEAT).is_none());
    guest.pass(2 * SECOND);
    assert_eq!(u64_at(&guest.take(HEARTBEAT).unwrap().1, 28), 2);
    guest.pass(20 * SECOND);
    assert!(
        guest
            .logs()
            .contains(&"heartbeat: the guest does not answer".into())
    );
}

#[test]
fn the_guest_is_signalled_when_it_sleeps_and_not_when_it_is_reading() {
    let mut guest = Guest::connected();
    guest.open(HEARTBEAT);
    assert_eq!(guest.flags(), [(0, 2, HEARTBEAT as usize)]);
    let (transaction, payload) = guest.take(HEARTBEAT).unwrap();
    // Its mask is set: it looks by itself.
    guest.rings[&HEARTBEAT].1.set_word(8, 1);
    let _ = (transaction, payload);
    guest.pass(SECOND);
    assert_eq!(guest.flags(), []);
}

#[test]
fn both_clocks_are_sampled_at_the_same_moment() {
    let mut guest = Guest::connected();
    guest.start(TIME_SYNC);
    // The fake's partition was made a second after the root; 7 s later it is asked.
    guest.fake.0.borrow_mut().time = 8 * SECOND;
    guest.now = 8 * SECOND;
    let sync = guest.take(TIME_SYNC).map(|(_, payload)| payload).unwrap();
    let (wall, reference) = (u64_at(&sync, 28), u64_at(&sync, 36));
    let boot = (1_700_000_000 + 11_644_473_600) * SECOND;
    assert_eq!(wall.wrapping_sub(reference), boot + PARTITION_MADE);
    assert_eq!(sync[44], 1, "it sets its clock");
}

#[test]
fn a_guest_is_asked_to_shut_down_and_its_answer_told() {
    let mut guest = Guest::connected();
    guest.start(SHUTDOWN);
    assert!(guest.take(SHUTDOWN).is_none(), "not before it is wanted");
    guest
        .vmbus
        .shut_down(&mut guest.fake, ShutdownKind::PowerOff, 0);
    assert_eq!(guest.vmbus.deadline(), 0);
    guest.run();
    let request = guest.answer(SHUTDOWN).unwrap();
    assert_eq!(request.len(), 2088);
    assert_eq!(u32_at(&request, 36) & !1, 0, "power off");
    assert!(
        guest
            .logs()
            .contains(&"shutdown: the guest begins to power off".into())
    );
}

#[test]
fn a_guest_that_nobody_listens_in_cannot_be_shut_down() {
    let mut guest = Guest::connected();
    guest
        .vmbus
        .shut_down(&mut guest.fake, ShutdownKind::PowerOff, 0);
    guest.run();
    let last = guest.logs().pop().unwrap();
    assert!(last.contains("shutdown service is not there"), "{last}");
}

#[test]
fn values_of_the_guest_are_told_once_and_without_what_a_terminal_would_do() {
    let mut guest = Guest::connected();
    guest.start(KVP);
    for _ in 0..2 {
        pair(&mut guest, "OSName", "De\u{1b}[2Jbian\r\n");
        let (transaction, mut end) = guest.take(KVP).expect("index 1");
        end[20..24].copy_from_slice(&0x8007_0103_u32.to_le_bytes());
        end[25] = 5;
        guest.send(KVP, transaction, &end);
        guest.pass(guest.now + 61 * SECOND);
    }
    let pairs: Vec<_> = guest
        .logs()
        .into_iter()
        .filter(|line| line.starts_with("kvp: OSName"))
        .collect();
    assert_eq!(pairs, ["kvp: OSName = De[2Jbian"]);
}

/// The pair at the index that is asked for.
fn pair(guest: &mut Guest, key: &str, value: &str) {
    let (transaction, mut pair) = guest.take(KVP).expect("a question");
    // Body: operation and pool, index at 4; then the pair: type, sizes of key and value, texts of 512 and 2048 bytes.
    let body = 28;
    let text = |text: &str| -> Vec<u8> {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    let (key, value) = (text(key), text(value));
    pair[body + 8..body + 20].copy_from_slice(&words(&[1, key.len() as u32, value.len() as u32]));
    pair[body + 20..][..key.len()].copy_from_slice(&key);
    pair[body + 532..][..value.len()].copy_from_slice(&value);
    pair[25] = 5;
    guest.send(KVP, transaction, &pair);
}

/// States told since the last look.
fn states(guest: &Guest) -> Vec<GuestState> {
    let told = std::mem::take(&mut guest.fake.0.borrow_mut().told);
    let state = |news| match news {
        WorkerNews::Guest(state) => state,
        other => panic!("{other:?}"),
    };
    told.into_iter().map(state).collect()
}

fn system(state: &GuestState) -> &str {
    std::str::from_utf8(&state.system[..state.system_len as usize]).unwrap()
}

#[test]
fn the_manager_hears_of_connection_channels_and_heartbeat_when_they_change() {
    let mut guest = Guest::new();
    guest.fake.0.borrow_mut().identity = 0x8100 << 48 | 0x0006_01C0 << 16;
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    let connected = states(&guest);
    assert_eq!(connected.len(), 1);
    assert_eq!(
        (connected[0].vmbus, connected[0].channels),
        (5 << 16 | 3, 0)
    );
    assert_eq!(system(&connected[0]), "Linux 6.1.192");
    assert_eq!(connected[0].heartbeat, HEARTBEAT_NONE);
    guest.post(&words(&[3, 0])).unwrap();
    guest.run();
    guest.open(HEARTBEAT);
    guest.open(KVP);
    let open = states(&guest);
    assert_eq!(open.last().unwrap().channels, 2);
    guest.answer(HEARTBEAT).expect("versions");
    guest.answer(HEARTBEAT).expect("a beat");
    assert_eq!(states(&guest).last().unwrap().heartbeat, HEARTBEAT_OK);
    guest.pass(5 * SECOND);
    assert_eq!(states(&guest), [], "nothing has changed");
    guest.pass(60 * SECOND);
    assert_eq!(states(&guest).last().unwrap().heartbeat, HEARTBEAT_LOST);
    guest.post(&words(&[16, 0])).unwrap();
    guest.run();
    let gone = *states(&guest).last().unwrap();
    assert_eq!(
        (gone.vmbus, gone.channels, gone.heartbeat),
        (0, 0, HEARTBEAT_NONE)
    );
}

#[test]
fn the_daemons_name_of_the_system_goes_before_the_kernels_number_and_is_cut_to_ascii() {
    let mut guest = Guest::connected();
    guest.fake.0.borrow_mut().identity = 0;
    guest.start(KVP);
    pair(&mut guest, "OSVersion", "12");
    pair(&mut guest, "OSName", "D\u{e9}b\u{1b}ian");
    assert_eq!(system(states(&guest).last().unwrap()), "D?b?ian 12");
    pair(&mut guest, "OSName", &"x".repeat(500));
    let long = *states(&guest).last().unwrap();
    assert_eq!(system(&long), "x".repeat(48));
    // Another kernel connects: its predecessor's name is not its own.
    guest.contact(5 << 16 | 3).unwrap();
    guest.run();
    assert_eq!(system(states(&guest).last().unwrap()), "");
}

#[test]
fn a_channel_that_is_closed_and_its_memory_given_back_can_be_opened_again() {
    let mut guest = Guest::connected();
    guest.start(HEARTBEAT);
    for _ in 0..3 {
        guest.post(&words(&[7, 0, HEARTBEAT])).unwrap();
        guest.post(&words(&[11, 0, HEARTBEAT, HEARTBEAT])).unwrap();
        guest.run();
        let torn_down = guest.messages().pop().unwrap();
        assert_eq!(torn_down.payload, words(&[12, 0, HEARTBEAT]));
        // What was a ring is the guest's own memory now.
        let ring = guest.rings[&HEARTBEAT].1.clone();
        ring.set_word(0, 0x5555);
        guest.pass(guest.now + 5 * SECOND);
        assert_eq!(ring.word(0), 0x5555);
        guest.start(HEARTBEAT);
    }
}

#[test]
fn a_guest_that_unloads_gets_its_answer_and_nothing_more() {
    let mut guest = Guest::connected();
    for relid in [HEARTBEAT, SHUTDOWN, TIME_SYNC, KVP] {
        guest.start(relid);
    }
    guest.messages();
    guest.post(&words(&[16, 0])).unwrap();
    guest.run();
    let messages = guest.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, words(&[17, 0]));
    assert_eq!(guest.vmbus.deadline(), u64::MAX);
}
