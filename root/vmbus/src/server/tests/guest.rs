//! A guest that behaves like Linux, and a host that does what effects say.

use alloc::vec::Vec;

use tlfs::{HvConnectionId, HvVpIndex};
use zerocopy::IntoBytes;

use crate::protocol::*;
use crate::server::*;

/// VPs of the guest.
pub const VPS: u32 = 4;

/// RAM of the guest: 256 MiB, with a hole at 640 KiB.
pub fn memory(pfn: u64) -> bool {
    pfn < 0x1_0000 && !(0xA0..0x100).contains(&pfn)
}

/// An offer of its own for each number.
pub fn offer(number: u32) -> Offer {
    let instance = Guid::new(u128::from(number) << 64);
    Offer::new(interface::SCSI, instance)
}

pub struct Guest {
    pub server: Server,
    pub vp: HvVpIndex,
    pub sint: u8,
    pub connection: HvConnectionId,
    next_handle: u32,
}

impl Guest {
    /// A guest before its first message, whose host offers some channels.
    pub fn new(offers: u32) -> Self {
        let mut server = Server::new(VPS);
        for number in 0..offers {
            server.add_offer(offer(number)).unwrap();
        }
        Self {
            server,
            vp: HvVpIndex(1),
            sint: 2,
            connection: MESSAGE_CONNECTION_5,
            next_handle: 0xE1E10,
        }
    }

    /// A guest that is connected with 5.3 and was offered `offers` channels, relids 1 and up.
    pub fn with_offers(offers: u32) -> Self {
        let mut guest = Self::new(offers);
        guest.connect(Version::V5_3);
        guest.request_offers();
        guest
    }

    pub fn post(&mut self, message: &impl ChannelMessage) -> Received {
        self.post_bytes(message.as_bytes())
    }

    pub fn post_bytes(&mut self, bytes: &[u8]) -> Received {
        self.server.receive(&memory, self.connection, bytes)
    }

    pub fn taken(&mut self, message: &impl ChannelMessage) {
        assert_eq!(self.post(message), Received::Taken);
    }

    pub fn dropped(&mut self, message: &impl ChannelMessage, reason: DropReason) {
        let before = self.server.drops().count(reason);
        assert_eq!(self.post(message), Received::Dropped(reason));
        assert_eq!(self.server.drops().count(reason), before + 1);
        self.silence();
    }

    /// The next message of the host, which has to be a `T`.
    pub fn next<T: ChannelMessage>(&mut self) -> T {
        let message = self.server.message().expect("a message").clone();
        assert_eq!((message.vp, message.sint), (self.vp, self.sint));
        assert_eq!(message.payload[..4], T::TYPE.0.to_le_bytes());
        assert_eq!(message.payload.len(), size_of::<T>());
        self.server.posted(message.sequence);
        T::parse(&message.payload).unwrap().0
    }

    /// The host has nothing to say and nothing to do.
    pub fn silence(&mut self) {
        assert_eq!(self.server.message(), None);
        assert_eq!(self.server.take_effect(), None);
    }

    /// The next effect.
    pub fn effect(&mut self, expected: &Effect) {
        assert_eq!(self.server.take_effect().as_ref(), Some(expected));
    }

    pub fn effects(&mut self) -> Vec<Effect> {
        core::iter::from_fn(|| self.server.take_effect()).collect()
    }

    /// Does what all effects say, at once, and lists them.
    pub fn serve(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some(effect) = self.server.take_effect() {
            match &effect {
                Effect::OpenChannel(open) => {
                    assert!(self.server.open_rings(open.relid).is_some());
                    self.server.open_result(open.relid, Ok(())).unwrap();
                }
                Effect::CloseChannel { relid } => self.server.closed(*relid).unwrap(),
                Effect::ReleaseGpadl { handle, .. } => {
                    self.server.gpadl_released(*handle).unwrap();
                }
                _ => {}
            }
            all.push(effect);
        }
        all
    }

    pub fn contact(&self, version: Version) -> InitiateContact {
        let mut message = InitiateContact {
            version,
            target_vp: self.vp,
            monitor_page_1: 0x1234_5000,
            monitor_page_2: 0x1234_6000,
            ..InitiateContact::empty()
        };
        if version.names_sint() {
            message.msg_sint = self.sint;
        } else {
            // The interrupt page.
            message.msg_sint = 0;
            message.reserved_18 = [0x34, 0x12];
        }
        message
    }

