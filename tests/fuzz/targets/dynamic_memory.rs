//! Dynamic Memory: a guest that answers, lies, or sends bytes; a host that gives orders; time, resets, pins, and memory
//! that runs out. The machine asserts that no frame is lost, none is taken before the guest has returned it, and none
//! named before it is backed.
//!
//! Input: version and capabilities (a byte each), then actions of a byte and what it needs, see [`Play::act`].
#![no_main]

#[allow(dead_code, reason = "other targets read larger numbers")]
mod input;
#[allow(dead_code, reason = "the tests of the crate look at more of it")]
#[path = "../../../root/dynamic-memory/src/tests/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the tests of the crate look at more of it")]
#[path = "../../../root/dynamic-memory/src/tests/set.rs"]
mod set;

use dynamic_memory::{
    Add, DynamicMemory, GuestPages, MAX_EVENTS, Memory, PageRun, PageState, Pin, QUIET, SECOND,
    Settings, Time, wire as messages,
};

use input::Input;
use machine::Machine;

/// More than an input that is worth it has.
const MOST_ACTIONS: usize = 500;
/// Later than any VM lives.
const LAST: Time = 1 << 60;
/// RAM of few pages, so that guesses hit it.
const STARTUP: [PageRun; 2] = [PageRun::new(0, 100), PageRun::new(128, 900)];
/// Frames beside it.
const FREE: u64 = 1000;

struct Play {
    dm: DynamicMemory,
    machine: Machine,
    now: Time,
    last_id: u32,
    /// Frames that others have.
    others: Vec<u64>,
}

impl Play {
    fn new(version: u8, capabilities: u8) -> Self {
        let mut play = Self {
            dm: DynamicMemory::new(machine::small_settings()),
            machine: Machine::new(&STARTUP, FREE),
            now: 0,
            last_id: 0,
            others: Vec::new(),
        };
        play.machine.long_mode = capabilities & 0x80 == 0;
        play.connect(version, capabilities, true);
        play.now = QUIET;
        play.report(500);
        play
    }

    /// A message of the guest with an id of its own.
    fn send(&mut self, kind: u16, body: &[u8]) {
        self.last_id += 1;
        let size = (body.len() + 8) as u16;
        let mut message = [kind.to_le_bytes(), size.to_le_bytes()].concat();
        message.extend(self.last_id.to_le_bytes());
        message.extend(body);
        self.receive(&message);
    }

    fn receive(&mut self, message: &[u8]) {
        self.machine.note(message);
        let visible = self.machine.book.visible();
        self.dm.received(message, self.now, &mut self.machine);
        assert!(self.machine.book.visible() >= visible);
    }

    fn connect(&mut self, version: u8, capabilities: u8, is_fresh: bool) {
        self.dm.opened(self.now, &mut self.machine);
        if is_fresh {
            self.last_id = 0;
            self.machine.returned.clear();
        }
        let version: u32 = [3, 0x1_0000, 0x2_0000, 7][usize::from(version % 4)];
        self.send(1, &[version.to_le_bytes(), [0; 4]].concat());
        self.take();
        let mut report = [0; 24];
        report[0] = capabilities & 0x3f;
        self.send(3, &report);
        while self.take() {}
    }

    fn report(&mut self, committed: u64) {
        let mut report = [0; 40];
        report[8..16].copy_from_slice(&committed.to_le_bytes());
        self.send(5, &report);
    }

