//! A machine with frames, which checks what is done to them.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::FromBytes;

use super::messages::{Header, Incoming, MAX_INCOMING, MessageType, WireRange, decode};
use super::set::Pages;
use super::{GuestPages, Memory, PageRun, PageState, Pin, Settings};

/// Memory of a machine with one VM. It remembers what the guest has returned and asserts the invariants of the sheet's
/// section 2.2 in each call.
pub struct Machine {
    pub book: GuestPages,
    /// Pages that have a frame, and which.
    pub frames: Pages,
    frame_of: Vec<u64>,
    pub free: Vec<u64>,
    total: usize,
    /// What the guest has returned and has not been told to have again.
    pub returned: Pages,
    /// New memory that the guest has not said to have.
    pub fresh: Pages,
    pub passing: Pages,
    pub lasting: Pages,
    pub long_mode: bool,
    /// Pages that `take` still manages.
    pub takes: u64,
    /// The VM has stopped, and everything may be taken.
    pub is_stopped: bool,
}

/// Limits of a VM of few pages, so that guesses hit them.
pub fn small_settings() -> Settings {
    Settings {
        minimum: 50,
        maximum: 3000,
        holes: vec![PageRun::new(1536, 100)],
        end_of_addresses: 1 << 20,
    }
}

impl Machine {
    /// A VM with that startup memory, and free frames beside.
    pub fn new(startup: &[PageRun], free: u64) -> Self {
        let book = GuestPages::new(startup).unwrap();
        let frames: Pages = startup
            .iter()
            .flat_map(|run| run.start..run.end())
            .collect();
        let frame_of = (0..book.top()).collect();
        let used = book.top();
        let free: Vec<u64> = (used..used + free).collect();
        Self {
            book,
            total: frames.len() + free.len(),
            frames,
            frame_of,
            free,
            returned: Pages::default(),
            fresh: Pages::default(),
            passing: Pages::default(),
            lasting: Pages::default(),
            long_mode: true,
            takes: u64::MAX,
            is_stopped: false,
        }
    }

    fn pin_of(&self, page: u64) -> Pin {
        if self.lasting.contains(&page) {
            Pin::Lasting
        } else if self.passing.contains(&page) {
            Pin::Passing
        } else {
            Pin::None
        }
    }

    /// The guest is told that it has these pages again.
    fn told(&mut self, run: PageRun) {
        for page in run.start..run.end() {
            assert!(self.frames.contains(&page), "N7: {page:#x} is not backed");
            assert!(
                self.returned.remove(&page),
                "N6: {page:#x} was not returned"
            );
        }
    }

    /// Remembers what a message of the guest says to have returned, and to have taken.
    pub fn note(&mut self, message: &[u8]) {
        assert!(message.len() <= MAX_INCOMING + 8);
        match decode(message) {
            Ok(Incoming::Balloon { ranges, .. }) => {
                // Once each: some tests send the same range 510 times.
                let runs: BTreeSet<PageRun> = ranges.iter().map(|range| range.run()).collect();
                for run in runs {
                    self.returned
                        .extend(run.start..run.end().min(self.book.top()));
                }
            }
            Ok(Incoming::HotAdd { page_count, .. }) => {
                if let Some(offered) = self.book.offered() {
                    let (taken, _) = offered.split(page_count.into());
                    for page in taken.start..taken.end() {
                        self.fresh.remove(&page);
                    }
                }
            }
            _ => {}
        }
    }

    /// Checks what the guest is told by a packet.
    pub fn tell(&mut self, packet: &[u8]) {
        assert!(packet.len() <= 4096, "trap 5");
        let (header, body) = Header::read_from_prefix(packet).unwrap();
        match MessageType::from_bits(header.message_type.get()) {
            MessageType::UNBALLOON_REQUEST => {
                let ranges = <[WireRange]>::ref_from_bytes(&body[8..]).unwrap();
                assert!(ranges.len() <= 510, "trap 6");
                for range in ranges {
                    self.told(range.run());
                }
            }
            MessageType::MEM_HOT_ADD_REQUEST => {
                let (range, _) = WireRange::read_from_prefix(body).unwrap();
                let run = range.run();
                assert_eq!(Some(run), self.book.offered());
                assert!(self.frames.has_all(run.start, run.count), "N7");
            }
            _ => {}
        }
    }

    /// Every frame is somewhere, and the book says the same.
    pub fn check(&self) {
        assert_eq!(self.frames.len() + self.free.len(), self.total, "N5");
        let book = &self.book;
        assert_eq!(book.assigned(), self.frames.len() as u64);
        assert_eq!(
            book.assigned(),
            book.visible() - book.ballooned() + book.offered_pages()
        );
        assert_eq!(
            book.assigned() + book.removed(),
            book.startup() + book.added() + book.offered_pages()
        );
    }

    /// As `check`, page by page.
    pub fn check_pages(&self) {
        self.check();
        let mut backed = 0;
        let mut counts = BTreeMap::new();
        for (state, run) in self.book.runs() {
            *counts.entry(state).or_insert(0) += run.count;
            for page in run.start..run.end() {
                assert_eq!(self.frames.contains(&page), state.is_backed(), "{page:#x}");
                assert_eq!(self.book.state(page), Some(state));
            }
            backed += if state.is_backed() { run.count } else { 0 };
        }
        for state in PageState::ALL {
            assert_eq!(
                counts.get(&state).copied().unwrap_or(0),
                self.book.count(state)
            );
        }
        assert_eq!(backed + self.book.offered_pages(), self.frames.len() as u64);
    }
}

impl Memory for Machine {
    fn book(&mut self) -> &mut GuestPages {
        &mut self.book
    }

    fn pin(&mut self, run: PageRun) -> (Pin, u64) {
        let pin = self.pin_of(run.start);
        let same = (run.start..run.end())
            .take_while(|&page| self.pin_of(page) == pin)
            .count();
        (pin, same as u64)
    }

    fn take(&mut self, run: PageRun) -> u64 {
        assert!(!run.is_empty());
        let mut done = 0;
        for page in run.start..run.end() {
            if self.takes == 0 {
                break;
            }
            self.takes -= 1;
            let is_fresh = self.fresh.remove(&page);
            assert!(
                self.is_stopped || is_fresh || self.returned.contains(&page),
                "N2: {page:#x}"
            );
            // What was never the guest's has nothing in it that could be in use: a pin there is an overlay's, on an address
            // that had no RAM, and that lies above whatever RAM there is.
            assert!(
                self.is_stopped || is_fresh || self.pin_of(page) == Pin::None,
                "N3: {page:#x}"
            );
            assert!(self.frames.remove(&page), "taken twice");
            self.free.push(self.frame_of[page as usize]);
            done += 1;
        }
        done
    }

    fn back(&mut self, run: PageRun) -> u64 {
        assert!(!run.is_empty());
        let mut done = 0;
        for page in run.start..run.end() {
            let Some(frame) = self.free.pop() else { break };
            assert!(self.frames.insert(page), "{page:#x} is backed");
            let at = page as usize;
            if self.frame_of.len() <= at {
                self.frame_of.resize(at + 4096, 0);
            }
            self.frame_of[at] = frame;
            if self.book.state(page).is_none() {
                self.fresh.insert(page);
            }
            done += 1;
        }
        done
    }

    fn long_mode(&mut self) -> bool {
        self.long_mode
    }
}
