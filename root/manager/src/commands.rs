//! The manager: commands.

use alloc::format;
use alloc::string::{String, ToString};

use crate::console::{Command, HELP, Table, VmAction, parse};
use crate::counters::Whose;
use crate::events::printable;
use crate::host::{Host, VmId};
use crate::input::write_text;
use crate::life::{Patience, SECOND, State};
use crate::manager::{Ending, Manager, Started};
use crate::news;
use crate::rates::run_time;
use crate::{memory, registers, report};

impl Manager {
    /// Executes a line and writes the answer.
    pub(crate) fn execute(&mut self, host: &mut impl Host, line: &str) {
        let answer = parse(line).and_then(|command| self.command(host, &command));
        let text = match answer {
            Ok(text) => text,
            Err(problem) => format!("{}\n", printable(&problem)),
        };
        write_text(host, &text);
    }

    fn command(&mut self, host: &mut impl Host, command: &Command<'_>) -> Result<String, String> {
        match *command {
            Command::None => Ok(String::new()),
            Command::List => Ok(self.list(host)),
            Command::StartAll => self.command_start_all(host),
            Command::StopAll => self.command_stop_all(host),
            Command::Define(name) => self.command_define(name),
            Command::Reload => Ok(self.command_reload()),
            Command::Vm(action, name) => {
                let id = self.find(name)?;
                self.act(host, action, id)
            }
            Command::Memory => Ok(self.memory_report(host)),
            Command::WatchMemory => {
                self.enter_watch(host);
                Ok(String::new())
            }
            Command::Counters(wanted) => self.command_counters(host, &wanted),
            Command::Registers(name) => {
                let id = self.find(name)?;
                Ok(registers::report(name, |names, look| {
                    host.registers(id, names, look);
                }))
            }
            Command::Top => {
                self.enter_top(host);
                Ok(String::new())
            }
            Command::Events => Ok(report::events(&self.events.merged(host.events()))),
            Command::Help => Ok(HELP.into()),
            Command::PowerOff => Ok(self.end(host, Ending::PowerOff)),
            Command::Reboot => Ok(self.end(host, Ending::Reboot)),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Result<VmId, String> {
        let found = self.vms.iter().find(|(_, vm)| vm.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| {
            let names = self.names().join(", ");
            let known = if names.is_empty() {
                "no VM is defined".into()
            } else {
                format!("there are: {names}")
            };
            format!("there is no VM \"{name}\"; {known}")
        })
    }

    fn act(&mut self, host: &mut impl Host, action: VmAction, id: VmId) -> Result<String, String> {
        let name = self.name(id).unwrap_or_default().to_string();
        if action == VmAction::Start {
            return self.command_start(host, id, &name);
        }
        if action == VmAction::Restart && !self.has_worker(id) {
            return self.command_start(host, id, &name);
        }
        if !self.has_worker(id) {
            return self.act_without_worker(host, action, id, &name);
        }
        match action {
            VmAction::Stop => Ok(self.command_stop(host, id, &name, false)),
            VmAction::Restart => Ok(self.command_stop(host, id, &name, true)),
            VmAction::ShutDown => Ok(self.command_shut_down(host, id, &name)),
            VmAction::Kill => {
                if let Some(vm) = self.vm_mut(id) {
                    vm.life.kill();
                }
                self.event(host, id, "killed by command");
                host.kill_worker(id);
                Ok(String::new())
            }
            VmAction::Attach => {
                self.attach(host, id);
                Ok(String::new())
            }
            VmAction::Debug(fault) => {
                host.debug_worker(id, fault);
                Ok(format!("{name}: its worker will misbehave ({fault:?})\n"))
            }
            VmAction::Start => Ok(String::new()),
        }
    }

    fn act_without_worker(
        &mut self,
        host: &mut impl Host,
        action: VmAction,
        id: VmId,
        name: &str,
    ) -> Result<String, String> {
        if matches!(action, VmAction::Stop | VmAction::Kill)
            && self.vm_mut(id).is_some_and(|vm| vm.life.stay())
        {
            self.event(host, id, "will not be started again");
            return Ok(format!("{name} will not be started again\n"));
        }
        let state = self.state(id).map_or("off", |state| state.word());
        let written = self.vm(id).filter(|vm| vm.output.len() > 0);
        // What a VM wrote before it ended can still be read.
        if let (VmAction::Attach, Some(vm)) = (action, written) {
            host.console_write(&vm.output.replay());
            return Ok(format!(
                "\n[{name} is {state}; this is what it wrote last]\n"
            ));
        }
        Err(format!(
            "{name} is {state}; start it with \"vm start {name}\""
        ))
    }

    pub(crate) fn command_start(
        &mut self,
        host: &mut impl Host,
        id: VmId,
        name: &str,
    ) -> Result<String, String> {
        if self.ending.is_some() {
            return Err("the machine is being switched off; nothing is started any more".into());
        }
        if self.has_worker(id) {
            let state = self.state(id).map_or("running", |state| state.word());
            return Err(format!("{name} is {state} already; see \"vm list\""));
        }
        if self.vm(id).is_some_and(|vm| vm.life.is_waiting()) {
            return Err(format!("{name} waits for memory already; see \"vm list\""));
        }
        self.begin_life(id);
        match self.start(host, id, Patience::Once) {
            Ok(Started::Now) => Ok(format!(
                "{name} is starting; \"vm attach {name}\" shows its serial line\n"
            )),
            Ok(Started::Waits(missing)) => Ok(format!("{name} waits for memory: {missing}\n")),
            Err(problem) => Err(format!("{name} cannot be started: {problem}")),
        }
    }

    fn command_stop(&mut self, host: &mut impl Host, id: VmId, name: &str, again: bool) -> String {
        let now = host.now();
        if self.vm_mut(id).is_some_and(|vm| vm.life.stop(now, again)) {
            self.event(host, id, "asked to stop");
            host.stop_worker(id);
        }
        format!("{name} is stopping\n")
    }

    /// Only asks. The guest may take its time, refuse, or have nobody who listens: that is in the event list, and "vm stop" is
    /// there for it.
    fn command_shut_down(&mut self, host: &mut impl Host, id: VmId, name: &str) -> String {
        if let Some(vm) = self.vm_mut(id) {
            vm.life.shut_down();
        }
        self.event(host, id, "its guest is asked to shut down");
        host.shut_down_guest(id);
        format!("{name} is asked to shut down; see \"events\" and \"vm list\"\n")
    }

    fn list(&mut self, host: &impl Host) -> String {
        let now = host.now();
        let headings = [
            "NAME", "STATE", ">VPS", ">CPU%", ">MIB", ">UPTIME", "HEART", "VMBUS", ">CHAN",
            "GUEST", "REASON",
        ];
        let mut table = Table::new(headings);
        let report = host.memory();
        let waiting = self.waiting_in_order();
        for id in self.ids() {
            let Some(vm) = self.vm_mut(id) else { continue };
            let definition = vm.definition();
            let (vps, memory) = definition.map_or(("-".into(), "-".into()), |definition| {
                let pages = match definition.dynamic {
                    Some(_) if vm.life.has_worker() => report.ram_of(id),
                    _ => memory::pages(definition.memory),
                };
                let mib = memory::mib(pages);
                (definition.processors.to_string(), mib.to_string())
            });
            let uptime = vm.life.uptime(now);
            let cpu = uptime.and_then(|_| vm.cpu.look(now, run_time(host, Whose::Vm(id))));
            let state = vm.life.state();
            let mut reason = printable(state.reason());
            let turn = waiting.iter().position(|waits| *waits == id);
            let turn = turn.map_or(0, |before| before + 1);
            if vm.life.waits_after_reset() {
                reason = format!("number {turn}, as long as it takes, after a reset: {reason}");
            } else if let Some(wake) = vm.life.deadline() {
                let rest = wake.saturating_sub(now).div_ceil(SECOND);
                match state {
                    State::Resting(_) => reason = format!("starts again in {rest} s: {reason}"),
                    State::Waiting(_) => {
                        reason = format!("number {turn}, for {rest} s more: {reason}");
                    }
                    _ => {}
                }
            }
            let unknown = || core::array::from_fn(|_| "-".into());
            let [heartbeat, version, channels, system] =
                vm.guest().map_or_else(unknown, news::cells);
            table.row([
                vm.name.clone(),
                state.word().into(),
                vps,
                cpu.map_or("-".into(), report::percent),
                memory,
                uptime.map_or("-".into(), report::duration),
                heartbeat,
                version,
                channels,
                system,
                reason,
            ]);
        }
        table.text()
    }
}
