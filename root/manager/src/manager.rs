//! The manager: events in.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::console::{Editor, Escape, Input, PROMPT, Typed};
use crate::definition::DEFAULT_ORDER;
use crate::events::{Events, printable};
use crate::host::{Host, VmId, WorkerEnd};
use crate::life::{Next, State};
use crate::vm::Vm;

/// Who gets what is typed.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The command line.
    Commands,
    /// A guest.
    Attached(VmId, Escape),
}

/// What the machine does once all VMs have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Switch it off.
    PowerOff,
    /// Reset it.
    Reboot,
}

/// All VMs and the console.
#[derive(Debug)]
pub struct Manager {
    pub(crate) vms: Vec<Vm>,
    pub(crate) events: Events,
    pub(crate) ending: Option<Ending>,
    editor: Editor,
    mode: Mode,
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
            if let Err(error) = &vm.definition {
                vm.life.failed(format!("{error}"));
            }
            vms.push(vm);
        }
        vms.sort_by_key(|vm| {
            vm.definition
                .as_ref()
                .map_or(DEFAULT_ORDER, |definition| definition.start_order)
        });
        Self {
            vms,
            events: Events::default(),
            ending: None,
            editor: Editor::default(),
            mode: Mode::Commands,
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
            match &vm.definition {
                Err(error) => {
                    let (name, error) = (vm.name.clone(), format!("{error}"));
                    write_text(host, &format!("{}\n", printable(&error)));
                    self.events.push(host.now(), &name, &error);
                }
                Ok(definition) if definition.autostart => {
                    let name = vm.name.clone();
                    if let Err(problem) = self.start(host, id) {
                        write_text(host, &format!("{name} cannot be started: {problem}\n"));
                    }
                }
                Ok(_) => {}
            }
        }
        host.console_write(PROMPT.as_bytes());
    }

    /// Bytes were typed on the console.
    pub fn console_input(&mut self, host: &mut impl Host, bytes: &[u8]) {
        if let Mode::Attached(id, escape) = &mut self.mode {
            let id = *id;
            match escape.bytes(bytes) {
                Typed::Input(input) => send(host, id, &input),
                Typed::Help(input) => {
                    send(host, id, &input);
                    write_text(host, "\n[Ctrl-] d detaches; Ctrl-] Ctrl-] sends Ctrl-]]\n");
                }
                Typed::Detach(input, rest) => {
                    send(host, id, &input);
                    self.detach(host, "detached");
                    self.console_input(host, &rest);
                }
            }
            return;
        }
        let mut rest = bytes.iter();
        while let Some(&byte) = rest.next() {
            let mut echo = Vec::new();
            let input = self.editor.byte(byte, &mut echo);
            host.console_write(&echo);
            if let Input::Line(line) = &input {
                self.execute(host, line);
            }
            if matches!(self.mode, Mode::Attached(..)) {
                // What follows `vm attach` in one go is typed for the guest.
                return self.console_input(host, rest.as_slice());
            }
            if input != Input::None {
                host.console_write(PROMPT.as_bytes());
            }
        }
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

    /// A worker has something for the event list.
    pub fn worker_log(&mut self, host: &mut impl Host, id: VmId, text: &str) {
        self.event(host, id, text);
    }

    /// A worker has ended, and everything of it is gone.
    pub fn worker_ended(&mut self, host: &mut impl Host, id: VmId, end: &WorkerEnd) {
        let now = host.now();
        let Some(vm) = self.vm_mut(id) else { return };
        let commanded = *vm.life.state() == State::Stopping;
        let next = vm.life.ended(now, end);
        if next == Next::Start && commanded {
            vm.new_life();
        }
        let (word, reason) = (vm.life.state().word(), printable(vm.life.state().reason()));
        self.notice(
            host,
            id,
            &if reason.is_empty() {
                word.into()
            } else {
                format!("{word}: {reason}")
            },
        );
        if next == Next::Start
            && self.ending.is_none()
            && let Err(problem) = self.start(host, id)
        {
            self.show(host, id, &format!("cannot be started: {problem}"));
        }
        if self.attached() == Some(id) && !self.has_worker(id) {
            self.detach(host, "it has no worker any more");
        }
        self.finish(host);
    }

    /// When [`tick`](Self::tick) is wanted, if nothing happens before; reference time, 100 ns.
    pub fn deadline(&self) -> Option<u64> {
        self.vms.iter().filter_map(|vm| vm.life.deadline()).min()
    }

    /// Time has passed: kills workers that do not stop.
    pub fn tick(&mut self, host: &mut impl Host) {
        let now = host.now();
        for id in self.ids() {
            let Some(vm) = self.vm_mut(id) else { continue };
            if vm.life.deadline().is_some_and(|deadline| deadline <= now) {
                vm.life.overdue(now);
                self.event(host, id, "does not stop; its worker is killed");
                host.kill_worker(id);
            }
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

    /// All VMs.
    pub fn ids(&self) -> impl Iterator<Item = VmId> + use<> {
        // `new` takes no more than fit.
        (0..self.vms.len() as u16).map(VmId)
    }

    pub(crate) fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(usize::from(id.0))
    }

    pub(crate) fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(usize::from(id.0))
    }

    pub(crate) fn has_worker(&self, id: VmId) -> bool {
        self.vm(id).is_some_and(|vm| vm.life.has_worker())
    }

    fn attached(&self) -> Option<VmId> {
        match self.mode {
            Mode::Attached(id, _) => Some(id),
            Mode::Commands => None,
        }
    }

    pub(crate) fn attach(&mut self, host: &mut impl Host, id: VmId) {
        let Some(vm) = self.vm(id) else { return };
        write_text(
            host,
            &format!("[attached to {}; Ctrl-] d detaches]\n", vm.name),
        );
        host.console_write(&vm.output.replay());
        self.mode = Mode::Attached(id, Escape::default());
    }

    fn detach(&mut self, host: &mut impl Host, why: &str) {
        let Some(name) = self.attached().and_then(|id| self.name(id)) else {
            return;
        };
        write_text(host, &format!("\n[{name}: {why}]\n"));
        self.mode = Mode::Commands;
        host.console_write(PROMPT.as_bytes());
        host.console_write(self.editor.line().as_bytes());
    }

    /// Checks and starts a VM.
    pub(crate) fn start(&mut self, host: &mut impl Host, id: VmId) -> Result<(), String> {
        let Some(vm) = self.vm(id) else {
            return Err("there is no such VM".into());
        };
        let started = vm
            .check_start(host)
            .and_then(|definition| host.start_worker(id, definition, &vm.text));
        let now = host.now();
        if let Some(vm) = self.vm_mut(id) {
            match &started {
                Ok(()) => vm.life.started(now),
                Err(problem) => vm.life.failed(problem.clone()),
            }
        }
        match &started {
            Ok(()) => self.event(host, id, "starting"),
            Err(problem) => self.event(host, id, &format!("cannot be started: {problem}")),
        }
        started
    }

    /// Ends the machine if that was commanded and no worker is left.
    pub(crate) fn finish(&mut self, host: &mut impl Host) {
        if self.vms.iter().any(|vm| vm.life.has_worker()) {
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
        if let Some(vm) = self.vms.get(usize::from(id.0)) {
            self.events.push(host.now(), &vm.name, text);
        }
    }

    /// Keeps an event and shows it to whoever is concerned: on the command line everybody, else the VM that is attached.
    fn notice(&mut self, host: &mut impl Host, id: VmId, text: &str) {
        self.event(host, id, text);
        self.show(host, id, text);
    }

    fn show(&self, host: &mut impl Host, id: VmId, text: &str) {
        let (name, text) = (self.name(id).unwrap_or_default(), printable(text));
        match self.attached() {
            None => {
                // Above the line being typed.
                write_text(host, &format!("\r\x1b[K[{name}: {text}]\n"));
                host.console_write(PROMPT.as_bytes());
                host.console_write(self.editor.line().as_bytes());
            }
            Some(attached) if attached == id => write_text(host, &format!("\n[{name}: {text}]\n")),
            Some(_) => {}
        }
    }
}

fn send(host: &mut impl Host, id: VmId, bytes: &[u8]) {
    if !bytes.is_empty() {
        host.send_input(id, bytes);
    }
}

/// Writes text with the line ends of a terminal.
pub(crate) fn write_text(host: &mut impl Host, text: &str) {
    host.console_write(text.replace('\n', "\r\n").as_bytes());
}
