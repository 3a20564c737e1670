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
    /// `counters`, `counters NAME`, `counters PATTERN`: the pattern may be several words.
    Counters(Option<&'l str>),
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
        ["counters"] => Ok(Command::Counters(None)),
        ["counters", option, ..] if option.starts_with('-') => Err(
            "type \"counters\", \"counters NAME\" with a VM's name, or \"counters PATTERN\"".into(),
        ),
        ["counters", ..] => {
            let rest = line.trim_ascii().strip_prefix("counters");
            Ok(Command::Counters(rest.map(str::trim_ascii)))
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
