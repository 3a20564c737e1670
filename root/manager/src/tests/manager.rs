//! The manager as a whole: events and typed lines in, effects and text out.

use root_abi::ExitReason;

use super::fake::{Effect, Fake, begun, exited, typed, vm};
use crate::life::{SECOND, STOP_TIME};
use crate::{DebugFault, Manager, State, VmId, WorkerEnd, WorkerNews};

const A: VmId = VmId(0);
const B: VmId = VmId(1);

fn two() -> (Manager, Fake) {
    begun(&[vm("a", ""), vm("b", "")])
}

fn start(manager: &mut Manager, host: &mut Fake, id: VmId) {
    let name = manager.name(id).expect("there").to_string();
    assert!(typed(manager, host, &format!("vm start {name}")).contains("is starting"));
    manager.worker_running(host, id);
    assert_eq!(manager.state(id), Some(&State::Running));
    host.done();
}

#[test]
fn autostart_follows_the_start_order() {
    let definitions = [
        vm("late", "autostart = true\nstart_order = 9"),
        vm("no", ""),
        vm("early", "autostart = true\nstart_order = 1"),
    ];
    let (manager, mut host) = begun(&definitions);
    let started: Vec<_> = host
        .done()
        .into_iter()
        .map(|effect| format!("{effect:?}"))
        .collect();
    assert_eq!(
        started,
        ["Start(VmId(0), \"early\")", "Start(VmId(1), \"late\")"]
    );
    assert_eq!(manager.name(VmId(2)), Some("no"));
}

#[test]
fn bad_definition_is_listed_with_its_error_and_never_started() {
    let bad = (
        "vm/broken.toml".to_string(),
        "name = \"x\"\nmemory = 3\n".to_string(),
    );
    let mut manager = Manager::new([(bad.0.as_str(), bad.1.as_bytes())]);
    let mut host = Fake::default();
    manager.begin(&mut host);
    assert!(
        host.seen()
            .contains("vm/broken.toml:2: memory: 3 is not a size")
    );
    let list = typed(&mut manager, &mut host, "vm list");
    assert!(list.contains("broken  failed"), "{list}");
    let answer = typed(&mut manager, &mut host, "vm start broken");
    assert!(
        answer.contains("cannot be started: vm/broken.toml:2"),
        "{answer}"
    );
    assert_eq!(host.done(), []);
}

#[test]
fn second_vm_of_a_name_is_refused() {
    let (mut manager, mut host) = begun(&[vm("a", ""), ("vm/other.toml".into(), vm("a", "").1)]);
    let answer = typed(&mut manager, &mut host, "vm start other");
    assert!(
        answer.contains("vm/other.toml:1: name: \"a\" is the name in vm/a.toml as well"),
        "{answer}"
    );
    start(&mut manager, &mut host, A);
}

#[test]
fn definition_that_is_not_text_is_an_error() {
    let mut manager = Manager::new([("vm/x.toml", &[0xFF, 0xFE][..])]);
    let answer = typed(&mut manager, &mut Fake::default(), "vm list");
    assert!(answer.contains("not a text in UTF-8"), "{answer}");
}

#[test]
fn start_without_file_memory_or_worker_says_so_and_starts_nothing() {
    let (mut manager, mut host) = two();
    host.files.clear();
    let answer = typed(&mut manager, &mut host, "vm start a");
    assert!(
        answer.contains("vm/a.toml: kernel: the boot archive has no member \"guest/k\""),
        "{answer}"
    );
    host.files.insert("guest/k".into(), 1);
    host.free = 64 << 20;
    let answer = typed(&mut manager, &mut host, "vm start a");
    assert!(
        answer.contains("72 MiB of memory are needed and 64 MiB are free"),
        "{answer}"
    );
    host.free = 1 << 30;
    host.refuse = Some("no process slot".into());
    assert!(typed(&mut manager, &mut host, "vm start a").contains("no process slot"));
    assert!(matches!(manager.state(A), Some(State::Failed(reason)) if reason == "no process slot"));
    assert_eq!(host.done(), []);
    host.refuse = None;
    start(&mut manager, &mut host, A);
}

