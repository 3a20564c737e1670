//! What the driver does with the guest's memory.

use guests::dm::{MAX_MESSAGE, MAX_RANGES, Message, Request, Run};
use guests::metal::balloon::{Arena, Driver, MIB};
use guests::metal::{exit, time, vmbus};
use guests::println;
use guests::rng::Rng;

use crate::plan::Plan;

/// Pages of the runs that are given away.
const RUNS: [u64; 5] = [1, 1, 7, 64, 512];
/// Pages that are looked at after each operation.
const SAMPLE: u64 = 64;

/// What has been done, in pages but for the first.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    operations: u64,
    given: u64,
    returned: u64,
    added: u64,
    touched: u64,
}

/// How an answer goes wrong.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Reset,
    Reopen,
    Renew,
}

/// The guest at work.
pub struct Work<'a> {
    plan: Plan,
    arena: &'a mut Arena,
    driver: Driver,
    rng: Rng,
    tally: Tally,
    /// What was typed, MiB.
    size: Option<u64>,
    /// What was in the balloon of a driver that is gone: it does not come back, unless it is touched.
    lost: u64,
}

impl<'a> Work<'a> {
    /// With an open channel.
    pub fn new(plan: Plan, arena: &'a mut Arena, driver: Driver) -> Self {
        Self {
            plan,
            arena,
            driver,
            rng: Rng::new(plan.seed),
            tally: Tally::default(),
            size: None,
            lost: 0,
        }
    }

    /// Says what the driver can do.
    pub fn begin(&mut self) {
        self.driver.shake_hands(self.plan.unit);
        println!("{}: reports", self.plan.name);
    }

    /// From now on it needs as much.
    pub fn set_size(&mut self, size: Option<u64>) {
        self.size = size;
    }

    /// Reports that it needs `size` MiB, if nothing else was typed. What its driver has in the balloon counts as committed.
    pub fn report(&mut self, size: u64) {
        let needed = self.size.unwrap_or(size) * MIB;
        let ballooned = self.arena.ballooned().count().saturating_sub(self.lost);
        let available = self.arena.owned().count().saturating_sub(needed);
        self.driver
            .say(|id| Message::report(id, available, needed + ballooned));
    }

    /// Does what is asked for.
    pub fn serve(&mut self) {
        let mut buffer = [0; MAX_MESSAGE];
        let mut others = [0; MAX_MESSAGE];
        while let Some(request) = self.driver.request(&mut buffer) {
            match request {
                Request::Balloon(pages) => self.give(pages.into()),
                Request::Unballoon(mut more, runs) => {
                    runs.iter().for_each(|run| self.regain(run));
                    while more {
                        let Request::Unballoon(further, runs) = self.driver.next(&mut others)
                        else {
                            panic!("another request within one");
                        };
                        runs.iter().for_each(|run| self.regain(run));
                        more = further;
                    }
                    if self.dawdle() {
                        self.driver.say(Message::unballoon);
                    }
                    self.done();
                }
                Request::HotAdd(run) => {
                    assert!(run.start >= self.arena.top(), "{run:?} is not above RAM");
                    self.arena.gain(run);
                    self.tally.added += run.count;
                    if self.dawdle() {
                        self.driver
                            .say(|id| Message::hot_add(id, run.count as u32, 1));
                    }
                    self.done();
                }
                Request::Info(_) => {}
                other => panic!("{other:?} at the wrong time"),
            }
        }
    }

    fn regain(&mut self, run: Run) {
        self.arena.regain(run);
        self.tally.returned += run.count;
    }

    fn done(&mut self) {
        self.tally.operations += 1;
        let page = self.rng.below(self.arena.top());
        if let Some(run) = self.arena.owned().run_around(page, SAMPLE) {
            self.arena.check(run);
        }
    }

    /// Gives pages away, with the pattern in them.
    fn give(&mut self, pages: u64) {
        let mut left = pages.min(self.arena.owned().count());
        let mut runs = [Run::default(); MAX_RANGES];
        loop {
            let mut used = 0;
            for place in &mut runs {
                let most = self.rng.pick(&RUNS).min(left);
                let from = self.rng.below(self.arena.top());
                let Some(run) = self.arena.owned().run_around(from, most) else {
                    break;
                };
                if most == 0 {
                    break;
                }
                self.arena.lose(run);
                (*place, used, left) = (run, used + 1, left - run.count);
            }
            if !self.dawdle() {
                runs[..used].iter().for_each(|run| self.arena.keep(*run));
                return;
            }
            self.tally.given += runs[..used].iter().map(|run| run.count).sum::<u64>();
            self.driver
                .say(|id| Message::balloon(id, left != 0, &runs[..used]));
            if left == 0 {
                break;
            }
        }
        self.touch();
        self.done();
    }

    /// Uses pages that it has given away: they are zero, and its own again.
    fn touch(&mut self) {
        for _ in 0..self.plan.touch {
            let page = self.rng.below(self.arena.top());
            if let Some(run) = self.arena.ballooned().run_around(page, 1) {
                self.arena.regain(run);
                self.tally.touched += 1;
            }
        }
    }

    /// Uses all that it has given away. Each page is zero; the processor waits for those that there is no memory for.
    pub fn touch_all(&mut self) {
        let before = self.tally.touched;
        while let Some(run) = self.arena.ballooned().run_from(0, RUNS[4]) {
            self.arena.regain(run);
            self.tally.touched += run.count;
        }
        println!("ok touched {} pages", self.tally.touched - before);
    }

    /// Takes its time before an answer. Whether there is to be one: mischief may have come in between.
    fn dawdle(&mut self) -> bool {
        if self.plan.pause != 0 {
            let micros = self.rng.below(self.plan.pause * 1000);
            let end = time::reference() + micros * 10;
            while time::reference() < end {
                vmbus::sleep();
            }
        }
        let is_due = |one_in| self.rng.one_in(one_in);
        if !self.plan.mischief.is_some_and(is_due) {
            return true;
        }
        let mischief = self
            .rng
            .pick(&[Mischief::Reset, Mischief::Reopen, Mischief::Renew]);
        println!("{}: {mischief:?}", self.plan.name);
        match mischief {
            Mischief::Reset => exit::reset(),
            Mischief::Reopen => self.driver.reopen(),
            Mischief::Renew => {
                self.driver.renew();
                self.lost = self.arena.ballooned().count();
            }
        }
        self.begin();
        false
    }

    /// Looks at all of its memory, and says what was done.
    pub fn finish(&mut self) {
        self.arena.check_all();
        let Tally {
            operations,
            given,
            returned,
            added,
            touched,
        } = self.tally;
        println!(
            "ok dm-pattern {}: operations {operations} given {given} returned {returned} added {added} touched {touched}",
            self.plan.name
        );
        assert!(given != 0 && returned + added != 0, "nothing was moved");
    }
}
