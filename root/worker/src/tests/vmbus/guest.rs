//! A guest that uses VMBus as Linux does. It writes messages and rings by offsets of its own.

use std::collections::BTreeMap;

use board::exit::PostedMessage;
use tlfs::{HvConnectionId, HvMessageType};

use super::super::*;
use crate::vmbus::{Limits, Vmbus};

/// Pages of each of the two rings of a channel.
const RING_PAGES: usize = 3;
const RING_DATA: u32 = (RING_PAGES as u32 - 1) * 4096;

pub const HEARTBEAT: u32 = 1;
pub const SHUTDOWN: u32 = 2;
pub const TIME_SYNC: u32 = 3;
pub const KVP: u32 = 4;
pub const MEMORY: u32 = 5;

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A ring in pages that are anywhere.
#[derive(Clone)]
pub struct GuestRing {
    ram: TestRam,
    pages: Vec<u64>,
}

impl GuestRing {
    /// The number of one of its pages.
    pub fn page(&self, at: usize) -> u64 {
        self.pages[at]
    }

    fn gpa(&self, at: u32) -> u64 {
        self.pages[at as usize / 4096] * 4096 + u64::from(at % 4096)
    }

    pub fn word(&self, at: u32) -> u32 {
        self.ram.load_acquire(self.gpa(at)).unwrap()
    }

    pub fn set_word(&self, at: u32, value: u32) {
        self.ram.store_release(self.gpa(at), value).unwrap();
    }

    fn get(&self, at: u32, len: u32) -> Vec<u8> {
        let byte = |at: u32| {
            let mut byte = [0];
            let at = 4096 + at % RING_DATA;
            self.ram.read(self.gpa(at), &mut byte).unwrap();
            byte[0]
        };
        (at..at + len).map(byte).collect()
    }

    fn put(&self, at: u32, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let at = 4096 + at % RING_DATA;
            self.ram.write_shared(self.gpa(at), &[*byte]).unwrap();
        }
    }

    /// Takes a packet: its transaction id and payload.
    pub fn take(&self) -> Option<(u64, Vec<u8>)> {
        let (write, read) = (self.word(0), self.word(4));
        if write == read {
            return None;
        }
        let descriptor = self.get(read, 16);
        assert_eq!(
            u32_at(&descriptor, 0),
            6 | 2 << 16,
            "in-band, 16 bytes of header"
        );
        assert_eq!(u16_at(&descriptor, 6), 0, "no completion wanted");
        let len = u16_at(&descriptor, 4) as u32 * 8;
        let payload = self.get(read + 16, len - 16);
        self.set_word(4, (read + len + 8) % RING_DATA);
        Some((u64_at(&descriptor, 8), payload))
    }

    /// Writes anything at its write index, and shows it if that is possible.
    pub fn send_raw(&self, bytes: &[u8]) {
        let write = self.word(0) % RING_DATA;
        self.put(write, bytes);
        self.set_word(0, (write + bytes.len() as u32) % RING_DATA);
    }

    /// Sends an in-band packet.
    pub fn send(&self, transaction: u64, payload: &[u8]) {
        let write = self.word(0);
        let len = payload.len() + 16;
        let mut packet = words(&[6 | 2 << 16, len as u32 / 8]);
        packet.extend_from_slice(&transaction.to_le_bytes());
        packet.extend_from_slice(payload);
        packet.extend_from_slice(&words(&[0, write]));
        self.put(write, &packet);
        self.set_word(0, (write + packet.len() as u32) % RING_DATA);
    }
}

/// The guest, and the worker's VMBus in front of it.
pub struct Guest {
    pub fake: Fake,
    pub ram: TestRam,
    pub vmbus: Vmbus<TestRam>,
    pub now: u64,
    /// Guest to host and host to guest, of each open channel.
    pub rings: BTreeMap<u32, (GuestRing, GuestRing)>,
    /// How many answers of the system were looked at.
    seen: usize,
}

impl Guest {
    pub fn new() -> Self {
        Self::with_memory(None)
    }

    /// With Dynamic Memory, and so many free pages in the machine.
    pub fn with_memory(limits: Option<(Limits, u64)>) -> Self {
        let mut fake = Fake::default();
        let startup = limits.map_or(8 << 20, |(limits, _)| limits.startup);
        let reach = limits.map_or(startup, |(limits, _)| limits.reach());
        fake.0.borrow_mut().free_pages = limits.map_or(0, |(_, free)| free);
        let ram = fake.create_ram(startup, reach).unwrap();
        let limits = limits.as_ref().map(|(limits, _)| limits);
        let vmbus = Vmbus::new(&mut fake, &ram, 2, limits).unwrap();
        Self {
            fake,
            ram,
            vmbus,
            now: 0,
            rings: BTreeMap::new(),
            seen: 0,
        }
    }

