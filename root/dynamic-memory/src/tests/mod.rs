//! The VSP against a guest that behaves as Linux' `hv_balloon` does, and against guests that do not.

mod balloon;
mod grow;
mod handshake;
mod interrupted;
mod linux;
mod machine;
mod pages;
mod properties;
mod reports;
mod set;
mod wire;

use crate::wire::{self as messages, MessageType, PAGES_PER_MB};
use crate::{
    Add, DynamicMemory, End, Event, Finished, GuestPages, Memory, PageRun, PageState, Pin, QUIET,
    Refused, SECOND, Settings, Status, Time,
};
use linux::Linux;
use machine::Machine;

/// Pages of that many megabytes.
const fn mb(count: u64) -> u64 {
    count * PAGES_PER_MB
}

/// A VM, its guest and its machine.
struct Vm {
    dm: DynamicMemory,
    machine: Machine,
    guest: Linux,
    now: Time,
    /// Packets that went out.
    sent: Vec<Vec<u8>>,
}

/// Startup memory: 512 MB, with a hole.
const STARTUP: [PageRun; 2] = [PageRun::new(0, 160), PageRun::new(256, mb(512) - 256)];

fn settings() -> Settings {
    Settings {
        minimum: mb(32),
        maximum: mb(2048),
        holes: vec![PageRun::new(mb(1024), mb(100))],
        end_of_addresses: mb(1 << 16),
    }
}

impl Vm {
    fn new() -> Self {
        Self::with(settings(), mb(1024))
    }

    fn with(settings: Settings, free: u64) -> Self {
        Self {
            dm: DynamicMemory::new(settings),
            machine: Machine::new(&STARTUP, free),
            guest: Linux::new(&STARTUP),
            now: SECOND,
            sent: Vec::new(),
        }
    }

    /// A VM that takes orders.
    fn live() -> Self {
        let mut vm = Self::new();
        vm.go_live();
        vm
    }

    fn go_live(&mut self) {
        let first = self.guest.reload();
        self.connect(&first);
        self.wait(QUIET);
        self.seconds(3);
        assert!(self.status().is_live);
    }

    fn connect(&mut self, first: &[u8]) -> Vec<Event> {
        self.dm.opened(self.now, &mut self.machine);
        let mut happened = self.receive(first);
        happened.extend(self.pump());
        happened
    }

    /// Nothing but time.
    fn wait(&mut self, time: Time) -> Vec<Event> {
        self.now += time;
        self.dm.tick(self.now, &mut self.machine);
        assert!(self.dm.next_deadline().is_none_or(|next| next > self.now));
        self.events()
    }

    /// Seconds with reports.
    fn seconds(&mut self, count: u64) -> Vec<Event> {
        let mut happened = Vec::new();
        for _ in 0..count {
            happened.extend(self.wait(SECOND));
            let report = self.guest.report();
            happened.extend(self.receive(&report));
            happened.extend(self.pump());
        }
        happened
    }

    fn receive(&mut self, message: &[u8]) -> Vec<Event> {
        self.machine.note(message);
        self.dm.received(message, self.now, &mut self.machine);
        self.machine.check();
        self.events()
    }

    /// The next packet, checked against what the guest has returned.
    fn take(&mut self) -> Option<Vec<u8>> {
        let most = self.dm.packet_len();
        let packet = self.dm.take_packet(self.now, &mut self.machine)?;
        assert!(packet.len() <= most.expect("a packet without notice"));
        self.machine.tell(&packet);
        self.machine.check();
        self.sent.push(packet.clone());
        Some(packet)
    }

    /// Carries packets until nothing moves.
    fn pump(&mut self) -> Vec<Event> {
        let mut happened = self.events();
        while let Some(packet) = self.take() {
            for answer in self.guest.receive(&packet) {
                happened.extend(self.receive(&answer));
            }
            happened.extend(self.events());
        }
        happened.extend(self.events());
        happened
    }

    fn events(&mut self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.dm.take_event()).collect();
        assert!(events.len() <= 8, "{events:?}");
        events
    }

    fn status(&self) -> Status {
        self.dm.status(&self.machine.book, self.now)
    }

    fn remove(&mut self, pages: u64) -> Result<u64, Refused> {
        self.dm.remove(pages, self.now, &mut self.machine)
    }

    fn add(&mut self, unballoon: u64, hot_add: u64) -> Result<Add, Refused> {
        let add = Add {
            unballoon,
            hot_add,
            partial: false,
        };
        self.dm.add(add, self.now, &mut self.machine)
    }

    /// Removes so much, with a guest that does it.
    fn removed(&mut self, pages: u64) {
        assert_eq!(self.remove(pages), Ok(pages));
        let happened = self.pump();
        let all = Finished::Removed {
            asked: pages,
            given: pages,
            freed: pages,
            end: End::Done,
        };
        assert_eq!(finished(&happened), all);
    }

    fn close(&mut self) -> Vec<Event> {
        self.dm.closed(self.now, &mut self.machine);
        self.machine.check();
        self.events()
    }
}

/// How the order ended that did.
fn finished(happened: &[Event]) -> Finished {
    let mut ends = happened.iter().filter_map(|event| match event {
        Event::Finished(finished) => Some(*finished),
        _ => None,
    });
    let end = ends.next().unwrap_or_else(|| panic!("{happened:?}"));
    assert_eq!(ends.next(), None);
    end
}
