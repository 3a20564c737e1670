//! What a balloon of 1 GiB costs the VSP and the book of pages. `cargo xtask bench` runs this under valgrind's callgrind, which
//! counts what is executed inside of [`take_message`] and of [`give_message`].
//!
//! ```text
//! balloon large      1 GiB in pieces of 2 MiB, and back
//! balloon single     1 GiB in single pages, and back
//! ```
//!
//! Of 3 GiB of RAM the guest returns every other piece, in disorder, so that no two are one range: the most ranges that so many
//! pages can be. What it prints are lines that `cargo xtask bench` reads.

use std::hint::black_box;

use dynamic_memory::wire::{
    BalloonResponse, CapabilitiesReport, Header, MAX_RANGES, MessageType, StatusReport, Version,
    VersionRequest, WireRange,
};
use dynamic_memory::{
    Add, DynamicMemory, End, Event, Finished, GuestPages, Memory, PageRun, Pin, QUIET, SECOND,
    Settings, Time,
};
use zerocopy::IntoBytes;

/// Pages of a GiB.
const GIB: u64 = 1 << 18;
/// Odd, so that its multiples are all numbers below a power of two, in disorder.
const DISORDER: u64 = 0x9e37_79b1;

/// Memory that is there at once: what moves it is not measured here.
struct Machine(GuestPages);

impl Memory for Machine {
    fn book(&mut self) -> &mut GuestPages {
        &mut self.0
    }

    fn pin(&mut self, run: PageRun) -> (Pin, u64) {
        (Pin::None, run.count)
    }

    fn take(&mut self, run: PageRun) -> u64 {
        run.count
    }

    fn back(&mut self, run: PageRun) -> u64 {
        run.count
    }

    fn long_mode(&mut self) -> bool {
        true
    }
}

struct Vm {
    dm: DynamicMemory,
    machine: Machine,
    now: Time,
}

/// What callgrind counts: a BALLOON_RESPONSE.
#[inline(never)]
fn take_message(vm: &mut Vm, message: &[u8]) {
    vm.dm.received(message, vm.now, &mut vm.machine);
}

/// What callgrind counts: an UNBALLOON_REQUEST is made.
#[inline(never)]
fn give_message(vm: &mut Vm) -> Option<Vec<u8>> {
    vm.dm.packet_len()?;
    vm.dm.take_packet(vm.now, &mut vm.machine)
}

fn header(message_type: MessageType, size: usize, trans_id: u32) -> Header {
    Header {
        message_type: message_type.into_bits().into(),
        size: u16::try_from(size).expect("a message").into(),
        trans_id: trans_id.into(),
    }
}

impl Vm {
    /// A VM of 3 GiB that takes orders.
    fn live() -> Self {
        let ram = PageRun::new(0, 3 * GIB);
        let settings = Settings {
            minimum: GIB / 4,
            maximum: 4 * GIB,
            holes: Vec::new(),
            end_of_addresses: 1 << 30,
        };
        let mut vm = Self {
            dm: DynamicMemory::new(settings),
            machine: Machine(GuestPages::new(&[ram]).expect("a book")),
            now: SECOND,
        };
        vm.dm.opened(vm.now, &mut vm.machine);
        let version = VersionRequest {
            header: header(MessageType::VERSION_REQUEST, 16, 1),
            version: Version::WIN10.into_bits().into(),
            ..VersionRequest::default()
        };
        take_no_notice(&mut vm, version.as_bytes());
        let capabilities = CapabilitiesReport {
            header: header(MessageType::CAPABILITIES_REPORT, 32, 2),
            capabilities: 0x1f.into(),
            ..CapabilitiesReport::default()
        };
        take_no_notice(&mut vm, capabilities.as_bytes());
        vm.now += QUIET;
        let report = StatusReport {
            header: header(MessageType::STATUS_REPORT, 48, 3),
            num_committed: (GIB / 4).into(),
            ..StatusReport::default()
        };
        take_no_notice(&mut vm, report.as_bytes());
        vm.dm.tick(vm.now, &mut vm.machine);
        assert!(vm.dm.status(&vm.machine.0, vm.now).is_live);
        vm
    }

    /// How the order ended, which did.
    fn finished(&mut self) -> Finished {
        let mut events = std::iter::from_fn(|| self.dm.take_event());
        let finished = events.find_map(|event| match event {
            Event::Finished(finished) => Some(finished),
            _ => None,
        });
        finished.expect("the order is over")
    }
}

/// A message that is not measured, and the packets that answer it.
fn take_no_notice(vm: &mut Vm, message: &[u8]) {
    vm.dm.received(message, vm.now, &mut vm.machine);
    while vm.dm.packet_len().is_some() {
        let _ = vm.dm.take_packet(vm.now, &mut vm.machine);
    }
}

/// The guest's answer: every other piece, in disorder, as many to a message as Linux puts there.
fn answers(piece: u64) -> Vec<Vec<u8>> {
    let count = GIB / piece;
    let run = |index: u64| PageRun::new(index * DISORDER % count * 2 * piece, piece);
    let ranges = (0..count).map(|index| WireRange::new(run(index)).expect("a range"));
    let ranges: Vec<WireRange> = ranges.collect();
    let parts = ranges.chunks(MAX_RANGES);
    let last = parts.len() - 1;
    let message = |(index, part): (usize, &[WireRange])| {
        let response = BalloonResponse {
            header: header(MessageType::BALLOON_RESPONSE, 16 + 8 * part.len(), 4),
            reserved: 0.into(),
            more_and_count: (u32::from(index < last) | (part.len() as u32) << 1).into(),
        };
        [response.as_bytes(), part.as_bytes()].concat()
    };
    parts.enumerate().map(message).collect()
}

fn main() {
    let is_single = std::env::args().any(|word| word == "single");
    let piece = if is_single { 1 } else { 512 };
    let mut vm = Vm::live();

    let answers = answers(piece);
    assert_eq!(vm.dm.remove(GIB, vm.now, &mut vm.machine), Ok(GIB));
    assert!(vm.dm.take_packet(vm.now, &mut vm.machine).is_some());
    for message in &answers {
        take_message(&mut vm, black_box(message));
    }
    let taken = Finished::Removed {
        asked: GIB,
        given: GIB,
        freed: GIB,
        end: End::Done,
    };
    assert_eq!(vm.finished(), taken);

    let add = Add {
        unballoon: GIB,
        ..Add::default()
    };
    assert_eq!(vm.dm.add(add, vm.now, &mut vm.machine), Ok(add));
    while black_box(give_message(&mut vm)).is_some() {}
    assert_eq!(vm.dm.status(&vm.machine.0, vm.now).ballooned, 0);
    let counters = vm.dm.counters();
    let taken = (counters.balloon_messages, counters.balloon_ranges);
    let given = (counters.unballoon_messages, counters.unballoon_ranges);
    for (what, (messages, ranges)) in [("balloon", taken), ("unballoon", given)] {
        let each = GIB / messages;
        println!("bench {what}_pages_per_message {each} pages messages={messages} ranges={ranges}");
    }
    let book = GuestPages::most_bytes(2 * GIB) - GuestPages::most_bytes(GIB);
    println!("bench dynamic_memory_book_per_gib {book} bytes");
}