    /// Whether there was a packet.
    fn take(&mut self) -> bool {
        let most = self.dm.packet_len();
        let Some(packet) = self.dm.take_packet(self.now, &mut self.machine) else {
            return false;
        };
        assert!(most.is_some_and(|most| packet.len() <= most));
        self.machine.tell(&packet);
        true
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 19 {
            0 => self.now = (self.now + time(input)).min(LAST),
            1 => {
                let (version, capabilities) = (input.u8(), input.u8());
                self.connect(version, capabilities, version & 0x80 == 0);
            }
            2 => self.dm.closed(self.now, &mut self.machine),
            3 => self.report(u64::from(input.u16()) << (input.u8() % 49)),
            4 => self.remove(input.u16().into()),
            5 => self.add(input.u16().into(), input.u16().into()),
            6 => drop(self.take()),
            7 => self.balloon(input),
            8 => self.send(9, &[]),
            9 => {
                let body = [
                    u32::from(input.u16()).to_le_bytes(),
                    u32::from(input.u8() % 3).to_le_bytes(),
                ];
                self.send(11, &body.concat());
            }
            10 => {
                let len = usize::from(input.u8());
                let message = input.bytes(len).to_vec();
                self.receive(&message);
            }
            11 => {
                self.dm
                    .touched(input.u16().into(), self.now, &mut self.machine);
            }
            12 => drop(self.machine.passing.insert(u64::from(input.u16() % 2048))),
            13 => drop(self.machine.lasting.insert(u64::from(input.u16() % 2048))),
            14 => {
                self.machine.passing.clear();
                let all = PageRun::new(0, 1 << 40);
                self.dm.unpinned(all, self.now, &mut self.machine);
            }
            15 if input.u8() & 1 == 0 => self.dm.paused(self.now),
            15 => self.dm.resumed(self.now),
            16 => self.reset(),
            17 => {
                self.machine.free.append(&mut self.others);
                let kept = self.machine.free.len().saturating_sub(input.u16().into());
                self.others = self.machine.free.split_off(kept);
            }
            _ => self.machine.takes = input.u8().into(),
        }
        self.check();
    }

    fn remove(&mut self, pages: u64) {
        let before = self.dm.status(&self.machine.book, self.now);
        if let Ok(asked) = self.dm.remove(pages, self.now, &mut self.machine) {
            assert!(!before.is_frozen && asked <= before.assigned - before.minimum);
        }
    }

    fn add(&mut self, unballoon: u64, hot_add: u64) {
        let before = self.dm.status(&self.machine.book, self.now);
        let add = Add {
            unballoon,
            hot_add,
            partial: hot_add % 2 == 1,
        };
        if let Ok(asked) = self.dm.add(add, self.now, &mut self.machine) {
            assert!(!before.is_frozen);
            assert!(before.assigned + asked.unballoon + asked.hot_add <= before.maximum);
        }
    }

    fn balloon(&mut self, input: &mut Input<'_>) {
        let (more, count) = (input.u8(), input.u8() % 8);
        let mut body = vec![0; 4];
        body.extend((u32::from(more & 1) | u32::from(count) << 1).to_le_bytes());
        for _ in 0..count {
            let (start, pages) = (u64::from(input.u16()), u64::from(input.u16()));
            body.extend((pages << 40 | start).to_le_bytes());
        }
        self.send(7, &body);
    }

    fn reset(&mut self) {
        self.machine.is_stopped = true;
        self.machine.passing.clear();
        self.machine.lasting.clear();
        self.machine.takes = u64::MAX;
        if self.dm.reset(self.now, &mut self.machine).is_ok() {
            self.machine.returned.clear();
            assert_eq!(self.machine.book.assigned(), 1000);
            assert_eq!(self.machine.book.visible(), 1000);
        }
        self.machine.is_stopped = false;
    }

    fn check(&mut self) {
        self.dm.tick(self.now, &mut self.machine);
        assert!(self.dm.next_deadline().is_none_or(|next| next > self.now));
        let events = std::iter::from_fn(|| self.dm.take_event()).count();
        assert!(events < MAX_EVENTS);
        assert_eq!(self.dm.counters().events_dropped, 0);
        let kept = self.machine.free.len();
        self.machine.free.append(&mut self.others);
        self.machine.check_pages();
        self.others = self.machine.free.split_off(kept);
    }
}

/// From nothing to years.
fn time(input: &mut Input<'_>) -> Time {
    let (mantissa, exponent) = (Time::from(input.u8()), input.u8());
    match exponent {
        // Seconds, in which everything here is counted.
        0 => mantissa * SECOND,
        _ => mantissa << (exponent % 50),
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut play = Play::new(input.u8(), input.u8());
    for _ in 0..MOST_ACTIONS {
        if input.is_over() {
            return;
        }
        play.act(&mut input);
    }
});
