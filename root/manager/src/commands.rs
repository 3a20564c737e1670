//! The manager: commands.

use alloc::format;
use alloc::string::{String, ToString};

use crate::console::{Command, HELP, Table, VmAction, parse};
use crate::events::printable;
use crate::host::{Host, VmId};
use crate::manager::{Ending, Manager, write_text};
use crate::report;

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
            Command::List => Ok(self.list(host.now())),
            Command::Vm(action, name) => {
                let id = self.find(name)?;
                self.act(host, action, id)
            }
            Command::Memory => Ok(report::memory(&host.memory(), |id| {
                self.name(id).unwrap_or("?").to_string()
            })),
            Command::Counters(name) => {
                let id = name.map(|name| self.find(name)).transpose()?;
                Ok(report::counters(&host.counters(id)))
            }
            Command::Events => Ok(report::events(&self.events.merged(host.events()))),
            Command::Help => Ok(HELP.into()),
            Command::PowerOff => Ok(self.end(host, Ending::PowerOff)),
            Command::Reboot => Ok(self.end(host, Ending::Reboot)),
        }
    }

    fn find(&self, name: &str) -> Result<VmId, String> {
        let found = self.ids().find(|id| self.name(*id) == Some(name));
        found.ok_or_else(|| {
            let names = self
                .ids()
                .filter_map(|id| self.name(id))
                .collect::<alloc::vec::Vec<_>>()
                .join(", ");
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
            let written = self.vm(id).is_some_and(|vm| vm.output.len() > 0);
            let state = self.state(id).map_or("off", |state| state.word());
            // What a VM wrote before it ended can still be read.
            if let (VmAction::Attach, true, Some(vm)) = (action, written, self.vm(id)) {
                host.console_write(&vm.output.replay());
                return Ok(format!(
                    "\n[{name} is {state}; this is what it wrote last]\n"
                ));
            }
            return Err(format!(
                "{name} is {state}; start it with \"vm start {name}\""
            ));
        }
        match action {
            VmAction::Stop => Ok(self.command_stop(host, id, &name, false)),
            VmAction::Restart => Ok(self.command_stop(host, id, &name, true)),
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

    fn command_start(
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
        if let Some(vm) = self.vm_mut(id) {
            vm.new_life();
        }
        self.start(host, id)
            .map_err(|problem| format!("{name} cannot be started: {problem}"))?;
        Ok(format!(
            "{name} is starting; \"vm attach {name}\" shows its serial line\n"
        ))
    }

    fn command_stop(&mut self, host: &mut impl Host, id: VmId, name: &str, again: bool) -> String {
        let now = host.now();
        if self.vm_mut(id).is_some_and(|vm| vm.life.stop(now, again)) {
            self.event(host, id, "asked to stop");
            host.stop_worker(id);
        }
        format!("{name} is stopping\n")
    }

    /// Stops everything; the machine ends when the last worker has.
    fn end(&mut self, host: &mut impl Host, ending: Ending) -> String {
        // Said twice, it is meant now.
        let impatient = self.ending.is_some();
        self.ending = Some(ending);
        for id in self.ids() {
            let now = host.now();
            if self.vm_mut(id).is_some_and(|vm| vm.life.stop(now, false)) {
                host.stop_worker(id);
            } else if impatient && self.has_worker(id) {
                host.kill_worker(id);
            }
        }
        self.finish(host);
        if self.ending.is_some() {
            "waiting for the VMs to stop\n".into()
        } else {
            String::new()
        }
    }

    fn list(&self, now: u64) -> String {
        let mut table = Table::new(["NAME", "STATE", ">VPS", ">MIB", ">UPTIME", "REASON"]);
        for vm in &self.vms {
            let (vps, memory) = match &vm.definition {
                Ok(definition) => (
                    definition.processors.to_string(),
                    (definition.memory >> 20).to_string(),
                ),
                Err(_) => ("-".into(), "-".into()),
            };
            let uptime = vm.life.uptime(now).map_or("-".into(), report::duration);
            let state = vm.life.state();
            table.row([
                vm.name.clone(),
                state.word().into(),
                vps,
                memory,
                uptime,
                printable(state.reason()),
            ]);
        }
        table.text()
    }
}
