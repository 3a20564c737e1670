//! VM definitions: the TOML members `vm/NAME.toml` of the boot archive.
//!
//! ```toml
//! name = "debian"                # 1 to 63 letters, digits, "_" and "-"
//! memory = "256 MiB"             # or "1 GiB", or a number of MiB: a multiple of 2 MiB, at least 8 MiB; see below for "startup"
//! processors = 1                 # 1 to 16
//! kernel = "guest/vmlinuz"       # a member of the archive
//! initrd = "guest/initrd"        # optional
//! cmdline = "console=ttyS0"      # optional
//! boot = "auto"                  # "linux", "pvh", "multiboot"; "auto" looks at the kernel
//! module = "guest/data"          # optional, for "pvh" and "multiboot"
//! board = "direct"               # the only board there is
//! apic = "x2apic"                # "xapic": local APICs start in xAPIC mode, as hardware's do, and are slower there
//! vmbus = true                   # VMBus and the integration services on it: heartbeat, shutdown, time, key/value pairs
//! debug_exit = false             # port 0xF4 ends the VM
//! hyperv_testdev = false         # the device of the Hyper-V guest tests, as QEMU's hyperv-testdev, at port 0x3000
//! autostart = true               # starts with the machine
//! start_order = 10               # lower starts earlier; among equals the heavier (weight), then the name decides
//! restart = "on-failure"         # "never"; "on-failure"; "always": after a guest that switched itself off as well
//! cpu_weight = 100               # 1 to 10000: its share where VPs compete, against the weights of others
//! cpu_cap = 16384                # 1 to 65536: the most that each VP gets of a processor; 65536 is all of one
//! cpu_reserve = 0                # 0 to 65536: what each VP gets of a processor whatever others do
//! node = 0                       # the NUMA node whose memory it is to have first, 0 to 63; the machine has to have it
//! spanning = true                # false: it never has memory of several nodes, though it may not start, or not get more, then
//! ```
//!
//! The three `cpu_` keys are the partition properties of that name (TLFS 0x20003, 0x20002, 0x20001), in their units, and are for
//! each VP. A key that is missing leaves the hypervisor's own value: 100, all of a processor, nothing. A VM whose reserve is
//! more than the processors have left does not start.
//!
//! A VM's memory is of its `node` first; without the key, of the node that has most free at its start. `spanning` is for each VM
//! what NUMA spanning is for a host (sheet of Dynamic Memory, DM-15, DM-16): with `false` it starts only if its node has the memory,
//! and gets more of its node only. With such a VM each node has a balancer of its own. On a machine with one node, which is any
//! without an SRAT, both change nothing, but for a `node` that there is not: such a VM does not start. Eight nodes are told apart;
//! memory of further ones is that of node 7.
//!
//! With `startup` instead of `memory` a VM has Dynamic Memory: it starts with that much, and gets more or less as its guest needs
//! it and others do. Its guest has to have a driver for it, as Linux has (`hv_balloon`); it keeps what it started with otherwise.
//!
//! ```toml
//! startup = "1 GiB"              # as memory, but at least 32 MiB
//! minimum = "512 MiB"            # at least 32 MiB, at most startup; without it 512 MiB, or startup if that is less
//! maximum = "4 GiB"              # at least startup; without it 1 TiB. It may be more than the machine has
//! buffer = 20                    # 5 to 2000: per cent of its demand that it shall have beyond that
//! weight = 5000                  # 1 to 10000 (0 counts as 1): its share when memory is short; heavier VMs start first
//! ```
//!
//! A key that is not listed is an error, and every error says in which file and line, and what would be right.

mod host;
mod memory;
mod value;

use alloc::format;
use alloc::string::{String, ToString};

use balancer::Weight;
use toml::de::{DeTable, DeValue};

use memory::Keys;
use value::Fields;

pub use host::{HOST_FILE, HostDefinition};
pub use memory::{DynamicMemory, USUAL_MAXIMUM};

