//! The heartbeat service.
#![no_main]

extern crate alloc;

mod service;

use service::{Kind, linux, play, v};
use utilities::frame::MAX_PAYLOAD_DEFAULT;
use utilities::heartbeat::HeartbeatState;
use utilities::{Heartbeat, Packet, Time, Version};

static KIND: Kind<Heartbeat> = Kind {
    state: Heartbeat::state,
    counters: Heartbeat::counters,
    longest: MAX_PAYLOAD_DEFAULT,
    wish: |_, _, _| (),
    check,
    event: |_| (),
};

fn check(heartbeat: &Heartbeat, _now: Time) {
    let beats = heartbeat.beats();
    match heartbeat.contact() {
        HeartbeatState::NoContact => {}
        HeartbeatState::Ok => assert!(beats.right > 0),
        HeartbeatState::Lost { .. } => assert!(beats.losses > 0),
    }
    assert!(beats.right + beats.wrong <= heartbeat.counters().answered);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    play(data, Heartbeat::default, linux(&[v(3, 0), v(1, 0)]), &KIND);
});
