//! The life cycle: what an end means, and the limit of resets.

use root_abi::ExitReason;

use super::fake::exited;
use crate::WorkerEnd;
use crate::life::{Life, Next, SECOND, STORM_RESETS, State};

fn running(now: u64) -> Life {
    let mut life = Life::default();
    life.started(now);
    assert!(life.running() && !life.running(), "it is news once");
    life
}

#[test]
fn ends_lead_to_off_failed_or_a_new_start() {
    let off = |reason: &str| (State::Off(reason.into()), Next::Rest);
    let failed = |reason: &str| (State::Failed(reason.into()), Next::Rest);
    for (end, expected) in [
        (
            exited(ExitReason::PowerOff),
            off("switched off by the guest: because"),
        ),
        (exited(ExitReason::Stopped), off("stopped")),
        (WorkerEnd::Killed, off("killed")),
        (
            exited(ExitReason::Reset),
            (State::Off("reset: because".into()), Next::Start),
        ),
        (
            exited(ExitReason::GuestFault),
            failed("the guest cannot go on: because"),
        ),
        (
            exited(ExitReason::BadDefinition),
            failed("cannot be started: because"),
        ),
        (
            exited(ExitReason::WorkerFault),
            failed("its worker failed: because"),
        ),
        (WorkerEnd::Crashed(" ".into()), failed("its worker crashed")),
    ] {
        let mut life = running(0);
        let next = life.ended(1, &end);
        assert_eq!((life.state().clone(), next), expected, "{end:?}");
    }
}

#[test]
fn reset_while_stopping_is_a_stop() {
    let mut life = running(0);
    assert!(life.stop(1, false));
    assert_eq!(life.ended(2, &exited(ExitReason::Reset)), Next::Rest);
    assert_eq!(life.state(), &State::Off("stopped".into()));
}

#[test]
fn restart_does_not_hide_a_fault() {
    let mut life = running(0);
    life.stop(1, true);
    assert_eq!(life.ended(2, &exited(ExitReason::WorkerFault)), Next::Rest);
    assert_eq!(life.state().word(), "failed");
}

#[test]
fn kill_takes_a_restart_back() {
    let mut life = running(0);
    life.stop(1, true);
    life.kill();
    assert_eq!(life.ended(2, &WorkerEnd::Killed), Next::Rest);
}

#[test]
fn reset_storm_fails_and_slow_resets_do_not() {
    let resets = |gap: u64| {
        let mut life = running(0);
        for count in 1..100u64 {
            if life.ended(count * gap, &exited(ExitReason::Reset)) == Next::Rest {
                return (count as usize, life.state().clone());
            }
            life.started(count * gap);
            life.running();
        }
        (100, life.state().clone())
    };
    let (count, state) = resets(SECOND);
    assert_eq!(count, STORM_RESETS + 1);
    assert_eq!(
        state,
        State::Failed("it reset 6 times within 10 seconds: because".into())
    );
    assert_eq!(resets(2 * SECOND).0, 100, "five in ten seconds are allowed");
}

#[test]
fn uptime_is_that_of_the_run() {
    let mut life = running(3 * SECOND);
    assert_eq!(life.uptime(5 * SECOND), Some(2 * SECOND));
    life.ended(6 * SECOND, &WorkerEnd::Killed);
    assert_eq!(life.uptime(7 * SECOND), None);
}

#[test]
fn end_of_a_worker_that_was_not_there_changes_nothing() {
    let mut life = Life::default();
    assert_eq!(life.ended(0, &exited(ExitReason::Reset)), Next::Rest);
    assert_eq!(life.state(), &State::Off(String::new()));
}
