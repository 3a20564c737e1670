//! Whose virtualization, and in which emulator.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

use super::{End, Machine, Sign, bochs, qemu};

/// Whose virtualization a processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Vendor {
    /// SVM.
    Amd,
    /// VMX.
    Intel,
}

impl Vendor {
    /// As results and scenario files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        }
    }

    /// Its virtualization, as the table of the bench names it.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Amd => "SVM",
            Self::Intel => "VMX",
        }
    }

    /// The processor to run this vendor's code on when nobody asks for another.
    pub fn usual(self) -> Processor {
        match self {
            Self::Amd => Processor::Qemu,
            Self::Intel => Processor::Bochs(bochs::USUAL_INTEL.into()),
        }
    }
}

/// An emulated processor. Scenario files name it `amd` or `intel` for the vendor's usual one, else as Bochs names its
/// models.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Processor {
    /// QEMU's software CPU, which has SVM.
    Qemu,
    /// A model of Bochs'.
    Bochs(String),
}

impl From<String> for Processor {
    fn from(name: String) -> Self {
        match name.as_str() {
            "amd" => Vendor::Amd.usual(),
            "intel" => Vendor::Intel.usual(),
            _ => Self::Bochs(name),
        }
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu => write!(formatter, "qemu"),
            Self::Bochs(model) => write!(formatter, "{model}"),
        }
    }
}

impl Processor {
    /// Whose virtualization it has.
    pub fn vendor(&self) -> Vendor {
        match self {
            Self::Bochs(model) if !bochs::is_amd(model) => Vendor::Intel,
            _ => Vendor::Amd,
        }
    }

    /// Whether it is the one on which the vendor's code usually runs.
    pub fn is_usual(&self) -> bool {
        *self == self.vendor().usual()
    }

    /// What `machine` asks for and this processor's emulator does not have.
    pub fn lacks(&self, machine: &Machine) -> Option<&'static str> {
        match self {
            Self::Qemu => None,
            Self::Bochs(_) => bochs::lacks(machine),
        }
    }

    /// How many times longer than in QEMU something may take.
    pub fn patience(&self) -> u32 {
        match self {
            Self::Qemu => 1,
            Self::Bochs(_) => 2,
        }
    }

    /// How its emulator shows the end of a machine.
    pub fn sign(&self, end: End) -> Sign {
        match self {
            Self::Qemu => qemu::sign(end),
            Self::Bochs(_) => bochs::sign(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Processor, Vendor};

    #[test]
    fn models_belong_to_their_vendors() {
        let vendor = |name: &str| Processor::from(name.to_owned()).vendor();
        assert_eq!(vendor("amd"), Vendor::Amd);
        assert_eq!(vendor("ryzen"), Vendor::Amd);
        assert_eq!(vendor("athlon64_venice"), Vendor::Amd);
        assert_eq!(vendor("intel"), Vendor::Intel);
        assert_eq!(vendor("tigerlake"), Vendor::Intel);
        assert!(!Processor::from("ryzen".to_owned()).is_usual());
        assert!(Processor::from("intel".to_owned()).is_usual());
    }
}
