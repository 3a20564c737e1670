//! All VMs at once, and VMs that start again by themselves.

use root_abi::ExitReason;

use super::fake::{Effect, begun, exited, typed, vm};
use crate::life::{SECOND, STOP_TIME};
use crate::{State, VmId, WorkerEnd};

const A: VmId = VmId(0);
const B: VmId = VmId(1);
const C: VmId = VmId(2);

fn three() -> (crate::Manager, super::fake::Fake) {
    let auto = "autostart = true";
    let (manager, mut host) = begun(&[vm("a", auto), vm("b", auto), vm("c", "")]);
    host.done();
    (manager, host)
}

#[test]
fn equals_start_in_the_order_of_their_names() {
    let auto = "autostart = true";
    let (_, mut host) = begun(&[vm("b", auto), vm("c", auto), vm("a", auto)]);
    let names = host.done().into_iter().map(|effect| match effect {
        Effect::Start(_, name) => name,
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn all_are_stopped_one_after_the_other_the_last_started_first() {
    let (mut manager, mut host) = three();
    typed(&mut manager, &mut host, "vm start c");
    typed(&mut manager, &mut host, "vm stop a");
    manager.worker_ended(&mut host, A, &exited(ExitReason::Stopped));
    typed(&mut manager, &mut host, "vm start a");
    host.done();
    let answer = typed(&mut manager, &mut host, "vm stop all");
    assert!(answer.starts_with("vm stop all\n3 to stop"), "{answer}");
    for (id, name) in [(A, "a"), (C, "c"), (B, "b")] {
        assert_eq!(host.done(), [Effect::Stop(id)]);
        manager.worker_ended(&mut host, id, &exited(ExitReason::Stopped));
        let told = host.seen();
        assert!(told.contains(&format!("[{name}: off: stopped]")), "{told}");
    }
    assert_eq!(host.done(), []);
    let answer = typed(&mut manager, &mut host, "vm stop all");
    assert!(answer.contains("no VM is running"), "{answer}");
}

#[test]
fn one_that_does_not_stop_holds_the_others_up_no_longer_than_its_time() {
    let (mut manager, mut host) = three();
    typed(&mut manager, &mut host, "vm stop all");
    host.now += STOP_TIME;
    manager.tick(&mut host);
    assert_eq!(host.done(), [Effect::Stop(B), Effect::Kill(B)]);
    manager.worker_ended(&mut host, B, &WorkerEnd::Killed);
    assert_eq!(host.done(), [Effect::Stop(A)]);
}

#[test]
fn one_that_ends_by_itself_before_its_turn_is_not_waited_for() {
    let (mut manager, mut host) = three();
    typed(&mut manager, &mut host, "vm start c");
    host.done();
    typed(&mut manager, &mut host, "vm stop all");
    manager.worker_ended(&mut host, B, &exited(ExitReason::PowerOff));
    assert_eq!(host.done(), [Effect::Stop(C)]);
    manager.worker_ended(&mut host, C, &exited(ExitReason::Stopped));
    assert_eq!(host.done(), [Effect::Stop(A)]);
}

#[test]
fn all_that_do_not_run_are_started_in_their_order() {
    let (mut manager, mut host) = begun(&[vm("b", ""), vm("a", ""), vm("c", "start_order = 1")]);
    typed(&mut manager, &mut host, "vm start a");
    host.done();
    let answer = typed(&mut manager, &mut host, "vm start all");
    assert!(
        answer.contains("c is starting\nb is starting\n"),
        "{answer}"
    );
    assert_eq!(host.done().len(), 2);
    assert!(typed(&mut manager, &mut host, "vm start all").contains("no VM is left"));
}

#[test]
fn a_vm_that_fails_starts_again_after_rests_that_get_longer() {
    let policy = "autostart = true\nrestart = \"on-failure\"";
    let (mut manager, mut host) = begun(&[vm("a", policy)]);
    for rest in [1, 2, 4] {
        assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
        manager.worker_ended(&mut host, A, &exited(ExitReason::GuestFault));
        let told = host.seen();
        let words =
            format!("[a: ended: the guest cannot go on: because; starts again in {rest} s]");
        assert!(told.contains(&words), "{told}");
        host.now += rest * SECOND - 1;
        assert_eq!(manager.deadline(), Some(host.now + 1));
        manager.tick(&mut host);
        let list = typed(&mut manager, &mut host, "vm list");
        assert!(list.contains("resting"), "{list}");
        assert!(
            list.contains("starts again in 1 s: the guest cannot"),
            "{list}"
        );
        assert_eq!(host.done(), []);
        host.now += 1;
        manager.tick(&mut host);
    }
    host.done();
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    assert!(matches!(manager.state(A), Some(State::Off(_))));
}

#[test]
fn a_rest_is_ended_by_a_start_a_stop_and_the_machines_end() {
    let rests = || {
        let (mut manager, mut host) = begun(&[vm("a", "autostart = true\nrestart = \"always\"")]);
        manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
        assert!(matches!(manager.state(A), Some(State::Resting(_))));
        host.done();
        (manager, host)
    };
    let (mut manager, mut host) = rests();
    typed(&mut manager, &mut host, "vm start a");
    assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
    for command in ["vm stop a", "vm kill a"] {
        let (mut manager, mut host) = rests();
        let answer = typed(&mut manager, &mut host, command);
        assert!(answer.contains("will not be started again"), "{answer}");
        assert_eq!(manager.deadline(), None);
    }
    let (mut manager, mut host) = rests();
    typed(&mut manager, &mut host, "vm stop all");
    assert_eq!(manager.deadline(), None);
    let (mut manager, mut host) = rests();
    typed(&mut manager, &mut host, "poweroff");
    assert_eq!(host.done(), [Effect::PowerOff]);
}

#[test]
fn a_start_that_fails_after_a_rest_is_tried_again() {
    let policy = "autostart = true\nrestart = \"on-failure\"";
    let (mut manager, mut host) = begun(&[vm("a", policy)]);
    manager.worker_ended(&mut host, A, &exited(ExitReason::GuestFault));
    host.refuse = Some("no process slot".into());
    host.now += SECOND;
    host.seen();
    manager.tick(&mut host);
    let told = host.seen();
    assert!(
        told.contains("[a: cannot be started: no process slot; tried again in 2 s]"),
        "{told}"
    );
    host.refuse = None;
    host.done();
    host.now += 2 * SECOND;
    manager.tick(&mut host);
    assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
}

#[test]
fn no_vm_with_a_policy_starts_while_the_machine_ends() {
    let always = "autostart = true\nrestart = \"always\"";
    let (mut manager, mut host) = begun(&[vm("a", always), vm("b", always)]);
    host.done();
    typed(&mut manager, &mut host, "poweroff");
    // The one whose turn has not come ends by itself.
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    assert_eq!(manager.deadline(), Some(host.now + STOP_TIME));
    assert!(!host.seen().contains("starts again"));
    manager.worker_ended(&mut host, B, &exited(ExitReason::Stopped));
    assert_eq!(host.done(), [Effect::Stop(B), Effect::PowerOff]);
}

#[test]
fn no_vm_with_a_policy_starts_while_all_are_being_stopped() {
    let always = "autostart = true\nrestart = \"always\"";
    let (mut manager, mut host) = begun(&[vm("a", always), vm("b", always)]);
    typed(&mut manager, &mut host, "vm stop all");
    manager.worker_ended(&mut host, A, &exited(ExitReason::GuestFault));
    manager.worker_ended(&mut host, B, &exited(ExitReason::Stopped));
    assert_eq!(manager.deadline(), None);
    assert!(matches!(manager.state(A), Some(State::Failed(_))));
}
