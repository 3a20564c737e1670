//! Nobody sleeps while there is something to do, and nobody is woken for nothing.

use super::guests::{Consumer, Producer};
use super::world::*;
use crate::ring::*;

/// Runs of each kind.
const RUNS: u64 = 3000;

/// What was asked for and what was answered.
#[derive(Debug)]
struct RoomSignals {
    wishes: usize,
    signals: usize,
}

/// The host sends all packets to a guest that reads them.
fn send_all(seed: u64, masks: bool, fences: bool) -> Result<(), LostWakeUp> {
    let host = Host::new(Consumer::new(masks), seed, fences);
    let mut ring = OutgoingRing::new(host.again(), SIZE).unwrap();
    let mut next = 0;
    while next < COUNT {
        match ring.write_in_band(next, false, &[&payload(next)]) {
            Ok(()) => next += 1,
            Err(WriteError::Full { needed }) => {
                let request = ring.request_room(needed).unwrap();
                host.signal_if(request.signal);
                if !request.room {
                    host.sleep()?;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        if next == COUNT || host.choose(3) == 0 {
            host.signal_if(ring.publish().unwrap());
        }
    }
    // Nothing more comes, so this ends when the guest sleeps.
    while host.sleep().is_ok() {}
    let world = host.0.borrow();
    if world.guest.received < COUNT {
        return Err(LostWakeUp);
    }
    // A signal is for a ring that the guest had emptied: that takes a new read index each time.
    assert!(world.signals.sent_to_guest <= world.guest.publications + 1);
    Ok(())
}

/// The host reads all packets of a guest that sends them.
fn receive_all(seed: u64, masks: bool, fences: bool) -> Result<RoomSignals, LostWakeUp> {
    let host = Host::new(Producer::new(), seed, fences);
    let mut ring = IncomingRing::new(host.again()).unwrap();
    let (mut received, mut unmasked) = (0, 0);
    loop {
        if masks {
            ring.mask().unwrap();
        }
        while let Some(mut packet) = ring.read_packet().unwrap() {
            let mut bytes = payload(received);
            let expected = bytes.clone();
            bytes.fill(0);
            assert_eq!(packet.transaction_id(), received);
            assert_eq!(packet.payload_len() as usize, expected.len());
            packet.read_payload(&mut bytes).unwrap();
            assert_eq!(bytes, expected);
            received += 1;
            if host.choose(3) == 0 {
                host.signal_if(ring.publish().unwrap());
            }
        }
        let finish = ring.finish().unwrap();
        unmasked += 1;
        host.signal_if(finish.signal);
        if finish.more {
            continue;
        }
        if received == COUNT {
            break;
        }
        host.sleep()?;
    }
    let world = host.0.borrow();
    // The mask is lifted at the end of a batch only.
    if masks {
        assert!(world.signals.sent_to_host <= unmasked + 1);
    }
    Ok(RoomSignals {
        wishes: world.guest.wishes,
        signals: world.signals.sent_to_guest,
    })
}

#[test]
fn a_guest_that_reads_is_never_forgotten() {
    for seed in 0..RUNS {
        for masks in [false, true] {
            assert_eq!(send_all(seed, masks, true), Ok(()), "seed {seed}");
        }
    }
}

#[test]
fn packets_of_the_guest_are_never_forgotten() {
    let (mut wishes, mut signals) = (0, 0);
    for seed in 0..RUNS {
        for masks in [false, true] {
            let room = receive_all(seed, masks, true).unwrap_or_else(|_| panic!("seed {seed}"));
            wishes += room.wishes;
            signals += room.signals;
        }
    }
    assert!(wishes > RUNS as usize);
    // A wish is answered once, but for the few that the guest takes back while the host looks.
    assert!(signals <= wishes + wishes / 50, "{signals} for {wishes}");
}

#[test]
fn without_the_fences_wake_ups_are_lost() {
    // The model can fail: that is what the two tests above rely on.
    for masks in [false, true] {
        assert!((0..RUNS).any(|seed| send_all(seed, masks, false).is_err()));
        assert!((0..RUNS).any(|seed| receive_all(seed, masks, false).is_err()));
    }
}
