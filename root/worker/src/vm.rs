//! What the definition of a VM says to its worker.

use alloc::string::{String, ToString};

use board::BoardKind;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;
/// Guest memory is a multiple of 2 MiB, so that all of it can be mapped in large pages.
const GRANULE: u64 = 2 * MIB;

/// A VM as its worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Name, for the event list.
    pub name: String,
    /// Which board.
    pub board: BoardKind,
    /// Bytes of memory.
    pub memory: u64,
    /// Number of virtual processors.
    pub processors: u32,
    /// Name of the kernel's file.
    pub kernel: String,
    /// Name of the initrd's file.
    pub initrd: Option<String>,
    /// Command line of the kernel.
    pub command_line: String,
    /// Whether port 0xF4 ends the run.
    pub debug_exit: bool,
}

/// What is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// Not UTF-8.
    #[error("the definition is not text")]
    NotText,
    /// A line that is none.
    #[error("line {0} of the definition cannot be read")]
    Syntax(usize),
    /// A key without which there is no VM.
    #[error("the definition has no {0}")]
    Missing(&'static str),
    /// A value that does not do.
    #[error("{key} = {value:?} is not possible")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
}

impl Vm {
    /// Reads a definition: `key = value` lines.
    pub fn parse(definition: &[u8]) -> Result<Self, DefinitionError> {
        let text = core::str::from_utf8(definition).map_err(|_| DefinitionError::NotText)?;
        let mut vm = Self {
            name: String::new(),
            board: BoardKind::Direct,
            memory: 0,
            processors: 1,
            kernel: String::new(),
            initrd: None,
            command_line: String::new(),
            debug_exit: false,
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '[']) {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or(DefinitionError::Syntax(index + 1))?;
            vm.set(key.trim(), value.trim().trim_matches('"'))?;
        }
        match () {
            () if vm.kernel.is_empty() => Err(DefinitionError::Missing("kernel")),
            () if vm.memory == 0 => Err(DefinitionError::Missing("memory")),
            () => Ok(vm),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DefinitionError> {
        let wrong = || DefinitionError::Value {
            key: key.to_string(),
            value: value.to_string(),
        };
        match key {
            "name" => self.name = value.to_string(),
            "kernel" => self.kernel = value.to_string(),
            "initrd" => self.initrd = Some(value.to_string()),
            "cmdline" => self.command_line = value.to_string(),
            "board" if value == "direct" => self.board = BoardKind::Direct,
            "board" => return Err(wrong()),
            "debug_exit" => self.debug_exit = value.parse().map_err(|_| wrong())?,
            "memory" => self.memory = memory(value).ok_or_else(wrong)?,
            "processors" => {
                let count = value.parse().ok();
                let count = count.filter(|count| (1..=64).contains(count));
                self.processors = count.ok_or_else(wrong)?;
            }
            // The manager's.
            _ => {}
        }
        Ok(())
    }
}

/// A size in MiB.
fn memory(value: &str) -> Option<u64> {
    let size = value.parse::<u64>().ok()?.checked_mul(MIB)?;
    (size != 0 && size.is_multiple_of(GRANULE)).then_some(size)
}
