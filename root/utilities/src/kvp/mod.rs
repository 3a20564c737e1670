//! Key/value pairs: what the guest's daemon says about its system, and what the host leaves there for it (sheet
//! 10.6).
//!
//! After negotiation, and a minute after the end of each round, the pool *auto* is enumerated from index 0 until the
//! guest has no more. Linux' daemon has ten pairs there, in the order of [`keys`]; each one becomes an event. A round
//! that fails (no daemon: the kernel answers with an error after up to 30 s) or is not answered is begun again a
//! minute later, so a guest that never answers costs one packet in two minutes, and those stop when its ring is full.
//!
//! Keys and values are the guest's text, without any character having been taken out but zeros: whoever shows them
//! has to.

mod wire;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use crate::frame::{HEADER_LEN, MAX_PAYLOAD, MessageType, Status, Version};
use crate::integration::{Integration, Protocol, Sink, Spec};
use crate::service::{Clocks, DeadReason, Event, ServiceId, guid};
use crate::{SECOND, Time};

pub use wire::{
    Delete, Enumerate, KEY_FIELD, KvpHeader, Operation, Pair, Pool, Set, VALUE_FIELD, ValueType,
};
use wire::{put_text, text, used};

/// From the end of one round to the begin of the next.
pub const ROUND_PERIOD: Time = 60 * SECOND;

/// After this long a request is given up. Linux' kernel waits 30 s for its daemon (`HV_UTIL_TIMEOUT`) and answers
/// then.
pub const PATIENCE: Time = 60 * SECOND;

/// Pairs of a round. Linux has 10 and Windows about 20; a guest that never says "no more" is stopped here.
pub const MAX_PAIRS: u32 = 64;

/// Keys of the pool *auto*, in Linux' order (Linux: `include/uapi/linux/hyperv.h`, `tools/hv/hv_kvp_daemon.c`).
pub mod keys {
    /// Fully qualified domain name.
    pub const DOMAIN_NAME: &str = "FullyQualifiedDomainName";
    /// Version of the integration services.
    pub const SERVICES_VERSION: &str = "IntegrationServicesVersion";
    /// IPv4 addresses, separated by semicolons.
    pub const IPV4: &str = "NetworkAddressIPv4";
    /// IPv6 addresses, separated by semicolons.
    pub const IPV6: &str = "NetworkAddressIPv6";
    /// Build of the operating system: Linux' release.
    pub const OS_BUILD: &str = "OSBuildNumber";
    /// Name of the operating system.
    pub const OS_NAME: &str = "OSName";
    /// First number of its version.
    pub const OS_MAJOR: &str = "OSMajorVersion";
    /// Second number of its version.
    pub const OS_MINOR: &str = "OSMinorVersion";
    /// Its version.
    pub const OS_VERSION: &str = "OSVersion";
    /// Architecture of the processor.
    pub const ARCHITECTURE: &str = "ProcessorArchitecture";

    /// All of them, by Linux' index.
    pub const ALL: &[&str] = &[
        DOMAIN_NAME,
        SERVICES_VERSION,
        IPV4,
        IPV6,
        OS_BUILD,
        OS_NAME,
        OS_MAJOR,
        OS_MINOR,
        OS_VERSION,
        ARCHITECTURE,
    ];
}

static SPEC: Spec = Spec {
    id: ServiceId {
        name: "kvp",
        interface: guid(
            0xa9a0_f4e7,
            0x5a45,
            0x4d96,
            [0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6],
        ),
        instance: Some(guid(
            0x242f_f919,
            0x07db,
            0x4180,
            [0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c, 0x8c, 0x55],
        )),
    },
    message_type: MessageType::KVP,
    // Linux has one layout for all three.
    versions: &[Version::new(1, 0), Version::new(3, 0), Version::new(4, 0)],
    patience: Some(PATIENCE),
};

const _: () = assert!(HEADER_LEN + size_of::<Enumerate>() <= MAX_PAYLOAD);

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text of at most 1024 characters.
    Text(String),
    /// A number.
    Number(u64),
    /// Something of a type that is not known here.
    Other(ValueType),
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundEnd {
    /// With the last pair.
    Complete,
    /// The guest has more than [`MAX_PAIRS`].
    TooMany,
    /// The guest answered with this status.
    Failed(Status),
    /// The guest did not answer.
    Unanswered,
}

