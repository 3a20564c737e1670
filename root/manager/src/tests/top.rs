//! The live table and the shares of `vm list`.

use proptest::prelude::*;
use tlfs::stats::{logical_processor as lp, vp};

use super::fake::{Fake, begun, typed, vm};
use crate::counters::{Object, Whose};
use crate::life::SECOND;
use crate::rates::{CpuLook, per_mille, per_second};
use crate::top::{COLUMNS, Look, Processor, ROWS, Vp, number, screen};
use crate::{Manager, VmId};

const A: VmId = VmId(0);
const TENTH: u64 = SECOND / 10;

/// What a terminal shows: lines without control sequences.
fn shown(bytes: &str) -> Vec<String> {
    let text = bytes.rsplit("\x1b[H").next().unwrap_or(bytes);
    let text = text.replace("\x1b[K", "").replace("\x1b[J", "");
    assert!(!text.contains('\x1b'), "{text:?}");
    text.replace("\r\n", "\n")
        .split('\n')
        .map(str::to_string)
        .collect()
}

fn machine() -> (Manager, Fake) {
    let two = "processors = 2\nautostart = true";
    let (manager, mut host) = begun(&[vm("a", two), vm("off", "")]);
    tick(&mut host, 10);
    (manager, host)
}

/// Counters after that many tenths of a second, each with 7 busy hundredths of a second, 2 of these the root's.
fn tick(host: &mut Fake, tenths: u64) {
    let time = tenths * TENTH;
    let processor = [
        (lp::GLOBAL_TIME, time),
        (lp::TOTAL_RUN_TIME, time / 10 * 7),
        (lp::TIMER_INTERRUPTS, 100 * tenths),
    ];
    host.set(Whose::Machine, Object::LogicalProcessor(0), &processor);
    let root = [(vp::TOTAL_RUN_TIME, time / 10 * 2)];
    host.set(Whose::Root, Object::VirtualProcessor(0), &root);
    for index in 0..2 {
        let counters = [
            (vp::TOTAL_RUN_TIME, time / 10 * 4 / (1 + index)),
            (vp::HYPERCALLS_COUNT, 3 * tenths),
            (vp::MSR_ACCESSES_COUNT, 20 * tenths),
            (vp::VIRTUAL_INTERRUPTS, 50_000 * tenths),
        ];
        let object = Object::VirtualProcessor(index as u32);
        host.set(Whose::Vm(A), object, &counters);
    }
}

#[test]
fn top_shows_what_happens_in_a_second() {
    let (mut manager, mut host) = machine();
    let first = typed(&mut manager, &mut host, "top");
    assert!(first.contains("\x1b[2J\x1b[H"));
    assert_eq!(manager.deadline(), Some(host.now + SECOND));
    host.now += SECOND;
    tick(&mut host, 20);
    manager.tick(&mut host);
    let screen = host.seen();
    assert!(screen.starts_with("\x1b[H") && screen.ends_with("\x1b[J"));
    let expected = [
        "Partita, up 0:00:06; 1 of 2 VMs run; any key ends this",
        "  LP   BUSY%   ROOT%   IDLE%     INTR/S",
        "   0    70.0    20.0    30.0       1000",
        "VM                       VP STATE      RUN%    EXITS/S   HCALLS/S    VINTR/S",
        "a                         0 starting   40.0        230         30     500000",
        "a                         1 starting   20.0        230         30     500000",
        "",
    ];
    assert_eq!(shown(&screen), expected);
}

#[test]
fn the_first_table_has_no_rates() {
    let (mut manager, mut host) = machine();
    let first = typed(&mut manager, &mut host, "top");
    let line = shown(&first)
        .into_iter()
        .find(|line| line.starts_with("a "));
    assert!(line.is_some_and(|line| line.ends_with("-          -          -")));
}

#[test]
fn any_key_ends_it_and_leaves_a_prompt() {
    for key in ["q", "\x03", " ", "\x1b[A", "\r"] {
        let (mut manager, mut host) = machine();
        typed(&mut manager, &mut host, "top");
        manager.console_input(&mut host, key.as_bytes());
        assert_eq!(host.seen(), "\r\x1b[Jpartita> ", "{key:?}");
        assert_eq!(manager.deadline(), None);
        let answer = typed(&mut manager, &mut host, "vm list");
        assert!(answer.contains("NAME"), "{answer}");
    }
    let (mut manager, mut host) = machine();
    manager.console_input(&mut host, b"top\rqvm list\r");
    assert!(host.seen().contains("UPTIME"), "what follows is a command");
}

