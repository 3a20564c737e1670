//! A guest with one storage channel, and the host's side of it up to the service.

use ::vmbus::gpadl::Gpadl;
use ::vmbus::protocol::{Guid, MESSAGE_CONNECTION_5, interface};
use ::vmbus::ring::IncomingRing;
use ::vmbus::server::{DropReason, Effect, Offer, Received, Server};
use board::layout::PAGE;

use super::*;
use crate::vmbus::RunMemory;

/// Where the rings lie.
const RING: u64 = 0x10_0000;
/// Pages of data of the guest's ring: a packet of the longest list and a bit.
const RING_PAGES: u64 = 4;
const RING_DATA: usize = (RING_PAGES * PAGE) as usize;
const RING_HANDLE: u32 = 1;
/// Page numbers in GPADL_HEADER and in GPADL_BODY.
const IN_HEADER: usize = 26;
const IN_BODY: usize = 28;

pub struct Guest {
    pub ram: TestRam,
    pub memory: BulkMemory<TestRam>,
    pub server: Server,
    pub relid: Relid,
    pub ring: IncomingRing<RunMemory<TestRam>>,
    pub list: GpaList,
}

impl Guest {
    /// One with that much memory, whose channel is open.
    pub fn new(mib: u64) -> Self {
        let ram = Fake::default().create_ram(mib << 20, mib << 20).unwrap();
        let mut server = Server::new(1);
        let instance = Guid::new(7);
        let relid = server.add_offer(Offer::new(interface::SCSI, instance));
        let relid = relid.unwrap();
        post(
            &mut server,
            &ram,
            &words(&[14, 0, 5 << 16 | 3, 0, 2, 0, 0, 0, 0, 0]),
        );
        post(&mut server, &ram, &words(&[3, 0]));
        let pages: Vec<u64> = (0..RING_PAGES + 3).map(|page| RING / PAGE + page).collect();
        let whole = range(pages.len() as u32 * 4096, 0);
        assert_eq!(gpadl(&mut server, &ram, RING_HANDLE, &[(whole, &pages)]), 0);
        let mut open = words(&[5, 0, relid.0, 1, RING_HANDLE, 0, RING_PAGES as u32 + 1]);
        open.resize(148, 0);
        post(&mut server, &ram, &open);
        let rings = server.open_rings(relid).unwrap();
        let ring = IncomingRing::new(RunMemory::new(&ram, &rings.incoming).unwrap()).unwrap();
        server.open_result(relid, Ok(())).unwrap();
        Self {
            memory: BulkMemory(ram.clone()),
            ram,
            server,
            relid,
            ring,
            list: GpaList::new(),
        }
    }

    /// Describes ranges of pages under a handle. The status of the answer.
    pub fn gpadl(&mut self, handle: u32, ranges: &[(u64, &[u64])]) -> u32 {
        gpadl(&mut self.server, &self.ram, handle, ranges)
    }

    pub fn post(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        post(&mut self.server, &self.ram, message)
    }

    /// What a service finds under a handle.
    pub fn find(&self, handle: u32) -> Option<&Gpadl> {
        self.server.gpadl(self.relid, GpadlHandle(handle))
    }

    /// Writes a packet whose data is where these units say: what follows the descriptor.
    pub fn send(&self, units: &[u64]) {
        let offset = 2 + units.len() as u64;
        self.send_with_offset(offset, units);
    }

    /// Writes a packet that says that its header ends elsewhere.
    pub fn send_with_offset(&self, offset: u64, units: &[u64]) {
        let mut packet = vec![9 | offset << 16 | (3 + units.len() as u64) << 32, 77];
        packet.extend_from_slice(units);
        // Payload and trailer.
        packet.extend_from_slice(&[0x5CB, 0]);
        let mut write = self.ram.load_acquire(RING).unwrap() as usize;
        for unit in packet {
            let gpa = RING + PAGE + write as u64;
            self.ram.write_shared(gpa, &unit.to_le_bytes()).unwrap();
            write = (write + 8) % RING_DATA;
        }
        self.ram.store_release(RING, write as u32).unwrap();
    }

    /// Whatever was in the ring is something else now.
    pub fn scribble(&self) {
        let ring = vec![0xFF; RING_DATA];
        self.ram.write_shared(RING + PAGE, &ring).unwrap();
    }

    /// Takes the next packet, and its list.
    pub fn take(&mut self) -> Result<(), RingError> {
        let mut packet = self.ring.read_packet()?.expect("a packet");
        let mut payload = [0; 8];
        assert_eq!(packet.read_payload(&mut payload), Ok(8));
        packet.read_gpa_direct(&mut self.list)?;
        assert_eq!(u64_at(&payload, 0), 0x5CB);
        let _ = self.ring.finish()?;
        Ok(())
    }

    /// The data of the last packet.
    pub fn data(&self) -> Transfer<'_, BulkMemory<TestRam>> {
        Transfer::new(&self.memory, self.list.buffer())
    }

    /// Bytes of the guest's as it sees them.
    pub fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(gpa, &mut bytes).unwrap();
        bytes
    }
}

/// A range's header, as it lies in memory.
pub fn range(byte_count: u32, byte_offset: u32) -> u64 {
    u64::from(byte_count) | u64::from(byte_offset) << 32
}

/// Posts a message, and takes the answers.
fn post(server: &mut Server, ram: &TestRam, message: &[u8]) -> Vec<Vec<u8>> {
    let is_ram = |pfn: u64| {
        let gpa = pfn.checked_mul(PAGE);
        gpa.is_some_and(|gpa| ram.is_ram(gpa, PAGE))
    };
    let received = server.receive(&is_ram, MESSAGE_CONNECTION_5, message);
    // Bodies of a GPADL that was refused belong to nothing.
    let is_stray = received == Received::Dropped(DropReason::UnexpectedBody);
    assert!(received == Received::Taken || is_stray, "{received:?}");
    while let Some(effect) = server.take_effect() {
        // This service keeps nothing between two calls.
        if let Effect::ReleaseGpadl { handle, .. } = effect {
            server.gpadl_released(handle).unwrap();
        }
    }
    let mut answers = Vec::new();
    while let Some(message) = server.message() {
        let sequence = message.sequence;
        answers.push(message.payload.clone());
        server.posted(sequence);
    }
    answers
}

/// Posts a GPADL with all its bodies.
fn gpadl(server: &mut Server, ram: &TestRam, handle: u32, ranges: &[(u64, &[u64])]) -> u32 {
    let units: Vec<u64> = ranges
        .iter()
        .flat_map(|(header, pages)| [*header].into_iter().chain(pages.iter().copied()))
        .collect();
    let bytes = |units: &[u64]| -> Vec<u8> { units.iter().flat_map(|u| u.to_le_bytes()).collect() };
    let (first, rest) = units.split_at(units.len().min(1 + IN_HEADER));
    let size = (units.len() as u32 * 8) | ((ranges.len() as u32) << 16);
    let mut header = words(&[8, 0, 1, handle, size]);
    header.extend(bytes(first));
    let mut answers = post(server, ram, &header);
    for body in rest.chunks(IN_BODY) {
        let mut message = words(&[9, 0, 0, handle]);
        message.extend(bytes(body));
        answers.extend(post(server, ram, &message));
    }
    let answer = answers.pop().expect("GPADL_CREATED");
    assert_eq!(answer[..4], 10u32.to_le_bytes());
    u32_at(&answer, 16)
}
