//! VMBus as a driver uses it, by words: connecting, lists of pages, opening and closing.

use guests::metal::{memory, time};
use guests::program::Program;
use tlfs::HvStatus;
use zerocopy::IntoBytes;

use crate::calls;
use crate::counts::Counts;
use crate::pages::{CHANNEL_PAGES, CHANNELS, RING_PAGES, RINGS};
use crate::synic::{self, Message};

/// Message types, of the guest and of the host.
pub mod kind {
    pub const OFFER: u32 = 1;
    pub const REQUEST_OFFERS: u32 = 3;
    pub const ALL_OFFERS: u32 = 4;
    pub const OPEN: u32 = 5;
    pub const OPENED: u32 = 6;
    pub const CLOSE: u32 = 7;
    pub const GPADL: u32 = 8;
    pub const GPADL_BODY: u32 = 9;
    pub const GPADL_CREATED: u32 = 10;
    pub const TEARDOWN: u32 = 11;
    pub const TORNDOWN: u32 = 12;
    pub const RELID_RELEASED: u32 = 13;
    pub const CONTACT: u32 = 14;
    pub const VERSION: u32 = 15;
    pub const UNLOAD: u32 = 16;
    pub const UNLOADED: u32 = 17;
    pub const TL_CONNECT: u32 = 21;
    pub const MODIFY: u32 = 22;
    pub const TL_CONNECTED: u32 = 23;
    pub const MODIFIED: u32 = 24;
}

/// The connection that messages go to.
pub const CONNECTION: u32 = 4;
/// The newest version that the host knows.
const VERSION: u32 = 5 << 16 | 3;
/// How long the host may take, in 100 ns: this is an emulator on a busy machine.
const PATIENCE: u64 = 60 * 10_000_000;
/// How often one looks for an answer that may not come.
const LOOKS: u32 = 4;

/// A channel, as its guest sees it.
#[derive(Clone, Copy, Default)]
pub struct Channel {
    pub relid: u32,
    pub is_open: bool,
    /// The list of its rings, if there is one.
    gpadl: Option<u32>,
}

impl Channel {
    /// The connection that its events go to.
    pub fn event(&self) -> u32 {
        0x2000 + self.relid
    }
}

/// The connection, as its guest sees it.
pub struct Vmbus {
    pub channels: [Channel; CHANNELS],
    /// Handle of the list that was made last.
    pub last_gpadl: u32,
    /// Whether nobody else is at the rings, so that [`Self::begin`] succeeds.
    pub may_begin: bool,
}

impl Vmbus {
    pub const fn new(may_begin: bool) -> Self {
        let channel = Channel {
            relid: 0,
            is_open: false,
            gpadl: None,
        };
        Self {
            channels: [channel; CHANNELS],
            last_gpadl: 0xE_1E10,
            may_begin,
        }
    }

    /// Connects anew, and opens all channels: whatever has happened before, this has to succeed.
    pub fn begin(&mut self, counts: &mut Counts) {
        self.connect(counts);
        for channel in 0..CHANNELS {
            let is_open = self.open(counts, channel, Some(PATIENCE));
            assert!(is_open, "channel {channel} does not open");
        }
    }

    fn connect(&mut self, counts: &mut Counts) {
        synic::restore();
        synic::take_all(counts, note);
        self.channels = [Channel::default(); CHANNELS];
        let contact = [kind::CONTACT, 0, VERSION, 0, synic::SINT, 0, 0, 0, 0, 0];
        let status = post(counts, contact.as_bytes());
        assert_eq!(status, HvStatus::SUCCESS, "contact");
        await_message(counts, PATIENCE, |message| {
            message.word(0) == kind::VERSION && message.byte(8) == 1
        })
        .expect("an answer to a contact");
        let status = post(counts, [kind::REQUEST_OFFERS, 0].as_bytes());
        assert_eq!(status, HvStatus::SUCCESS, "request for offers");
        let mut offers = 0;
        let channels = &mut self.channels;
        await_message(counts, PATIENCE, |message| {
            if message.word(0) == kind::OFFER {
                if let Some(channel) = channels.get_mut(offers) {
                    channel.relid = message.word(184);
                }
                offers += 1;
            }
            message.word(0) == kind::ALL_OFFERS
        })
        .expect("all offers");
        assert_eq!(offers, CHANNELS, "offers");
    }

    /// Closes a channel and opens it, with rings that are as they should be. Whether it is open then.
    pub fn reopen(&mut self, counts: &mut Counts, channel: usize) -> bool {
        self.close(counts, channel);
        self.open(counts, channel, None)
    }

    /// Closes a channel and takes its list away.
    pub fn close(&mut self, counts: &mut Counts, channel: usize) {
        let Some(channel) = self.channels.get_mut(channel) else {
            return;
        };
        post(counts, [kind::CLOSE, 0, channel.relid].as_bytes());
        channel.is_open = false;
        if let Some(gpadl) = channel.gpadl.take() {
            post(counts, [kind::TEARDOWN, 0, channel.relid, gpadl].as_bytes());
            await_answer(counts, None, |message| {
                (message.word(0), message.word(8)) == (kind::TORNDOWN, gpadl)
            });
        }
    }

