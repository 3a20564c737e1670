//! Wrong answers to requests, another one each time.

use guests::dm::{MAX_MESSAGE, MAX_RANGES, Message, Request, Run};
use guests::metal::balloon::{Arena, Driver};
use guests::metal::{memory, vmbus};
use guests::println;
use spin::MutexGuard;

use crate::pause;

/// Units of new memory: 4 MiB.
const UNIT: u32 = 2;
/// Longer than the host waits for an answer.
const LONG: u64 = 65;
const PAGE: u64 = 4096;

/// An answer.
type Answer<R> = (&'static str, fn(&mut Answers, R));

/// To a request for pages.
const TO_BALLOON: [Answer<u64>; 9] = [
    ("nowhere", Answers::nowhere),
    ("overlapping", Answers::overlapping),
    ("rings given", Answers::rings),
    ("twice", Answers::twice),
    ("too many", Answers::too_many),
    ("touched", Answers::touched),
    ("parts of nothing", Answers::parts),
    ("late", Answers::late),
    ("itself", Answers::itself),
];
/// To an unballoon.
const TO_UNBALLOON: [Answer<()>; 3] = [
    ("unballoon answered twice", |answers, ()| {
        answers.unballooned();
        answers.unballooned();
    }),
    ("unballoon answered wrongly", |answers, ()| {
        answers.driver.send(&Message::hot_add(7, 1, 1));
        answers.driver.send(&Message::balloon(7, false, &[]));
        answers.unballooned();
    }),
    ("unballoon not answered", |_, ()| pause(LONG)),
];
/// To new memory.
const TO_HOT_ADD: [Answer<Run>; 3] = [
    ("more than offered", |answers, run| {
        answers.arena.gain(run);
        answers.added(u32::MAX, 1);
        answers.added(run.count as u32, 1);
    }),
    ("not now", |answers, _| answers.added(0, 0)),
    ("a part", |answers, run| {
        let part = Run::new(run.start, run.count / 2 + 1);
        answers.arena.gain(part);
        answers.added(part.count as u32, 1);
    }),
];

/// The guest.
pub struct Answers {
    driver: Driver,
    arena: MutexGuard<'static, Arena>,
    /// How many requests of each kind there were.
    asked: [usize; 3],
}

impl Answers {
    /// With an open channel.
    pub fn new(driver: Driver, arena: MutexGuard<'static, Arena>) -> Self {
        Self {
            driver,
            arena,
            asked: [0; 3],
        }
    }

    /// Says what the driver can do.
    pub fn begin(&mut self) {
        self.driver.shake_hands(UNIT);
    }

    /// Reports that it needs so many pages, beside those in the balloon.
    pub fn report(&mut self, needed: u64) {
        let ballooned = self.arena.ballooned().count();
        self.driver
            .say(|id| Message::report(id, 0, needed + ballooned));
    }

    /// Answers what is asked.
    pub fn serve(&mut self) {
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(request) = self.driver.request(&mut buffer) {
            match request {
                Request::Balloon(pages) => self.answer(0, &TO_BALLOON, pages.into()),
                Request::Unballoon(more, runs) => {
                    runs.iter().for_each(|run| self.regain(run));
                    if !more {
                        self.answer(1, &TO_UNBALLOON, ());
                    }
                }
                Request::HotAdd(run) => self.answer(2, &TO_HOT_ADD, run),
                _ => {}
            }
        }
    }

    /// Gives the next answer, or the right one when there are no more.
    fn answer<R>(&mut self, kind: usize, answers: &[Answer<R>], request: R) {
        let number = self.asked[kind];
        self.asked[kind] += 1;
        let (name, answer) = answers[number % answers.len()];
        println!("{name}");
        answer(self, request);
        println!("ok {name}");
    }

    /// Memory that comes back is zero, but for what the hypervisor has laid over it.
    fn regain(&mut self, run: Run) {
        let overlays = vmbus::overlays().map(|gpa| gpa / PAGE);
        for page in run.start..run.end() {
            if !overlays.contains(&page) {
                self.arena.regain(Run::new(page, 1));
            }
        }
    }

    fn unballooned(&mut self) {
        self.driver.say(Message::unballoon);
    }

    fn added(&mut self, pages: u32, result: u32) {
        self.driver.say(|id| Message::hot_add(id, pages, result));
    }

    fn send(&mut self, more: bool, runs: &[Run]) {
        self.driver.say(|id| Message::balloon(id, more, runs));
    }

    /// As many of the guest's pages as a message can name, at most so many; they are given away.
    fn pick(&mut self, pages: u64) -> [Run; MAX_RANGES] {
        let mut runs = [Run::default(); MAX_RANGES];
        let mut left = pages;
        for place in &mut runs {
            let top = self.arena.top().saturating_sub(left);
            let Some(run) = self.arena.owned().run_around(top, left.min(512)) else {
                break;
            };
            if left == 0 {
                break;
            }
            self.arena.lose(run);
            (*place, left) = (run, left - run.count);
        }
        runs
    }

    /// Gives what is asked for, or nearly.
    fn give(&mut self, pages: u64) -> [Run; MAX_RANGES] {
        let runs = self.pick(pages);
        self.send(false, used(&runs));
        runs
    }

    /// Pages that are no RAM, and ranges that are none.
    fn nowhere(&mut self, pages: u64) {
        let top = self.arena.top();
        let runs = [
            Run::new(top, 1),
            Run::new(top - 1, 2),
            Run::new(0, 0),
            Run::new(0xD_0000, 1),
            Run::new(0xF_EE00, 1),
            Run::new(0x10_0000, pages),
            Run::new((1 << 40) - 1, 1),
            Run::new((1 << 40) - 1, 0xFF_FFFF),
            Run::new(0, 0xFF_FFFF),
        ];
        self.send(true, &runs);
        self.give(pages);
    }

    /// Ranges that share pages, and a page often.
    fn overlapping(&mut self, pages: u64) {
        let runs = self.pick(pages.min(64));
        let first = runs[0];
        let half = Run::new(first.start + first.count / 2, first.count / 2);
        self.send(true, &[first, half, first]);
        self.send(true, &[Run::new(first.start, 1); MAX_RANGES]);
        self.send(true, used(&runs));
        self.give(pages.saturating_sub(64));
    }

    /// The pages that the rings are in, and those that lie below overlays.
    fn rings(&mut self, pages: u64) {
        let (gpa, count) = vmbus::rings();
        let overlays = vmbus::overlays().map(|gpa| Run::new(gpa / PAGE, 1));
        self.send(true, &[Run::new(gpa / PAGE, count)]);
        for run in overlays {
            self.arena.lose(run);
        }
        self.send(true, &overlays);
        self.give(pages - 2);
    }

    /// The same answer twice, and the same pages again.
    fn twice(&mut self, pages: u64) {
        let runs = self.give(pages);
        self.send(false, used(&runs));
        self.send(true, used(&runs));
    }

    /// More than asked for.
    fn too_many(&mut self, pages: u64) {
        self.give(pages + 100);
    }

    /// Pages that are used as soon as they are given; each is zero.
    fn touched(&mut self, pages: u64) {
        let runs = self.give(pages);
        for run in used(&runs) {
            self.arena.regain(*run);
        }
    }

    /// Parts without pages, for longer than the host waits, and then the pages.
    fn parts(&mut self, pages: u64) {
        for _ in 0..LONG {
            for _ in 0..10 {
                self.send(true, &[]);
            }
            pause(1);
        }
        self.give(pages);
        self.reopen();
    }

    /// No answer for longer than the host waits, nor reports.
    fn late(&mut self, pages: u64) {
        pause(LONG);
        self.give(pages);
        self.reopen();
    }

    fn reopen(&mut self) {
        self.driver.reopen();
        self.begin();
    }

    /// The pages that this program is in. It does not come back from that.
    fn itself(&mut self, pages: u64) {
        let first = 0x10_0000 / PAGE;
        let image = memory::end_of_image().div_ceil(PAGE) - first;
        println!("ok itself");
        self.send(false, &[Run::new(first, image.min(pages))]);
        pause(LONG);
        panic!("the program is still there");
    }
}

/// The runs that have pages.
fn used(runs: &[Run]) -> &[Run] {
    let count = runs.iter().take_while(|run| run.count != 0).count();
    &runs[..count]
}