#[test]
fn list_shows_state_size_uptime_and_reason() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    manager.worker_ended(&mut host, A, &exited(ExitReason::GuestFault));
    start(&mut manager, &mut host, B);
    host.now += 3725 * SECOND;
    host.seen();
    let list = typed(&mut manager, &mut host, "vm list");
    let lines: Vec<_> = list.lines().map(str::trim).collect();
    assert_eq!(
        lines[1],
        "NAME  STATE    VPS  CPU%  MIB   UPTIME  HEART  VMBUS  CHAN  GUEST  REASON"
    );
    assert_eq!(
        lines[2],
        "a     failed     1     -   64        -  -      -         -  -      the guest cannot go on: because"
    );
    assert_eq!(
        lines[3],
        "b     running    1   0.0   64  1:02:05  none   -         0  -"
    );
}

#[test]
fn a_guest_is_asked_to_shut_down_and_nothing_else_happens_to_it() {
    let (mut manager, mut host) = two();
    assert!(typed(&mut manager, &mut host, "vm shutdown a").contains("a is off"));
    assert_eq!(host.done(), []);
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "vm shutdown a");
    assert_eq!(host.done(), [Effect::ShutDown(A)]);
    assert_eq!(manager.deadline(), None);
    typed(&mut manager, &mut host, "vm shutdown a");
    assert_eq!(
        host.done(),
        [Effect::ShutDown(A)],
        "it may have missed the first"
    );
}

#[test]
fn stop_asks_then_kills_when_time_is_over() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "vm stop a");
    assert_eq!(host.done(), [Effect::Stop(A)]);
    typed(&mut manager, &mut host, "vm stop a");
    assert_eq!(host.done(), [], "it was asked already");
    assert_eq!(manager.deadline(), Some(host.now + STOP_TIME));
    host.now += STOP_TIME - 1;
    manager.tick(&mut host);
    assert_eq!(host.done(), []);
    host.now += 1;
    manager.tick(&mut host);
    manager.tick(&mut host);
    assert_eq!(host.done(), [Effect::Kill(A)], "once");
    manager.worker_ended(&mut host, A, &WorkerEnd::Killed);
    assert_eq!(manager.state(A), Some(&State::Off("killed".into())));
    assert_eq!(manager.deadline(), None);
}

#[test]
fn restart_starts_again_after_the_end() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "vm restart a");
    assert_eq!(host.done(), [Effect::Stop(A)]);
    manager.worker_ended(&mut host, A, &exited(ExitReason::Stopped));
    assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
    typed(&mut manager, &mut host, "vm restart b");
    assert_eq!(
        host.done(),
        [Effect::Start(B, "b".into())],
        "what is off is just started"
    );
}

#[test]
fn a_restart_forgets_what_the_vm_wrote_and_a_reset_does_not() {
    for (end, kept) in [(ExitReason::Stopped, false), (ExitReason::Reset, true)] {
        let (mut manager, mut host) = two();
        start(&mut manager, &mut host, A);
        manager.guest_output(&mut host, A, b"old words\r\n");
        if !kept {
            typed(&mut manager, &mut host, "vm restart a");
        }
        manager.worker_ended(&mut host, A, &exited(end));
        host.seen();
        let answer = typed(&mut manager, &mut host, "vm attach a");
        assert_eq!(answer.contains("old words"), kept, "{answer}");
    }
}

#[test]
fn new_start_that_fails_is_told() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    host.refuse = Some("no process slot".into());
    manager.worker_ended(&mut host, A, &exited(ExitReason::Reset));
    assert!(
        host.seen()
            .contains("[a: cannot be started: no process slot]")
    );
    assert_eq!(
        manager.state(A),
        Some(&State::Failed("no process slot".into()))
    );
}