/// What the host may change in the pool *external*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was set.
    Set,
    /// A key was deleted.
    Delete,
}

/// What there is to say about key/value pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvpEvent {
    /// A pair of the pool *auto*. It replaces what the key had.
    Pair {
        /// The key, at most 256 characters; Linux' are in [`keys`].
        key: String,
        /// Its value.
        value: Value,
    },
    /// A round has ended.
    Round {
        /// Pairs that came.
        pairs: u32,
        /// How it ended.
        end: RoundEnd,
    },
    /// A change of the pool *external* has ended.
    Changed {
        /// What it was.
        change: Change,
        /// The guest's answer: a key that was not there to delete is [`Status::NO_MORE_ITEMS`]. `None` if there was
        /// no answer.
        status: Option<Status>,
    },
}

/// Why a change was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The guest has not opened the channel, no version is agreed on yet, or the service is dead.
    #[error("the guest's key/value service is not there")]
    NotReady,
    /// The last change has no answer yet.
    #[error("the guest has not answered the last change")]
    Outstanding,
    /// The key is empty, longer than 255 UTF-16 units, or has a zero in it.
    #[error("not a key: 1 to 255 UTF-16 units without a zero")]
    Key,
    /// The value is longer than 1023 UTF-16 units, or has a zero in it.
    #[error("not a value: up to 1023 UTF-16 units without a zero")]
    Value,
}

/// The key/value service.
pub type Kvp = Integration<Pairs>;

impl Kvp {
    /// Sets a key of the pool *external*, which the guest's programs can read. One change at a time; it goes before
    /// the rest of a round.
    ///
    /// # Errors
    ///
    /// See [`ChangeRefused`]; nothing has changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ChangeRefused> {
        let mut set = Box::new(Set {
            header: header(Operation::SET, Pool::EXTERNAL),
            ..Set::default()
        });
        set.pair.value_type = ValueType::TEXT.0.into();
        set.pair.key_size = put_key(&mut set.pair.key, key)?;
        set.pair.value_size = put_text(&mut set.pair.value, value).ok_or(ChangeRefused::Value)?;
        self.change(Change::Set, set.as_bytes().to_vec())
    }

    /// Deletes a key of the pool *external*.
    ///
    /// # Errors
    ///
    /// See [`ChangeRefused`]; nothing has changed then.
    pub fn delete(&mut self, key: &str) -> Result<(), ChangeRefused> {
        let mut delete = Box::new(Delete {
            header: header(Operation::DELETE, Pool::EXTERNAL),
            ..Delete::default()
        });
        delete.key_size = put_key(&mut delete.key, key)?;
        self.change(Change::Delete, delete.as_bytes().to_vec())
    }

    fn change(&mut self, change: Change, body: Vec<u8>) -> Result<(), ChangeRefused> {
        self.versions().ok_or(ChangeRefused::NotReady)?;
        let changing = matches!(self.protocol.asked, Some(Asked::Change(_)));
        if changing || self.protocol.waiting.is_some() {
            return Err(ChangeRefused::Outstanding);
        }
        self.protocol.waiting = Some((change, body));
        Ok(())
    }
}

fn header(operation: Operation, pool: Pool) -> KvpHeader {
    KvpHeader {
        operation: operation.0,
        pool: pool.0,
        reserved: [0; 2],
    }
}

fn put_key(field: &mut [u8], key: &str) -> Result<zerocopy::little_endian::U32, ChangeRefused> {
    Some(key)
        .filter(|key| !key.is_empty())
        .and_then(|key| put_text(field, key))
        .ok_or(ChangeRefused::Key)
}

/// What the outstanding request is.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Pair,
    Change(Change),
}

/// Key/value pairs' side of [`Integration`].
#[derive(Debug, Default)]
pub struct Pairs {
    /// The index that the round has come to, `None` between rounds.
    round: Option<u32>,
    /// When the next round begins.
    next_round: Option<Time>,
    /// A change that has not been sent.
    waiting: Option<(Change, Vec<u8>)>,
    /// The request outstanding.
    asked: Option<Asked>,
}

impl Pairs {
    fn end_round(&mut self, end: RoundEnd, now: Time, events: &mut Sink<'_>) {
        let pairs = self.round.take().unwrap_or(0);
        self.next_round = now.checked_add(ROUND_PERIOD);
        events.push(Event::Kvp(KvpEvent::Round { pairs, end }));
    }