    /// Opens a channel that is closed. Without a time an answer that does not come at once is none.
    fn open(&mut self, counts: &mut Counts, number: usize, time: Option<u64>) -> bool {
        self.last_gpadl = self.last_gpadl.wrapping_add(1);
        let gpadl = self.last_gpadl;
        let Some(channel) = self.channels.get_mut(number) else {
            return false;
        };
        let relid = channel.relid;
        channel.gpadl = Some(gpadl);
        let first = ring_gpa(number) >> 12;
        let units = 8 + 8 * CHANNEL_PAGES as u32;
        let mut list = [0u32; 7 + 2 * CHANNEL_PAGES];
        list[..7].copy_from_slice(&[
            kind::GPADL,
            0,
            relid,
            gpadl,
            units | 1 << 16,
            CHANNEL_PAGES as u32 * 4096,
            0,
        ]);
        for (page, words) in (first..).zip(list[7..].chunks_mut(2)) {
            words[0] = page as u32;
        }
        post(counts, list.as_bytes());
        let created = await_answer(counts, time, |message| {
            (message.word(0), message.word(12)) == (kind::GPADL_CREATED, gpadl)
        });
        if created.is_none_or(|message| message.word(16) != 0) {
            return false;
        }
        clear_rings(number);
        let mut open = [0u32; 37];
        open[..7].copy_from_slice(&[kind::OPEN, 0, relid, gpadl, gpadl, 0, RING_PAGES as u32]);
        post(counts, open.as_bytes());
        let opened = await_answer(counts, time, |message| {
            (message.word(0), message.word(12)) == (kind::OPENED, gpadl)
        });
        channel.is_open = opened.is_some_and(|message| message.word(16) == 0);
        channel.is_open
    }
}

/// Where the two rings of a channel are.
pub fn ring_gpa(channel: usize) -> u64 {
    RINGS.gpa() + (channel * CHANNEL_PAGES * 4096) as u64
}

/// Both headers as a guest makes them.
fn clear_rings(channel: usize) {
    for ring in 0..2 {
        let header = ring_gpa(channel) + (ring * RING_PAGES * 4096) as u64;
        for word in 0..512 {
            memory::write(header + word * 8, 0u64);
        }
        memory::write(header + 64, 1u32);
    }
}

/// Posts a control message.
pub fn post(counts: &mut Counts, payload: &[u8]) -> HvStatus {
    calls::post(counts, CONNECTION, 1, payload)
}

/// Counts a message of the host.
pub fn note(counts: &mut Counts, message: &Message) {
    let kind = message.word(0);
    let is_good = match kind {
        kind::VERSION => message.byte(8) == 1,
        kind::OPENED | kind::GPADL_CREATED => message.word(16) == 0,
        kind::MODIFIED => message.word(12) == 0,
        kind::TL_CONNECTED => message.word(40) == 0,
        _ => true,
    };
    counts.message(kind, is_good);
}

/// Takes messages up to one that is it, for so many units of 100 ns at most.
fn await_message(
    counts: &mut Counts,
    patience: u64,
    is_it: impl FnMut(&Message) -> bool,
) -> Option<Message> {
    let start = time::reference();
    let is_late = || time::reference().wrapping_sub(start) > patience;
    take_up_to(counts, is_late, is_it)
}

/// As [`await_message`]; without a time only a few looks.
fn await_answer(
    counts: &mut Counts,
    patience: Option<u64>,
    is_it: impl FnMut(&Message) -> bool,
) -> Option<Message> {
    if let Some(patience) = patience {
        return await_message(counts, patience, is_it);
    }
    let mut looks = 0;
    let is_late = || {
        looks += 1;
        looks == LOOKS
    };
    take_up_to(counts, is_late, is_it)
}

/// Takes messages up to one that is it. Whenever there is none, `is_late` says whether to give up.
fn take_up_to(
    counts: &mut Counts,
    mut is_late: impl FnMut() -> bool,
    mut is_it: impl FnMut(&Message) -> bool,
) -> Option<Message> {
    loop {
        match synic::take_of_channels() {
            Some(message) => {
                note(counts, &message);
                if is_it(&message) {
                    return Some(message);
                }
            }
            None if is_late() => return None,
            None => {}
        }
    }
}

/// Signals a channel's event. Whether it is one of an open channel, as far as the host knows.
pub fn signal(counts: &mut Counts, channel: &mut Channel) -> bool {
    let status = calls::signal(counts, channel.event(), 0);
    channel.is_open &= status == HvStatus::SUCCESS;
    status == HvStatus::SUCCESS
}

/// Opens, closes or connects. Whether that came about.
pub fn operation(
    vmbus: &mut Vmbus,
    counts: &mut Counts,
    program: &mut Program<'_>,
    which: u8,
) -> bool {
    let channel = program.below(CHANNELS as u64) as usize;
    match which {
        0 => {
            vmbus.begin(counts);
            true
        }
        1 | 2 => {
            vmbus.close(counts, channel);
            true
        }
        // A second time, with the list of the first one.
        3 => {
            let relid = vmbus.channels[channel].relid;
            let mut open = [0u32; 37];
            open[..7].copy_from_slice(&[kind::OPEN, 0, relid, 1, vmbus.last_gpadl, 0, 3]);
            post(counts, open.as_bytes()) == HvStatus::SUCCESS
        }
        _ => vmbus.reopen(counts, channel),
    }
}