    /// One attempt, as in `vmbus_negotiate_version`.
    pub fn try_version(&mut self, version: Version) -> VersionResponse {
        self.connection = if version.names_sint() {
            MESSAGE_CONNECTION_5
        } else {
            MESSAGE_CONNECTION
        };
        let message = self.contact(version);
        self.taken(&message);
        self.serve();
        self.next()
    }

    pub fn connect(&mut self, version: Version) {
        let response = self.try_version(version);
        assert_eq!(response.version_supported, 1);
        assert_eq!(response.connection_state, 0);
        if version.names_sint() {
            let id = response.connection_id_or_version;
            assert_ne!(id, 0);
            self.connection = HvConnectionId(id);
        } else {
            assert_eq!(response.connection_id_or_version, version.0);
        }
    }

    /// Relids of what is offered.
    pub fn request_offers(&mut self) -> Vec<Relid> {
        self.taken(&RequestOffers::empty());
        let mut relids = Vec::new();
        while self.server.message().unwrap().payload[0] == 1 {
            relids.push(self.next::<OfferChannel>().relid);
        }
        self.next::<AllOffersDelivered>();
        self.silence();
        relids
    }

    /// A GPADL of so many pages from a page on, announced as Linux does; the answer is not awaited.
    pub fn post_gpadl(&mut self, relid: Relid, first: u64, pages: u32) -> GpadlHandle {
        let handle = GpadlHandle(self.next_handle);
        self.next_handle += 1;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(pages * 4096).to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend((first..first + u64::from(pages)).flat_map(u64::to_le_bytes));
        self.post_range_buffer(relid, handle, 1, &bytes);
        handle
    }

    pub fn post_range_buffer(
        &mut self,
        relid: Relid,
        handle: GpadlHandle,
        range_count: u16,
        bytes: &[u8],
    ) {
        let header = GpadlHeader {
            relid,
            handle,
            range_buflen: bytes.len() as u16,
            range_count,
            ..GpadlHeader::empty()
        };
        let (first, rest) = bytes.split_at(bytes.len().min(27 * 8));
        let message = [header.as_bytes(), first].concat();
        assert_eq!(self.post_bytes(&message), Received::Taken);
        for pfns in rest.chunks(28 * 8) {
            let body = GpadlBody {
                handle,
                ..GpadlBody::empty()
            };
            let message = [body.as_bytes(), pfns].concat();
            assert_eq!(self.post_bytes(&message), Received::Taken);
        }
    }

    pub fn gpadl(&mut self, relid: Relid, first: u64, pages: u32) -> GpadlHandle {
        let handle = self.post_gpadl(relid, first, pages);
        let created: GpadlCreated = self.next();
        assert_eq!((created.relid, created.handle), (relid, handle));
        assert_eq!(created.status, Status::SUCCESS);
        handle
    }

    pub fn open_message(relid: Relid, ring_gpadl: GpadlHandle) -> OpenChannel {
        OpenChannel {
            relid,
            open_id: relid.0,
            ring_gpadl,
            target_vp: HvVpIndex(2),
            downstream_pages: 4,
            ..OpenChannel::empty()
        }
    }

    /// Opens a channel with rings of 4 pages each, and says the handle of their GPADL.
    pub fn open(&mut self, relid: Relid) -> GpadlHandle {
        let handle = self.gpadl(relid, 0x100 + u64::from(relid.0) * 8, 8);
        self.taken(&Self::open_message(relid, handle));
        assert!(matches!(self.serve()[..], [Effect::OpenChannel(_)]));
        let result: OpenChannelResult = self.next();
        assert_eq!((result.relid, result.open_id), (relid, relid.0));
        assert_eq!(result.status, Status::SUCCESS);
        assert!(self.server.is_open(relid));
        handle
    }

    pub fn close_message(relid: Relid) -> CloseChannel {
        CloseChannel {
            relid,
            ..CloseChannel::empty()
        }
    }

    pub fn teardown_message(relid: Relid, handle: GpadlHandle) -> GpadlTeardown {
        GpadlTeardown {
            relid,
            handle,
            ..GpadlTeardown::empty()
        }
    }

    pub fn torn_down(&mut self, handle: GpadlHandle) {
        assert_eq!(self.next::<GpadlTorndown>().handle, handle);
    }

    /// As the driver is removed.
    pub fn close(&mut self, relid: Relid, ring: GpadlHandle) {
        self.taken(&Self::close_message(relid));
        self.taken(&Self::teardown_message(relid, ring));
        let handle = ring;
        assert_eq!(
            self.serve(),
            [
                Effect::CloseChannel { relid },
                Effect::ReleaseGpadl { relid, handle }
            ]
        );
        self.torn_down(ring);
        self.silence();
    }
}
