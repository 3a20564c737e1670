//! For how long a processor has run, as anybody may ask at any moment.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::time::RefTime;

/// One word: twice the time that the processor had run when it went idle, and 1; or, while it runs, twice the time that it
/// has been idle in all. It is written by the processor alone.
#[derive(Debug)]
pub struct RunClock(AtomicU64);

const IDLE: u64 = 1;

impl RunClock {
    /// Of a processor that has run since the clock's start.
    pub const fn running() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Of a processor that has been idle since the clock's start.
    pub const fn idle() -> Self {
        Self(AtomicU64::new(IDLE))
    }

    /// The processor has nothing to do from `now` on.
    pub fn rest(&self, now: RefTime) {
        let ran = self.run_time(now).units();
        self.0.store(ran << 1 | IDLE, Ordering::Relaxed);
    }

    /// It has something to do from `now` on.
    pub fn work(&self, now: RefTime) {
        let idle = now.saturating_sub(self.run_time(now)).units();
        self.0.store(idle << 1, Ordering::Relaxed);
    }

    /// For how long it has run at `now`.
    pub fn run_time(&self, now: RefTime) -> RefTime {
        let word = self.0.load(Ordering::Relaxed);
        let time = RefTime::from_units(word >> 1);
        if word & IDLE == 0 {
            now.saturating_sub(time)
        } else {
            time
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_while_the_processor_does() {
        let at = RefTime::from_millis;
        let (first, second) = (RunClock::running(), RunClock::idle());
        assert_eq!(first.run_time(at(10)), at(10));
        assert_eq!(second.run_time(at(10)), at(0));
        for clock in [&first, &second] {
            clock.work(at(10));
            clock.rest(at(15));
            clock.rest(at(17));
        }
        assert_eq!(first.run_time(at(20)), at(15));
        assert_eq!(second.run_time(at(20)), at(5));
        second.work(at(30));
        second.work(at(31));
        assert_eq!(second.run_time(at(33)), at(8));
        // Somebody else's clock may be a little behind.
        assert_eq!(second.run_time(at(24)), at(0));
    }
}
