//! The console: editing, history, commands, the escape key.

use proptest::prelude::*;

use crate::DebugFault;
use crate::console::{Command, CountersOf, Editor, Escape, Input, Typed, VmAction, parse};

/// A terminal's idea of the current line after `echo`.
fn shown(echo: &[u8]) -> String {
    let mut line: Vec<u8> = Vec::new();
    let mut cursor = 0;
    for byte in echo {
        match byte {
            0x08 => cursor -= 1,
            0x07 => {}
            b'\n' => (line, cursor) = (Vec::new(), 0),
            b'\r' => cursor = 0,
            byte => {
                line.truncate(cursor);
                line.push(*byte);
                cursor += 1;
            }
        }
    }
    line.truncate(cursor);
    String::from_utf8(line).expect("ASCII")
}

/// Types bytes; returns the lines completed and what the terminal's last line shows.
fn edit(editor: &mut Editor, bytes: &[u8]) -> (Vec<String>, String) {
    let mut echo = editor.line().as_bytes().to_vec();
    let mut lines = Vec::new();
    for byte in bytes {
        if let Input::Line(line) = editor.byte(*byte, &mut echo) {
            lines.push(line);
        }
    }
    (lines, shown(&echo))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    edit(&mut Editor::default(), bytes).0
}

#[test]
fn typed_lines_are_edited_and_echoed() {
    assert_eq!(lines(b"vm list\r"), ["vm list"]);
    assert_eq!(lines(b"a\rb\nc\r\nd\r\r"), ["a", "b", "c", "d", ""]);
    assert_eq!(lines(b"vmx\x7f li\x08ist\r"), ["vm list"]);
    assert_eq!(lines(b"\x7f\x7fa\r"), ["a"]);
    assert_eq!(lines(b"wrong\x15right\r"), ["right"]);
    assert_eq!(edit(&mut Editor::default(), b"ab\x7fc").1, "ac");
    assert_eq!(edit(&mut Editor::default(), b"abc\x15d").1, "d");
}

#[test]
fn ctrl_c_gives_the_line_up() {
    let mut editor = Editor::default();
    assert_eq!(edit(&mut editor, b"vm kill a\x03").0, [""; 0]);
    assert_eq!(editor.line(), "");
    let mut echo = Vec::new();
    assert_eq!(editor.byte(3, &mut echo), Input::Abandoned);
    assert_eq!(echo, b"^C\r\n");
}

#[test]
fn history_goes_back_and_forth_and_keeps_the_draft() {
    let mut editor = Editor::default();
    edit(&mut editor, b"one\rtwo\rtwo\r\r");
    assert_eq!(edit(&mut editor, b"dra\x1b[A").1, "two");
    assert_eq!(edit(&mut editor, b"\x1b[A").0, [""; 0]);
    assert_eq!(
        editor.line(),
        "one",
        "a line given twice is kept once, an empty one not at all"
    );
    edit(&mut editor, b"\x1b[A");
    assert_eq!(editor.line(), "one", "there is nothing before the first");
    edit(&mut editor, b"\x1b[B\x1b[B");
    assert_eq!(editor.line(), "dra");
    edit(&mut editor, b"\x1bOA\r");
    assert_eq!(editor.line(), "");
}

#[test]
fn history_remembers_16_lines() {
    let mut editor = Editor::default();
    for number in 0..20 {
        edit(&mut editor, format!("line {number}\r").as_bytes());
    }
    edit(&mut editor, &b"\x1b[A".repeat(30));
    assert_eq!(editor.line(), "line 4");
}

#[test]
fn other_keys_do_nothing_to_the_line() {
    assert_eq!(lines(b"a\x1b[Cb\x1b[3~c\x1b[1;5Dd\r"), ["abcd"]);
    assert_eq!(lines("aäb\r".as_bytes()), ["ab"]);
    assert_eq!(
        lines(&[vec![b'x'; 1000], vec![b'\r']].concat()),
        ["x".repeat(256)]
    );
}

fn counters(what: Option<&str>, watch: bool, csv: bool) -> Command<'_> {
    Command::Counters(CountersOf { what, watch, csv })
}

#[test]
fn options_of_counters_come_last_and_are_known() {
    for line in [
        "counters -v",
        "counters --all",
        "counters --csv a",
        "counters a --cvs",
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains("--watch, --csv or both"), "{error}");
    }
}

