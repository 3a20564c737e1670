//! The manager: definitions that are typed on the console, and the way back to the archive's.
//!
//! A typed definition goes before the archive's of that name. It stays through all starts of its VM, until `vm reload` or
//! the machine's end. Its cmdline and the like are lines of the console, so they are shorter than in a file.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::definition::Definition;
use crate::host::{Host, VmId};
use crate::input::{Mode, write_text};
use crate::manager::Manager;
use crate::vm::{Source, Vm};

/// Longest text of a typed definition, bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// Most VMs, as many as an archive has members.
pub const MAX_VMS: usize = 256;
/// The line that ends a definition.
const END: &str = ".";

/// A definition being typed.
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    text: String,
    lines: usize,
}

impl Draft {
    /// What is written before a line is read.
    pub fn prompt(&self) -> String {
        format!("{:>3}> ", self.lines.saturating_add(1))
    }

    /// The name that stands for the console in errors.
    fn file(&self) -> String {
        format!("console/{}.toml", self.name)
    }

    /// The definition. The name that the command gave need not be typed again.
    fn source(&self) -> Result<Source, String> {
        let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim() == "name");
        let mut text = self.text.clone();
        if !text.lines().any(|line| key(line) == Some(true)) {
            text.push_str(&format!("name = {:?}\n", self.name));
        }
        let file = self.file();
        let definition = Definition::parse(&file, &text).map_err(|error| error.to_string())?;
        if definition.name != self.name {
            return Err(format!(
                "{file}: name: \"{}\" is not \"{}\", which the command names",
                definition.name, self.name
            ));
        }
        Ok(Source {
            file,
            text,
            definition: Ok(definition),
            typed: true,
        })
    }
}

impl Manager {
    /// `vm define NAME`.
    pub(crate) fn command_define(&mut self, name: &str) -> Result<String, String> {
        if self.find(name).is_err() && self.vms.len() >= MAX_VMS {
            return Err(format!("there are {MAX_VMS} VMs, and cannot be more"));
        }
        self.mode = Mode::Define(Draft {
            name: name.into(),
            text: String::new(),
            lines: 0,
        });
        Ok(format!(
            "type the definition of {name}; \"{END}\" alone ends it, Ctrl-C gives it up\n"
        ))
    }

    /// A line of a definition.
    pub(crate) fn define_line(&mut self, host: &mut impl Host, line: &str) {
        let Mode::Define(draft) = &mut self.mode else {
            return;
        };
        if line.trim() != END {
            draft.text.push_str(line);
            draft.text.push('\n');
            draft.lines += 1;
            if draft.text.len() > MAX_TEXT {
                self.mode = Mode::Commands;
                write_text(
                    host,
                    &format!("a definition has at most {MAX_TEXT} bytes; nothing was defined\n"),
                );
            }
            return;
        }
        let source = draft.source();
        self.mode = Mode::Commands;
        let answer = match source {
            Ok(source) => self.define(source),
            Err(problem) => format!("{problem}\nnothing was defined\n"),
        };
        write_text(host, &answer);
    }

    /// Ctrl-C in the midst of a definition.
    pub(crate) fn give_up_definition(&mut self, host: &mut impl Host) {
        self.mode = Mode::Commands;
        write_text(host, "nothing was defined\n");
    }

    fn define(&mut self, source: Source) -> String {
        let vm = Vm::of(source);
        let name = vm.name.clone();
        let Ok(id) = self.find(&name) else {
            let Some(id) = self.free_id() else {
                return format!("there are {MAX_VMS} VMs, and cannot be more\n");
            };
            self.vms.insert(id, vm);
            return format!("{name} is defined; \"vm start {name}\" starts it\n");
        };
        let Some(old) = self.vm_mut(id) else {
            return String::new();
        };
        let changed = changes(&old.source, &vm.source);
        let earlier = core::mem::replace(&mut old.source, vm.source);
        if !earlier.typed {
            old.shadowed = Some(earlier);
        }
        old.judge();
        let when = if self.has_worker(id) {
            "; it runs, and takes this at its next start"
        } else {
            ""
        };
        format!("{name} is defined anew ({changed}){when}\n")
    }

    fn free_id(&self) -> Option<VmId> {
        let mut ids = (0..MAX_VMS as u16).map(VmId);
        ids.find(|id| !self.vms.contains_key(id))
    }

    /// `vm reload`.
    pub(crate) fn command_reload(&mut self) -> String {
        let mut answer = String::new();
        for id in self.ids() {
            let Some(vm) = self.vm_mut(id).filter(|vm| vm.source.typed) else {
                continue;
            };
            let name = vm.name.clone();
            if vm.life.has_worker() {
                answer += &format!("{name} runs: it keeps the definition that was typed\n");
                continue;
            }
            match vm.shadowed.take() {
                Some(archive) => {
                    let changed = changes(&vm.source, &archive);
                    vm.source = archive;
                    vm.judge();
                    answer += &format!("{name} has the archive's definition again ({changed})\n");
                }
                None => {
                    self.vms.remove(&id);
                    answer += &format!("{name} is gone: the archive does not have it\n");
                }
            }
        }
        if answer.is_empty() {
            answer = "all definitions are the archive's; nothing changes\n".to_string();
        }
        answer
    }
}

/// What is different, for the reader.
fn changes(old: &Source, new: &Source) -> String {
    let keys = match (&old.definition, &new.definition) {
        (Ok(old), Ok(new)) => old.differences(new),
        (Err(_), Ok(_)) => return "the one before had an error".into(),
        (_, Err(_)) => return "which has an error".into(),
    };
    let keys: Vec<&str> = keys.collect();
    match keys.as_slice() {
        [] => "nothing changes".into(),
        keys => format!("changed: {}", keys.join(", ")),
    }
}
