//! The shutdown service.
#![no_main]

extern crate alloc;

mod service;

use service::{Kind, linux, play, v};
use utilities::frame::MAX_PAYLOAD_DEFAULT;
use utilities::shutdown::{ShutdownKind, ShutdownRefused, ShutdownRequest};
use utilities::{LinkState, Packet, Shutdown, Time, Version};

static KIND: Kind<Shutdown> = Kind {
    state: Shutdown::state,
    counters: Shutdown::counters,
    longest: MAX_PAYLOAD_DEFAULT,
    wish,
    check: |_, _| (),
    event: |_| (),
};

/// A request is taken when versions are agreed on, if the agreed one has it and nothing else is asked for.
fn wish(shutdown: &mut Shutdown, wish: u8, now: Time) {
    let request = ShutdownRequest {
        kind: match wish % 3 {
            0 => ShutdownKind::PowerOff,
            1 => ShutdownKind::Reboot,
            _ => ShutdownKind::Hibernate,
        },
        force: wish & 0x80 != 0,
        timeout_seconds: wish.into(),
    };
    let result = shutdown.request(request, now);
    let LinkState::Ready(versions) = shutdown.state() else {
        assert_eq!(result, Err(ShutdownRefused::NotReady));
        return;
    };
    match result {
        Ok(()) => assert!(versions.message >= request.kind.since()),
        Err(ShutdownRefused::Version { agreed, needed }) => {
            assert!(agreed == versions.message && agreed < needed);
        }
        Err(refused) => assert_eq!(refused, ShutdownRefused::Outstanding),
    }
    // Whatever became of it, another one is not taken before this one is answered.
    if result.is_ok() {
        let second = shutdown.request(request, now);
        assert_eq!(second, Err(ShutdownRefused::Outstanding));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let versions = [v(3, 2), v(3, 1), v(3, 0), v(1, 0)];
    play(data, Shutdown::default, linux(&versions), &KIND);
});