    fn next_pair(
        &mut self,
        status: Status,
        body: &[u8],
        now: Time,
        events: &mut Sink<'_>,
    ) -> Result<(), DeadReason> {
        match status {
            Status::OK => {}
            Status::NO_MORE_ITEMS => {
                self.end_round(RoundEnd::Complete, now, events);
                return Ok(());
            }
            other => {
                self.end_round(RoundEnd::Failed(other), now, events);
                return Ok(());
            }
        }
        let short = DeadReason::ShortBody {
            expected: size_of::<Enumerate>(),
            got: body.len(),
        };
        let (answer, _) = Enumerate::ref_from_prefix(body).map_err(|_| short)?;
        let (key, value) = decode(&answer.pair)?;
        events.push(Event::Kvp(KvpEvent::Pair { key, value }));
        let next = self.round.unwrap_or(0).saturating_add(1);
        self.round = Some(next);
        if next >= MAX_PAIRS {
            self.end_round(RoundEnd::TooMany, now, events);
        }
        Ok(())
    }
}

/// The key and value of a pair.
fn decode(pair: &Pair) -> Result<(String, Value), DeadReason> {
    let key = text(used(&pair.key, pair.key_size.get())?);
    let bytes = used(&pair.value, pair.value_size.get())?;
    let short = |expected| DeadReason::ShortBody {
        expected,
        got: bytes.len(),
    };
    let value = match ValueType(pair.value_type.get()) {
        ValueType::TEXT | ValueType::EXPAND_TEXT => Value::Text(text(bytes)),
        ValueType::U32 => Value::Number(
            bytes
                .first_chunk()
                .map(|&b| u32::from_le_bytes(b))
                .ok_or(short(4))?
                .into(),
        ),
        ValueType::U64 | ValueType::U64_LINUX => Value::Number(
            bytes
                .first_chunk()
                .map(|&b| u64::from_le_bytes(b))
                .ok_or(short(8))?,
        ),
        other => Value::Other(other),
    };
    Ok((key, value))
}

impl Protocol for Pairs {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn negotiated(&mut self, _message: Version, _now: Time) {
        *self = Self {
            round: Some(0),
            ..Self::default()
        };
    }

    fn ended(&mut self, events: &mut Sink<'_>) {
        let waiting = self.waiting.take().map(|(change, _)| change);
        let asked = match self.asked.take() {
            Some(Asked::Change(change)) => Some(change),
            _ => None,
        };
        if let Some(change) = waiting.or(asked) {
            events.push(Event::Kvp(KvpEvent::Changed {
                change,
                status: None,
            }));
        }
    }

    fn tick(&mut self, now: Time, _events: &mut Sink<'_>) {
        if self.next_round.is_some_and(|next| next <= now) {
            self.next_round = None;
            self.round = Some(0);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next_round
    }

    fn request_len(&self) -> Option<usize> {
        if let Some((_, body)) = &self.waiting {
            return Some(body.len());
        }
        self.round.map(|_| size_of::<Enumerate>())
    }

    fn request(&mut self, _now: Time, _clocks: &mut dyn FnMut() -> Clocks) -> Vec<u8> {
        if let Some((change, body)) = self.waiting.take() {
            self.asked = Some(Asked::Change(change));
            return body;
        }
        self.asked = Some(Asked::Pair);
        let index = self.round.unwrap_or(0).into();
        let header = header(Operation::ENUMERATE, Pool::AUTO);
        Enumerate {
            header,
            index,
            ..Enumerate::default()
        }
        .as_bytes()
        .to_vec()
    }

    fn answered(
        &mut self,
        status: Status,
        body: &[u8],
        now: Time,
        events: &mut Sink<'_>,
    ) -> Result<(), DeadReason> {
        match self.asked.take() {
            Some(Asked::Change(change)) => {
                events.push(Event::Kvp(KvpEvent::Changed {
                    change,
                    status: Some(status),
                }));
                Ok(())
            }
            Some(Asked::Pair) => self.next_pair(status, body, now, events),
            None => Ok(()),
        }
    }

    fn unanswered(&mut self, now: Time, events: &mut Sink<'_>) {
        match self.asked.take() {
            Some(Asked::Change(change)) => {
                events.push(Event::Kvp(KvpEvent::Changed {
                    change,
                    status: None,
                }));
            }
            Some(Asked::Pair) => self.end_round(RoundEnd::Unanswered, now, events),
            None => {}
        }
    }
}
