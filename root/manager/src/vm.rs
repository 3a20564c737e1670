//! One VM: its definition, its life, its output.

use alloc::format;
use alloc::string::String;

use crate::definition::{Definition, DefinitionError};
use crate::host::Host;
use crate::life::Life;
use crate::ring::Ring;

/// Memory a VM needs besides its guest's RAM, bytes: its worker, and what is deposited for its partition.
const OVERHEAD: u64 = 8 << 20;

/// A VM as the manager knows it.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Name: the definition's, or the file's if the definition is not valid.
    pub name: String,
    /// The archive member with the definition.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What it says, or why it cannot be used.
    pub definition: Result<Definition, DefinitionError>,
    /// Its state.
    pub life: Life,
    /// What it wrote.
    pub output: Ring,
}

impl Vm {
    /// Reads the definition in member `file`.
    pub fn new(file: &str, text: &[u8]) -> Self {
        let read = core::str::from_utf8(text);
        let text = String::from(read.unwrap_or_default());
        let definition = match read {
            Ok(text) => Definition::parse(file, text),
            Err(_) => Err(whole_file(
                file,
                "this is not a text in UTF-8; write a VM definition".into(),
            )),
        };
        let stem = file
            .rsplit('/')
            .next()
            .unwrap_or(file)
            .trim_end_matches(".toml");
        let name = definition
            .as_ref()
            .map_or(stem, |definition| &definition.name)
            .into();
        Self {
            name,
            file: file.into(),
            text,
            definition,
            life: Life::default(),
            output: Ring::default(),
        }
    }

    /// A person starts it, which begins another life than a reset does: earlier resets do not count, and what is shown at
    /// an attach is of this life.
    pub fn new_life(&mut self) {
        self.life.forget_resets();
        self.output.clear();
    }

    /// Makes the definition invalid because `other` has the same name.
    pub fn same_name_as(&mut self, other: &Vm) {
        let problem = format!(
            "{:?} is the name in {} as well; choose another",
            self.name, other.file
        );
        self.definition = Err(DefinitionError {
            key: Some("name".into()),
            ..whole_file(&self.file, problem)
        });
        let stem = self
            .file
            .rsplit('/')
            .next()
            .unwrap_or(&self.file)
            .trim_end_matches(".toml");
        self.name = String::from(stem);
    }

    /// Checks that a start can succeed: the definition is valid, its files are there, memory is free.
    ///
    /// # Errors
    /// What is missing, and what would help.
    pub fn check_start(&self, host: &impl Host) -> Result<&Definition, String> {
        let definition = self
            .definition
            .as_ref()
            .map_err(|error| format!("{error}"))?;
        for (key, file) in definition.files() {
            if host.file_size(file).is_none() {
                let remedy = "add it to the image, or correct the key";
                return Err(format!(
                    "{}: {key}: the boot archive has no member \"{file}\"; {remedy}",
                    self.file
                ));
            }
        }
        let (needed, free) = (
            definition.memory.saturating_add(OVERHEAD),
            host.free_memory(),
        );
        if needed > free {
            let (needed, free) = (needed >> 20, free >> 20);
            let remedy = "stop another VM, or lower \"memory\"";
            return Err(format!(
                "{needed} MiB of memory are needed and {free} MiB are free; {remedy}"
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
