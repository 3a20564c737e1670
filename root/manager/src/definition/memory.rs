//! The keys of a guest's memory: static, or Dynamic Memory (sheet of Dynamic Memory, 3.2).

use alloc::format;
use alloc::string::{String, ToString};

use balancer::{Buffer, Settings, SettingsError, Weight};
use toml::de::DeValue;

use super::value::{self, Fields};
use super::{DefinitionError, MAX_MEMORY, MEMORY_UNIT, MIN_MEMORY};

/// Dynamic Memory of a VM. `minimum <= Definition::memory <= maximum`, and these are multiples of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicMemory {
    /// Bytes below which it is never brought, at least 32 MiB.
    pub minimum: u64,
    /// Bytes that it never exceeds, at most 15 TiB. It may be far more than the machine has.
    pub maximum: u64,
    /// What it shall have beyond its demand.
    pub buffer: Buffer,
    /// Its share when memory is short.
    pub weight: Weight,
}

/// Largest `maximum`: a worker's process has 16 TiB of addresses for its memory, and needs some for itself, for the books of its
/// guest's memory, and for what new memory leaves free below it.
pub const MAX_MAXIMUM: u64 = 15 << 40;
/// `maximum` of a definition that does not say it, unless startup is more: as much as there can be.
pub const USUAL_MAXIMUM: u64 = 1 << 40;

const _: () = assert!(USUAL_MAXIMUM <= MAX_MAXIMUM);

/// What the keys say so far. Which of them have to be there, and fit each other, is only known when all are read.
pub struct Keys {
    memory: Option<u64>,
    startup: Option<u64>,
    minimum: Option<u64>,
    maximum: Option<u64>,
    buffer: Option<Buffer>,
    weight: Option<Weight>,
}

impl Keys {
    /// Reads `memory`.
    pub fn read_memory(fields: &mut Fields<'_>) -> Result<Option<u64>, DefinitionError> {
        fields.optional("memory", size)
    }

    /// Reads the others.
    pub fn read(fields: &mut Fields<'_>, memory: Option<u64>) -> Result<Self, DefinitionError> {
        Ok(Self {
            memory,
            startup: fields.optional("startup", size)?,
            minimum: fields.optional("minimum", size)?,
            maximum: fields.optional("maximum", size)?,
            buffer: fields.optional("buffer", buffer)?,
            weight: fields.optional("weight", weight)?,
        })
    }

    /// What the VM starts with, and what may become of that.
    pub fn check(
        &self,
        fields: &Fields<'_>,
        vmbus: bool,
    ) -> Result<(u64, Option<DynamicMemory>), DefinitionError> {
        match (self.memory, self.startup) {
            (Some(_), Some(_)) => Err(fields.error(
                "startup",
                "a VM has either memory, which stays as it is, or startup; remove one of them",
            )),
            (None, None) => Err(fields.missing("memory", "memory = \"256 MiB\"")),
            (Some(memory), None) => self.check_static(fields).map(|()| (memory, None)),
            (None, Some(_)) if !vmbus => Err(fields.error(
                "startup",
                "Dynamic Memory goes by VMBus, which this VM has not; remove vmbus = false, or write memory instead",
            )),
            (None, Some(startup)) => {
                let dynamic = self.dynamic(fields, startup)?;
                Ok((startup, Some(dynamic)))
            }
        }
    }

    fn check_static(&self, fields: &Fields<'_>) -> Result<(), DefinitionError> {
        let given = [
            ("minimum", self.minimum.is_some()),
            ("maximum", self.maximum.is_some()),
            ("buffer", self.buffer.is_some()),
            ("weight", self.weight.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((key, _)) => Err(fields.error(
                key,
                "memory stays as it is; for Dynamic Memory write startup instead of memory, or remove this key",
            )),
        }
    }

    fn dynamic(&self, fields: &Fields<'_>, startup: u64) -> Result<DynamicMemory, DefinitionError> {
        let usual = Settings::default();
        let minimum = self.minimum.unwrap_or((usual.minimum << 20).min(startup));
        let maximum = self.maximum.unwrap_or(USUAL_MAXIMUM.max(startup));
        if maximum > MAX_MAXIMUM {
            let key = if startup > MAX_MAXIMUM {
                "startup"
            } else {
                "maximum"
            };
            let most = MAX_MAXIMUM >> 40;
            let problem = format!(
                "a VM with Dynamic Memory has at most {most} TiB, as its worker has no addresses for more; lower it to that"
            );
            return Err(fields.error(key, &problem));
        }
        let settings = Settings {
            startup: startup >> 20,
            minimum: minimum >> 20,
            maximum: maximum >> 20,
            buffer: self.buffer.unwrap_or_default(),
            weight: self.weight.unwrap_or_default(),
        };
        settings
            .check()
            .map_err(|error| self.explain(fields, error))?;
        Ok(DynamicMemory {
            minimum,
            maximum,
            buffer: settings.buffer,
            weight: settings.weight,
        })
    }

    /// Which key breaks the rule, and what would be right.
    fn explain(&self, fields: &Fields<'_>, error: SettingsError) -> DefinitionError {
        match error {
            SettingsError::MinimumTooSmall(_) => {
                let key = if self.minimum.is_some() {
                    "minimum"
                } else {
                    "startup"
                };
                let least = Settings::LEAST_MINIMUM;
                let problem =
                    format!("a VM with Dynamic Memory has at least {least} MiB; raise it to that");
                fields.error(key, &problem)
            }
            SettingsError::MinimumAboveStartup => fields.error(
                "minimum",
                "this is more than startup, with which the VM starts; lower it, or raise startup",
            ),
            SettingsError::StartupAboveMaximum => fields.error(
                "maximum",
                "this is less than startup, with which the VM starts; raise it, or lower startup",
            ),
            other => fields.error("startup", &format!("{other}")),
        }
    }
}

/// A size of guest memory in bytes.
fn size(value: &DeValue<'_>) -> Result<u64, String> {
    let wanted = "write \"256 MiB\", \"1 GiB\" or a number of MiB: a multiple of 2 MiB, at least 8 MiB, at most 16 TiB";
    let (bytes, written) = match value {
        DeValue::String(text) => (value::size(text), format!("{text:?}")),
        DeValue::Integer(number) => {
            let mib = value::integer(number);
            (
                mib.and_then(|mib| mib.checked_mul(1 << 20)),
                number.to_string(),
            )
        }
        other => (None, value::kind(other).to_string()),
    };
    let fits = |bytes: &u64| {
        (MIN_MEMORY..=MAX_MEMORY).contains(bytes) && bytes.is_multiple_of(MEMORY_UNIT)
    };
    bytes
        .filter(fits)
        .ok_or_else(|| format!("{written} is not a size of memory that can be given; {wanted}"))
}

fn buffer(value: &DeValue<'_>) -> Result<Buffer, String> {
    let percent = value::number(value, 5, 2000)?;
    Buffer::new(percent.into()).map_err(|error| format!("{error}"))
}

fn weight(value: &DeValue<'_>) -> Result<Weight, String> {
    let weight = value::number(value, 0, Weight::MAX.get() as u32)?;
    Weight::new(weight.into()).map_err(|error| format!("{error}"))
}
