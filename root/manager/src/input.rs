//! The manager: who gets what is typed, and where news is shown.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::console::{Escape, Input, PROMPT, Typed};
use crate::counter_csv::CounterWatch;
use crate::define::Draft;
use crate::events::printable;
use crate::host::{Host, VmId};
use crate::manager::Manager;
use crate::memory::Watch;
use crate::top::Top;

/// Who gets what is typed.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// The command line.
    Commands,
    /// A guest.
    Attached(VmId, Escape),
    /// The definition of a VM, line by line.
    Define(Draft),
    /// Nobody: the live table is shown until a key is pressed.
    Top(Top),
    /// Nobody likewise: VMs with Dynamic Memory are shown.
    Memory(Watch),
    /// Nobody likewise: counters are shown.
    Counters(CounterWatch),
}

impl Mode {
    /// When there is something to be shown again.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Mode::Top(top) => Some(top.deadline()),
            Mode::Memory(watch) => Some(watch.deadline()),
            Mode::Counters(watch) => Some(watch.deadline()),
            _ => None,
        }
    }
}

impl Manager {
    /// Bytes were typed on the console.
    pub fn console_input(&mut self, host: &mut impl Host, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match &mut self.mode {
                Mode::Attached(id, escape) => {
                    let (id, typed) = (*id, escape.bytes(rest));
                    return self.typed_for_guest(host, id, typed);
                }
                Mode::Top(_) | Mode::Memory(_) | Mode::Counters(_) => self.leave_top(host, rest),
                Mode::Commands | Mode::Define(_) => self.typed_line(host, rest),
            };
        }
    }

    fn typed_for_guest(&mut self, host: &mut impl Host, id: VmId, typed: Typed) {
        match typed {
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
    }

    /// Takes typed bytes up to the end of a line. Returns the others: they are for whom the line has put there.
    fn typed_line<'b>(&mut self, host: &mut impl Host, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes.iter();
        for &byte in rest.by_ref() {
            let mut echo = Vec::new();
            let input = self.editor.byte(byte, &mut echo);
            host.console_write(&echo);
            match (&input, &mut self.mode) {
                (Input::None, _) => continue,
                (Input::Line(line), Mode::Define(_)) => self.define_line(host, line),
                (Input::Line(line), _) => self.execute(host, line),
                (Input::Abandoned, Mode::Define(_)) => self.give_up_definition(host),
                (Input::Abandoned, _) => {}
            }
            self.prompt(host);
            break;
        }
        rest.as_slice()
    }

    /// Asks for a line, if one is wanted, and shows again what of it is there.
    pub(crate) fn prompt(&self, host: &mut impl Host) {
        let prompt = match &self.mode {
            Mode::Commands => PROMPT.into(),
            Mode::Define(draft) => draft.prompt(),
            Mode::Attached(..) | Mode::Top(_) | Mode::Memory(_) | Mode::Counters(_) => return,
        };
        host.console_write(prompt.as_bytes());
        host.console_write(self.editor.line().as_bytes());
    }

    /// Shows again what is shown, if it is time for that.
    pub(crate) fn refresh(&mut self, host: &mut impl Host) {
        let deadline = self.mode.deadline();
        if deadline.is_none_or(|deadline| deadline > host.now()) {
            return;
        }
        match core::mem::replace(&mut self.mode, Mode::Commands) {
            Mode::Top(top) => self.draw_top(host, Some(&top)),
            Mode::Memory(_) => self.draw_memory(host),
            Mode::Counters(watch) => self.refresh_counters(host, watch),
            other => self.mode = other,
        }
    }

    pub(crate) fn attached(&self) -> Option<VmId> {
        match self.mode {
            Mode::Attached(id, _) => Some(id),
            _ => None,
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

    pub(crate) fn detach(&mut self, host: &mut impl Host, why: &str) {
        let Some(name) = self.attached().and_then(|id| self.name(id)) else {
            return;
        };
        write_text(host, &format!("\n[{name}: {why}]\n"));
        self.mode = Mode::Commands;
        self.prompt(host);
    }

    /// Shows news of a VM to whoever is concerned: on the command line everybody, else the VM that is attached.
    pub(crate) fn show(&self, host: &mut impl Host, id: VmId, text: &str) {
        let (name, text) = (self.name(id).unwrap_or_default(), printable(text));
        match &self.mode {
            Mode::Commands | Mode::Define(_) => {
                // Above the line being typed.
                write_text(host, &format!("\r\x1b[K[{name}: {text}]\n"));
                self.prompt(host);
            }
            Mode::Attached(attached, _) if *attached == id => {
                write_text(host, &format!("\n[{name}: {text}]\n"));
            }
            // The table has the state, and `events` the words.
            Mode::Attached(..) | Mode::Top(_) | Mode::Memory(_) | Mode::Counters(_) => {}
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
    let text: String = text.replace('\n', "\r\n");
    host.console_write(text.as_bytes());
}
