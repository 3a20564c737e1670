//! Whatever a guest sends and whenever: nothing panics, one packet at a time, deadlines ahead, memory bounded.

use proptest::prelude::*;

use super::*;
use crate::integration::Protocol;
use crate::shutdown::{ShutdownKind, ShutdownRequest};
use crate::{Heartbeat, Integration, Kvp, LinkState, SECOND, Shutdown, TimeSync, Version};
use guest::v;

/// What happens to a service.
#[derive(Clone, Debug)]
enum Act {
    Open,
    Close,
    /// Time passes, in units of 100 ns.
    Wait(Time),
    /// The clock goes back.
    Back(Time),
    Take,
    /// The right answer to one of the last packets, the newest with 0.
    Answer(usize),
    /// That answer with changed bytes, cut or lengthened.
    Damaged {
        which: usize,
        changes: Vec<(usize, u8)>,
        len: usize,
    },
    /// Any bytes.
    Raw {
        payload: Vec<u8>,
        transaction: u64,
    },
    /// Something the manager wants.
    Wish,
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        0..3 * SECOND,
        0..100 * SECOND,
        any::<u64>().prop_map(|t| t >> 8)
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let changes = prop::collection::vec((0..3000usize, any::<u8>()), 0..4);
    let header_changes = prop::collection::vec((0..60usize, any::<u8>()), 1..3);
    prop_oneof![
        1 => Just(Act::Open),
        1 => Just(Act::Close),
        4 => time().prop_map(Act::Wait),
        1 => time().prop_map(Act::Back),
        8 => Just(Act::Take),
        8 => (0..3usize).prop_map(Act::Answer),
        2 => (0..3usize, changes, 0..5000usize)
            .prop_map(|(which, changes, len)| Act::Damaged { which, changes, len }),
        2 => header_changes.prop_map(|changes| Act::Damaged { which: 0, changes, len: usize::MAX }),
        2 => (prop::collection::vec(any::<u8>(), 0..100), 0..20u64)
            .prop_map(|(payload, transaction)| Act::Raw { payload, transaction }),
        1 => Just(Act::Wish),
    ]
}

/// Does all of `acts` to a service, and checks after each one what must always hold.
fn check<P: Protocol>(
    mut service: Integration<P>,
    versions: &[Version],
    acts: &[Act],
    limit: usize,
    wish: impl Fn(&mut Integration<P>, Time),
) -> Result<(), TestCaseError> {
    let mut guest = Linux::new(versions);
    guest.daemon = Some(vec![("key".into(), "value".into()); 3]);
    // Each with the version that was in force when it was made.
    let mut packets: Vec<(Packet, Version)> = Vec::new();
    let mut now: Time = 0;
    let mut was_damaged = false;
    for act in acts {
        was_damaged |= matches!(act, Act::Damaged { .. });
        let mut deliver = |which: usize, change: &dyn Fn(&mut Vec<u8>)| {
            let Some((packet, version)) = packets.iter().rev().nth(which) else {
                return;
            };
            if was_damaged {
                // What a changed answer has chosen counts, and not what Linux had.
                guest.agreed = *version;
            }
            let Some(mut answer) = guest.answer(packet) else {
                return;
            };
            change(&mut answer);
            let before = service.state();
            let result = service.received(&answer, packet.transaction, now);
            let died = matches!(service.state(), LinkState::Dead(_)) && service.state() != before;
            assert_eq!(result.is_err(), died, "an error is a death");
        };
        match act {
            Act::Open => service.opened(now),
            Act::Close => service.closed(now),
            Act::Wait(by) => now = now.saturating_add(*by),
            Act::Back(by) => now = now.saturating_sub(*by),
            Act::Take => {
                let packet = take(&mut service, now);
                prop_assert!(service.packet_len().is_none(), "one packet at a time");
                if let Some(packet) = packet {
                    prop_assert!(packet.payload.len() <= limit);
                    prop_assert!(
                        packets
                            .last()
                            .is_none_or(|(last, _)| last.transaction < packet.transaction)
                    );
                    let version = match service.state() {
                        LinkState::Ready(versions) => versions.message,
                        _ => v(0, 0),
                    };
                    packets.push((packet, version));
                }
            }
            Act::Answer(which) => deliver(*which, &|_| {}),
            Act::Damaged {
                which,
                changes,
                len,
            } => deliver(*which, &|answer| {
                for &(at, value) in changes {
                    let at = at % answer.len();
                    answer[at] = value;
                }
                if *len != usize::MAX {
                    answer.resize(*len, 0x55);
                }
            }),
            Act::Raw {
                payload,
                transaction,
            } => {
                let _ = service.received(payload, *transaction, now);
            }
            Act::Wish => wish(&mut service, now),
        }
        service.tick(now);
        prop_assert!(
            service.next_deadline().is_none_or(|next| next > now),
            "{:?} at {now}",
            service.next_deadline()
        );
        prop_assert!(service.queued_events() <= 32);
        let silent = matches!(service.state(), LinkState::Closed | LinkState::Dead(_));
        prop_assert!(
            !silent || (service.packet_len().is_none() && service.next_deadline().is_none())
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn heartbeat_survives_any_guest(acts in prop::collection::vec(act(), 1..60)) {
        check(Heartbeat::default(), &[v(3, 0), v(1, 0)], &acts, 4080, |_, _| {})?;
    }

    #[test]
    fn shutdown_survives_any_guest(acts in prop::collection::vec(act(), 1..60)) {
        let request = ShutdownRequest { kind: ShutdownKind::PowerOff, force: true, timeout_seconds: 1 };
        check(Shutdown::default(), &[v(3, 2)], &acts, 4080, |service, now| {
            let _ = service.request(request, now);
        })?;
    }

    #[test]
    fn timesync_survives_any_guest(acts in prop::collection::vec(act(), 1..60), old in any::<bool>()) {
        let versions = if old { [v(3, 0)] } else { [v(4, 0)] };
        check(TimeSync::default(), &versions, &acts, 4080, |service, _| service.sync_now())?;
    }

    #[test]
    fn kvp_survives_any_guest(acts in prop::collection::vec(act(), 1..60)) {
        check(Kvp::default(), &[v(4, 0)], &acts, 16368, |service, _| {
            let _ = service.set("key", "value");
        })?;
    }

    #[test]
    fn decoding_any_bytes_gives_a_body_that_lies_in_them(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = crate::frame::Answer::decode(&bytes) {
            prop_assert!(answer.body.len() + crate::frame::HEADER_LEN <= bytes.len());
        }
    }
}