#[test]
fn commands_are_understood() {
    for (line, command) in [
        ("", Command::None),
        ("  vm   list ", Command::List),
        ("vm start a", Command::Vm(VmAction::Start, "a")),
        ("vm stop a", Command::Vm(VmAction::Stop, "a")),
        ("vm kill a", Command::Vm(VmAction::Kill, "a")),
        ("vm restart a", Command::Vm(VmAction::Restart, "a")),
        ("vm attach a", Command::Vm(VmAction::Attach, "a")),
        (
            "debug worker a loop",
            Command::Vm(VmAction::Debug(DebugFault::Loop), "a"),
        ),
        (
            "debug worker a panic",
            Command::Vm(VmAction::Debug(DebugFault::Panic), "a"),
        ),
        ("vm start all", Command::StartAll),
        ("vm stop all", Command::StopAll),
        ("vm define a", Command::Define("a")),
        ("vm reload", Command::Reload),
        ("top", Command::Top),
        ("mem", Command::Memory),
        ("mem --watch", Command::WatchMemory),
        ("counters", counters(None, false, false)),
        (" counters  a ", counters(Some("a"), false, false)),
        ("counters --csv", counters(None, false, true)),
        ("counters a --watch", counters(Some("a"), true, false)),
        (
            "counters % total --csv  --watch ",
            counters(Some("% total"), true, true),
        ),
        ("counters a-b", counters(Some("a-b"), false, false)),
        (
            "counters average pressure",
            counters(Some("average pressure"), false, false),
        ),
        ("registers a", Command::Registers("a")),
        ("events", Command::Events),
        ("help", Command::Help),
        ("poweroff", Command::PowerOff),
        ("reboot", Command::Reboot),
    ] {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
}

#[test]
fn wrong_commands_get_help() {
    for (line, hint) in [
        ("frobnicate", "type \"help\""),
        ("start a", "did you mean \"vm start\"?"),
        ("vm", "list, start, shutdown, stop"),
        ("vm frob a", "list, start, shutdown, stop"),
        ("vm start", "vm start NAME"),
        ("vm start a b", "vm start NAME"),
        ("vm list a", "takes nothing"),
        ("vm reload a", "takes nothing"),
        ("vm kill all", "can be started and stopped"),
        ("vm define all", "takes the name of one VM"),
        ("vm define", "vm define NAME"),
        ("reload", "did you mean \"vm reload\"?"),
        ("top 5", "type just \"top\""),
        ("mem all", "mem --watch"),
        ("poweroff now", "type just \"poweroff\""),
        ("counters --cvs", "counters NAME"),
        ("registers", "registers NAME"),
        ("debug worker a sleep", "panic"),
        ("debug", "debug worker NAME"),
    ] {
        let problem = parse(line).expect_err(line);
        assert!(problem.contains(hint), "{line}: {problem}");
    }
}

#[test]
fn every_command_of_the_help_is_understood() {
    for line in crate::console::HELP.lines() {
        let usage = line.split("  ").next().unwrap_or_default();
        let typed = usage
            .replace("[NAME]", "a")
            .replace("NAME", "a")
            .replace("PATTERN", "pressure")
            .replace("WHAT", "wild");
        assert!(parse(&typed).is_ok(), "{typed}");
    }
}

#[test]
fn escape_key_detaches_or_is_sent_when_doubled() {
    let mut escape = Escape::default();
    assert_eq!(escape.bytes(b"ls\r"), Typed::Input(b"ls\r".to_vec()));
    assert_eq!(
        escape.bytes(b"a\x1d\x1db"),
        Typed::Input(b"a\x1db".to_vec())
    );
    assert_eq!(escape.bytes(b"\x1d"), Typed::Input(vec![]));
    assert_eq!(escape.bytes(b"xy"), Typed::Help(b"y".to_vec()));
    assert_eq!(escape.bytes(b"a\x1d"), Typed::Input(b"a".to_vec()));
    assert_eq!(escape.bytes(b".vm"), Typed::Detach(vec![], b"vm".to_vec()));
    assert_eq!(
        escape.bytes(b"d"),
        Typed::Input(b"d".to_vec()),
        "the key alone is the guest's"
    );
}

proptest! {
    #[test]
    fn any_keys_leave_a_printable_line_that_the_terminal_shows(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b"ab\x7f\x15\x1b[AB\r".to_vec())], 0..200,
    )) {
        let mut editor = Editor::default();
        let (lines, shown) = edit(&mut editor, &bytes);
        prop_assert_eq!(shown, editor.line());
        for line in lines.iter().map(String::as_str).chain([editor.line()]) {
            prop_assert!(line.len() <= 256 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn any_line_is_a_command_or_an_error(line in "\\PC{0,60}") {
        let _ = parse(&line);
        crate::fuzz(line.as_bytes());
    }
}
