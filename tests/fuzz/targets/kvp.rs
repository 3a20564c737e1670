//! The service of key/value pairs.
#![no_main]

extern crate alloc;

mod service;

use service::{Kind, linux, play, v};
use utilities::frame::MAX_PAYLOAD;
use utilities::kvp::{ChangeRefused, KEY_FIELD, KvpEvent, MAX_PAIRS, VALUE_FIELD, Value};
use utilities::{Event, Kvp, LinkState, Packet, Time, Version};

static KIND: Kind<Kvp> = Kind {
    state: Kvp::state,
    counters: Kvp::counters,
    longest: MAX_PAYLOAD,
    wish,
    check: |_, _| (),
    event,
};

/// Changes of any length are taken when versions are agreed on and nothing else is asked for, if they fit.
fn wish(kvp: &mut Kvp, wish: u8, _now: Time) {
    // Constant, so that only the service allocates.
    const TEXT: &str = match str::from_utf8(&[b'x'; VALUE_FIELD]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let key = &TEXT[..2 * usize::from(wish)];
    let result = if wish & 1 == 0 {
        kvp.set(key, &TEXT[..8 * usize::from(wish)])
    } else {
        kvp.delete(key)
    };
    let is_ready = matches!(kvp.state(), LinkState::Ready(_));
    match result {
        Ok(()) => assert!(is_ready && !key.is_empty() && key.len() < KEY_FIELD / 2),
        Err(ChangeRefused::NotReady) => assert!(!is_ready),
        Err(ChangeRefused::Key) => assert!(key.is_empty() || key.len() >= KEY_FIELD / 2),
        Err(ChangeRefused::Value) => assert!(8 * usize::from(wish) >= VALUE_FIELD / 2),
        Err(ChangeRefused::Outstanding) => assert!(is_ready),
    }
}

/// Texts are no longer than their fields, and a round has an end.
fn event(event: &Event) {
    match event {
        Event::Kvp(KvpEvent::Pair { key, value }) => {
            assert!(key.chars().count() <= KEY_FIELD / 2);
            if let Value::Text(text) = value {
                assert!(text.chars().count() <= VALUE_FIELD / 2);
            }
        }
        Event::Kvp(KvpEvent::Round { pairs, .. }) => assert!(*pairs <= MAX_PAIRS),
        _ => {}
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    play(data, Kvp::default, linux(&[v(4, 0)]), &KIND);
});
