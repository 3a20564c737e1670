//! What the targets of the integration services share: a guest that answers as Linux does, or damages its answers, or
//! sends what it likes, whenever it likes.
//!
//! Input: how the caller behaves (a byte), then actions of a byte and what it needs, see [`Play::act`].

#[path = "../../../root/vmbus/tests/counting/mod.rs"]
mod counting;
#[allow(dead_code, reason = "the tests of the crate look at more of it")]
#[path = "../../../root/utilities/src/tests/guest.rs"]
mod guest;
#[path = "input.rs"]
mod input;

use utilities::{
    Clocks, Counters, DeadReason, Event, LinkState, MAX_EVENTS, MAX_MEMORY, Packet, SECOND,
    Service, Time,
};

use counting::Held;
use guest::Linux;
pub use guest::v;
use input::Input;

/// More than an input that is worth it has.
const MOST_ACTIONS: usize = 2000;
/// Later than any VM lives.
const LAST: Time = 1 << 60;
/// Packets that are remembered, to be answered late or twice.
const REMEMBERED: usize = 4;
/// Events that one call makes at most.
const EVENTS_OF_A_CALL: usize = 3;

/// What a target says of its service.
pub struct Kind<S> {
    pub state: fn(&S) -> LinkState,
    pub counters: fn(&S) -> Counters,
    /// Bytes of the longest packet that Linux takes.
    pub longest: usize,
    /// Something that the manager wants.
    pub wish: fn(&mut S, u8, Time),
    /// What else has to hold after each action.
    pub check: fn(&S, Time),
    /// What has to hold of an event.
    pub event: fn(&Event),
}

struct Play<'k, S> {
    service: S,
    kind: &'k Kind<S>,
    guest: Linux,
    held: Held,
    now: Time,
    /// By how much the host's wall clock was set.
    set: u64,
    /// The caller takes all events after each call, as it is asked to.
    drains: bool,
    packets: Vec<Packet>,
    /// Transaction of the packet whose answer is waited for.
    outstanding: Option<u64>,
    /// The next packet is the first one since the channel was opened.
    is_new: bool,
    /// Why the service has died, until it has said so.
    died: Option<DeadReason>,
}

/// Does what the input says to a service.
pub fn play<S: Service>(data: &[u8], make: impl FnOnce() -> S, guest: Linux, kind: &Kind<S>) {
    let mut input = Input::new(data);
    let mut held = Held::default();
    let mut play = Play {
        service: held.by(make),
        kind,
        guest,
        held,
        now: 0,
        set: 0,
        drains: input.u8() & 1 == 0,
        packets: Vec::new(),
        outstanding: None,
        is_new: false,
        died: None,
    };
    for _ in 0..MOST_ACTIONS {
        if input.is_over() {
            return;
        }
        play.act(&mut input);
    }
}

/// Linux with these message versions, newest first, and a daemon that tells a few pairs.
pub fn linux(versions: &[utilities::Version]) -> Linux {
    let mut guest = Linux::new(versions);
    guest.daemon = Some(vec![("OSName".into(), "Debian".into()); 3]);
    guest
}

