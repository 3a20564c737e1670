//! The host's own definition: the member `host.toml` of the boot archive, which need not be there.
//!
//! ```toml
//! reserve = 400                  # MiB that the host keeps of the machine while VMs have Dynamic Memory
//! reserve_per_gib = 30           # and so many for each GiB of the machine
//! reserve_extra = 0              # and so many more: for a host that does more than usual
//! ```
//!
//! The reserve is `reserve + reserve_per_gib × the machine's GiB + reserve_extra` (sheet of Dynamic Memory, DM-19, DM-20). The host
//! uses it for itself, and VMs never get it. A key that is missing leaves what is shown; one that is not listed is an error.

use balancer::HostReserve;

use super::value::{self, Fields};
use super::{DefinitionError, read};

/// The archive's member with it.
pub const HOST_FILE: &str = "host.toml";
/// Most MiB of a key: 16 TiB.
const MOST: u32 = 16 << 20;
/// Most MiB for each GiB: all of it.
const MOST_PER_GIB: u32 = 1 << 10;

/// What is set for the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostDefinition {
    /// What it keeps of the machine's memory.
    pub reserve: HostReserve,
}

impl HostDefinition {
    /// Reads a definition. `file` is only named in errors.
    ///
    /// # Errors
    /// [`DefinitionError`] for the first thing that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, DefinitionError> {
        read(file, text, Self::from_fields)
    }

    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, DefinitionError> {
        let usual = HostReserve::default();
        let mut mib = |key, most, usual| {
            let given = fields.optional(key, |value| value::number(value, 0, most))?;
            Ok(given.map_or(usual, u64::from))
        };
        let reserve = HostReserve {
            base: mib("reserve", MOST, usual.base)?,
            per_gib: mib("reserve_per_gib", MOST_PER_GIB, usual.per_gib)?,
            extra: mib("reserve_extra", MOST, usual.extra)?,
        };
        Ok(Self { reserve })
    }
}
