//! VMBus as a guest uses it (sheet `vmbus.md`), by one processor that sleeps until something comes.
//!
//! Messages and rings are put together by offsets of their own: a test of the host's side must not share its mistakes.

mod ring;

use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP,
    HV_X64_MSR_SINT0, HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT, HvCallCode,
    HvHypercallInput, HvMessageType, HvStatus, HvStimerConfig, HvSynicSint,
};

use super::cell::Pages;
use super::cpu::{wait_for_interrupt, write_msr};
use super::slot::Slot;
use super::trap::{Frame, Handler, set_handler};
use super::{apic, hypercall, memory};

pub use ring::Ring;

/// What Linux writes: vendor id, version.
const GUEST_OS_ID: u64 = 0x8100 << 48 | 0x0007_0200 << 16;
/// SINT of all messages and events.
const SINT: u32 = 2;
/// Vectors of the SINT and of the timer.
const SINT_VECTOR: u8 = 0x51;
const TIMER_VECTOR: u8 = 0x41;
/// Type of VMBus' messages.
const CHANNEL_MESSAGE: HvMessageType = HvMessageType(1);
/// Where a guest of version 5.0 or newer begins to post.
const FIRST_CONNECTION: u32 = 4;
/// Version 5.3.
const VERSION: u32 = 5 << 16 | 3;
/// Bytes of a message.
const MAX_MESSAGE: usize = 240;
/// Pages of a ring, its header among them.
pub const RING_PAGES: usize = 5;
/// Handle of the rings' pages.
const GPADL: u32 = 0xE1E10;

/// Types of channel messages.
mod kind {
    pub const OFFER: u32 = 1;
    pub const REQUEST_OFFERS: u32 = 3;
    pub const ALL_OFFERS: u32 = 4;
    pub const OPEN: u32 = 5;
    pub const OPEN_RESULT: u32 = 6;
    pub const CLOSE: u32 = 7;
    pub const GPADL: u32 = 8;
    pub const GPADL_CREATED: u32 = 10;
    pub const GPADL_TEARDOWN: u32 = 11;
    pub const GPADL_TORNDOWN: u32 = 12;
    pub const CONTACT: u32 = 14;
    pub const VERSION_RESPONSE: u32 = 15;
}

static MESSAGES: Pages<4096> = Pages::new();
static FLAGS: Pages<4096> = Pages::new();
static RINGS: Pages<{ 2 * RING_PAGES * 4096 }> = Pages::new();

/// A message.
struct Message([u8; MAX_MESSAGE]);

impl Message {
    fn word(&self, at: usize) -> u32 {
        let bytes = self.0[at..at + 4].try_into();
        bytes.map_or(0, u32::from_le_bytes)
    }
}

/// Interrupts wake the processor up, and mean nothing else.
fn wake(_: &mut Frame) {
    apic::eoi();
}

/// The GPAs of the page for messages and of that for events, which the hypervisor lays over them.
pub fn overlays() -> [u64; 2] {
    [MESSAGES.gpa(), FLAGS.gpa()]
}

/// The GPA of the rings, and how many pages they are.
pub fn rings() -> (u64, u64) {
    (RINGS.gpa(), 2 * RING_PAGES as u64)
}

/// Sleeps until an interrupt has come: the next tick at the latest.
pub fn sleep() {
    wait_for_interrupt();
    // Before rings are looked at: what comes later sets them again, and interrupts.
    for word in 0..256 / 8 {
        memory::write(FLAGS.gpa() + u64::from(SINT) * 256 + 8 * word, 0_u64);
    }
}

/// A connection to the host.
#[derive(Debug)]
pub struct Bus {
    connection: u32,
}

/// A channel that the host offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    relid: u32,
    connection: u32,
}

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    offer: Offer,
    /// Guest to host.
    pub outgoing: Ring,
    /// Host to guest.
    pub incoming: Ring,
}

/// Switches the SynIC on, and a timer that ticks all `period` microseconds.
pub fn start(period: u64) {
    apic::enable();
    for vector in [SINT_VECTOR, TIMER_VECTOR] {
        set_handler(vector, Some(wake as Handler));
    }
    write_msr(HV_X64_MSR_GUEST_OS_ID, GUEST_OS_ID);
    write_msr(HV_X64_MSR_SIMP, MESSAGES.gpa() | 1);
    write_msr(HV_X64_MSR_SIEFP, FLAGS.gpa() | 1);
    let sint = HvSynicSint::new().with_vector(SINT_VECTOR);
    write_msr(HV_X64_MSR_SINT0 + SINT, sint.into_bits());
    write_msr(HV_X64_MSR_SCONTROL, 1);
    let timer = HvStimerConfig::new()
        .with_enable(true)
        .with_periodic(true)
        .with_direct_mode(true)
        .with_apic_vector(TIMER_VECTOR);
    write_msr(HV_X64_MSR_STIMER0_CONFIG, timer.into_bits());
    write_msr(HV_X64_MSR_STIMER0_COUNT, 10 * period);
}