impl<S: Service> Play<'_, S> {
    fn act(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.u8() % 11 {
            0 => {
                self.held.by(|| self.service.opened(now));
                (self.outstanding, self.is_new) = (None, true);
            }
            1 => {
                self.held.by(|| self.service.closed(now));
                self.outstanding = None;
                assert_eq!(self.state(), LinkState::Closed);
            }
            2 => self.now = (now + time(input)).min(LAST),
            3 => self.now = now.saturating_sub(time(input)),
            4 => self.take(),
            5 => {
                let which = input.u8();
                self.answer(which, |_| ());
            }
            6 => {
                let which = input.u8();
                self.answer(which, |answer| damage(answer, input));
            }
            7 => {
                let back = u64::from(input.u8());
                let last = self.packets.last().map_or(0, |packet| packet.transaction);
                let len = usize::from(input.u8());
                let payload = input.bytes(len);
                self.receive(payload, last.saturating_sub(back));
            }
            8 => {
                let (wish, kind) = (input.u8(), self.kind);
                self.held.by(|| (kind.wish)(&mut self.service, wish, now));
            }
            9 => self.drain(MAX_EVENTS),
            // Up to three years, and back.
            _ => self.set = u64::from(input.u32()) << 18,
        }
        self.tick();
        self.check();
    }

    fn state(&self) -> LinkState {
        (self.kind.state)(&self.service)
    }

    fn counters(&self) -> Counters {
        (self.kind.counters)(&self.service)
    }

    fn is_silent(&self) -> bool {
        matches!(self.state(), LinkState::Closed | LinkState::Dead(_))
    }

    fn take(&mut self) {
        let len = self.service.packet_len();
        let (now, set) = (self.now, self.set);
        let mut clocks = || Clocks {
            wall: 134_000_000_000_000_000 + now + set,
            reference: now,
        };
        let packet = self.held.by(|| self.service.take_packet(now, &mut clocks));
        assert_eq!(packet.as_ref().map(|packet| packet.payload.len()), len);
        let Some(packet) = packet else { return };
        // It is the caller's now.
        self.held.now -= packet.payload.capacity().cast_signed();
        assert!(packet.payload.len() <= self.kind.longest);
        assert_eq!(self.service.packet_len(), None, "one packet at a time");
        let last = self.packets.last().map_or(0, |last| last.transaction);
        assert!(last < packet.transaction);
        assert_eq!(message_type(&packet) == 0, self.is_new, "versions first");
        self.is_new = false;
        self.outstanding = Some(packet.transaction);
        if self.packets.len() == REMEMBERED {
            self.packets.remove(0);
        }
        self.packets.push(packet);
    }

    /// The answer to one of the last packets, the newest with 0, after a change.
    fn answer(&mut self, which: u8, change: impl FnOnce(&mut Vec<u8>)) {
        let which = usize::from(which) % REMEMBERED;
        let Some(packet) = self.packets.iter().rev().nth(which).cloned() else {
            return;
        };
        // A damaged choice of versions is the host's truth all the same.
        self.guest.agreed = v(
            guest::u16_at(&packet.payload, 14),
            guest::u16_at(&packet.payload, 16),
        );
        if let Some(mut answer) = self.guest.answer(&packet) {
            change(&mut answer);
            self.receive(&answer, packet.transaction);
        }
    }

    /// Each packet is a stray, an answer, or a reason to die.
    fn receive(&mut self, payload: &[u8], transaction: u64) {
        let (state, before, silent) = (self.state(), self.counters(), self.is_silent());
        let now = self.now;
        let result = self
            .held
            .by(|| self.service.received(payload, transaction, now));
        let (strays, answered) = (
            self.counters().strays - before.strays,
            self.counters().answered - before.answered,
        );
        if self.outstanding != Some(transaction) || silent {
            assert_eq!((result, strays, answered), (Ok(()), 1, 0));
            assert_eq!(self.state(), state);
            return;
        }
        self.outstanding = None;
        match result {
            Ok(()) => {
                assert_eq!((strays, answered), (0, 1));
                assert!(matches!(self.state(), LinkState::Ready(_)));
            }
            Err(reason) => {
                assert_eq!(self.state(), LinkState::Dead(reason));
                self.died = Some(reason);
            }
        }
    }

    fn tick(&mut self) {
        let (now, before) = (self.now, self.counters().unanswered);
        self.held.by(|| self.service.tick(now));
        if self.counters().unanswered != before {
            assert!(self.outstanding.take().is_some());
        }
        let next = self.service.next_deadline();
        assert!(next.is_none_or(|next| next > now), "{next:?} at {now}");
        if self.is_silent() {
            assert_eq!((next, self.service.packet_len()), (None, None));
        }
        if self.drains {
            self.drain(2 * EVENTS_OF_A_CALL);
            assert_eq!(self.died, None, "it has not said why it died");
            assert_eq!(self.counters().events_dropped, 0);
        }
    }

    fn drain(&mut self, most: usize) {
        let mut count = 0;
        loop {
            let event = self.held.by(|| self.service.take_event());
            let Some(event) = event else { break };
            (self.kind.event)(&event);
            if let Event::Dead(reason) = event {
                self.died.take_if(|died| *died == reason);
            }
            self.held.by(|| drop(event));
            count += 1;
        }
        assert!(count <= most, "{count} events");
    }

    fn check(&mut self) {
        let counters = self.counters();
        assert!(counters.answered + counters.unanswered <= counters.sent);
        let most = self.held.most.unsigned_abs();
        assert!(most <= MAX_MEMORY, "{most} bytes");
        if !self.is_silent() {
            (self.kind.check)(&self.service, self.now);
        }
    }
}

/// From nothing to years.
fn time(input: &mut Input<'_>) -> Time {
    let (mantissa, exponent) = (Time::from(input.u8()), input.u8());
    match exponent {
        // Seconds, in which everything here is counted.
        0 => mantissa * SECOND,
        _ => mantissa << (exponent % 50),
    }
}

/// Changes bytes of an answer, and its length.
fn damage(answer: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..input.u8() % 16 {
        let (at, value) = (usize::from(input.u16()), input.u8());
        let at = at % answer.len();
        answer[at] = value;
    }
    let len = usize::from(input.u16());
    if len != 0 {
        answer.resize(len % 20_000, 0x55);
    }
}

fn message_type(packet: &Packet) -> usize {
    guest::u16_at(&packet.payload, 12).into()
}
