//! What workers tell, from their bytes to the console.

use proptest::prelude::*;
use root_abi::ExitReason;
use root_abi::news::{self, Crash, GuestState, MAX_CRASH_TEXT, MemoryState};
use zerocopy::IntoBytes;

use super::fake::{Fake, begun, exited, typed, vm};
use crate::{Manager, VmId, WorkerNews};

const A: VmId = VmId(0);

/// A VM that runs, defined with this line.
fn running(line: &str) -> (Manager, Fake) {
    let (mut manager, mut host) = begun(&[vm("a", line)]);
    typed(&mut manager, &mut host, "vm start a");
    manager.worker_running(&mut host, A);
    (manager, host)
}

/// From HEART on, its line of `vm list`.
fn listed(manager: &mut Manager, host: &mut Fake) -> Vec<String> {
    host.seen();
    let list = typed(manager, host, "vm list");
    let line = list.lines().nth(2).expect("one VM");
    line.split_whitespace().skip(6).map(String::from).collect()
}

fn state(system: &[u8]) -> GuestState {
    let mut state = GuestState {
        heartbeat: news::HEARTBEAT_OK,
        vmbus: 5 << 16 | 3,
        channels: 4,
        system_len: system.len() as u32,
        ..GuestState::default()
    };
    state.system[..system.len()].copy_from_slice(system);
    state
}

#[test]
fn list_shows_what_the_worker_told_last_until_it_ends() {
    let (mut manager, mut host) = running("");
    assert_eq!(listed(&mut manager, &mut host), ["none", "-", "0", "-"]);
    manager.worker_news(&mut host, A, &WorkerNews::Guest(state(b"Linux 6.1.192")));
    assert_eq!(
        listed(&mut manager, &mut host),
        ["ok", "5.3", "4", "Linux", "6.1.192"]
    );
    let lost = GuestState {
        heartbeat: news::HEARTBEAT_LOST,
        ..state(b"")
    };
    manager.worker_news(&mut host, A, &WorkerNews::Guest(lost));
    assert_eq!(listed(&mut manager, &mut host), ["lost", "5.3", "4", "-"]);
    // The next worker begins with nothing.
    manager.worker_ended(&mut host, A, &exited(ExitReason::Reset));
    assert_eq!(listed(&mut manager, &mut host), ["none", "-", "0", "-"]);
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    assert_eq!(listed(&mut manager, &mut host)[..4], ["-", "-", "-", "-"]);
}

#[test]
fn a_vm_without_vmbus_has_nothing_to_show() {
    let (mut manager, mut host) = running("vmbus = false");
    manager.worker_news(&mut host, A, &WorkerNews::Guest(state(b"Linux")));
    assert_eq!(listed(&mut manager, &mut host), ["-", "-", "-", "-"]);
}

#[test]
fn lies_about_the_guest_are_shown_as_text() {
    let (mut manager, mut host) = running("");
    let lie = GuestState {
        heartbeat: 7,
        vmbus: u32::MAX,
        channels: u32::MAX,
        system_len: u32::MAX,
        system: [0x1B; 48],
    };
    manager.worker_news(&mut host, A, &WorkerNews::Guest(lie));
    let marks = "?".repeat(48);
    assert_eq!(
        listed(&mut manager, &mut host),
        ["?", "65535.65535", "4294967295", &marks]
    );
}

/// The lines of `events` behind the start of the VM, without what is left of the text.
fn events(manager: &mut Manager, host: &mut Fake) -> Vec<String> {
    let text = typed(manager, host, "events");
    let at = text.find("running\n").expect("it runs");
    let lines = text[at..].lines().skip(1).map(|line| line.trim().into());
    lines.filter(|line| line != "partita>").collect()
}

#[test]
fn a_crash_is_told_over_several_lines_without_what_a_terminal_would_obey() {
    let (mut manager, mut host) = running("");
    let crash = Crash {
        parameters: [1, 2, 3, 0x5000, 30],
        control: 3 << 62,
        rip: 0xffff_ffff_8100_0000,
        rsp: 0x7000,
        vp: 1,
        reserved: 0,
    };
    let text = b"sysrq: Trigger a crash\n\n\x1b[2JKernel panic\r\n\xC3\xA9\tend\0unseen";
    manager.worker_news(&mut host, A, &WorkerNews::Crash(crash, text[..].into()));
    assert_eq!(
        events(&mut manager, &mut host),
        [
            "5.000000  a       its guest has crashed, says VP 1",
            "P0 0x1, P1 0x2, P2 0x3, P3 0x5000, P4 0x1e",
            "control 0xc000000000000000, RIP 0xffffffff81000000, RSP 0x7000",
            "sysrq: Trigger a crash",
            "?[2JKernel panic",
            "?? end",
        ]
    );
}

