//! What a machine says when its scenario has failed: whether its console still answers, and what each VM has been doing.

use std::time::Duration;

use super::case::Case;
use super::serial::SerialLine;

/// What makes the console leave the VM that it is attached to.
const DETACH: &str = "\u{1d}d";
/// An answer is over when nothing more has come for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Nor is more waited for: somebody else may be talking.
const LONGEST: Duration = Duration::from_secs(20);

/// Asks the manager's console; `None` of a machine that runs another root. The counters of each VM come twice, so that one sees
/// which of them still move; then where its VPs are, and what keeps them there.
pub fn ask(line: &mut SerialLine, case: &Case) -> Option<String> {
    if case.scenario.root.is_some() {
        return None;
    }
    let names = case
        .scenario
        .vm
        .iter()
        .filter_map(|vm| vm.get("name")?.as_str());
    let (counters, registers): (Vec<_>, Vec<_>) = names
        .map(|name| (format!("counters {name}\r"), format!("registers {name}\r")))
        .unzip();
    let rounds = counters.iter().chain(&counters).chain(&registers);
    let rounds = rounds.map(String::as_str);
    let questions = [DETACH, "\r", "vm list\r"].into_iter().chain(rounds);
    let mut answers = String::new();
    for question in questions.chain(["events\r", "vm list\r"]) {
        if line.send(question).is_err() {
            break;
        }
        let patience = case.processor.patience();
        answers += &line.listen(QUIET * patience, LONGEST * patience);
    }
    if answers.trim().is_empty() {
        return Some("---- the console does not answer any more ----".to_owned());
    }
    Some(format!(
        "---- asked afterwards ----\n{}\n----",
        answers.trim()
    ))
}
