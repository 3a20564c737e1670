//! Definitions that are typed.

use root_abi::ExitReason;

use super::fake::{Effect, Fake, begun, exited, typed, vm};
use crate::define::{MAX_TEXT, MAX_VMS};
use crate::{Manager, State, VmId};

const A: VmId = VmId(0);

/// Types a definition; returns the answer to its end.
fn define(manager: &mut Manager, host: &mut Fake, name: &str, lines: &[&str]) -> String {
    typed(manager, host, &format!("vm define {name}"));
    for line in lines {
        typed(manager, host, line);
    }
    typed(manager, host, ".")
}

const LEAST: [&str; 2] = ["memory = 16", "kernel = \"guest/k\""];

#[test]
fn a_typed_definition_makes_a_vm_that_can_be_started() {
    let (mut manager, mut host) = begun(&[]);
    let answer = typed(&mut manager, &mut host, "vm define new");
    assert!(answer.ends_with("Ctrl-C gives it up\n  1> "), "{answer}");
    let answer = typed(&mut manager, &mut host, "# of mine");
    assert!(answer.ends_with("\n  2> "), "{answer}");
    typed(&mut manager, &mut host, LEAST[0]);
    typed(&mut manager, &mut host, LEAST[1]);
    let answer = typed(&mut manager, &mut host, ".");
    assert!(
        answer.contains("new is defined; \"vm start new\""),
        "{answer}"
    );
    assert!(answer.ends_with("partita> "));
    typed(&mut manager, &mut host, "vm start new");
    assert_eq!(host.done(), [Effect::Start(A, "new".into())]);
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    typed(&mut manager, &mut host, "vm start new");
    assert_eq!(
        host.done(),
        [Effect::Start(A, "new".into())],
        "it is kept over starts"
    );
}

#[test]
fn a_typed_definition_goes_before_the_archives_until_a_reload() {
    let (mut manager, mut host) = begun(&[vm("a", ""), vm("b", "")]);
    let answer = define(&mut manager, &mut host, "a", &LEAST);
    assert!(
        answer.contains("a is defined anew (changed: memory)"),
        "{answer}"
    );
    let list = typed(&mut manager, &mut host, "vm list");
    assert!(list.contains("a     off      1     -   16"), "{list}");
    define(
        &mut manager,
        &mut host,
        "a",
        &[LEAST[0], LEAST[1], "processors = 2"],
    );
    define(&mut manager, &mut host, "new", &LEAST);
    let answer = typed(&mut manager, &mut host, "vm reload");
    assert!(
        answer.contains("a has the archive's definition again (changed: memory, processors)\n"),
        "{answer}"
    );
    assert!(answer.contains("new is gone: the archive does not have it"));
    let answer = typed(&mut manager, &mut host, "vm start new");
    assert!(answer.contains("there are: a, b"), "{answer}");
    assert!(typed(&mut manager, &mut host, "vm reload").contains("nothing changes"));
}

#[test]
fn a_running_vm_takes_its_new_definition_at_its_next_start() {
    let (mut manager, mut host) = begun(&[vm("a", "autostart = true")]);
    let answer = define(&mut manager, &mut host, "a", &LEAST);
    assert!(answer.contains("takes this at its next start"), "{answer}");
    let mib = |manager: &mut Manager, host: &mut Fake| {
        let list = typed(manager, host, "vm list");
        let row = list.lines().find(|line| line.starts_with("a ")).expect("a");
        row.split_whitespace().nth(4).expect("MIB").to_string()
    };
    assert_eq!(mib(&mut manager, &mut host), "64");
    let answer = typed(&mut manager, &mut host, "vm reload");
    assert!(answer.contains("a runs: it keeps"), "{answer}");
    manager.worker_ended(&mut host, A, &exited(ExitReason::Reset));
    assert_eq!(mib(&mut manager, &mut host), "16");
}

#[test]
fn errors_name_the_line_and_define_nothing() {
    let (mut manager, mut host) = begun(&[vm("a", "")]);
    let answer = define(&mut manager, &mut host, "a", &["# my own", "memory = 5"]);
    assert!(
        answer.contains("console/a.toml:2: memory: 5 is not"),
        "{answer}"
    );
    assert!(answer.contains("nothing was defined"));
    let other = ["name = \"b\"", LEAST[0], LEAST[1]];
    let answer = define(&mut manager, &mut host, "a", &other);
    assert!(answer.contains("\"b\" is not \"a\""), "{answer}");
    let answer = define(&mut manager, &mut host, "a.b", &LEAST);
    assert!(answer.contains("letters, digits"), "{answer}");
    assert!(typed(&mut manager, &mut host, "vm list").contains("64"));
}

#[test]
fn a_definition_can_be_given_up_and_cannot_be_endless() {
    let (mut manager, mut host) = begun(&[]);
    typed(&mut manager, &mut host, "vm define a");
    typed(&mut manager, &mut host, LEAST[0]);
    manager.console_input(&mut host, b"half a line\x03");
    let seen = host.seen();
    assert!(seen.ends_with("nothing was defined\r\npartita> "), "{seen}");
    typed(&mut manager, &mut host, "vm define a");
    let line = "#".repeat(250);
    let ended = (0..=MAX_TEXT / 250)
        .map(|_| typed(&mut manager, &mut host, &line))
        .find(|answer| answer.contains("nothing was defined"));
    assert!(ended.is_some_and(|answer| answer.ends_with("partita> ")));
}

#[test]
fn there_is_a_most_of_vms() {
    let (mut manager, mut host) = begun(&[]);
    for index in 0..MAX_VMS {
        define(&mut manager, &mut host, &format!("vm{index}"), &LEAST);
    }
    let answer = typed(&mut manager, &mut host, "vm define one-more");
    assert!(answer.contains("cannot be more"), "{answer}");
    let answer = define(&mut manager, &mut host, "vm7", &LEAST);
    assert!(
        answer.contains("vm7 is defined anew (nothing changes)"),
        "{answer}"
    );
}

#[test]
fn a_broken_definition_is_mended_by_typing_one() {
    let (mut manager, mut host) = begun(&[("vm/a.toml".into(), "name = 5".into())]);
    assert!(matches!(manager.state(A), Some(State::Failed(_))));
    let answer = define(&mut manager, &mut host, "a", &LEAST);
    assert!(answer.contains("the one before had an error"), "{answer}");
    assert_eq!(manager.state(A), Some(&State::Off(String::new())));
    let answer = typed(&mut manager, &mut host, "vm reload");
    assert!(answer.contains("which has an error"), "{answer}");
    assert!(matches!(manager.state(A), Some(State::Failed(_))));
}

#[test]
fn news_comes_above_the_line_being_typed() {
    let (mut manager, mut host) = begun(&[vm("a", "autostart = true")]);
    typed(&mut manager, &mut host, "vm define b");
    manager.console_input(&mut host, b"memo");
    host.seen();
    manager.worker_ended(&mut host, A, &exited(ExitReason::PowerOff));
    let seen = host.seen();
    assert!(seen.ends_with("]\r\n  1> memo"), "{seen}");
}