    /// One that has connected and knows the offers.
    pub fn connected() -> Self {
        let mut guest = Self::new();
        let offers = guest.connect();
        assert_eq!(offers, 4);
        guest
    }

    /// Connects. The number of channels that are offered.
    pub fn connect(&mut self) -> usize {
        let guest = self;
        guest.contact(5 << 16 | 3).unwrap();
        guest.run();
        let response = &guest.messages()[0];
        assert_eq!(response.payload, words(&[15, 0, 1, 4]), "with connection 4");
        guest.post(&words(&[3, 0])).unwrap();
        guest.run();
        let offers = guest.messages();
        let types: Vec<_> = offers
            .iter()
            .map(|offer| u32_at(&offer.payload, 0))
            .collect();
        let (last, offers) = types.split_last().unwrap();
        assert_eq!(*last, 4, "all offers delivered");
        assert!(offers.iter().all(|kind| *kind == 1));
        offers.len()
    }

    pub fn post_to(&mut self, connection: u32, payload: &[u8]) -> Result<(), HvStatus> {
        let message = PostedMessage {
            connection: HvConnectionId(connection),
            kind: HvMessageType(1),
            payload,
        };
        self.vmbus.post_message(&self.ram, &message)
    }

    pub fn post(&mut self, payload: &[u8]) -> Result<(), HvStatus> {
        self.post_to(4, payload)
    }

    /// INITIATE_CONTACT with VP 1 as target.
    pub fn contact(&mut self, version: u32) -> Result<(), HvStatus> {
        self.post(&words(&[14, 0, version, 1, 2, 0, 0, 0, 0, 0]))
    }

    pub fn run(&mut self) {
        self.vmbus.run(&mut self.fake, &self.ram, self.now).unwrap();
    }

    /// Lets time pass up to the next deadline, no further than `to`.
    pub fn pass(&mut self, to: u64) {
        while self.vmbus.deadline() <= to {
            self.now = self.now.max(self.vmbus.deadline());
            self.run();
        }
        self.now = to;
    }

    /// Calls of the hypervisor since the last look, with whether they succeeded.
    fn calls(&mut self) -> Vec<(HvCallCode, Vec<u8>, HvStatus)> {
        let shared = self.fake.0.borrow();
        let all = &shared.calls[self.seen..];
        self.seen = shared.calls.len();
        all.to_vec()
    }

    /// What was posted since the last look, and could be.
    pub fn messages(&mut self) -> Vec<Message> {
        let post = |(code, input, status): (HvCallCode, Vec<u8>, HvStatus)| {
            let posted = code == HvCallCode::POST_MESSAGE_DIRECT && status == HvStatus::SUCCESS;
            posted.then(|| Message {
                vp: u32_at(&input, 8),
                sint: u32_at(&input, 16),
                kind: u32_at(&input, 20),
                payload: input[36..36 + usize::from(input[24])].to_vec(),
            })
        };
        self.calls().into_iter().filter_map(post).collect()
    }

    /// Event flags set since the last look: VP, SINT and flag.
    pub fn flags(&mut self) -> Vec<(u32, u8, usize)> {
        let flag = |(code, input, status): (HvCallCode, Vec<u8>, HvStatus)| {
            let set = code == HvCallCode::SIGNAL_EVENT_DIRECT && status == HvStatus::SUCCESS;
            set.then(|| (u32_at(&input, 8), input[13], u16_at(&input, 14)))
        };
        self.calls().into_iter().filter_map(flag).collect()
    }

    /// Calls with this code since the last look, whatever became of them.
    pub fn tries(&mut self, wanted: HvCallCode) -> Vec<Vec<u8>> {
        let calls = self.calls().into_iter();
        let wanted = calls.filter(|(code, ..)| *code == wanted);
        wanted.map(|(_, input, _)| input).collect()
    }

    pub fn logs(&self) -> Vec<String> {
        self.fake.0.borrow().logs.clone()
    }

    pub fn answers(&self, code: HvCallCode, status: HvStatus) {
        self.fake.0.borrow_mut().statuses.insert(code.0, status);
    }

