//! Whose processor this is, and what payloads have to do differently on it.

use super::cell::Global;
use super::cpu::cpuid;

/// Who made the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD, and those who make theirs alike.
    Amd,
    /// Intel.
    Intel,
}

static VENDOR: Global<Option<Vendor>> = Global::new(None);

/// The vendor, by CPUID leaf 0. It is asked once.
#[inline(always)]
pub fn vendor() -> Vendor {
    match VENDOR.get() {
        Some(vendor) => vendor,
        None => ask(),
    }
}

#[cold]
fn ask() -> Vendor {
    let leaf = cpuid(0, 0);
    let mut name = [0; 12];
    for (bytes, register) in name.chunks_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    let vendor = match &name {
        b"GenuineIntel" => Vendor::Intel,
        _ => Vendor::Amd,
    };
    VENDOR.set(Some(vendor));
    vendor
}

impl Vendor {
    /// The hypercall instruction.
    pub const fn hypercall(self) -> [u8; 3] {
        match self {
            Self::Amd => [0x0F, 0x01, 0xD9],
            Self::Intel => [0x0F, 0x01, 0xC1],
        }
    }

    /// The instruction that is the hypercall of the other vendor, and nothing here.
    pub const fn no_hypercall(self) -> [u8; 3] {
        match self {
            Self::Amd => Self::Intel.hypercall(),
            Self::Intel => Self::Amd.hypercall(),
        }
    }

    /// The hypercall page begins with it: the instruction, RET.
    pub const fn hypercall_page(self) -> [u8; 4] {
        let [a, b, c] = self.hypercall();
        [a, b, c, 0xC3]
    }
}

/// Assembly with the hypercall instruction in it: `$run!($before, "vmmcall" or "vmcall", $after, operands)` by vendor. The
/// macro `$run` takes an assembly template first and its operands next.
#[macro_export]
macro_rules! with_hypercall {
    ($run:ident!($before:expr, @, $after:expr $(, $($operand:tt)*)?)) => {
        match $crate::metal::vendor::vendor() {
            $crate::metal::vendor::Vendor::Amd => {
                $run!(concat!($before, "\nvmmcall\n", $after) $(, $($operand)*)?)
            }
            $crate::metal::vendor::Vendor::Intel => {
                $run!(concat!($before, "\nvmcall\n", $after) $(, $($operand)*)?)
            }
        }
    };
}