#[test]
fn restart_survives_the_kill_of_a_worker_that_hangs() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "vm restart a");
    host.now += STOP_TIME;
    manager.tick(&mut host);
    assert_eq!(host.done(), [Effect::Stop(A), Effect::Kill(A)]);
    manager.worker_ended(&mut host, A, &WorkerEnd::Killed);
    assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
}

#[test]
fn crash_of_one_worker_leaves_the_other_vm_alone() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    start(&mut manager, &mut host, B);
    typed(&mut manager, &mut host, "debug worker a wild");
    assert_eq!(host.done(), [Effect::Debug(A, DebugFault::Wild)]);
    manager.worker_ended(
        &mut host,
        A,
        &WorkerEnd::Crashed("page fault at 0x1234".into()),
    );
    assert!(
        host.seen()
            .contains("[a: failed: its worker crashed: page fault at 0x1234]")
    );
    assert_eq!(manager.state(B), Some(&State::Running));
    assert_eq!(host.done(), []);
}

#[test]
fn guest_output_is_silent_until_attached_and_then_replayed() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    host.seen();
    manager.guest_output(&mut host, A, b"hello\r\nlogin: ");
    assert_eq!(host.seen(), "");
    let answer = typed(&mut manager, &mut host, "vm attach a");
    assert!(
        answer.contains("[attached to a; Ctrl-] d detaches]\nhello\nlogin: "),
        "{answer}"
    );
    manager.guest_output(&mut host, A, b"again");
    assert_eq!(host.seen(), "again");
    manager.console_input(&mut host, b"root\r\x03");
    assert_eq!(host.done(), [Effect::Input(A, b"root\r\x03".to_vec())]);
    assert_eq!(host.seen(), "", "the guest echoes, not the console");
    manager.console_input(&mut host, b"x\x1d");
    manager.console_input(&mut host, b"dhelp\r");
    assert_eq!(host.done(), [Effect::Input(A, b"x".to_vec())]);
    let seen = host.seen();
    assert!(
        seen.contains("[a: detached]") && seen.contains("vm attach NAME"),
        "{seen}"
    );
    manager.guest_output(&mut host, A, b"unseen");
    assert_eq!(host.seen(), "");
}

#[test]
fn replay_is_the_last_4_kib_from_a_line_start() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    for number in 0..20_000 {
        manager.guest_output(&mut host, A, format!("line {number}\r\n").as_bytes());
    }
    let answer = typed(&mut manager, &mut host, "vm attach a");
    let replay = answer.split_once("detaches]\n").expect("greeting").1;
    assert!(
        replay.starts_with("line 19") && replay.ends_with("line 19999\n"),
        "{replay}"
    );
    assert!(replay.len() < 4096 && replay.len() > 3500);
}

#[test]
fn attached_vm_that_ends_gives_the_console_back() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "vm attach a");
    manager.worker_ended(&mut host, A, &exited(ExitReason::Reset));
    assert_eq!(host.done(), [Effect::Start(A, "a".into())]);
    manager.console_input(&mut host, b"y");
    assert_eq!(
        host.done(),
        [Effect::Input(A, b"y".to_vec())],
        "a reset keeps it attached"
    );
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    let seen = host.seen();
    assert!(
        seen.contains("[a: off: switched off by the guest: because]")
            && seen.ends_with("partita> "),
        "{seen}"
    );
    let answer = typed(&mut manager, &mut host, "vm attach a");
    assert!(answer.contains("vm start a"), "{answer}");
}

#[test]
fn last_words_of_an_ended_vm_can_be_read() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    manager.guest_output(&mut host, A, b"panic: no init\r\n");
    manager.worker_ended(&mut host, A, &exited(ExitReason::GuestFault));
    host.seen();
    let answer = typed(&mut manager, &mut host, "vm attach a");
    assert!(
        answer.contains("panic: no init")
            && answer.contains("[a is failed; this is what it wrote last]"),
        "{answer}"
    );
}

