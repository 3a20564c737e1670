//! What a process has to hear of, and which of its VPs run: the bookkeeping behind the system call `wait`.

use root_abi::{Error, Event, event};

use crate::hv::MAX_VPS;

/// Everything that can wake a process. One word for each kind of news, so that nothing can overflow and no memory is
/// needed on the way of an intercept.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    /// VPs that have been resumed, and neither been intercepted nor stopped since: one bit each.
    running: u64,
    /// VPs whose intercept has not been reported yet.
    pending: u64,
    input: bool,
    stop: bool,
    misbehave: Option<u32>,
    /// How the guest is to end.
    shut_down: Option<u32>,
    /// There is an order about the guest's memory.
    memory: bool,
}

impl Inbox {
    /// A VP is suspended by an intercept. A second notice for the same intercept changes nothing.
    pub fn intercept(&mut self, vp: u32) {
        self.pending |= bit(vp);
        self.running &= !bit(vp);
    }

    /// There is typed input.
    pub fn input(&mut self) {
        self.input = true;
    }

    /// The manager wants the process to stop.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// The manager wants the process to misbehave, in that way.
    pub fn misbehave(&mut self, how: u32) {
        self.misbehave = Some(how);
    }

    /// The manager wants the guest to be asked to end, in that way. A second wish replaces one that is not reported yet.
    pub fn shut_down(&mut self, how: u32) {
        self.shut_down = Some(how);
    }

    /// The manager has an order about the guest's memory.
    pub fn memory(&mut self) {
        self.memory = true;
    }

    /// A VP is about to be resumed.
    ///
    /// # Errors
    /// [`Error::State`] if an intercept of it has not been reported yet: resuming would lose it.
    pub fn resume(&mut self, vp: u32) -> Result<(), Error> {
        if self.pending & bit(vp) != 0 {
            return Err(Error::State);
        }
        self.running |= bit(vp);
        Ok(())
    }

    /// A VP was stopped, or could not be resumed. `suspended` says that it is suspended by an intercept at this moment.
    /// Returns whether an intercept is still to be reported.
    pub fn stopped(&mut self, vp: u32, suspended: bool) -> bool {
        let to_come = self.pending & bit(vp) != 0 || (self.running & bit(vp) != 0 && suspended);
        if !to_come {
            self.running &= !bit(vp);
        }
        to_come
    }

    /// The next thing to report, the most urgent first; each is reported once. `None` if there is nothing before the
    /// deadline.
    pub fn next(&mut self, now: u64, deadline: u64) -> Option<Event> {
        // A stop after the wish to misbehave must not hide it: a process that is to hang is to hang at the stop as well.
        let (kind, vp) = if let Some(how) = self.misbehave.take() {
            (event::DEBUG, how)
        } else if core::mem::take(&mut self.stop) {
            (event::STOP, 0)
        } else if let Some(how) = self.shut_down.take() {
            (event::SHUTDOWN, how)
        } else if core::mem::take(&mut self.memory) {
            (event::MEMORY, 0)
        } else if self.pending != 0 {
            let vp = self.pending.trailing_zeros();
            self.pending &= self.pending.wrapping_sub(1);
            (event::INTERCEPT, vp)
        } else if core::mem::take(&mut self.input) {
            (event::CONSOLE, 0)
        } else if now >= deadline {
            (event::TIMEOUT, 0)
        } else {
            return None;
        };
        Some(Event { kind, vp, now })
    }
}

/// The bit of a VP; none for an index that no VP can have.
fn bit(vp: u32) -> u64 {
    if (vp as usize) < MAX_VPS { 1 << vp } else { 0 }
}

const _: () = assert!(MAX_VPS <= u64::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(inbox: &mut Inbox) -> Option<(u32, u32)> {
        inbox.next(0, u64::MAX).map(|event| (event.kind, event.vp))
    }

    #[test]
    fn news_is_reported_once_and_the_urgent_first() {
        let mut inbox = Inbox::default();
        inbox.input();
        inbox.intercept(5);
        inbox.intercept(2);
        inbox.intercept(5);
        inbox.memory();
        inbox.memory();
        inbox.misbehave(3);
        inbox.shut_down(event::POWER_OFF);
        inbox.shut_down(event::REBOOT);
        inbox.stop();
        let reported: Vec<_> = core::iter::from_fn(|| kind(&mut inbox)).collect();
        let expected = [
            (event::DEBUG, 3),
            (event::STOP, 0),
            (event::SHUTDOWN, event::REBOOT),
            (event::MEMORY, 0),
            (event::INTERCEPT, 2),
            (event::INTERCEPT, 5),
            (event::CONSOLE, 0),
        ];
        assert_eq!(reported, expected);
    }

    #[test]
    fn a_deadline_is_reported_when_it_has_come_and_nothing_else_is_there() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.next(99, 100), None);
        let event = inbox.next(100, 100).unwrap();
        assert_eq!((event.kind, event.now), (event::TIMEOUT, 100));
        inbox.intercept(0);
        assert_eq!(inbox.next(100, 100).unwrap().kind, event::INTERCEPT);
    }

    #[test]
    fn a_vp_is_not_resumed_over_an_unreported_intercept() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.resume(1), Ok(()));
        inbox.intercept(1);
        assert_eq!(inbox.resume(1), Err(Error::State));
        assert_eq!(inbox.resume(2), Ok(()));
        assert_eq!(kind(&mut inbox), Some((event::INTERCEPT, 1)));
        assert_eq!(inbox.resume(1), Ok(()));
    }

    #[test]
    fn stopping_knows_whether_an_intercept_is_still_to_come() {
        let mut inbox = Inbox::default();
        assert!(!inbox.stopped(0, false), "never ran");
        inbox.resume(0).unwrap();
        assert!(!inbox.stopped(0, false), "stopped in full run");
        inbox.resume(0).unwrap();
        assert!(inbox.stopped(0, true), "the notice is on its way");
        inbox.intercept(0);
        assert!(
            inbox.stopped(0, true),
            "the notice has come, the process does not know yet"
        );
        assert_eq!(kind(&mut inbox), Some((event::INTERCEPT, 0)));
        assert!(!inbox.stopped(0, true), "the process knows");
    }

    #[test]
    fn impossible_vp_indexes_change_nothing() {
        let mut inbox = Inbox::default();
        inbox.intercept(64);
        inbox.intercept(u32::MAX);
        assert_eq!(kind(&mut inbox), None);
    }

    proptest! {
        #[test]
        fn every_intercept_is_reported_between_two_resumes(steps in proptest::collection::vec((0u8..3, 0u32..4), 0..100)) {
            let mut inbox = Inbox::default();
            let (mut hit, mut reported) = ([0u32; 4], [0u32; 4]);
            for (step, vp) in steps {
                match step {
                    // The hypervisor intercepts a VP only after it was resumed.
                    0 if inbox.running & bit(vp) != 0 => {
                        inbox.intercept(vp);
                        hit[vp as usize] += 1;
                    }
                    1 => drop(inbox.resume(vp).ok()),
                    2 => if let Some((event::INTERCEPT, vp)) = kind(&mut inbox) {
                        reported[vp as usize] += 1;
                    },
                    _ => {}
                }
            }
            while let Some((_, vp)) = kind(&mut inbox) {
                reported[vp as usize] += 1;
            }
            prop_assert_eq!(hit, reported);
        }
    }
}
