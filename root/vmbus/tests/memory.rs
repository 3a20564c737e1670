//! What a guest can make the host allocate, measured.
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; the crate itself has no unsafe code"
)]

mod counting;

use counting::Held;
use vmbus::gpadl::{GpadlTable, MAX_GPADL_MEMORY, MAX_GPADLS, MAX_GPADLS_PER_CHANNEL, MAX_UNITS};
use vmbus::protocol::{
    ChannelMessage, GpadlBody, GpadlHandle, GpadlHeader, GpadlTeardown, Guid, InitiateContact,
    MESSAGE_CONNECTION_5, ModifyChannel, OpenChannel, Relid, RequestOffers, TlConnectRequest,
    Unload, Version, interface,
};
use vmbus::server::{Offer, Received, Server, max_memory};

/// Fills a table with GPADLs of scattered pages until nothing more is taken.
fn fill(table: &mut GpadlTable, bytes: &[u8], in_body: bool) {
    let (first, rest) = bytes.split_at(bytes.len().min(27 * 8));
    let mut refused = 0;
    for handle in 1..=2 * MAX_GPADLS as u32 {
        let relid = Relid(1 + handle / MAX_GPADLS_PER_CHANNEL as u32);
        let handle = GpadlHandle(handle);
        let size = (bytes.len() as u16, 1);
        if table.header(&|_| true, relid, handle, size, first).is_err() {
            refused += 1;
        } else if in_body {
            for body in rest.chunks(28 * 8) {
                table.body(&|_| true, handle, body).unwrap();
            }
        }
    }
    assert!(refused > 0, "a limit was reached");
}

/// The range buffer of so many pages, of which none follows another.
fn scattered(pages: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(pages as u32 * 4096).to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend((0..pages).flat_map(|page| (page * 2).to_le_bytes()));
    bytes
}

fn gpadls_of_a_guest_stay_within_their_memory() {
    let mut largest = 0;
    // Few large ones, many small ones, and what is between; complete and incomplete.
    for pages in [1, 2, 26, 27, 63, 64, 100, 1000, 4096, 8190] {
        for in_body in [false, true] {
            let bytes = scattered(pages);
            let mut table = GpadlTable::default();
            let mut held = Held::default();
            held.by(|| fill(&mut table, &bytes, in_body));
            let count = table.count();
            let most = held.most.unsigned_abs();
            assert!(most <= MAX_GPADL_MEMORY, "{count} of {pages} pages: {most}");
            assert!(table.units() <= MAX_UNITS && count <= MAX_GPADLS);
            largest = largest.max(most);
        }
    }
    // The constant is not idle either.
    assert!(
        largest > MAX_GPADL_MEMORY / 2,
        "{largest} of {MAX_GPADL_MEMORY}"
    );
}

/// A guest that posts and never takes an answer, in front of a host that never takes an effect.
struct Flood {
    server: Server,
    held: Held,
    channels: u32,
}

impl Flood {
    fn new(channels: u32) -> Self {
        let mut held = Held::default();
        let server = held.by(|| {
            let mut server = Server::new(1);
            for number in 0..channels {
                let instance = Guid::new(u128::from(number));
                server
                    .add_offer(Offer::new(interface::SCSI, instance))
                    .unwrap();
            }
            server
        });
        Self {
            server,
            held,
            channels,
        }
    }

    fn post(&mut self, message: &impl ChannelMessage, rest: &[u8]) -> Received {
        let bytes = [message.as_bytes(), rest].concat();
        let server = &mut self.server;
        self.held
            .by(|| server.receive(&|_| true, MESSAGE_CONNECTION_5, &bytes))
    }

    /// The host does what it has to, and the guest reads.
    fn connect(&mut self) {
        let contact = InitiateContact {
            version: Version::V5_3,
            msg_sint: 2,
            ..InitiateContact::empty()
        };
        assert_eq!(self.post(&contact, &[]), Received::Taken);
        self.settle();
        assert_eq!(self.post(&RequestOffers::empty(), &[]), Received::Taken);
        self.settle();
    }

    fn settle(&mut self) {
        let server = &mut self.server;
        self.held.by(|| {
            while let Some(sequence) = server.message().map(|message| message.sequence) {
                server.posted(sequence);
            }
            while let Some(effect) = server.take_effect() {
                use vmbus::server::Effect;
                match effect {
                    Effect::OpenChannel(open) => server.open_result(open.relid, Ok(())).unwrap(),
                    Effect::CloseChannel { relid } => server.closed(relid).unwrap(),
                    Effect::ReleaseGpadl { handle, .. } => server.gpadl_released(handle).unwrap(),
                    _ => {}
                }
            }
            while let Some(sequence) = server.message().map(|message| message.sequence) {
                server.posted(sequence);
            }
        });
    }

    /// As many GPADLs of this size as are taken, in all channels.
    fn fill(&mut self, pages: u64) {
        let buffer = scattered(pages);
        let (first, rest) = buffer.split_at(buffer.len().min(27 * 8));
        for number in 0..MAX_GPADLS_PER_CHANNEL as u32 * self.channels {
            let handle = GpadlHandle(1 + number);
            let header = GpadlHeader {
                relid: Relid(1 + number % self.channels),
                handle,
                range_buflen: buffer.len() as u16,
                range_count: 1,
                ..GpadlHeader::empty()
            };
            let body = GpadlBody {
                handle,
                ..GpadlBody::empty()
            };
            let mut received = self.post(&header, first);
            for part in rest.chunks(28 * 8) {
                // Bodies of what was refused are dropped, one like the other.
                if received != Received::Taken {
                    break;
                }
                received = self.post(&body, part);
            }
            self.settle();
        }
    }

    /// Everything that a guest can ask for without having read an answer, for all channels, over and over.
    fn ask_for_everything(&mut self) {
        for round in 0..1000u32 {
            let relid = Relid(1 + round % self.channels);
            let handle = GpadlHandle(1 + round % 2048);
            let open = OpenChannel {
                relid,
                ring_gpadl: GpadlHandle(relid.0),
                downstream_pages: 2,
                ..OpenChannel::empty()
            };
            let modify = ModifyChannel {
                relid,
                ..ModifyChannel::empty()
            };
            let teardown = GpadlTeardown {
                relid,
                handle,
                ..GpadlTeardown::empty()
            };
            let _ = self.post(&open, &[]);
            let _ = self.post(&modify, &[]);
            let _ = self.post(&RequestOffers::empty(), &[]);
            let _ = self.post(&TlConnectRequest::empty(), &[]);
            let server = &mut self.server;
            let _ = self.held.by(|| server.message().is_some());
            let _ = self.post(&teardown, &[]);
        }
        let _ = self.post(&Unload::empty(), &[]);
    }
}

fn floods_stay_within_the_memory_of_a_server() {
    let mut largest = 0.0_f64;
    for channels in [1, 4, 32] {
        for pages in [4, 1000, 8190] {
            let mut flood = Flood::new(channels);
            for _ in 0..2 {
                flood.connect();
                flood.fill(pages);
                flood.ask_for_everything();
                flood.settle();
            }
            let most = flood.held.most.unsigned_abs();
            let cap = max_memory(channels as usize);
            assert!(
                most <= cap,
                "{channels} channels, GPADLs of {pages} pages: {most} of {cap}"
            );
            largest = largest.max(most as f64 / cap as f64);
        }
    }
    assert!(largest > 0.5, "{largest}");
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn what_a_guest_makes_the_host_keep_is_bounded() {
    gpadls_of_a_guest_stay_within_their_memory();
    floods_stay_within_the_memory_of_a_server();
}
