//! Any messages in any order, with a host that takes its time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;
use tlfs::{HvConnectionId, HvVpIndex};
use zerocopy::IntoBytes;

use super::guest::{VPS, memory, offer};
use crate::gpadl::{MAX_GPADLS, MAX_UNITS};
use crate::protocol::*;
use crate::server::*;

/// Something that the guest or the host does. Numbers are small, so that they meet.
#[derive(Clone, Debug)]
enum Action {
    Contact {
        version: u8,
        vp: u32,
    },
    RequestOffers,
    Header {
        relid: u32,
        handle: u32,
        pages: u32,
        stated: u32,
        first: u64,
    },
    Body {
        handle: u32,
        pages: u32,
        first: u64,
    },
    Teardown {
        relid: u32,
        handle: u32,
    },
    Open {
        relid: u32,
        handle: u32,
        downstream: u32,
        vp: u32,
    },
    /// A GPADL that is good for rings, and the channel is opened with it.
    OpenWell {
        relid: u32,
        handle: u32,
    },
    Close {
        relid: u32,
    },
    Released {
        relid: u32,
    },
    Modify {
        relid: u32,
        vp: u32,
    },
    Unload,
    Noise(Vec<u8>),
    Event(u32),
    /// The guest takes messages.
    Take(usize),
    /// The host looks at its effects.
    Look,
    /// The host does one of the things that it has to do.
    Do {
        which: usize,
        fails: bool,
    },
    Offer {
        number: u32,
        index: u16,
    },
    Rescind {
        relid: u32,
    },
    Fail {
        relid: u32,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let relid = || prop_oneof![9 => 1u32..6, 1 => 0u32..3000];
    let handle = || 0u32..8;
    let vp = || prop_oneof![4 => 0..VPS, 1 => Just(u32::MAX), 1 => Just(VPS)];
    prop_oneof![
        1 => (0u8..10, vp()).prop_map(|(version, vp)| Action::Contact { version, vp }),
        3 => Just(Action::RequestOffers),
        10 => (relid(), handle(), 0u32..12, 0u32..14, prop_oneof![4 => 0x100u64..0x300, 1 => 0x90u64..0x120])
            .prop_map(|(relid, handle, pages, stated, first)| Action::Header {
                relid, handle, pages, first,
                stated: if stated < 12 { pages } else { stated },
            }),
        4 => (handle(), 0u32..6, 0x200u64..0x300)
            .prop_map(|(handle, pages, first)| Action::Body { handle, pages, first }),
        6 => (relid(), handle()).prop_map(|(relid, handle)| Action::Teardown { relid, handle }),
        10 => (relid(), handle(), 0u32..6, vp()).prop_map(|(relid, handle, downstream, vp)| {
            Action::Open { relid, handle, downstream, vp }
        }),
        10 => (relid(), handle()).prop_map(|(relid, handle)| Action::OpenWell { relid, handle }),
        4 => relid().prop_map(|relid| Action::Close { relid }),
        4 => relid().prop_map(|relid| Action::Released { relid }),
        2 => (relid(), vp()).prop_map(|(relid, vp)| Action::Modify { relid, vp }),
        1 => Just(Action::Unload),
        1 => prop::collection::vec(0u8..25, 0..240).prop_map(Action::Noise),
        1 => (0x2000u32..0x2008).prop_map(Action::Event),
        8 => (0usize..40).prop_map(Action::Take),
        10 => Just(Action::Look),
        12 => (0usize..8, any::<bool>()).prop_map(|(which, fails)| Action::Do { which, fails }),
        3 => (0u32..6, 0u16..2).prop_map(|(number, index)| Action::Offer { number, index }),
        2 => relid().prop_map(|relid| Action::Rescind { relid }),
        1 => relid().prop_map(|relid| Action::Fail { relid }),
    ]
}

/// What has to hold, kept beside the server.
struct Model {
    server: Server,
    connection: HvConnectionId,
    todo: Vec<Effect>,
    /// Rings that a device uses.
    active: BTreeMap<Relid, GpadlHandle>,
    /// Relids that are not free, and the device.
    relids: BTreeMap<Relid, (u32, u16)>,
    /// Answers that the guest waits for: TORNDOWN, OPEN_RESULT.
    teardowns: BTreeMap<GpadlHandle, usize>,
    opens: usize,
    /// Contacts and unloads that wait.
    resets: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            server: Server::new(VPS),
            connection: MESSAGE_CONNECTION_5,
            todo: Vec::new(),
            active: BTreeMap::new(),
            relids: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            opens: 0,
            resets: 0,
        }
    }

    fn post(&mut self, bytes: &[u8]) -> bool {
        let received = self.server.receive(&memory, self.connection, bytes);
        received == Received::Taken
    }

    /// Contact and unload make earlier answers void.
    fn reset(&mut self) {
        self.teardowns.clear();
        self.opens = 0;
        self.resets = 1;
    }

    fn run(&mut self, action: Action) {
        match action {
            Action::Contact { version, vp } => self.contact(version, vp),
            Action::RequestOffers => {
                self.post(RequestOffers::empty().as_bytes());
            }
            Action::Header {
                relid,
                handle,
                pages,
                stated,
                first,
            } => {
                let header = GpadlHeader {
                    relid: Relid(relid),
                    handle: GpadlHandle(handle),
                    range_buflen: (8 + 8 * stated) as u16,
                    range_count: 1,
                    ..GpadlHeader::empty()
                };
                let range = PageRangeHeader {
                    byte_count: stated * 4096,
                    byte_offset: 0,
                };
                self.post(&[header.as_bytes(), range.as_bytes(), &pfns(first, pages)].concat());
            }
            Action::Body {
                handle,
                pages,
                first,
            } => {
                let body = GpadlBody {
                    handle: GpadlHandle(handle),
                    ..GpadlBody::empty()
                };
                self.post(&[body.as_bytes(), &pfns(first, pages)].concat());
            }
            Action::Teardown { relid, handle } => {
                let message = GpadlTeardown {
                    relid: Relid(relid),
                    handle: GpadlHandle(handle),
                    ..GpadlTeardown::empty()
                };
                if self.post(message.as_bytes()) {
                    *self.teardowns.entry(GpadlHandle(handle)).or_default() += 1;
                } else {
                    let is_connected = self.server.version().is_some();
                    let is_busy = self.server.outbox.places().0 + self.server.outbox.places().1
                        >= MAX_MESSAGES;
                    assert!(!is_connected || is_busy, "a teardown was not taken");
                }
            }
            Action::Open {
                relid,
                handle,
                downstream,
                vp,
            } => {
                let message = OpenChannel {
                    relid: Relid(relid),
                    ring_gpadl: GpadlHandle(handle),
                    target_vp: HvVpIndex(vp),
                    downstream_pages: downstream,
                    ..OpenChannel::empty()
                };
                self.opens += usize::from(self.post(message.as_bytes()));
            }
            Action::OpenWell { relid, handle } => {
                let first = 0x400 + 8 * u64::from(relid % 100);
                let (pages, stated, downstream, vp) = (8, 8, 4, 0);
                #[rustfmt::skip]
                self.run(Action::Header { relid, handle, pages, stated, first });
                #[rustfmt::skip]
                self.run(Action::Open { relid, handle, downstream, vp });
            }
            Action::Close { relid } => {
                let message = CloseChannel {
                    relid: Relid(relid),
                    ..CloseChannel::empty()
                };
                self.post(message.as_bytes());
            }
            Action::Released { relid } => {
                let message = RelidReleased {
                    relid: Relid(relid),
                    ..RelidReleased::empty()
                };
                self.post(message.as_bytes());
            }
            Action::Modify { relid, vp } => {
                let message = ModifyChannel {
                    relid: Relid(relid),
                    target_vp: HvVpIndex(vp),
                    ..ModifyChannel::empty()
                };
                self.post(message.as_bytes());
            }
            Action::Unload => {
                if self.post(Unload::empty().as_bytes()) {
                    self.reset();
                }
            }
            // Type 0: no message at all.
            Action::Noise(bytes) => {
                let bytes: Vec<u8> = [0; 8].into_iter().chain(bytes).take(240).collect();
                assert!(!self.post(&bytes));
            }
            Action::Event(connection) => {
                if let Ok(relid) = self.server.event(HvConnectionId(connection), 0) {
                    assert!(self.active.contains_key(&relid));
                }
            }
            Action::Take(count) => (0..count).for_each(|_| self.take()),
            Action::Look => self.look(),
            Action::Do { which, fails } => self.work(which, fails),
            Action::Offer { number, index } => {
                if let Ok(relid) = self.server.add_offer(offer(number).sub_channel(index)) {
                    // The effects say which relids are free.
                    self.look();
                    assert!(relid.is_valid());
                    assert_eq!(self.relids.insert(relid, (number, index)), None);
                }
            }
            Action::Rescind { relid } => {
                let _ = self.server.rescind(Relid(relid));
            }
            Action::Fail { relid } => {
                if self.server.fail(Relid(relid)).is_ok() {
                    self.active.remove(&Relid(relid));
                }
            }
        }
        self.check();
    }

    fn contact(&mut self, version: u8, vp: u32) {
        let versions = Version::SUPPORTED;
        let version = versions
            .get(usize::from(version))
            .copied()
            .unwrap_or(Version::new(6, 0));
        let message = InitiateContact {
            version,
            target_vp: HvVpIndex(vp),
            msg_sint: 2,
            ..InitiateContact::empty()
        };
        let before = self.connection;
        self.connection = if version.names_sint() {
            MESSAGE_CONNECTION_5
        } else {
            MESSAGE_CONNECTION
        };
        if self.post(message.as_bytes()) {
            self.reset();
        } else {
            self.connection = before;
        }
    }

    /// The guest takes a message.
    fn take(&mut self) {
        let Some(message) = self.server.message().cloned() else {
            return;
        };
        self.server.posted(message.sequence);
        assert!(message.payload.len() <= MAX_MESSAGE_SIZE);
        assert!(message.vp.0 < VPS && message.sint == 2);
        let message_type = u32::from(message.payload[0]);
        match ChannelMessageType(message_type) {
            ChannelMessageType::GPADL_TORNDOWN => {
                let handle = GpadlTorndown::parse(&message.payload).unwrap().0.handle;
                let waiting = self.teardowns.get_mut(&handle).expect("nobody waits");
                *waiting = waiting.checked_sub(1).expect("nobody waits");
            }
            ChannelMessageType::OPEN_CHANNEL_RESULT => {
                self.opens = self.opens.checked_sub(1).expect("nobody waits");
            }
            ChannelMessageType::VERSION_RESPONSE | ChannelMessageType::UNLOAD_RESPONSE => {
                self.resets = self.resets.checked_sub(1).expect("nobody waits");
            }
            _ => {}
        }
    }

    fn look(&mut self) {
        while let Some(effect) = self.server.take_effect() {
            match &effect {
                Effect::OpenChannel(open) => {
                    assert_eq!(self.active.insert(open.relid, open.ring_gpadl), None);
                    self.todo.push(effect);
                }
                Effect::CloseChannel { .. } | Effect::ReleaseGpadl { .. } => self.todo.push(effect),
                Effect::ChannelRemoved { relid } => {
                    assert!(!self.active.contains_key(relid));
                    assert!(self.relids.remove(relid).is_some());
                }
                _ => {}
            }
        }
    }

    fn work(&mut self, which: usize, fails: bool) {
        if self.todo.is_empty() {
            return;
        }
        match self.todo.swap_remove(which % self.todo.len()) {
            Effect::OpenChannel(open) => {
                let result = if fails {
                    Err(Status::UNSUCCESSFUL)
                } else {
                    Ok(())
                };
                self.server.open_result(open.relid, result).unwrap();
                if fails {
                    self.active.remove(&open.relid);
                }
            }
            Effect::CloseChannel { relid } => {
                self.server.closed(relid).unwrap();
                assert!(self.active.remove(&relid).is_some());
            }
            Effect::ReleaseGpadl { handle, .. } => {
                assert!(!self.active.values().any(|ring| *ring == handle), "in use");
                self.server.gpadl_released(handle).unwrap();
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let server = &self.server;
        let (messages, promised) = server.outbox.places();
        assert!(messages + promised <= MAX_MESSAGES);
        assert!(server.effects.len() <= MAX_EFFECTS);
        assert!(server.gpadls.units() <= MAX_UNITS && server.gpadls.count() <= MAX_GPADLS);
        if server.version().is_none() && server.effects.is_empty() && self.todo.is_empty() {
            assert_eq!(server.gpadls.count(), 0);
            assert!(self.active.is_empty());
        }
    }

    /// The host does everything, and the guest takes everything.
    fn settle(&mut self) {
        loop {
            self.look();
            self.work(0, false);
            self.take();
            self.check();
            if self.todo.is_empty() && self.server.message().is_none() {
                self.look();
                if self.todo.is_empty() {
                    break;
                }
            }
        }
    }
}

fn pfns(first: u64, pages: u32) -> Vec<u8> {
    (first..first + u64::from(pages))
        .flat_map(u64::to_le_bytes)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_sent_every_request_is_answered_and_nothing_grows(
        actions in prop::collection::vec(action(), 1..250),
    ) {
        let mut model = Model::new();
        for number in 0..4 {
            let relid = model.server.add_offer(offer(number)).unwrap();
            model.relids.insert(relid, (number, 0));
        }
        model.run(Action::Contact { version: 6, vp: 1 });
        model.run(Action::RequestOffers);
        model.run(Action::Take(20));
        for action in actions {
            model.run(action);
        }
        model.settle();
        prop_assert_eq!(model.opens, 0);
        prop_assert_eq!(model.resets, 0);
        prop_assert!(model.teardowns.values().all(|waiting| *waiting == 0));
        prop_assert_eq!(model.server.outbox.places(), (0, 0));
        // And the end: everything is given back.
        model.run(Action::Contact { version: 6, vp: 0 });
        model.settle();
        prop_assert!(model.server.version().is_some());
        prop_assert!(model.active.is_empty());
        prop_assert_eq!(model.server.gpadls.count(), 0);
        prop_assert_eq!(model.server.outbox.places(), (0, 0));
    }
}
