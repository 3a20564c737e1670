//! What a processor's virtualization has more than the hypervisor needs, in words for the log.

use core::fmt;

use super::Capabilities;

/// A feature by its name, and whether the processor has it: then it is used.
pub(super) type Feature = (&'static str, bool);

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Svm(caps) => list(f, "SVM", &caps.features()),
            Self::Vmx(caps) => list(f, "VMX", &caps.features()),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, vendor: &str, features: &[Feature]) -> fmt::Result {
    f.write_str(vendor)?;
    for (there, word) in [(true, " with "), (false, "; without ")] {
        let mut lead = word;
        for (name, _) in features.iter().filter(|feature| feature.1 == there) {
            write!(f, "{lead}{name}")?;
            lead = ", ";
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{svm, vmx};

    #[test]
    fn what_is_there_comes_first_and_what_is_not_after_it() {
        let some = Capabilities::Svm(svm::Capabilities {
            nrip_save: true,
            flush_by_asid: true,
            ..svm::Capabilities::default()
        });
        assert_eq!(
            some.to_string(),
            "SVM with next RIP, flush by ASID; without decode assists, clean bits, pause filter"
        );
        let none = Capabilities::Vmx(vmx::Capabilities::default());
        assert!(none.to_string().starts_with("VMX; without 2 MiB leaves, "));
    }
}
