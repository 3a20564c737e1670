//! The server of VMBus: a guest that posts any messages in any order, and a host that takes its time.
//!
//! Input: actions of a byte and what it needs, see [`Model::act`]. Messages are as they lie on the wire.
#![no_main]

#[path = "../../../root/vmbus/tests/counting/mod.rs"]
mod counting;
mod input;

use std::collections::{BTreeMap, BTreeSet};

use counting::Held;
use input::Input;
use tlfs::HvConnectionId;
use vmbus::bulk::{GuestBuffer, Piece};
use vmbus::gpadl::MAX_GPADL_MEMORY;
use vmbus::protocol::*;
use vmbus::server::*;
use zerocopy::FromBytes;

/// VPs of the guest.
const VPS: u32 = 4;
/// Channels that exist at once: enough for everything that depends on their number.
const MOST_CHANNELS: usize = 64;
/// More than an input that is worth it has.
const MOST_ACTIONS: usize = 4000;

/// RAM of the guest: 256 MiB, with a hole at 640 KiB.
fn is_ram(pfn: u64) -> bool {
    pfn < 0x1_0000 && !(0xA0..0x100).contains(&pfn)
}

/// What has to hold, kept beside the server.
struct Model {
    server: Server,
    held: Held,
    most_channels: usize,
    /// Effects that the host has seen and not carried out.
    todo: Vec<Effect>,
    /// Nothing has happened since the host has taken all effects.
    has_looked: bool,
    /// Rings that a device uses.
    active: BTreeMap<Relid, GpadlHandle>,
    /// Relids that are not free.
    relids: BTreeSet<Relid>,
    /// Relids that this connection was told of, ended or not: what waits to be posted may name an ended one.
    told: BTreeSet<Relid>,
    waiting: Waiting,
}

/// Answers that the guest waits for.
#[derive(Default)]
struct Waiting {
    creations: BTreeMap<GpadlHandle, usize>,
    teardowns: BTreeMap<GpadlHandle, usize>,
    opens: usize,
    modifications: usize,
    sockets: usize,
    /// Contacts and unloads.
    resets: usize,
}

impl Model {
    fn new() -> Self {
        let mut held = Held::default();
        let server = held.by(|| Server::new(VPS));
        Self {
            server,
            held,
            most_channels: 0,
            todo: Vec::new(),
            has_looked: true,
            active: BTreeMap::new(),
            relids: BTreeSet::new(),
            told: BTreeSet::new(),
            waiting: Waiting::default(),
        }
    }

    /// A call of the server, in which nothing else allocates.
    fn call<T>(&mut self, call: impl FnOnce(&mut Server) -> T) -> T {
        let server = &mut self.server;
        self.has_looked = false;
        self.held.by(|| call(server))
    }

