//! The life cycle: what an end means, and the limit of resets.

use root_abi::ExitReason;

use super::fake::exited;
use crate::WorkerEnd;
use crate::definition::Restart;
use crate::life::{FIRST_REST, GOOD_RUN, LONGEST_REST, Life, Next, SECOND, STORM_RESETS, State};

const NEVER: Restart = Restart::Never;

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
        let next = life.ended(1, &end, NEVER);
        assert_eq!((life.state().clone(), next), expected, "{end:?}");
    }
}

#[test]
fn reset_while_stopping_is_a_stop() {
    let mut life = running(0);
    assert!(life.stop(1, false));
    assert_eq!(life.ended(2, &exited(ExitReason::Reset), NEVER), Next::Rest);
    assert_eq!(life.state(), &State::Off("stopped".into()));
}

#[test]
fn a_guest_that_was_asked_to_switch_off_stays_off_and_one_that_fails_instead_does_not() {
    let mut life = running(0);
    life.shut_down();
    let off = exited(ExitReason::PowerOff);
    assert_eq!(life.ended(1, &off, Restart::Always), Next::Rest);
    life.started(2);
    assert_ne!(
        life.ended(3, &off, Restart::Always),
        Next::Rest,
        "the wish is over"
    );
    let mut life = running(0);
    life.shut_down();
    let crash = WorkerEnd::Crashed(String::new());
    assert_ne!(life.ended(1, &crash, Restart::OnFailure), Next::Rest);
}

#[test]
fn restart_does_not_hide_a_fault() {
    let mut life = running(0);
    life.stop(1, true);
    assert_eq!(
        life.ended(2, &exited(ExitReason::WorkerFault), NEVER),
        Next::Rest
    );
    assert_eq!(life.state().word(), "failed");
}

#[test]
fn kill_takes_a_restart_back() {
    let mut life = running(0);
    life.stop(1, true);
    life.kill();
    assert_eq!(life.ended(2, &WorkerEnd::Killed, NEVER), Next::Rest);
}

#[test]
fn reset_storm_fails_and_slow_resets_do_not() {
    let resets = |gap: u64| {
        let mut life = running(0);
        for count in 1..100u64 {
            if life.ended(count * gap, &exited(ExitReason::Reset), NEVER) == Next::Rest {
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
    life.ended(6 * SECOND, &WorkerEnd::Killed, NEVER);
    assert_eq!(life.uptime(7 * SECOND), None);
}

#[test]
fn end_of_a_worker_that_was_not_there_changes_nothing() {
    let mut life = Life::default();
    assert_eq!(life.ended(0, &exited(ExitReason::Reset), NEVER), Next::Rest);
    assert_eq!(life.state(), &State::Off(String::new()));
}

#[test]
fn the_policy_decides_which_ends_are_followed_by_a_start() {
    let rest = Next::StartAfter(FIRST_REST);
    for (policy, fault, off) in [
        (Restart::Never, Next::Rest, Next::Rest),
        (Restart::OnFailure, rest, Next::Rest),
        (Restart::Always, rest, rest),
    ] {
        for end in [
            exited(ExitReason::GuestFault),
            exited(ExitReason::WorkerFault),
            exited(ExitReason::BadDefinition),
            WorkerEnd::Crashed("oops".into()),
        ] {
            assert_eq!(running(0).ended(1, &end, policy), fault, "{end:?}");
        }
        let end = exited(ExitReason::PowerOff);
        assert_eq!(running(0).ended(1, &end, policy), off);
        let end = exited(ExitReason::Reset);
        assert_eq!(running(0).ended(1, &end, policy), Next::Start);
    }
}

#[test]
fn an_end_that_was_commanded_is_never_followed_by_a_start() {
    for end in [
        exited(ExitReason::Stopped),
        exited(ExitReason::PowerOff),
        exited(ExitReason::GuestFault),
        WorkerEnd::Killed,
    ] {
        let mut life = running(0);
        life.stop(1, false);
        assert_eq!(life.ended(2, &end, Restart::Always), Next::Rest, "{end:?}");
        let mut life = running(0);
        life.kill();
        assert_eq!(life.ended(2, &end, Restart::Always), Next::Rest, "{end:?}");
        life.started(3);
        let again = life.ended(4, &exited(ExitReason::GuestFault), Restart::Always);
        assert_eq!(
            again,
            Next::StartAfter(FIRST_REST),
            "the command was for one run"
        );
    }
}

#[test]
fn rests_double_up_to_the_longest_and_a_good_run_makes_them_short_again() {
    let fault = exited(ExitReason::GuestFault);
    let mut life = Life::default();
    let mut now = 0;
    let mut rests = Vec::new();
    for _ in 0..9 {
        life.started(now);
        let Next::StartAfter(rest) = life.ended(now, &fault, Restart::OnFailure) else {
            panic!("it is to start again");
        };
        assert!(life.is_resting() && !life.has_worker());
        assert_eq!(life.deadline(), Some(now + rest));
        rests.push(rest / SECOND);
        now += rest;
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(LONGEST_REST, 60 * SECOND);
    life.started(now);
    let next = life.ended(now + GOOD_RUN, &fault, Restart::OnFailure);
    assert_eq!(next, Next::StartAfter(FIRST_REST));
    life.failed("no memory".into());
    assert_eq!(life.rest(now), 2 * FIRST_REST, "a start that fails counts");
    assert_eq!(life.state(), &State::Resting("no memory".into()));
    life.forget();
    life.started(now);
    let next = life.ended(now, &fault, Restart::OnFailure);
    assert_eq!(next, Next::StartAfter(FIRST_REST), "a person began anew");
}

#[test]
fn a_vm_that_rests_can_be_told_to_stay() {
    let mut life = running(0);
    life.ended(1, &exited(ExitReason::GuestFault), Restart::OnFailure);
    assert!(life.stay() && !life.stay());
    assert_eq!(
        life.state(),
        &State::Off("the guest cannot go on: because".into())
    );
    assert_eq!(life.deadline(), None);
}