/// Smallest guest memory, bytes.
pub const MIN_MEMORY: u64 = 8 << 20;
/// Guest memory is a multiple of this, bytes: the size of a large page.
pub const MEMORY_UNIT: u64 = 2 << 20;
/// Largest guest memory, bytes (16 TiB): far above any machine, so that sums of it cannot overflow.
pub const MAX_MEMORY: u64 = 16 << 40;
/// Most virtual processors.
pub const MAX_PROCESSORS: u32 = 16;
/// Longest name.
pub const MAX_NAME: usize = 63;
/// Longest command line, bytes: what a Linux guest accepts, its NUL excluded.
pub const MAX_CMDLINE: usize = 2047;
/// Where a definition without `start_order` stands.
pub const DEFAULT_ORDER: u32 = 100;
/// Most NUMA nodes that a definition can name.
pub const MAX_NODES: u32 = 64;
/// Largest weight.
pub const MAX_WEIGHT: u32 = 10_000;
/// All of a processor, as the unit of caps and reserves.
pub const WHOLE_PROCESSOR: u32 = 1 << 16;
/// What commands take for every VM, so no VM has it as its name.
pub const EVERY_VM: &str = "all";

/// A valid VM definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the VM.
    pub name: String,
    /// Guest memory that it starts with in bytes: a multiple of 2 MiB, at least 8 MiB.
    pub memory: u64,
    /// What may become of that; `None` if it stays.
    pub dynamic: Option<DynamicMemory>,
    /// Number of virtual processors, 1 to 16.
    pub processors: u32,
    /// Archive member with the kernel or payload.
    pub kernel: String,
    /// Archive member with the initial RAM disk.
    pub initrd: Option<String>,
    /// Command line, empty if there is none.
    pub cmdline: String,
    /// Boot protocol.
    pub boot: Boot,
    /// Archive member handed to a `pvh` or `multiboot` kernel as its module.
    pub module: Option<String>,
    /// Virtual motherboard.
    pub board: Board,
    /// The mode in which the local APICs start.
    pub apic: ApicMode,
    /// Whether there is VMBus, with the integration services on it. A guest that does not look for it notices nothing.
    pub vmbus: bool,
    /// Whether a write to port 0xF4 ends the VM (for test payloads).
    pub debug_exit: bool,
    /// Whether there is the device of the field's Hyper-V guest tests (for test payloads).
    pub hyperv_testdev: bool,
    /// Whether it starts with the machine.
    pub autostart: bool,
    /// Lower starts earlier; among equals the heavier, then the name decides.
    pub start_order: u32,
    /// What follows an end that nobody asked for.
    pub restart: Restart,
    /// Its share of the processors.
    pub cpu: Cpu,
    /// The NUMA node whose memory it is to have first, below [`MAX_NODES`]. Whether there is such a node is seen at its start.
    pub node: Option<u32>,
    /// Whether it may have memory of several nodes.
    pub spanning: bool,
}

/// What follows an end that nobody asked for. A guest that resets starts again at once, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// It stays ended.
    #[default]
    Never,
    /// It starts again after a failure: of the guest, of its worker, or of its start.
    OnFailure,
    /// It also starts again when its guest has switched it off.
    Always,
}

/// A VM's share of the processors: partition properties, in their units. `None` leaves the hypervisor's own value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// HvPartitionPropertyCpuWeight, 1 to [`MAX_WEIGHT`].
    pub weight: Option<u32>,
    /// HvPartitionPropertyCpuCap, 1 to [`WHOLE_PROCESSOR`].
    pub cap: Option<u32>,
    /// HvPartitionPropertyCpuReserve, 0 to [`WHOLE_PROCESSOR`].
    pub reserve: Option<u32>,
}

/// How the kernel is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boot {
    /// By what the kernel's file looks like.
    #[default]
    Auto,
    /// The Linux/x86 boot protocol (bzImage).
    Linux,
    /// PVH.
    Pvh,
    /// Multiboot.
    Multiboot,
}

/// The virtual motherboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Board {
    /// Direct kernel boot, hardware-reduced ACPI.
    #[default]
    Direct,
}

/// The mode in which local APICs start. A guest can change from xAPIC to x2APIC mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApicMode {
    /// x2APIC: registers by MSRs.
    #[default]
    X2Apic,
    /// xAPIC, as after a reset of hardware: registers by a page of memory.
    XApic,
}

