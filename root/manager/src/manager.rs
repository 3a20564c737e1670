//! The manager: events in.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

use balancer::Weight;
use root_abi::news::GuestState;

use crate::console::Editor;
use crate::definition::{DEFAULT_ORDER, Definition, HOST_FILE, HostDefinition, Restart};
use crate::events::{Events, printable};
use crate::host::{Home, Host, VmId, WorkerEnd};
use crate::input::{Mode, write_text};
use crate::life::{Next, Patience, SECOND, State};
use crate::memory::{Admission, Balancing, VmMemory};
use crate::news::{self, WorkerNews};
use crate::rates::CpuLook;
use crate::vm::Vm;

/// Who says what is wrong with the host's definition, in the event list.
const HOST_SOURCE: &str = "host";

/// What the machine does once all VMs have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Switch it off.
    PowerOff,
    /// Reset it.
    Reboot,
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// There is a worker.
    Now,
    /// It waits for memory. The text says what is missing.
    Waits(String),
}

/// All VMs and the console.
#[derive(Debug)]
pub struct Manager {
    pub(crate) vms: BTreeMap<VmId, Vm>,
    pub(crate) events: Events,
    pub(crate) ending: Option<Ending>,
    pub(crate) editor: Editor,
    pub(crate) mode: Mode,
    /// VMs to be stopped one after the other; the last is the one that is stopping.
    pub(crate) to_stop: Vec<VmId>,
    /// Lives begun so far.
    lives: u64,
    /// What Dynamic Memory remembers.
    pub(crate) memory: Balancing,
}

