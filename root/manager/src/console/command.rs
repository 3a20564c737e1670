//! Commands as they are typed.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::definition::EVERY_VM;
use crate::host::DebugFault;

/// The answer to `help`.
pub const HELP: &str = "\
vm list                  the VMs, what state they are in and what they use
vm start NAME            start a VM; \"all\" starts every one that is not running
vm shutdown NAME         ask its guest to switch itself off
vm stop NAME             ask its worker to stop; it is killed after 10 seconds
vm stop all              stop one after the other, the one started last first
vm kill NAME             end its worker at once
vm restart NAME          stop, then start again
vm attach NAME           use its serial line; Ctrl-] d gives the console back
vm define NAME           type a definition, which goes before the archive's
vm reload                forget typed definitions of VMs that do not run
top                      processors and VPs, every second; any key ends it
mem                      who owns the machine's memory
mem --watch              memory of VMs with Dynamic Memory, every second
counters [NAME]          counters of the machine, or of a VM
counters PATTERN         counters with that in their names, of everybody
counters ... --watch     the same every second; any key ends it
counters ... --csv       the same as comma-separated values; with --watch too
registers NAME           registers of a VM's VPs, those that are not zero
events                   what has happened
debug worker NAME WHAT   make a worker misbehave: panic, wild or loop
poweroff                 stop all VMs and switch the machine off
reboot                   stop all VMs and reset the machine
help                     this list
";

/// What can be done to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmAction {
    /// Start it.
    Start,
    /// Ask its guest to switch itself off.
    ShutDown,
    /// Ask it to stop.
    Stop,
    /// End its worker.
    Kill,
    /// Stop, then start.
    Restart,
    /// Use its serial line.
    Attach,
    /// Let its worker misbehave.
    Debug(DebugFault),
}

/// Which counters, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersOf<'l> {
    /// A VM's name or a pattern, which may be several words; the machine's without.
    pub what: Option<&'l str>,
    /// `--watch`: every second.
    pub watch: bool,
    /// `--csv`: as comma-separated values.
    pub csv: bool,
}

/// A command. Names of VMs are as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'l> {
    /// An empty line.
    None,
    /// `vm list`.
    List,
    /// `vm start all`.
    StartAll,
    /// `vm stop all`.
    StopAll,
    /// `vm define NAME`.
    Define(&'l str),
    /// `vm reload`.
    Reload,
    /// `top`.
    Top,
    /// `vm … NAME`.
    Vm(VmAction, &'l str),
    /// `mem`.
    Memory,
    /// `mem --watch`.
    WatchMemory,
    /// `counters`, `counters NAME`, `counters PATTERN`, with options.
    Counters(CountersOf<'l>),
    /// `registers NAME`.
    Registers(&'l str),
    /// `events`.
    Events,
    /// `help`.
    Help,
    /// `poweroff`.
    PowerOff,
    /// `reboot`.
    Reboot,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, and what could be typed instead.
pub fn parse(line: &str) -> Result<Command<'_>, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        [] => Ok(Command::None),
        ["vm", rest @ ..] => vm(rest),
        ["mem"] => Ok(Command::Memory),
        ["mem", "--watch"] => Ok(Command::WatchMemory),
        ["mem", ..] => Err("type \"mem\", or \"mem --watch\"".into()),
        ["counters", ..] => {
            let rest = line.trim_ascii().strip_prefix("counters");
            counters(rest.unwrap_or_default()).map(Command::Counters)
        }
        ["registers", name] => Ok(Command::Registers(name)),
        ["top"] => Ok(Command::Top),
        ["events"] => Ok(Command::Events),
        ["help" | "?"] => Ok(Command::Help),
        ["poweroff"] => Ok(Command::PowerOff),
        ["reboot"] => Ok(Command::Reboot),
        ["debug", rest @ ..] => debug(rest),
        [
            known @ ("top" | "events" | "help" | "?" | "poweroff" | "reboot"),
            ..,
        ] => Err(format!(
            "\"{known}\" takes nothing after it; type just \"{known}\""
        )),
        ["registers", ..] => Err("type \"registers NAME\" with one VM's name".into()),
        // The VM commands without their first word are an easy slip.
        [
            slip @ ("list" | "start" | "shutdown" | "stop" | "kill" | "restart" | "attach"
            | "define" | "reload"),
            ..,
        ] => Err(format!(
            "there is no command \"{slip}\"; did you mean \"vm {slip}\"?"
        )),
        [unknown, ..] => Err(format!(
            "there is no command \"{unknown}\"; type \"help\" for the list of commands"
        )),
    }
}

/// What is behind `counters`.
fn counters(mut rest: &str) -> Result<CountersOf<'_>, String> {
    let mut wanted = CountersOf::default();
    loop {
        rest = rest.trim_ascii();
        let start = rest.rfind(|c: char| c.is_ascii_whitespace());
        let start = start.map_or(0, |before| before + 1);
        let Some((before, last)) = rest.split_at_checked(start) else {
            break;
        };
        match last {
            "--watch" => wanted.watch = true,
            "--csv" => wanted.csv = true,
            _ => break,
        }
        rest = before;
    }
    let is_option = |word: &str| word.starts_with("--");
    if rest.starts_with('-') || rest.split_ascii_whitespace().any(is_option) {
        return Err(
            "type \"counters\", \"counters NAME\" with a VM's name, or \"counters PATTERN\"; \
            behind that --watch, --csv or both"
                .into(),
        );
    }
    wanted.what = Some(rest).filter(|rest| !rest.is_empty());
    Ok(wanted)
}

fn vm<'l>(words: &[&'l str]) -> Result<Command<'l>, String> {
    let actions = "list, start, shutdown, stop, kill, restart, attach, define, reload";
    match words {
        [] => Err(format!("\"vm\" wants to know what to do: {actions}")),
        ["list"] => Ok(Command::List),
        ["reload"] => Ok(Command::Reload),
        [known @ ("list" | "reload"), ..] => Err(format!("\"vm {known}\" takes nothing after it")),
        ["start", EVERY_VM] => Ok(Command::StartAll),
        ["stop", EVERY_VM] => Ok(Command::StopAll),
        [action, EVERY_VM] => Err(format!(
            "\"{EVERY_VM}\" can be started and stopped; \"vm {action}\" takes the name of one VM"
        )),
        ["define", name] => Ok(Command::Define(name)),
        [action, rest @ ..] => {
            let known = match *action {
                "start" => VmAction::Start,
                "shutdown" => VmAction::ShutDown,
                "stop" => VmAction::Stop,
                "kill" => VmAction::Kill,
                "restart" => VmAction::Restart,
                "attach" => VmAction::Attach,
                "define" => return Err("type \"vm define NAME\" with the name of one VM".into()),
                _ => return Err(format!("there is no \"vm {action}\"; there are: {actions}")),
            };
            match rest {
                [name] => Ok(Command::Vm(known, name)),
                _ => Err(format!(
                    "\"vm {action}\" takes the name of one VM: vm {action} NAME; see \"vm list\""
                )),
            }
        }
    }
}

fn debug<'l>(words: &[&'l str]) -> Result<Command<'l>, String> {
    let usage = || String::from("type \"debug worker NAME panic\", \"… wild\" or \"… loop\"");
    let ["worker", name, what] = words else {
        return Err(usage());
    };
    let fault = match *what {
        "panic" => DebugFault::Panic,
        "wild" => DebugFault::Wild,
        "loop" => DebugFault::Loop,
        _ => return Err(usage()),
    };
    Ok(Command::Vm(VmAction::Debug(fault), name))
}