/// What is wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{problem}", key_prefix(.key))]
pub struct DefinitionError {
    /// The archive member.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The key, if the error is about one.
    pub key: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn key_prefix(key: &Option<String>) -> String {
    key.as_ref()
        .map(|key| format!("{key}: "))
        .unwrap_or_default()
}

impl Definition {
    /// Reads a definition. `file` is only named in errors.
    ///
    /// # Errors
    /// [`DefinitionError`] for the first thing that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, DefinitionError> {
        read(file, text, Self::from_fields)
    }

    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, DefinitionError> {
        let name = fields.required("name", "name = \"debian\"", name)?;
        let memory = Keys::read_memory(fields)?;
        let mut definition = Self {
            name,
            memory: 0,
            dynamic: None,
            processors: fields.optional("processors", processors)?.unwrap_or(1),
            kernel: fields.required("kernel", "kernel = \"guest/vmlinuz\"", file_name)?,
            initrd: fields.optional("initrd", file_name)?,
            cmdline: fields.optional("cmdline", cmdline)?.unwrap_or_default(),
            boot: fields.optional("boot", boot)?.unwrap_or_default(),
            module: fields.optional("module", file_name)?,
            board: fields.optional("board", board)?.unwrap_or_default(),
            apic: fields.optional("apic", apic)?.unwrap_or_default(),
            vmbus: fields.optional("vmbus", value::boolean)?.unwrap_or(true),
            debug_exit: fields
                .optional("debug_exit", value::boolean)?
                .unwrap_or(false),
            hyperv_testdev: fields
                .optional("hyperv_testdev", value::boolean)?
                .unwrap_or(false),
            autostart: fields
                .optional("autostart", value::boolean)?
                .unwrap_or(false),
            start_order: fields
                .optional("start_order", start_order)?
                .unwrap_or(DEFAULT_ORDER),
            restart: fields.optional("restart", restart)?.unwrap_or_default(),
            cpu: Cpu {
                weight: fields
                    .optional("cpu_weight", |value| value::number(value, 1, MAX_WEIGHT))?,
                cap: fields
                    .optional("cpu_cap", |value| value::number(value, 1, WHOLE_PROCESSOR))?,
                reserve: fields.optional("cpu_reserve", |value| {
                    value::number(value, 0, WHOLE_PROCESSOR)
                })?,
            },
            node: fields.optional("node", |value| value::number(value, 0, MAX_NODES - 1))?,
            spanning: fields.optional("spanning", value::boolean)?.unwrap_or(true),
        };
        let keys = Keys::read(fields, memory)?;
        (definition.memory, definition.dynamic) = keys.check(fields, definition.vmbus)?;
        let Cpu { cap, reserve, .. } = definition.cpu;
        if cap.zip(reserve).is_some_and(|(cap, reserve)| cap < reserve) {
            return Err(fields.error(
                "cpu_reserve",
                "more is reserved than cpu_cap lets the VM have; lower it, or raise cpu_cap",
            ));
        }
        if definition.boot == Boot::Linux && definition.module.is_some() {
            return Err(fields.error(
                "module",
                "boot = \"linux\" has no modules; use initrd, or another boot protocol",
            ));
        }
        if matches!(definition.boot, Boot::Pvh | Boot::Multiboot) && definition.initrd.is_some() {
            return Err(fields.error(
                "initrd",
                "only boot = \"linux\" has an initrd; use module, or another boot protocol",
            ));
        }
        Ok(definition)
    }

    /// `memory`, of a VM without Dynamic Memory.
    fn static_memory(&self) -> Option<u64> {
        self.dynamic.is_none().then_some(self.memory)
    }

    /// Its weight when memory is short.
    pub fn weight(&self) -> Weight {
        self.dynamic
            .map_or(Weight::DEFAULT, |dynamic| dynamic.weight)
    }