    /// Describes pages as the memory of a channel's rings; its number as the handle.
    pub fn gpadl(&mut self, relid: u32, pages: &[u64]) -> Result<(), HvStatus> {
        let units = 8 + 8 * pages.len() as u32;
        let mut message = words(&[8, 0, relid, relid, units | 1 << 16]);
        message.extend_from_slice(&words(&[pages.len() as u32 * 4096, 0]));
        message.extend(pages.iter().flat_map(|pfn| pfn.to_le_bytes()));
        self.post(&message)
    }

    pub fn open_message(relid: u32, vp: u32) -> Vec<u8> {
        let mut message = words(&[5, 0, relid, relid, relid, vp, RING_PAGES as u32]);
        message.resize(148, 0);
        message
    }

    /// Opens a channel whose rings are in pages that are not neighbours.
    pub fn open(&mut self, relid: u32) {
        let first = 0x100 + u64::from(relid) * 32;
        let pages: Vec<_> = (0..2 * RING_PAGES as u64)
            .map(|page| first + 20 - page * 2)
            .collect();
        self.gpadl(relid, &pages).unwrap();
        self.run();
        let (incoming, outgoing) = pages.split_at(RING_PAGES);
        let ring = |pages: &[u64]| {
            let ring = GuestRing {
                ram: self.ram.clone(),
                pages: pages.to_vec(),
            };
            for page in pages {
                self.ram.write_shared(page * 4096, &[0; 4096]).unwrap();
            }
            ring.set_word(64, 1);
            ring
        };
        self.rings.insert(relid, (ring(incoming), ring(outgoing)));
        self.messages();
        self.post(&Self::open_message(relid, 0)).unwrap();
        self.run();
    }

    /// Closes a channel, and takes its GPADL back.
    pub fn close(&mut self, relid: u32) {
        self.post(&words(&[7, 0, relid])).unwrap();
        self.run();
        self.post(&words(&[11, 0, relid, relid])).unwrap();
        self.run();
    }

    pub fn take(&self, relid: u32) -> Option<(u64, Vec<u8>)> {
        self.rings[&relid].1.take()
    }

    pub fn send(&mut self, relid: u32, transaction: u64, payload: &[u8]) {
        self.rings[&relid].0.send(transaction, payload);
        self.signal(relid).unwrap();
        self.run();
    }

    pub fn signal(&mut self, relid: u32) -> Result<(), HvStatus> {
        self.vmbus.signal_event(HvConnectionId(0x2000 + relid), 0)
    }

    /// Takes a packet and answers it as hv_utils does. Its payload.
    pub fn answer(&mut self, relid: u32) -> Option<Vec<u8>> {
        let (transaction, payload) = self.take(relid)?;
        let mut answer = payload.clone();
        match u16_at(&answer, 12) {
            0 => choose(&mut answer),
            1 => {
                let sequence = u64_at(&answer, 28) + 1;
                answer[28..36].copy_from_slice(&sequence.to_le_bytes());
            }
            _ => {}
        }
        answer[25] = 5;
        self.send(relid, transaction, &answer);
        Some(payload)
    }

    /// Takes whatever there is in a channel, and sends back its first half.
    pub fn answer_any(&mut self, relid: u32) {
        let Some((incoming, outgoing)) = self.rings.get(&relid) else {
            return;
        };
        // A ring that its guest has broken has nothing to take.
        if outgoing.word(0) < RING_DATA
            && outgoing.word(4) < RING_DATA
            && incoming.word(0) < RING_DATA
        {
            outgoing.set_word(4, outgoing.word(0));
            incoming.send(1, &[5; 32]);
        }
    }

    /// Opens a channel and agrees on the newest versions.
    pub fn start(&mut self, relid: u32) {
        self.open(relid);
        let offer = self.answer(relid).expect("negotiation");
        assert_eq!(u16_at(&offer, 12), 0);
    }
}

/// Chooses the last of the versions offered.
fn choose(bytes: &mut [u8]) {
    let (frameworks, messages) = (u16_at(bytes, 28), u16_at(bytes, 30));
    let at = |number: usize| 36 + 4 * (number - 1);
    let framework = u32_at(bytes, at(frameworks)).to_le_bytes();
    let message = u32_at(bytes, at(frameworks + messages)).to_le_bytes();
    bytes[18..20].copy_from_slice(&[16, 0]);
    bytes[28..32].copy_from_slice(&[1, 0, 1, 0]);
    bytes[36..40].copy_from_slice(&framework);
    bytes[40..44].copy_from_slice(&message);
}

/// A message to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub vp: u32,
    pub sint: u32,
    pub kind: u32,
    pub payload: Vec<u8>,
}
