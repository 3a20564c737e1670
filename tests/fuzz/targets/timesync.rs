//! The time synchronisation service.
#![no_main]

extern crate alloc;

mod service;

use service::{Kind, linux, play, v};
use utilities::frame::MAX_PAYLOAD_DEFAULT;
use utilities::timesync::Settings;
use utilities::{Packet, TimeSync, Version};

static KIND: Kind<TimeSync> = Kind {
    state: TimeSync::state,
    counters: TimeSync::counters,
    longest: MAX_PAYLOAD_DEFAULT,
    wish: |time_sync, _, _| time_sync.sync_now(),
    check: |_, _| (),
    event: |_| (),
};

// The last byte chooses what the VM's definition says.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((settings, data)) = data.split_last() else {
        return;
    };
    let settings = Settings {
        sync_period: (settings & 1 != 0).then_some(u64::from(*settings) * utilities::SECOND),
    };
    let versions = [v(4, 0), v(3, 0), v(1, 0)];
    play(data, || TimeSync::new(settings), linux(&versions), &KIND);
});
