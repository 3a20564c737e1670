//! What an administrator says of a VM's memory (section 3.2).

use thiserror::Error;

/// The share of a VM when memory is short, 1 to 10,000 (DM-08). Without shortage it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// The weight of a VM for which nothing is said.
    pub const DEFAULT: Self = Self(5000);
    /// The lightest.
    pub const MIN: Self = Self(1);
    /// The heaviest: at twice the reference weight, the target search reaches 0 for every VM (section 4.4).
    pub const MAX: Self = Self(10_000);

    /// A weight. 0 is taken for 1.
    ///
    /// # Errors
    /// If it is above 10,000.
    pub const fn new(weight: u64) -> Result<Self, SettingsError> {
        match weight {
            0 => Ok(Self::MIN),
            1..=10_000 => Ok(Self(weight as u16)),
            _ => Err(SettingsError::Weight(weight)),
        }
    }

    /// The number, 1 to 10,000.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0 as u64
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a VM shall have beyond its demand, 5 to 2000 per cent of the demand (DM-06).
///
/// Two readings are about: a share of what the VM has been given, or of what it needs. This is the second, which alone has a
/// meaning up to 2000 per cent (section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buffer(u16);

impl Buffer {
    /// The buffer of a VM for which nothing is said.
    pub const DEFAULT: Self = Self(20);

    /// A buffer in per cent.
    ///
    /// # Errors
    /// If it is not 5 to 2000.
    pub const fn new(percent: u64) -> Result<Self, SettingsError> {
        match percent {
            5..=2000 => Ok(Self(percent as u16)),
            _ => Err(SettingsError::Buffer(percent)),
        }
    }

    /// Per cent, 5 to 2000.
    #[inline]
    pub const fn percent(self) -> u64 {
        self.0 as u64
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The memory settings of one VM, sizes in MiB. `minimum <= startup <= maximum` in what [`check`](Self::check) lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// MiB that the VM has when it starts.
    pub startup: u64,
    /// MiB below which it is never brought.
    pub minimum: u64,
    /// MiB that it never exceeds.
    pub maximum: u64,
    /// What it shall have beyond its demand.
    pub buffer: Buffer,
    /// Its share when memory is short.
    pub weight: Weight,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            startup: 1024,
            minimum: 512,
            maximum: 1 << 20,
            buffer: Buffer::DEFAULT,
            weight: Weight::DEFAULT,
        }
    }
}

impl Settings {
    /// The least that [`minimum`](Self::minimum) can be, MiB.
    pub const LEAST_MINIMUM: u64 = 32;

    /// Checks the sizes of a VM that does not run.
    ///
    /// # Errors
    /// The first rule of section 3.2 that they break.
    pub const fn check(&self) -> Result<(), SettingsError> {
        if self.minimum < Self::LEAST_MINIMUM {
            return Err(SettingsError::MinimumTooSmall(self.minimum));
        }
        if self.minimum > self.startup {
            return Err(SettingsError::MinimumAboveStartup);
        }
        if self.startup > self.maximum {
            return Err(SettingsError::StartupAboveMaximum);
        }
        Ok(())
    }

    /// Checks what `self` may become while the VM runs: the minimum may go down and the maximum up, buffer and weight may
    /// be anything.
    ///
    /// # Errors
    /// The first rule of section 3.2 that `new` breaks.
    pub const fn check_change(&self, new: &Self) -> Result<(), SettingsError> {
        if new.startup != self.startup {
            return Err(SettingsError::Running("startup RAM cannot change"));
        }
        if new.minimum > self.minimum {
            return Err(SettingsError::Running("minimum RAM can only go down"));
        }
        if new.maximum < self.maximum {
            return Err(SettingsError::Running("maximum RAM can only go up"));
        }
        new.check()
    }
}

/// Why settings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// More than 10,000.
    #[error("a memory weight of {0}: it is 1 to 10000")]
    Weight(u64),
    /// Not 5 to 2000.
    #[error("a memory buffer of {0} per cent: it is 5 to 2000")]
    Buffer(u64),
    /// So many MiB are less than the least.
    #[error("a minimum RAM of {0} MB: the least is {least} MB", least = Settings::LEAST_MINIMUM)]
    MinimumTooSmall(u64),
    /// The VM would start below its minimum.
    #[error("minimum RAM is above startup RAM")]
    MinimumAboveStartup,
    /// The VM would start above its maximum.
    #[error("startup RAM is above maximum RAM")]
    StartupAboveMaximum,
    /// Not while the VM runs, and why.
    #[error("while the VM runs, {0}")]
    Running(&'static str),
}
