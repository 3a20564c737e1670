//! The device of the field's Hyper-V guest tests: QEMU calls it `hyperv-testdev`. A VM has it only if its definition asks.
//!
//! It is a port of 32 bits that takes a control word: SINT in bits 7:0, VP index in 15:8, what to do in 23:16, connection id
//! in 31:24. A guest makes with it
//!
//! * *SINT routes*: a SINT of a VP that it can raise from then on;
//! * *message connections*: what is posted to one of that id comes back as a message at a SINT of a VP;
//! * *event connections*: an event signalled there sets the flag whose number is the id, at a SINT of a VP.
//!
//! Messages and events have connection ids of their own. What QEMU's device stops the machine for (a VP or a SINT that there is
//! not, an id in use, a route that nobody made) is left out here, like words without a meaning; the first of a run is told.

use alloc::collections::{BTreeMap, BTreeSet};

use tlfs::{HV_SYNIC_SINT_COUNT, HvConnectionId};

/// The port; it is four bytes wide, and other widths do not reach it.
pub const PORT: u16 = 0x3000;

/// What a control word wants.
mod control {
    pub const ROUTE_CREATE: u8 = 1;
    pub const ROUTE_DESTROY: u8 = 2;
    pub const ROUTE_RAISE: u8 = 3;
    pub const MESSAGE_CREATE: u8 = 4;
    pub const MESSAGE_DESTROY: u8 = 5;
    pub const EVENT_CREATE: u8 = 6;
    pub const EVENT_DESTROY: u8 = 7;
}

/// A SINT of a VP. Both exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SintTarget {
    /// VP index.
    pub vp: u32,
    /// SINT, below 16.
    pub sint: u8,
}

/// The device. Its memory is bounded by the width of what a guest can name: at most 256 connections of each kind, and 16
/// routes for each VP.
#[derive(Clone, Debug, Default)]
pub struct TestDevice {
    vp_count: u32,
    routes: BTreeSet<SintTarget>,
    raised: BTreeSet<SintTarget>,
    messages: BTreeMap<u8, SintTarget>,
    events: BTreeMap<u8, SintTarget>,
    ignored: Ignored,
}

/// The first word that was ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ignored {
    #[default]
    None,
    Word(u32),
    /// Nothing more is told in this run: a guest can go on for ever.
    Told,
}

impl TestDevice {
    /// For a VM with so many VPs.
    pub fn new(vp_count: u32) -> Self {
        Self {
            vp_count,
            ..Self::default()
        }
    }

    /// Takes a control word.
    pub fn control(&mut self, word: u32) {
        if self.carry_out(word).is_none() && self.ignored == Ignored::None {
            self.ignored = Ignored::Word(word);
        }
    }

    /// `None`: the word has no meaning.
    fn carry_out(&mut self, word: u32) -> Option<()> {
        let [sint, vp, what, id] = word.to_le_bytes();
        let target = SintTarget {
            vp: vp.into(),
            sint,
        };
        let exists = target.vp < self.vp_count && usize::from(sint) < HV_SYNIC_SINT_COUNT;
        let existing = exists.then_some(target);
        match what {
            control::ROUTE_CREATE => {
                self.routes.insert(existing?);
            }
            control::ROUTE_DESTROY => {
                self.routes.take(&target)?;
                self.raised.remove(&target);
            }
            control::ROUTE_RAISE => {
                self.raised.insert(*self.routes.get(&target)?);
            }
            control::MESSAGE_CREATE => connect(&mut self.messages, id, existing?)?,
            control::MESSAGE_DESTROY => {
                self.messages.remove(&id)?;
            }
            control::EVENT_CREATE => connect(&mut self.events, id, existing?)?,
            control::EVENT_DESTROY => {
                self.events.remove(&id)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The next SINT to raise. A SINT that was raised twice meanwhile is raised once.
    pub fn take_raised(&mut self) -> Option<SintTarget> {
        self.raised.pop_first()
    }

    /// Where messages to a connection go, if it is one of the device's.
    pub fn message_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.messages.get(&u8::try_from(to.0).ok()?).copied()
    }

    /// Where events of a connection go, if it is one of the device's.
    pub fn event_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.events.get(&u8::try_from(to.0).ok()?).copied()
    }

    /// The first control word without a meaning, once.
    pub fn take_ignored(&mut self) -> Option<u32> {
        let Ignored::Word(word) = self.ignored else {
            return None;
        };
        self.ignored = Ignored::Told;
        Some(word)
    }
}

fn connect(all: &mut BTreeMap<u8, SintTarget>, id: u8, to: SintTarget) -> Option<()> {
    if all.contains_key(&id) {
        return None;
    }
    all.insert(id, to);
    Some(())
}

#[cfg(test)]
mod tests;