#[test]
fn notices_do_not_disturb_the_line_being_typed() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    manager.console_input(&mut host, b"vm li");
    host.seen();
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    assert!(host.seen().ends_with("]\r\npartita> vm li"));
    assert!(typed(&mut manager, &mut host, "st").contains("NAME"));
}

#[test]
fn poweroff_waits_for_the_workers() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    start(&mut manager, &mut host, B);
    assert!(typed(&mut manager, &mut host, "poweroff").contains("waiting"));
    assert_eq!(host.done(), [Effect::Stop(B)], "the last one started first");
    manager.worker_ended(&mut host, B, &exited(ExitReason::Reset));
    assert!(typed(&mut manager, &mut host, "vm start b").contains("nothing is started any more"));
    assert_eq!(host.done(), [Effect::Stop(A)]);
    manager.worker_ended(&mut host, A, &exited(ExitReason::Stopped));
    assert_eq!(host.done(), [Effect::PowerOff]);
}

#[test]
fn poweroff_said_twice_kills() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    typed(&mut manager, &mut host, "poweroff");
    typed(&mut manager, &mut host, "poweroff");
    assert_eq!(host.done(), [Effect::Stop(A), Effect::Kill(A)]);
}

#[test]
fn reboot_of_an_idle_machine_is_at_once() {
    let (mut manager, mut host) = two();
    typed(&mut manager, &mut host, "reboot");
    assert_eq!(host.done(), [Effect::Reboot]);
}

#[test]
fn events_are_those_of_all_sources_by_time() {
    let (mut manager, mut host) = two();
    start(&mut manager, &mut host, A);
    let line = WorkerNews::Line("two\x1b[2J lines\nof it".into());
    manager.worker_news(&mut host, A, &line);
    let text = typed(&mut manager, &mut host, "events");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(lines[2], "1.000000  root    ready");
    assert_eq!(lines[3], "5.000000  a       starting");
    assert_eq!(
        lines[5], "5.000000  a       two [2J lines of it",
        "nothing that a terminal obeys"
    );
}

#[test]
fn unknown_names_and_wrong_states_get_an_answer() {
    let (mut manager, mut host) = two();
    assert!(
        typed(&mut manager, &mut host, "vm stop c")
            .contains("there is no VM \"c\"; there are: a, b")
    );
    assert!(
        typed(&mut manager, &mut host, "vm stop a")
            .contains("a is off; start it with \"vm start a\"")
    );
    assert!(typed(&mut manager, &mut host, "counters b").contains("no counters"));
    start(&mut manager, &mut host, A);
    assert!(typed(&mut manager, &mut host, "vm start a").contains("running already"));
}

#[test]
fn a_bad_definition_of_the_host_is_told_and_leaves_the_usual() {
    let (mut manager, mut host) = begun(&[]);
    for bad in [&b"reserve = -1"[..], b"\xFF"] {
        manager.set_host(&mut host, bad);
        let told = host.seen();
        assert!(told.contains("host.toml:1: "), "{told}");
        assert!(told.contains("the host has the usual settings"), "{told}");
    }
    let events = typed(&mut manager, &mut host, "events");
    assert_eq!(events.matches("host.toml:1").count(), 2, "{events}");
}

#[test]
fn a_vm_starts_only_on_a_node_that_there_is() {
    let (mut manager, mut host) = begun(&[vm("a", "node = 1"), vm("b", "node = 0")]);
    let answer = typed(&mut manager, &mut host, "vm start a");
    let words = "vm/a.toml: node: there is no NUMA node 1, the machine has 1, numbered from 0";
    assert!(answer.contains(words), "{answer}");
    typed(&mut manager, &mut host, "vm start b");
    host.nodes = 2;
    typed(&mut manager, &mut host, "vm start a");
    let started = [Effect::Start(B, "b".into()), Effect::Start(A, "a".into())];
    assert_eq!(host.done(), started);
}