    /// The keys that say something else in `other`.
    pub fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let startup = |of: &Self| of.dynamic.map(|_| of.memory);
        let minimum = |of: &Self| of.dynamic.map(|dynamic| dynamic.minimum);
        let maximum = |of: &Self| of.dynamic.map(|dynamic| dynamic.maximum);
        let buffer = |of: &Self| of.dynamic.map(|dynamic| dynamic.buffer);
        let weight = |of: &Self| of.dynamic.map(|dynamic| dynamic.weight);
        [
            ("name", self.name != other.name),
            ("memory", self.static_memory() != other.static_memory()),
            ("processors", self.processors != other.processors),
            ("kernel", self.kernel != other.kernel),
            ("initrd", self.initrd != other.initrd),
            ("cmdline", self.cmdline != other.cmdline),
            ("boot", self.boot != other.boot),
            ("module", self.module != other.module),
            ("board", self.board != other.board),
            ("apic", self.apic != other.apic),
            ("vmbus", self.vmbus != other.vmbus),
            ("debug_exit", self.debug_exit != other.debug_exit),
            (
                "hyperv_testdev",
                self.hyperv_testdev != other.hyperv_testdev,
            ),
            ("autostart", self.autostart != other.autostart),
            ("start_order", self.start_order != other.start_order),
            ("restart", self.restart != other.restart),
            ("cpu_weight", self.cpu.weight != other.cpu.weight),
            ("cpu_cap", self.cpu.cap != other.cpu.cap),
            ("cpu_reserve", self.cpu.reserve != other.cpu.reserve),
            ("node", self.node != other.node),
            ("spanning", self.spanning != other.spanning),
            ("startup", startup(self) != startup(other)),
            ("minimum", minimum(self) != minimum(other)),
            ("maximum", maximum(self) != maximum(other)),
            ("buffer", buffer(self) != buffer(other)),
            ("weight", weight(self) != weight(other)),
        ]
        .into_iter()
        .filter_map(|(key, different)| different.then_some(key))
    }

    /// The archive members that the VM needs, each with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let optional = [("initrd", &self.initrd), ("module", &self.module)];
        let optional = optional
            .into_iter()
            .filter_map(|(key, name)| Some((key, name.as_deref()?)));
        core::iter::once(("kernel", self.kernel.as_str())).chain(optional)
    }
}

/// Reads a text whose keys are what `from_fields` asks for, and no others.
fn read<T>(
    file: &str,
    text: &str,
    from_fields: impl FnOnce(&mut Fields<'_>) -> Result<T, DefinitionError>,
) -> Result<T, DefinitionError> {
    let syntax_error = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        value::error(
            file,
            text,
            at,
            None,
            format!("{}; this is not valid TOML", error.message()),
        )
    };
    let table = DeTable::parse(text).map_err(syntax_error)?;
    let mut fields = Fields::new(file, text, table.get_ref());
    let definition = from_fields(&mut fields)?;
    fields.finish()?;
    Ok(definition)
}

fn name(value: &DeValue<'_>) -> Result<String, String> {
    let wanted = "write 1 to 63 letters, digits, \"_\" and \"-\"";
    let text = value::string(value).map_err(|problem| format!("{problem}; {wanted}"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
        return Err(format!("{text:?} is not a VM's name; {wanted}"));
    }
    if text == EVERY_VM {
        return Err(format!(
            "{text:?} means every VM in commands; choose another name"
        ));
    }
    Ok(text.to_string())
}

fn processors(value: &DeValue<'_>) -> Result<u32, String> {
    value::number(value, 1, MAX_PROCESSORS)
}

fn start_order(value: &DeValue<'_>) -> Result<u32, String> {
    value::number(value, 0, u32::MAX)
}

fn file_name(value: &DeValue<'_>) -> Result<String, String> {
    let wanted = "write the name of a member of the boot archive, for example \"guest/vmlinuz\"";
    let text = value::string(value).map_err(|problem| format!("{problem}; {wanted}"))?;
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err(format!(
            "{text:?} cannot be the name of a member (1 to 64 bytes, printable); {wanted}"
        ));
    }
    Ok(text.to_string())
}

fn cmdline(value: &DeValue<'_>) -> Result<String, String> {
    let text = value::string(value)
        .map_err(|problem| format!("{problem}; write the kernel's command line"))?;
    if text.len() > MAX_CMDLINE {
        return Err(format!(
            "{} bytes are too many; a command line has at most {MAX_CMDLINE}",
            text.len()
        ));
    }
    if text.contains('\0') {
        return Err("a command line cannot contain a NUL; remove it".into());
    }
    Ok(text.to_string())
}

fn boot(value: &DeValue<'_>) -> Result<Boot, String> {
    let choices = [
        ("auto", Boot::Auto),
        ("linux", Boot::Linux),
        ("pvh", Boot::Pvh),
        ("multiboot", Boot::Multiboot),
    ];
    value::choice(value, &choices)
}

fn restart(value: &DeValue<'_>) -> Result<Restart, String> {
    let choices = [
        ("never", Restart::Never),
        ("on-failure", Restart::OnFailure),
        ("always", Restart::Always),
    ];
    value::choice(value, &choices)
}

fn board(value: &DeValue<'_>) -> Result<Board, String> {
    value::choice(value, &[("direct", Board::Direct)])
}

fn apic(value: &DeValue<'_>) -> Result<ApicMode, String> {
    let choices = [("x2apic", ApicMode::X2Apic), ("xapic", ApicMode::XApic)];
    value::choice(value, &choices)
}
