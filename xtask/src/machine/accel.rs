//! Which accelerator of QEMU can run a hypervisor inside the emulated machine.

use std::fs::{File, read_to_string};

use anyhow::{Result, bail};
use clap::ValueEnum;

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wish {
    /// Nested KVM where this machine has it, else the software CPU.
    Auto,
    /// QEMU's software CPU.
    Tcg,
    /// Nested KVM.
    Kvm,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's software CPU, which has SVM.
    Tcg,
    /// KVM, passing SVM on to the machine.
    Kvm,
}

impl Wish {
    /// Decides, and says what was taken and why.
    ///
    /// # Errors
    /// If KVM is demanded and cannot nest here.
    pub fn decide(self) -> Result<Accel> {
        let nested = nested_kvm();
        let taken = match (self, &nested) {
            (Self::Tcg, _) => Accel::Tcg,
            (Self::Auto | Self::Kvm, Ok(())) => Accel::Kvm,
            (Self::Auto, Err(why)) => {
                eprintln!("    Accelerator: TCG, QEMU's software CPU ({why})");
                return Ok(Accel::Tcg);
            }
            (Self::Kvm, Err(why)) => bail!("--accel kvm: {why}; --accel tcg works everywhere"),
        };
        eprintln!(
            "    Accelerator: {}",
            if taken == Accel::Kvm {
                "nested KVM"
            } else {
                "TCG, QEMU's software CPU"
            }
        );
        Ok(taken)
    }
}

/// Whether KVM works here and offers SVM to its machines; if not, why.
fn nested_kvm() -> Result<(), &'static str> {
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Err("/dev/kvm cannot be opened");
    }
    if !has_flag(&read_to_string("/proc/cpuinfo").unwrap_or_default(), "svm") {
        return Err("this machine's CPU offers no SVM");
    }
    match read_to_string("/sys/module/kvm_amd/parameters/nested")
        .unwrap_or_default()
        .trim()
    {
        "1" | "Y" => Ok(()),
        _ => Err("kvm_amd is not loaded with nested=1"),
    }
}

/// Whether the first processor in the text of `/proc/cpuinfo` has the flag.
fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|word| word == flag))
}

#[cfg(test)]
mod tests {
    use super::has_flag;

    #[test]
    fn a_flag_is_a_whole_word() {
        let text = "processor\t: 0\nflags\t\t: fpu svm_lock vme\n";
        assert!(has_flag(text, "vme"));
        assert!(!has_flag(text, "svm"));
    }
}
