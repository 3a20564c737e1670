//! The services against a guest that behaves as Linux' `hv_utils` does, and against guests that do not.

mod frame;
mod guest;
mod heartbeat;
mod kvp;
mod negotiate;
mod properties;
mod shutdown;
mod strays;
mod timesync;

use alloc::vec::Vec;

use crate::{Clocks, Event, Packet, Service, Time};

use guest::Linux;

/// Wall clock at reference time 0 of these tests: some day of 2026.
const WALL: u64 = 134_000_000_000_000_000;
/// The VM was made at this reference time.
const CREATED: Time = 1_000;

/// Both clocks at `now`, of a host whose wall clock was set by `set` since.
fn clocks(now: Time, set: i64) -> Clocks {
    Clocks {
        wall: (WALL + now).wrapping_add_signed(set),
        reference: now.saturating_sub(CREATED),
    }
}

/// The next packet; its announced length has to be right.
fn take(service: &mut dyn Service, now: Time) -> Option<Packet> {
    let len = service.packet_len();
    let packet = service.take_packet(now, &mut || clocks(now, 0));
    assert_eq!(packet.as_ref().map(|packet| packet.payload.len()), len);
    packet
}

/// Everything that happened.
fn events(service: &mut dyn Service) -> Vec<Event> {
    core::iter::from_fn(|| service.take_event()).collect()
}

/// Carries packets and answers until nothing moves.
fn pump(service: &mut dyn Service, guest: &mut Linux, now: Time) -> Vec<Event> {
    let mut happened = events(service);
    while let Some(packet) = take(service, now) {
        if let Some(answer) = guest.answer(&packet) {
            service.received(&answer, packet.transaction, now).unwrap();
        }
        happened.extend(events(service));
    }
    happened
}

/// Opens the channel and carries packets until nothing moves.
fn open(service: &mut dyn Service, guest: &mut Linux, now: Time) -> Vec<Event> {
    service.opened(now);
    pump(service, guest, now)
}

/// Lets time pass to `to`, from deadline to deadline.
fn run(service: &mut dyn Service, guest: &mut Linux, from: Time, to: Time) -> Vec<Event> {
    let mut happened = Vec::new();
    let mut now = from;
    while let Some(next) = service.next_deadline().filter(|&next| next <= to) {
        assert!(next > now, "a deadline in the past");
        now = next;
        service.tick(now);
        happened.extend(pump(service, guest, now));
    }
    service.tick(to);
    happened.extend(pump(service, guest, to));
    happened
}