#[test]
fn news_does_not_disturb_the_table() {
    let (mut manager, mut host) = machine();
    typed(&mut manager, &mut host, "top");
    manager.worker_ended(&mut host, A, &crate::WorkerEnd::Crashed("oops".into()));
    assert_eq!(host.seen(), "");
    manager.console_input(&mut host, b"q");
    assert!(typed(&mut manager, &mut host, "events").contains("oops"));
}

#[test]
fn the_list_shows_what_was_used_since_the_last_look() {
    let (mut manager, mut host) = machine();
    let share = |manager: &mut Manager, host: &mut Fake| {
        let list = typed(manager, host, "vm list");
        let row = list.lines().find(|line| line.starts_with("a ")).expect("a");
        row.split_whitespace().nth(3).expect("CPU%").to_string()
    };
    assert_eq!(share(&mut manager, &mut host), "-", "no time has passed");
    host.now += SECOND;
    assert_eq!(share(&mut manager, &mut host), "60.0", "since the start");
    host.now += SECOND / 2;
    tick(&mut host, 20);
    assert_eq!(share(&mut manager, &mut host), "60.0", "looked at just now");
    host.now += SECOND / 2;
    tick(&mut host, 30);
    assert_eq!(share(&mut manager, &mut host), "120.0");
    assert!(typed(&mut manager, &mut host, "vm list").contains("off   off         1      -"));
}

#[test]
fn shares_and_rates_do_not_overflow() {
    assert_eq!(per_mille(u64::MAX, 1), u64::MAX);
    assert_eq!((per_mille(1, 0), per_second(1, 0)), (0, 0));
    assert_eq!(per_second(u64::MAX, 1), u64::MAX);
    assert_eq!(per_second(3, 2 * SECOND), 1);
    let mut look = CpuLook::at_start(5);
    assert_eq!(look.look(5, 7), None);
    assert_eq!(look.look(u64::MAX, 0), Some(0));
}

#[test]
fn numbers_are_shortened_to_their_columns() {
    assert_eq!(number(1234, 10), "1234");
    assert_eq!(number(12_345_678_901, 10), "12345678k");
    assert_eq!(number(u64::MAX, 10), "18446744T");
    assert_eq!(number(u64::MAX, 3), "18E");
}

fn vps() -> impl Strategy<Value = Vp> {
    any::<(u64, u64, u64, u64)>().prop_map(|(run_time, intercepts, hypercalls, interrupts)| Vp {
        run_time,
        intercepts,
        hypercalls,
        interrupts,
    })
}

fn processors() -> impl Strategy<Value = Processor> {
    any::<(u64, u64, u64, u64)>().prop_map(|(time, busy, root, interrupts)| Processor {
        time,
        busy,
        root,
        interrupts,
    })
}

fn looks() -> impl Strategy<Value = Look> {
    let vps = prop::collection::btree_map((0..70u16, 0..16u32), vps(), 0..60);
    let vps = vps.prop_map(|vps| {
        let id = |((vm, index), vp)| ((VmId(vm), index), vp);
        vps.into_iter().map(id).collect()
    });
    let processors = prop::collection::btree_map(0..20u32, processors(), 0..20);
    (any::<u64>(), processors, vps).prop_map(|(time, processors, vps)| Look {
        time,
        processors,
        vps,
    })
}

proptest! {
    #[test]
    fn no_counter_breaks_the_table(
        old in prop::option::of(looks()), new in looks(), name in "[a-zA-Z0-9_-]{1,63}"
    ) {
        let state = |_: VmId| (name.as_str(), "starting");
        let lines = shown(&screen("63 of 63 VMs run", old.as_ref(), &new, state));
        prop_assert!(lines.len() <= ROWS, "{} lines", lines.len());
        prop_assert!(lines.iter().all(|line| line.chars().count() < COLUMNS));
        let first = lines.iter().position(|line| line.starts_with("VM ")).expect("headings");
        for line in &lines[2..first] {
            prop_assert_eq!(line.chars().count(), lines[1].chars().count());
            prop_assert_eq!(line.split_whitespace().count(), 5);
        }
        let shown = new.vps.len().min(ROWS - 2 - first - 1);
        for line in &lines[first + 1..first + 1 + shown] {
            prop_assert_eq!(line.chars().count(), lines[first].chars().count(), "{}", line);
            prop_assert_eq!(line.split_whitespace().count(), 7);
        }
    }
}