impl Manager {
    /// Reads the definitions: the archive's members `vm/*.toml`, name and content. Bad ones are listed as failed.
    /// [`VmId`]s count in the order of starting.
    pub fn new<'a>(definitions: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut vms: Vec<Vm> = Vec::new();
        for (file, text) in definitions.into_iter().take(usize::from(u16::MAX)) {
            let mut vm = Vm::new(file, text);
            if let Some(other) = vms.iter().find(|other| other.name == vm.name) {
                vm.same_name_as(other);
            }
            vms.push(vm);
        }
        vms.sort_by(|one, other| place(one).cmp(&place(other)));
        Self {
            vms: (0..).map(VmId).zip(vms).collect(),
            events: Events::default(),
            ending: None,
            editor: Editor::default(),
            mode: Mode::Commands,
            to_stop: Vec::new(),
            lives: 0,
            memory: Balancing::default(),
        }
    }

    /// Takes the host's own definition, the archive's member [`HOST_FILE`]: before [`begin`](Self::begin), if there is one. If it
    /// has an error the usual settings stay, and the console and the event list say why.
    pub fn set_host(&mut self, host: &mut impl Host, text: &[u8]) {
        let text = core::str::from_utf8(text).unwrap_or("\0");
        match HostDefinition::parse(HOST_FILE, text) {
            Ok(definition) => self.memory.reserve = definition.reserve,
            Err(error) => {
                let problem = format!("{error}; the host has the usual settings");
                write_text(host, &format!("{}\n", printable(&problem)));
                self.events.push(host.now(), HOST_SOURCE, &problem);
            }
        }
    }

    /// The root is ready: greets, says which definitions are bad, starts the VMs with `autostart` in their order.
    pub fn begin(&mut self, host: &mut impl Host) {
        let greeting = format!(
            "Partita root: {} VMs defined. Type \"help\" for the commands.\n",
            self.vms.len()
        );
        write_text(host, &greeting);
        for id in self.ids() {
            let Some(vm) = self.vm(id) else { continue };
            match &vm.source.definition {
                Err(error) => {
                    let (name, error) = (vm.name.clone(), format!("{error}"));
                    write_text(host, &format!("{}\n", printable(&error)));
                    self.events.push(host.now(), &name, &error);
                }
                Ok(definition) if definition.autostart => {
                    let name = vm.name.clone();
                    self.begin_life(id);
                    match self.start(host, id, Patience::Once) {
                        Ok(Started::Now) => {}
                        Ok(Started::Waits(missing)) => {
                            write_text(host, &format!("{name} waits for memory: {missing}\n"));
                        }
                        Err(problem) => {
                            write_text(host, &format!("{name} cannot be started: {problem}\n"));
                        }
                    }
                }
                Ok(_) => {}
            }
        }
        self.prompt(host);
    }

    /// A guest wrote to its serial line.
    pub fn guest_output(&mut self, host: &mut impl Host, id: VmId, bytes: &[u8]) {
        let attached = self.attached() == Some(id);
        let Some(vm) = self.vm_mut(id) else { return };
        vm.output.push(bytes);
        vm.life.running();
        if attached {
            host.console_write(bytes);
        }
    }

    /// A worker has let its first VP run.
    pub fn worker_running(&mut self, host: &mut impl Host, id: VmId) {
        let news = self.vm_mut(id).is_some_and(|vm| vm.life.running());
        if news {
            self.event(host, id, "running");
        }
    }

    /// A worker has news of its VM.
    pub fn worker_news(&mut self, host: &mut impl Host, id: VmId, news: &WorkerNews<'_>) {
        match news {
            WorkerNews::Line(text) => self.event(host, id, text),
            WorkerNews::Guest(state) => {
                if let Some(vm) = self.vm_mut(id) {
                    vm.guest = *state;
                }
            }
            WorkerNews::Crash(crash, text) => {
                if let Some(vm) = self.vms.get(&id) {
                    let lines = news::crash(crash, text);
                    self.events.push_lines(host.now(), &vm.name, &lines);
                }
            }
            WorkerNews::Memory(state) => {
                if let Some(vm) = self.vm_mut(id) {
                    vm.memory.tell(host.now(), *state);
                }
            }
        }
    }

    /// A worker has ended, and everything of it is gone.
    pub fn worker_ended(&mut self, host: &mut impl Host, id: VmId, end: &WorkerEnd) {
        let now = host.now();
        // It was to stop anyway, only its turn had not come.
        let unwanted = self.ending.is_some() || self.to_stop.contains(&id);
        let Some(vm) = self.vm_mut(id) else { return };
        let commanded = *vm.life.state() == State::Stopping;
        let policy = if unwanted {
            Restart::Never
        } else {
            vm.policy()
        };
        let next = vm.life.ended(now, end, policy);
        let (word, reason) = (vm.life.state().word(), printable(vm.life.state().reason()));
        let text = match (next, reason.is_empty()) {
            (Next::StartAfter(rest), _) => {
                format!("ended: {reason}; starts again in {} s", rest / SECOND)
            }
            (_, true) => word.into(),
            (_, false) => format!("{word}: {reason}"),
        };
        self.notice(host, id, &text);
        if next == Next::Start && self.ending.is_none() {
            let patience = if commanded {
                self.begin_life(id);
                Patience::Once
            } else {
                Patience::Reset
            };
            match self.start(host, id, patience) {
                Ok(Started::Now) => {}
                Ok(Started::Waits(missing)) => {
                    self.show(host, id, &format!("waits for memory: {missing}"));
                }
                Err(problem) => self.show(host, id, &format!("cannot be started: {problem}")),
            }
        }
        if self.attached() == Some(id) && !self.has_worker(id) {
            self.detach(host, "it has no worker any more");
        }
        self.stopped(host, id);
        self.finish(host);
    }

    /// When [`tick`](Self::tick) is wanted, if nothing happens before; reference time, 100 ns.
    pub fn deadline(&self) -> Option<u64> {
        let lives = self.vms.values().filter_map(|vm| vm.life.deadline());
        let others = self.mode.deadline().into_iter().chain(self.next_round());
        lives.chain(others).min()
    }

    /// Time has passed: balances memory, kills workers that do not stop, starts VMs that have rested or waited, and shows fresh
    /// figures.
    pub fn tick(&mut self, host: &mut impl Host) {
        self.balance(host);
        let now = host.now();
        for id in self.ids() {
            let Some(vm) = self.vm_mut(id) else { continue };
            if vm.life.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            if vm.life.is_resting() {
                self.start_again(host, id);
            } else if vm.life.is_waiting() {
                self.waited_too_long(host, id);
            } else {
                vm.life.overdue(now);
                self.event(host, id, "does not stop; its worker is killed");
                host.kill_worker(id);
            }
        }
        self.refresh(host);
    }

    /// Starts a VM that has rested.
    fn start_again(&mut self, host: &mut impl Host, id: VmId) {
        let now = host.now();
        let problem = match self.start(host, id, Patience::Rested) {
            Ok(Started::Now) => return,
            Ok(Started::Waits(missing)) => {
                return self.show(host, id, &format!("waits for memory: {missing}"));
            }
            Err(problem) => problem,
        };
        if let Some(vm) = self.vm_mut(id) {
            let rest = vm.life.rest(now) / SECOND;
            self.show(
                host,
                id,
                &format!("cannot be started: {problem}; tried again in {rest} s"),
            );
        }
    }

    /// State of a VM.
    pub fn state(&self, id: VmId) -> Option<&State> {
        self.vm(id).map(|vm| vm.life.state())
    }

    /// Name of a VM.
    pub fn name(&self, id: VmId) -> Option<&str> {
        self.vm(id).map(|vm| vm.name.as_str())
    }

    /// All VMs in the order of starting.
    pub fn ids(&self) -> Vec<VmId> {
        let mut vms: Vec<_> = self.vms.iter().collect();
        vms.sort_by(|(_, one), (_, other)| place(one).cmp(&place(other)));
        vms.into_iter().map(|(id, _)| *id).collect()
    }

    pub(crate) fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(&id)
    }

    pub(crate) fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(&id)
    }

    pub(crate) fn has_worker(&self, id: VmId) -> bool {
        self.vm(id).is_some_and(|vm| vm.life.has_worker())
    }

    /// A life of the VM begins.
    pub(crate) fn begin_life(&mut self, id: VmId) {
        if let Some(vm) = self.vm_mut(id) {
            vm.new_life();
        }
        self.number_life(id);
    }

    /// Gives the VM's life the next number.
    pub(crate) fn number_life(&mut self, id: VmId) {
        self.lives += 1;
        let number = self.lives;
        if let Some(vm) = self.vm_mut(id) {
            vm.number = number;
        }
    }

    /// Checks and starts a VM, or lets it wait for memory.
    pub(crate) fn start(
        &mut self,
        host: &mut impl Host,
        id: VmId,
        patience: Patience,
    ) -> Result<Started, String> {
        let chosen = self.choose_node(host);
        if let Some(vm) = self.vm_mut(id) {
            vm.chosen = chosen;
        }
        let Some(vm) = self.vm(id) else {
            return Err("there is no such VM".into());
        };
        let admission = vm
            .check_start(host)
            .map(|definition| self.admit(host, id, definition, patience));
        let problem = match admission {
            Ok(Admission::Now) => match self.start_now(host, id) {
                Ok(()) => return Ok(Started::Now),
                Err(problem) => problem,
            },
            Ok(Admission::Wait(missing)) => {
                let now = host.now();
                if let Some(vm) = self.vm_mut(id) {
                    vm.memory = VmMemory::default();
                    vm.life.wait(now, missing.clone(), patience);
                }
                self.event(host, id, &format!("waits for memory: {missing}"));
                return Ok(Started::Waits(missing));
            }
            Ok(Admission::Refuse(problem)) | Err(problem) => problem,
        };
        if let Some(vm) = self.vm_mut(id) {
            vm.life.failed(problem.clone());
        }
        self.event(host, id, &format!("cannot be started: {problem}"));
        Err(problem)
    }

    /// Starts a VM whose memory is free.
    ///
    /// # Errors
    /// Why it could not be started. Its state is as before.
    pub(crate) fn start_now(&mut self, host: &mut impl Host, id: VmId) -> Result<(), String> {
        let Some(vm) = self.vm(id) else {
            return Err("there is no such VM".into());
        };
        let definition = vm.check_start(host)?.clone();
        let keep = self.kept_for_host(host);
        let home = Home { keep, ..vm.home() };
        host.start_worker(id, &definition, &vm.source.text, home)?;
        let now = host.now();
        if let Some(vm) = self.vm_mut(id) {
            vm.life.started(now);
            vm.running = Some(definition);
            vm.keep = keep;
            vm.cpu = CpuLook::at_start(now);
            vm.guest = GuestState::default();
            vm.memory = VmMemory::default();
        }
        self.event(host, id, "starting");
        Ok(())
    }

    /// Ends the machine if that was commanded and no worker is left.
    pub(crate) fn finish(&mut self, host: &mut impl Host) {
        if self.vms.values().any(|vm| vm.life.has_worker()) {
            return;
        }
        match self.ending.take() {
            Some(Ending::PowerOff) => host.power_off(),
            Some(Ending::Reboot) => host.reboot(),
            None => {}
        }
    }

    /// Keeps an event of a VM.
    pub(crate) fn event(&mut self, host: &impl Host, id: VmId, text: &str) {
        if let Some(vm) = self.vms.get(&id) {
            self.events.push(host.now(), &vm.name, text);
        }
    }

    /// Keeps an event and shows it to whoever is concerned.
    pub(crate) fn notice(&mut self, host: &mut impl Host, id: VmId, text: &str) {
        self.event(host, id, text);
        self.show(host, id, text);
    }

    /// The names of all VMs.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.ids().into_iter().filter_map(|id| self.name(id));
        names.map(ToString::to_string).collect()
    }
}

/// Where a VM stands in the order of starting: heavier before lighter, among equals of `start_order` (DM-09).
fn place(vm: &Vm) -> (u32, Reverse<Weight>, &str) {
    let definition = vm.source.definition.as_ref();
    let order = definition.map_or(DEFAULT_ORDER, |definition| definition.start_order);
    let weight = definition.map_or(Weight::DEFAULT, Definition::weight);
    (order, Reverse(weight), &vm.name)
}
