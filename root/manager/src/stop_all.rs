//! The manager: all VMs at once. They start in their order and stop in reverse, each after the one before has stopped.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::host::{Host, VmId};
use crate::manager::{Ending, Manager};

/// Who is not to run any more.
struct Stopping {
    /// How many run, and are stopped.
    running: usize,
    /// The names of those that would have been started.
    withdrawn: Vec<String>,
}

impl Manager {
    /// `vm start all`: starts what is not running and can.
    pub(crate) fn command_start_all(&mut self, host: &mut impl Host) -> Result<String, String> {
        let mut answer = String::new();
        for id in self.ids() {
            if self.has_worker(id) {
                continue;
            }
            let name = self.name(id).unwrap_or_default().to_string();
            answer += &match self.command_start(host, id, &name) {
                Ok(_) if self.has_worker(id) => format!("{name} is starting\n"),
                Ok(waits) => waits,
                Err(problem) => format!("{problem}\n"),
            };
        }
        if answer.is_empty() {
            return Err("no VM is left to be started; see \"vm list\"".into());
        }
        Ok(answer)
    }

    /// `vm stop all`.
    pub(crate) fn command_stop_all(&mut self, host: &mut impl Host) -> Result<String, String> {
        let Stopping { running, withdrawn } = self.begin_to_stop(host);
        let mut answer = String::new();
        if running != 0 {
            answer += &format!("{running} to stop, the one started last is the first\n");
        }
        for name in &withdrawn {
            answer += &format!("{name} will not be started again\n");
        }
        if answer.is_empty() {
            return Err("no VM is running; see \"vm list\"".into());
        }
        Ok(answer)
    }

    /// `poweroff` and `reboot`: stops everything; the machine ends when the last worker has.
    pub(crate) fn end(&mut self, host: &mut impl Host, ending: Ending) -> String {
        // Said twice, it is meant now.
        let impatient = self.ending.is_some();
        self.ending = Some(ending);
        if impatient {
            self.to_stop.clear();
            for id in self.ids() {
                if let Some(vm) = self.vm_mut(id).filter(|vm| vm.life.has_worker()) {
                    vm.life.kill();
                    host.kill_worker(id);
                }
            }
        } else {
            self.begin_to_stop(host);
        }
        self.finish(host);
        if self.ending.is_some() {
            "waiting for the VMs to stop\n".into()
        } else {
            String::new()
        }
    }

    /// Makes a list of all that run, in the order of their starts, and stops the last. What rests before another start, or waits
    /// for one, is not started any more.
    fn begin_to_stop(&mut self, host: &mut impl Host) -> Stopping {
        let mut withdrawn = Vec::new();
        for id in self.ids() {
            let rested = self.vm_mut(id).is_some_and(|vm| vm.life.stay());
            if rested {
                self.event(host, id, "will not be started again");
                withdrawn.extend(self.name(id).map(ToString::to_string));
            }
        }
        let running = self.vms.iter().filter(|(_, vm)| vm.life.has_worker());
        let mut running: Vec<(u64, VmId)> = running.map(|(id, vm)| (vm.number, *id)).collect();
        running.sort_unstable();
        self.to_stop = running.iter().map(|(_, id)| *id).collect();
        self.stop_last(host);
        Stopping {
            running: running.len(),
            withdrawn,
        }
    }

    /// Asks the last of the list to stop.
    fn stop_last(&mut self, host: &mut impl Host) {
        while let Some(id) = self.to_stop.last().copied() {
            if self.has_worker(id) {
                let now = host.now();
                if self.vm_mut(id).is_some_and(|vm| vm.life.stop(now, false)) {
                    self.event(host, id, "asked to stop");
                    host.stop_worker(id);
                }
                return;
            }
            // It has ended by itself.
            self.to_stop.pop();
        }
    }

    /// A VM has stopped: the next one's turn, if this was the one that was waited for.
    pub(crate) fn stopped(&mut self, host: &mut impl Host, id: VmId) {
        if self.to_stop.last() == Some(&id) {
            self.to_stop.pop();
            self.stop_last(host);
        }
    }
}