#[test]
fn a_crash_without_a_text_is_its_registers() {
    let (mut manager, mut host) = running("");
    let mut crash = Crash {
        control: 1 << 63,
        ..Crash::default()
    };
    manager.worker_news(
        &mut host,
        A,
        &WorkerNews::Crash(crash, b"not one"[..].into()),
    );
    assert_eq!(events(&mut manager, &mut host).len(), 3);
    crash.control = 3 << 62;
    manager.worker_news(&mut host, A, &WorkerNews::Crash(crash, b""[..].into()));
    let last = events(&mut manager, &mut host).pop();
    assert_eq!(last.as_deref(), Some("its text cannot be read"));
}

#[test]
fn a_text_of_many_lines_or_of_one_takes_a_limited_place() {
    let (mut manager, mut host) = running("");
    let crash = Crash {
        control: 3 << 62,
        ..Crash::default()
    };
    for text in [b"x\n".repeat(2048), vec![b'x'; 4096]] {
        manager.worker_news(&mut host, A, &WorkerNews::Crash(crash, text.into()));
    }
    let lines = events(&mut manager, &mut host);
    assert_eq!(lines.len(), 3 + 80 + 3 + 1);
    assert!(lines.iter().all(|line| line.len() < 300));
}

#[test]
fn news_that_are_too_long_or_too_short_are_none() {
    let state = state(b"");
    let bytes = state.as_bytes();
    assert_eq!(
        WorkerNews::decode(news::GUEST, bytes),
        Some(WorkerNews::Guest(state))
    );
    assert_eq!(WorkerNews::decode(news::GUEST, &bytes[1..]), None);
    assert_eq!(WorkerNews::decode(news::LINE, &[b'x'; 201]), None);
    let crash = [0; size_of::<Crash>() + MAX_CRASH_TEXT + 1];
    assert_eq!(WorkerNews::decode(news::CRASH, &crash), None);
    assert!(WorkerNews::decode(news::CRASH, &crash[1..]).is_some());
    assert_eq!(
        WorkerNews::decode(news::CRASH, &crash[..size_of::<Crash>() - 1]),
        None
    );
    assert_eq!(WorkerNews::decode(news::MEMORY, b""), None);
    assert_eq!(WorkerNews::decode(4, b""), None);
}

#[test]
fn a_state_of_memory_arrives_as_it_was_told() {
    let state = MemoryState {
        visible: 1,
        since_add: news::NEVER,
        pressures: [74, 75],
        flags: news::MEMORY_LIVE | news::MEMORY_CAN_BALLOON,
        ..MemoryState::default()
    };
    let news = WorkerNews::Memory(state);
    let (kind, bytes) = news.encode();
    assert_eq!((kind, bytes.len()), (news::MEMORY, 160));
    assert_eq!(WorkerNews::longest(kind), Some(bytes.len()));
    assert_eq!(WorkerNews::decode(kind, &bytes), Some(news.clone()));
    assert_eq!(WorkerNews::decode(kind, &bytes[1..]), None);
}

#[test]
fn a_line_or_text_that_is_too_long_is_cut_where_it_is_sent() {
    let line = WorkerNews::Line("\u{e9}".repeat(101).into());
    let (kind, bytes) = line.encode();
    let cut = "\u{e9}".repeat(100);
    assert_eq!(
        WorkerNews::decode(kind, &bytes),
        Some(WorkerNews::Line(cut.into()))
    );
    let crash = WorkerNews::Crash(Crash::default(), vec![b'x'; 5000].into());
    let (kind, bytes) = crash.encode();
    let cut = WorkerNews::Crash(Crash::default(), vec![b'x'; 4096].into());
    assert_eq!(WorkerNews::decode(kind, &bytes), Some(cut));
}

proptest! {
    #[test]
    fn no_news_makes_the_console_print_anything_but_printable_ascii(
        kind in 0_u64..5,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        state in proptest::collection::vec(any::<u8>(), size_of::<GuestState>()),
    ) {
        let (mut manager, mut host) = running("");
        for (kind, bytes) in [(kind, &bytes), (news::GUEST, &state)] {
            if let Some(news) = WorkerNews::decode(kind, bytes).filter(|_| kind != news::LINE) {
                manager.worker_news(&mut host, A, &news);
            }
        }
        for command in ["vm list", "events"] {
            let text = typed(&mut manager, &mut host, command);
            let printed = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r');
            prop_assert!(text.bytes().all(printed), "{text:?}");
        }
    }
}
