//! One VM: its definition, its life, its output.

use alloc::format;
use alloc::string::String;

use root_abi::news::GuestState;

use crate::definition::{Definition, DefinitionError, Restart};
use crate::host::{Home, Host, MAX_NODES};
use crate::life::Life;
use crate::memory::VmMemory;
use crate::rates::CpuLook;
use crate::ring::Ring;

/// What is deposited for a VM's partition, bytes: 208 pages at its creation, 90 for each VP, and 256 at a time for the tables of
/// its memory. One that needs more has it counted once it is there.
pub const DEPOSIT: u64 = 4 << 20;
/// What a VM's worker needs besides its guest's RAM, bytes.
const WORKER: u64 = 4 << 20;
/// Memory a VM needs besides its guest's RAM, bytes.
pub const OVERHEAD: u64 = DEPOSIT + WORKER;

/// A definition, and where it is from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The archive member with it, or what stands for the console.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What it says, or why it cannot be used.
    pub definition: Result<Definition, DefinitionError>,
    /// Whether it was typed on the console.
    pub typed: bool,
}

impl Source {
    /// Reads the definition in member `file`.
    fn member(file: &str, text: &[u8]) -> Self {
        let read = core::str::from_utf8(text);
        let definition = match read {
            Ok(text) => Definition::parse(file, text),
            Err(_) => Err(whole_file(
                file,
                "this is not a text in UTF-8; write a VM definition".into(),
            )),
        };
        Self {
            file: file.into(),
            text: read.unwrap_or_default().into(),
            definition,
            typed: false,
        }
    }

    /// The name that the file's name stands for.
    fn stem(&self) -> &str {
        let last = self.file.rsplit('/').next().unwrap_or(&self.file);
        last.trim_end_matches(".toml")
    }
}

/// A VM as the manager knows it.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Name: the definition's, or the file's if the definition is not valid.
    pub name: String,
    /// The definition that its next start takes.
    pub source: Source,
    /// The archive's definition, behind one that was typed.
    pub shadowed: Option<Source>,
    /// The definition that the worker has, if there is a worker.
    pub running: Option<Definition>,
    /// Its state.
    pub life: Life,
    /// The NUMA node that was chosen for it when its start was asked for, if its definition has none.
    pub chosen: u32,
    /// What the guest's memory leaves free of each node if it can ([`Home::keep`]).
    pub keep: [u64; MAX_NODES],
    /// What it wrote.
    pub output: Ring,
    /// Which start of the manager's its life began with: one that had to wait counts from when it did start.
    pub number: u64,
    /// What its processors had used when somebody looked.
    pub cpu: CpuLook,
    /// What its worker has told of the guest.
    pub guest: GuestState,
    /// What its worker has told of the guest's memory, and what has been ordered.
    pub memory: VmMemory,
}

impl Vm {
    /// Reads the definition in member `file`.
    pub fn new(file: &str, text: &[u8]) -> Self {
        Self::of(Source::member(file, text))
    }

    /// A VM with this definition.
    pub fn of(source: Source) -> Self {
        let name = source
            .definition
            .as_ref()
            .map_or(source.stem(), |definition| &definition.name)
            .into();
        let mut vm = Self {
            name,
            source,
            shadowed: None,
            running: None,
            life: Life::default(),
            chosen: 0,
            keep: [0; MAX_NODES],
            output: Ring::default(),
            number: 0,
            cpu: CpuLook::default(),
            guest: GuestState::default(),
            memory: VmMemory::default(),
        };
        vm.judge();
        vm
    }

    /// A VM with a definition that cannot be used has failed; one with another than that has not.
    pub fn judge(&mut self) {
        if self.life.has_worker() {
            return;
        }
        match &self.source.definition {
            Ok(_) => self.life.mended(),
            Err(error) => self.life.failed(format!("{error}")),
        }
    }

    /// A person starts it, which begins another life than a reset does: earlier resets do not count, and what is shown at
    /// an attach is of this life.
    pub fn new_life(&mut self) {
        self.life.forget();
        self.output.clear();
    }

    /// The definition that matters now: the worker's, else what the next start takes.
    pub fn definition(&self) -> Option<&Definition> {
        let next = self.source.definition.as_ref().ok();
        self.running
            .as_ref()
            .filter(|_| self.life.has_worker())
            .or(next)
    }

    /// Where its memory comes from while it runs or waits.
    pub fn home(&self) -> Home {
        let definition = self.definition();
        Home {
            node: definition
                .and_then(|definition| definition.node)
                .unwrap_or(self.chosen),
            spanning: definition.is_none_or(|definition| definition.spanning),
            keep: self.keep,
        }
    }

    /// What is known of the guest that runs, if it has VMBus.
    pub fn guest(&self) -> Option<&GuestState> {
        let vmbus = self.definition().is_some_and(|definition| definition.vmbus);
        (vmbus && self.life.has_worker()).then_some(&self.guest)
    }

    /// What follows an end that nobody asked for.
    pub fn policy(&self) -> Restart {
        self.definition()
            .map_or(Restart::Never, |definition| definition.restart)
    }

    /// Makes the definition invalid because `other` has the same name.
    pub fn same_name_as(&mut self, other: &Vm) {
        let problem = format!(
            "{:?} is the name in {} as well; choose another",
            self.name, other.source.file
        );
        self.source.definition = Err(DefinitionError {
            key: Some("name".into()),
            ..whole_file(&self.source.file, problem)
        });
        self.name = self.source.stem().into();
        self.judge();
    }

    /// Checks what a start needs beside memory: the definition is valid, and its files and its NUMA node are there.
    ///
    /// # Errors
    /// What is missing, and what would help.
    pub fn check_start(&self, host: &impl Host) -> Result<&Definition, String> {
        let definition = self.source.definition.as_ref();
        let definition = definition.map_err(|error| format!("{error}"))?;
        for (key, file) in definition.files() {
            if host.file_size(file).is_none() {
                let remedy = "add it to the image, or correct the key";
                return Err(format!(
                    "{}: {key}: the boot archive has no member \"{file}\"; {remedy}",
                    self.source.file
                ));
            }
        }
        let nodes = host.nodes();
        if let Some(node) = definition.node.filter(|node| *node >= nodes) {
            return Err(format!(
                "{}: node: there is no NUMA node {node}, the machine has {nodes}, numbered from 0; correct the key, or remove it",
                self.source.file
            ));
        }
        Ok(definition)
    }
}

fn whole_file(file: &str, problem: String) -> DefinitionError {
    DefinitionError {
        file: file.into(),
        line: 1,
        key: None,
        problem,
    }
}