impl Bus {
    /// Connects.
    pub fn connect() -> Self {
        let mut bus = Self {
            connection: FIRST_CONNECTION,
        };
        bus.post(&[kind::CONTACT, 0, VERSION, 0, SINT, 0, 0, 0, 0, 0]);
        let response = await_message(kind::VERSION_RESPONSE);
        assert_eq!(response.word(8) & 0xFFFF, 1, "the version is refused");
        bus.connection = response.word(12);
        bus
    }

    /// The channel with this interface, if it is offered.
    pub fn find(&self, interface: &[u8; 16]) -> Option<Offer> {
        let mut found = None;
        self.post(&[kind::REQUEST_OFFERS, 0]);
        loop {
            let message = next_message();
            match message.word(0) {
                kind::OFFER if message.0[8..24] == *interface => {
                    found = Some(Offer {
                        relid: message.word(184),
                        connection: message.word(192),
                    });
                }
                kind::ALL_OFFERS => return found,
                _ => {}
            }
        }
    }

    /// Opens a channel, with empty rings.
    pub fn open(&self, offer: Offer) -> Channel {
        RINGS.fill(0);
        self.describe(offer);
        let mut open = [0; 37];
        open[..7].copy_from_slice(&[kind::OPEN, 0, offer.relid, 1, GPADL, 0, RING_PAGES as u32]);
        self.post(&open);
        let result = await_message(kind::OPEN_RESULT);
        assert_eq!(result.word(16), 0, "the channel does not open");
        let at = |ring: u64| RINGS.gpa() + ring * RING_PAGES as u64 * 4096;
        Channel {
            offer,
            outgoing: Ring::new(at(0)),
            incoming: Ring::new(at(1)),
        }
    }

    /// Tells the host of the rings' pages.
    fn describe(&self, offer: Offer) {
        const PAGES: usize = 2 * RING_PAGES;
        let mut message = [0; 7 + 2 * PAGES];
        let bytes = 8 + 8 * PAGES as u32;
        message[..7].copy_from_slice(&[
            kind::GPADL,
            0,
            offer.relid,
            GPADL,
            bytes | 1 << 16,
            PAGES as u32 * 4096,
            0,
        ]);
        for (page, words) in message[7..].chunks_exact_mut(2).enumerate() {
            words[0] = (RINGS.gpa() / 4096) as u32 + page as u32;
        }
        self.post(&message);
        let created = await_message(kind::GPADL_CREATED);
        assert_eq!(created.word(16), 0, "the rings' pages are refused");
    }

    /// Closes a channel, whatever is in its rings.
    pub fn close(&self, channel: Channel) {
        let relid = channel.offer.relid;
        self.post(&[kind::CLOSE, 0, relid]);
        self.post(&[kind::GPADL_TEARDOWN, 0, relid, GPADL]);
        await_message(kind::GPADL_TORNDOWN);
    }

    /// Posts a message.
    fn post(&self, words: &[u32]) {
        let mut input = [0; 256];
        let header = [
            self.connection,
            0,
            CHANNEL_MESSAGE.0,
            4 * words.len() as u32,
        ];
        let all = header.iter().chain(words);
        for (place, word) in input.chunks_exact_mut(4).zip(all) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let control = HvHypercallInput::simple(HvCallCode::POST_MESSAGE);
        loop {
            match hypercall::call(control, &input, &mut []).call_status() {
                HvStatus::SUCCESS => return,
                // The host has enough to do for now.
                HvStatus::INSUFFICIENT_BUFFERS => wait_for_interrupt(),
                status => panic!("a message is not posted: {status:?}"),
            }
        }
    }
}

impl Channel {
    /// Sends a packet if there is room, and tells the host. Whether there was.
    pub fn send(&self, payload: &[u8]) -> bool {
        let sent = self.outgoing.send(payload);
        self.signal();
        sent
    }

    /// Tells the host to look.
    pub fn signal(&self) {
        self.try_signal()
            .unwrap_or_else(|error| panic!("a signal is refused: {error:?}"));
    }

    /// As [`Self::signal`], for a channel that the host may have given up.
    ///
    /// # Errors
    /// The status of the call.
    pub fn try_signal(&self) -> Result<(), HvStatus> {
        let words = [u64::from(self.offer.connection), 0];
        hypercall::fast(HvCallCode::SIGNAL_EVENT, words).into_result()
    }
}

/// The next message; sleeps until there is one.
fn next_message() -> Message {
    let slot = Slot::of(&MESSAGES, SINT);
    while slot.kind() == HvMessageType::NONE {
        wait_for_interrupt();
    }
    assert_eq!(slot.kind(), CHANNEL_MESSAGE);
    let message = Message(slot.payload(0));
    slot.empty();
    if slot.is_pending() {
        write_msr(HV_X64_MSR_EOM, 0);
    }
    message
}

/// The next message of a type; others before it are nothing to a payload.
fn await_message(kind: u32) -> Message {
    loop {
        let message = next_message();
        if message.word(0) == kind {
            return message;
        }
    }
}