    /// One action of either side.
    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 10 {
            0 => {
                let connection = HvConnectionId(input.u8().into());
                let len = usize::from(input.u8()).min(MAX_MESSAGE_SIZE);
                self.post(connection, input.bytes(len));
            }
            1 => {
                let (connection, flag) = (HvConnectionId(input.u32()), input.u16());
                if let Ok(relid) = self.call(|server| server.event(connection, flag)) {
                    assert!(self.active.contains_key(&relid) && flag == 0);
                }
            }
            2 => (0..input.u8()).for_each(|_| self.take()),
            3 => self.look(),
            4 => {
                let (which, fails) = (input.u8(), input.u8());
                self.work(which.into(), fails != 0);
            }
            5 => self.offer(input.u16(), input.u8()),
            6 => {
                let relid = Relid(input.u16().into());
                let known = self.call(|server| server.rescind(relid)).is_ok();
                assert!(!known || self.relids.contains(&relid));
            }
            7 => {
                let relid = Relid(input.u16().into());
                if self.call(|server| server.fail(relid)).is_ok() {
                    assert!(self.active.remove(&relid).is_some());
                }
            }
            8 => self.settle(),
            _ => {
                // A message that is not the next one cannot have been posted.
                let sequence = u64::from(input.u8());
                let next = self.call(|server| server.message().map(|message| message.sequence));
                if next != Some(sequence) {
                    self.call(|server| server.posted(sequence));
                    let same = self.call(|server| server.message().map(|message| message.sequence));
                    assert_eq!(same, next);
                }
            }
        }
        self.check();
    }

    fn post(&mut self, connection: HvConnectionId, bytes: &[u8]) {
        let drops = self.server.drops().total();
        let had_looked = self.has_looked;
        match self.call(|server| server.receive(&is_ram, connection, bytes)) {
            Received::Taken => self.note(bytes),
            Received::Dropped(_) => assert_eq!(self.server.drops().total(), drops + 1),
            // What makes everything before void needs no place.
            Received::Busy => assert!(!had_looked || !is_reset(bytes), "a contact has to wait"),
        }
    }

    /// What a message that was taken is answered with.
    fn note(&mut self, bytes: &[u8]) {
        let waiting = &mut self.waiting;
        match message_type(bytes) {
            ChannelMessageType::INITIATE_CONTACT | ChannelMessageType::UNLOAD => {
                *waiting = Waiting {
                    resets: 1,
                    ..Waiting::default()
                };
                self.told.clear();
            }
            ChannelMessageType::GPADL_HEADER => {
                let handle = parse::<GpadlHeader>(bytes).handle;
                *waiting.creations.entry(handle).or_default() += 1;
            }
            ChannelMessageType::GPADL_TEARDOWN => {
                let handle = parse::<GpadlTeardown>(bytes).handle;
                *waiting.teardowns.entry(handle).or_default() += 1;
            }
            ChannelMessageType::OPEN_CHANNEL => waiting.opens += 1,
            ChannelMessageType::MODIFY_CHANNEL => waiting.modifications += 1,
            ChannelMessageType::TL_CONNECT_REQUEST => waiting.sockets += 1,
            _ => {}
        }
    }

    /// The guest takes a message.
    fn take(&mut self) {
        if self.call(|server| server.message().is_none()) {
            return;
        }
        let message = self.server.message().expect("it was there").clone();
        self.call(|server| server.posted(message.sequence));
        assert!(message.vp.0 < VPS && (1..16).contains(&message.sint));
        let bytes = &message.payload[..];
        let waiting = &mut self.waiting;
        let answers = match message_type(bytes) {
            ChannelMessageType::OFFER_CHANNEL => {
                let offer: OfferChannel = whole(bytes);
                assert!(offer.relid.is_valid());
                assert_eq!(offer.connection_id, offer.relid.event_connection());
                self.told.insert(offer.relid);
                return;
            }
            ChannelMessageType::RESCIND_CHANNEL_OFFER => {
                let relid = whole::<RescindChannelOffer>(bytes).relid;
                assert!(self.told.contains(&relid), "the guest does not know it");
                return;
            }
            ChannelMessageType::ALL_OFFERS_DELIVERED => {
                whole::<AllOffersDelivered>(bytes);
                return;
            }
            ChannelMessageType::GPADL_CREATED => {
                let handle = whole::<GpadlCreated>(bytes).handle;
                waiting.creations.entry(handle).or_default()
            }
            ChannelMessageType::GPADL_TORNDOWN => {
                let handle = whole::<GpadlTorndown>(bytes).handle;
                waiting.teardowns.entry(handle).or_default()
            }
            ChannelMessageType::OPEN_CHANNEL_RESULT => {
                let relid = whole::<OpenChannelResult>(bytes).relid;
                assert!(self.told.contains(&relid));
                &mut waiting.opens
            }
            ChannelMessageType::MODIFY_CHANNEL_RESPONSE => {
                whole::<ModifyChannelResponse>(bytes);
                &mut waiting.modifications
            }
            ChannelMessageType::TL_CONNECT_RESULT => {
                whole::<TlConnectResult>(bytes);
                &mut waiting.sockets
            }
            ChannelMessageType::VERSION_RESPONSE => {
                assert!(whole::<VersionResponse>(bytes).version_supported <= 1);
                &mut waiting.resets
            }
            ChannelMessageType::UNLOAD_RESPONSE => {
                whole::<UnloadResponse>(bytes);
                &mut waiting.resets
            }
            other => panic!("{other:?} to the guest"),
        };
        *answers = answers.checked_sub(1).expect("nobody waits for this");
    }

    fn offer(&mut self, number: u16, index: u8) {
        if self.relids.len() >= MOST_CHANNELS {
            return;
        }
        let instance = Guid::new(u128::from(number) << 64);
        let offer = Offer::new(interface::SCSI, instance).sub_channel(index.into());
        if let Ok(relid) = self.call(|server| server.add_offer(offer)) {
            // The effects say which relids are free.
            self.look();
            assert!(relid.is_valid() && self.relids.insert(relid));
            self.most_channels = self.most_channels.max(self.relids.len());
        }
    }

    fn look(&mut self) {
        while let Some(effect) = self.call(Server::take_effect) {
            match &effect {
                Effect::OpenChannel(open) => {
                    assert_eq!(self.active.insert(open.relid, open.ring_gpadl), None);
                    self.check_rings(open);
                    self.todo.push(effect);
                }
                Effect::CloseChannel { relid } => {
                    assert!(self.active.contains_key(relid));
                    self.todo.push(effect);
                }
                Effect::ReleaseGpadl { .. } => self.todo.push(effect),
                Effect::ChannelRemoved { relid } => {
                    assert!(!self.active.contains_key(relid));
                    assert!(self.relids.remove(relid));
                }
                Effect::Connected { .. }
                | Effect::Disconnected
                | Effect::TargetVpChanged { .. } => {}
            }
        }
        self.has_looked = true;
    }

    /// The rings are as long as was said, and of pages that are RAM and no others'.
    fn check_rings(&self, open: &ChannelOpen) {
        let rings = self.server.open_rings(open.relid).expect("rings");
        let page = tlfs::HV_PAGE_SIZE as u64;
        assert_eq!(
            rings.incoming.len(),
            u64::from(open.downstream_pages) * page
        );
        assert!(rings.incoming.len() >= 2 * page && rings.outgoing.len() >= 2 * page);
        let mut seen = BTreeSet::new();
        for view in [rings.incoming, rings.outgoing] {
            let pages = pages(&view);
            assert_eq!(pages.len() as u64 * page, view.len());
            assert!(pages.iter().all(|pfn| is_ram(*pfn) && seen.insert(*pfn)));
        }
    }

    /// The host does one of the things that it has to do.
    fn work(&mut self, which: usize, fails: bool) {
        if self.todo.is_empty() {
            return;
        }
        match self.todo.remove(which % self.todo.len()) {
            Effect::OpenChannel(open) => {
                let result = if fails {
                    Err(Status::UNSUCCESSFUL)
                } else {
                    Ok(())
                };
                self.call(|server| server.open_result(open.relid, result))
                    .expect("it is being opened");
                if fails {
                    self.active.remove(&open.relid);
                }
            }
            Effect::CloseChannel { relid } => {
                self.call(|server| server.closed(relid))
                    .expect("it is being closed");
                assert!(self.active.remove(&relid).is_some());
            }
            Effect::ReleaseGpadl { handle, .. } => {
                assert!(!self.active.values().any(|ring| *ring == handle), "in use");
                self.call(|server| server.gpadl_released(handle))
                    .expect("it is being released");
            }
            _ => {}
        }
    }

    fn check(&self) {
        let cap = max_memory(self.most_channels.max(self.relids.len()));
        let most = self.held.most.unsigned_abs();
        assert!(most <= cap, "{most} bytes of {cap}");
        for relid in &self.relids {
            let is_open = self.server.is_open(*relid);
            assert!(!is_open || self.active.contains_key(relid));
            if self.server.version().is_none() {
                assert!(!is_open && self.server.event_flag(*relid).is_none());
            }
            if let Some(flag) = self.server.event_flag(*relid) {
                assert!(flag.vp.0 < VPS && (1..16).contains(&flag.sint));
                assert!(is_open && u32::from(flag.flag) == relid.0);
            }
        }
    }

    /// The host does everything, and the guest takes everything.
    fn settle(&mut self) {
        loop {
            self.look();
            self.work(0, false);
            self.take();
            self.look();
            if self.todo.is_empty() && self.call(|server| server.message().is_none()) {
                self.look();
                return;
            }
        }
    }

    /// After the host has done all it has to, nobody waits; and after the guest has gone, nothing is left.
    fn end(&mut self) {
        self.settle();
        let waiting = &self.waiting;
        assert_eq!((waiting.opens, waiting.resets, waiting.sockets), (0, 0, 0));
        assert!(waiting.teardowns.values().all(|waiting| *waiting == 0));
        let contact = InitiateContact {
            version: Version::V5_3,
            msg_sint: 2,
            ..InitiateContact::empty()
        };
        self.post(MESSAGE_CONNECTION_5, bytes(&contact));
        self.settle();
        assert_eq!(self.server.version(), Some(Version::V5_3));
        assert!(self.active.is_empty());
        self.post(MESSAGE_CONNECTION_5, bytes(&Unload::empty()));
        self.settle();
        assert_eq!((self.server.version(), self.waiting.resets), (None, 0));
        self.post(MESSAGE_CONNECTION_5, bytes(&RequestOffers::empty()));
        assert!(self.call(|server| server.message().is_none()));
        let left = max_memory(self.most_channels) - MAX_GPADL_MEMORY;
        assert!(self.held.now.unsigned_abs() <= left, "GPADLs are left");
    }
}

fn message_type(bytes: &[u8]) -> ChannelMessageType {
    ChannelMessageHeader::read_from_prefix(bytes)
        .map(|(header, _)| header.message_type)
        .unwrap_or_default()
}

fn is_reset(bytes: &[u8]) -> bool {
    let message_type = message_type(bytes);
    message_type == ChannelMessageType::INITIATE_CONTACT
        || message_type == ChannelMessageType::UNLOAD
}

fn parse<T: ChannelMessage>(bytes: &[u8]) -> T {
    T::parse(bytes).expect("it was long enough").0
}

/// A message of the host, which is as long as its type.
fn whole<T: ChannelMessage>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    parse(bytes)
}

fn bytes(message: &impl ChannelMessage) -> &[u8] {
    message.as_bytes()
}

fn pages(buffer: &GuestBuffer<'_>) -> Vec<u64> {
    let pages = |Piece { run, .. }| run.gpa >> 12..(run.gpa + run.len) >> 12;
    buffer.pieces().flat_map(pages).collect()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut model = Model::new();
    for _ in 0..MOST_ACTIONS {
        if input.is_over() {
            break;
        }
        model.act(&mut input);
    }
    model.end();
});
