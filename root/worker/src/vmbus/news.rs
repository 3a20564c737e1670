//! What the event list is told of the services.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use utilities::heartbeat::HeartbeatState;
use utilities::kvp::{KvpEvent, MAX_PAIRS, RoundEnd, Value};
use utilities::shutdown::{ShutdownEvent, ShutdownKind};
use utilities::{Event, SECOND, Service, Status};

use super::guest::GuestView;
use crate::system::System;

/// Lines in a row. A guest's start has about twenty.
const BURST: u32 = 40;
/// Of what else is worth a line even then, so many in a row.
const RARE_BURST: u32 = 10;
/// After this a line more is allowed.
const REFILL: u64 = 5 * SECOND;
/// Characters of a key or a value that are shown: together they fit a line.
const SHOWN: usize = 80;

/// Tells the event list, but no more than it is worth: the list has room for a few hundred lines of everybody, and the guest
/// can make each of these happen as often as it likes.
pub struct News {
    lines: Budget,
    rare: Budget,
    left_out: u64,
    pairs: BTreeMap<String, String>,
    round: RoundEnd,
}

/// How many lines are allowed.
struct Budget {
    most: u32,
    left: u32,
    refilled: u64,
}

impl Budget {
    const fn new(most: u32) -> Self {
        Self {
            most,
            left: most,
            refilled: 0,
        }
    }

    /// Whether a line is allowed now; it counts then.
    fn take(&mut self, now: u64) -> bool {
        let more = now.saturating_sub(self.refilled) / REFILL;
        if more > 0 {
            self.refilled = now;
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(self.most);
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

impl Default for News {
    fn default() -> Self {
        Self {
            lines: Budget::new(BURST),
            rare: Budget::new(RARE_BURST),
            left_out: 0,
            pairs: BTreeMap::new(),
            round: RoundEnd::Complete,
        }
    }
}

impl News {
    /// Tells what a service has to say.
    pub fn drain<S: System>(
        &mut self,
        system: &mut S,
        service: &mut dyn Service,
        guest: &mut GuestView,
        now: u64,
    ) {
        let name = service.id().name;
        while let Some(event) = service.take_event() {
            guest.note(&event);
            if let Some(text) = self.text(event) {
                self.say(system, &format!("{name}: {text}"), now);
            }
        }
    }

    /// Tells something that the guest has caused.
    pub fn say<S: System>(&mut self, system: &mut S, text: &str, now: u64) {
        if !self.lines.take(now) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        if self.left_out > 0 {
            let lines = core::mem::take(&mut self.left_out);
            self.say_always(system, &format!("{lines} lines about VMBus are left out"));
        }
        self.say_always(system, text);
    }

    /// Tells something that is seldom, and worth a line however much else there is.
    pub fn say_rare<S: System>(&mut self, system: &mut S, text: &str, now: u64) {
        if self.rare.take(now) {
            self.say_always(system, text);
        } else {
            self.say(system, text, now);
        }
    }

    /// Tells something that somebody has asked for.
    pub fn say_always<S: System>(&mut self, system: &mut S, text: &str) {
        system.log(&printable(text, usize::MAX));
    }

    fn text(&mut self, event: Event) -> Option<String> {
        Some(match event {
            Event::Negotiated(versions) => format!("version {}", versions.message),
            Event::Dead(reason) => format!("given up: {reason}"),
            Event::Heartbeat(HeartbeatState::NoContact) => "no contact".into(),
            Event::Heartbeat(HeartbeatState::Ok) => "the guest is alive".into(),
            Event::Heartbeat(HeartbeatState::Lost { .. }) => "the guest does not answer".into(),
            Event::Shutdown(event) => shutdown(&event),
            Event::Kvp(event) => self.pair(event)?,
        })
    }

    /// Pairs come again every minute: only what is new is worth a line.
    fn pair(&mut self, event: KvpEvent) -> Option<String> {
        match event {
            KvpEvent::Pair { key, value } => {
                let key = printable(&key, SHOWN);
                let value = match value {
                    Value::Text(text) => printable(&text, SHOWN),
                    Value::Number(number) => format!("{number}"),
                    Value::Other(kind) => format!("of type {}", kind.0),
                };
                if self.pairs.get(&key) == Some(&value) {
                    return None;
                }
                // A guest that has other keys in every round would fill the memory.
                if self.pairs.len() >= MAX_PAIRS as usize && !self.pairs.contains_key(&key) {
                    self.pairs.clear();
                }
                let text = format!("{key} = {value}");
                self.pairs.insert(key, value);
                Some(text)
            }
            KvpEvent::Round { end, .. } => {
                let last = core::mem::replace(&mut self.round, end);
                (last != end).then(|| match end {
                    RoundEnd::Complete => "the guest tells its pairs".into(),
                    RoundEnd::TooMany => "the guest has too many pairs".into(),
                    RoundEnd::Failed(_) => "the guest tells no pairs".into(),
                    RoundEnd::Unanswered => "the guest does not answer".into(),
                })
            }
            KvpEvent::Changed { change, status } => Some(format!("{change:?}: {status:?}")),
        }
    }
}

fn shutdown(event: &ShutdownEvent) -> String {
    let what = |kind| match kind {
        ShutdownKind::PowerOff => "power off",
        ShutdownKind::Reboot => "reboot",
        ShutdownKind::Hibernate => "hibernate",
    };
    match event {
        ShutdownEvent::Answered {
            request,
            status: Status::OK,
        } => format!("the guest begins to {}", what(request.kind)),
        ShutdownEvent::Answered { request, status } => {
            format!("the guest does not {}: {status:?}", what(request.kind))
        }
        ShutdownEvent::NoAnswer(_) => "the guest has not answered the request yet".into(),
        ShutdownEvent::Abandoned(_) => "the guest has gone without an answer".into(),
    }
}

/// A text of the guest for a line: without what a terminal would act on, and not longer than `most` characters.
fn printable(text: &str, most: usize) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(most)
        .collect()
}
