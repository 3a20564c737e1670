//! Whether the TSCs of all processors are one clock.
//!
//! The processor that booted and each other one hand a stamp to and fro. Whoever takes it reads its own TSC, which must not
//! be before the stamp. A difference that is smaller than the time of one way is not found; nobody who passes on what he has
//! read notices it either.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How often each of two processors takes the stamp. Those of an emulator may have to take turns for it.
const ROUNDS: u32 = 20;

/// A processor has not answered.
const UNKNOWN: u64 = u64::MAX;

/// The stamp, and whose turn it is.
#[derive(Debug)]
pub struct TscAgreement {
    /// Goes up by one with each taking: even steps are of the processor that booted, odd ones of the other.
    step: AtomicU32,
    stamp: AtomicU64,
    /// The most ticks by which a TSC was before the stamp, or [`UNKNOWN`].
    behind: AtomicU64,
}

impl TscAgreement {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self {
            step: AtomicU32::new(0),
            stamp: AtomicU64::new(0),
            behind: AtomicU64::new(0),
        }
    }

    /// The part of the processor that booted, with the other one of this index: from 1 on, one after the other. It waits for
    /// that `patience` ticks at a time.
    pub fn compare_with(&self, other: u32, tsc: impl Fn() -> u64, patience: u64) {
        if !self.play(first_step(other), tsc, patience) {
            self.behind.store(UNKNOWN, Ordering::Relaxed);
        }
    }

    /// The part of another processor, which waits until it is asked: `patience` ticks at most, then it is `false`.
    pub fn answer(&self, own: u32, tsc: impl Fn() -> u64, patience: u64) -> bool {
        self.play(first_step(own) + 1, tsc, patience)
    }

    /// The most ticks by which one TSC was found behind another: 0 if they are one clock. `None` if one did not answer.
    pub fn difference(&self) -> Option<u64> {
        let behind = self.behind.load(Ordering::Acquire);
        (behind != UNKNOWN).then_some(behind)
    }

    /// Whether they are one clock, as far as they were compared.
    pub fn is_common(&self) -> bool {
        self.difference() == Some(0)
    }

    fn play(&self, first: u32, tsc: impl Fn() -> u64, patience: u64) -> bool {
        for round in 0..ROUNDS {
            let step = first + 2 * round;
            let since = tsc();
            while self.step.load(Ordering::Acquire) != step {
                if tsc().wrapping_sub(since) > patience {
                    return false;
                }
                core::hint::spin_loop();
            }
            // Both are relaxed: the step orders them.
            let stamp = self.stamp.load(Ordering::Relaxed);
            let now = tsc();
            self.behind
                .fetch_max(stamp.saturating_sub(now), Ordering::Relaxed);
            self.stamp.store(now, Ordering::Relaxed);
            self.step.store(step + 1, Ordering::Release);
        }
        true
    }
}

impl Default for TscAgreement {
    fn default() -> Self {
        Self::new()
    }
}

/// The first step with this processor.
const fn first_step(other: u32) -> u32 {
    other.saturating_sub(1) * 2 * ROUNDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    const PATIENCE: u64 = 10_000_000_000;

    /// What is found with processors whose TSCs are so many nanoseconds ahead of the first one's.
    fn found(ahead: &[i64]) -> u64 {
        let agreement = TscAgreement::new();
        let start = Instant::now();
        // Large enough for one that is behind.
        let tsc = |ahead: i64| {
            // The others may need the processor that this thread is on.
            thread::yield_now();
            let now = (1 << 40) + start.elapsed().as_nanos() as u64;
            now.wrapping_add_signed(ahead)
        };
        thread::scope(|scope| {
            for (index, &ahead) in (1..).zip(ahead) {
                let agreement = &agreement;
                scope.spawn(move || assert!(agreement.answer(index, || tsc(ahead), PATIENCE)));
            }
            for index in 1..=ahead.len() as u32 {
                agreement.compare_with(index, || tsc(0), PATIENCE);
            }
        });
        agreement.difference().expect("all have answered")
    }

    #[test]
    fn one_clock_is_never_before_itself() {
        assert_eq!(found(&[0, 0, 0]), 0);
    }

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_found() {
        for ahead in [100_000_000, -100_000_000] {
            let difference = found(&[0, ahead, 0]);
            assert!(difference > 50_000_000 && difference <= 100_000_000);
        }
    }

    #[test]
    fn a_processor_that_does_not_answer_is_not_waited_for_for_ever() {
        let agreement = TscAgreement::new();
        let time = AtomicU64::new(0);
        let tsc = || time.fetch_add(1, Ordering::Relaxed);
        agreement.compare_with(1, tsc, 1000);
        assert!(agreement.difference().is_none() && !agreement.is_common());
    }
}
