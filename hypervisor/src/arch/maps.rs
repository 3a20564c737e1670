//! Which ports and MSRs a partition reaches without an exit: maps that the processor reads, shared by all VPs of a
//! partition, or of all children.

use super::page::HwPages;
use super::{Capabilities, svm};
use crate::mem::addr::Spa;

/// Which accesses to an MSR are intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrIntercept {
    /// Neither.
    None,
    /// RDMSR.
    Read,
    /// WRMSR.
    Write,
    /// Both.
    Both,
}

/// A port map and an MSR map in the processor's format.
#[derive(Debug)]
pub struct PermissionMaps {
    ports: HwPages,
    msrs: HwPages,
    capabilities: Capabilities,
}

impl PermissionMaps {
    /// Pages in a row that the port map takes.
    pub const fn port_pages(capabilities: &Capabilities) -> usize {
        match capabilities {
            Capabilities::Svm(_) => svm::IOPM_PAGES,
        }
    }

    /// Pages in a row that the MSR map takes.
    pub const fn msr_pages(capabilities: &Capabilities) -> usize {
        match capabilities {
            Capabilities::Svm(_) => svm::MSRPM_PAGES,
        }
    }

    /// A child's: every port and every MSR exits but those that belong to the VP alone and that the processor switches
    /// (segment bases, SYSENTER and SYSCALL registers). `None` if the pages are not as many as they must be.
    pub fn child(
        mut ports: HwPages,
        mut msrs: HwPages,
        capabilities: Capabilities,
    ) -> Option<Self> {
        match capabilities {
            Capabilities::Svm(_) => svm::child_maps(ports.bytes_mut(), msrs.bytes_mut())?,
        }
        Some(Self {
            ports,
            msrs,
            capabilities,
        })
    }

    /// The root's: everything passes but `intercepted` ports and the MSRs on which the hypervisor stands. `None` if the
    /// pages are not as many as they must be.
    pub fn root(
        mut ports: HwPages,
        mut msrs: HwPages,
        capabilities: Capabilities,
        intercepted: &[u16],
    ) -> Option<Self> {
        match capabilities {
            Capabilities::Svm(_) => {
                svm::root_maps(ports.bytes_mut(), msrs.bytes_mut(), intercepted)?
            }
        }
        Some(Self {
            ports,
            msrs,
            capabilities,
        })
    }

    /// Intercepts a port, or lets it pass. VPs that run see it after their next exit.
    pub fn set_port(&mut self, port: u16, intercept: bool) {
        match self.capabilities {
            Capabilities::Svm(_) => {
                if let Some(mut map) = svm::PortMap::existing(self.ports.bytes_mut()) {
                    map.set(port, intercept);
                }
            }
        }
    }

    /// Sets what is intercepted of an MSR. MSRs outside the processor's map always exit. VPs that run see it after their
    /// next exit.
    pub fn set_msr(&mut self, msr: u32, intercept: MsrIntercept) {
        match self.capabilities {
            Capabilities::Svm(_) => {
                if let Some(mut map) = svm::MsrMap::existing(self.msrs.bytes_mut()) {
                    map.set(msr, intercept);
                }
            }
        }
    }

    /// Address of the port map.
    pub const fn port_map(&self) -> Spa {
        self.ports.spa()
    }

    /// Address of the MSR map.
    pub const fn msr_map(&self) -> Spa {
        self.msrs.spa()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_the_map_that_the_processor_reads() {
        let caps = Capabilities::Svm(svm::Capabilities::default());
        let pages = |n| HwPages::for_test(0x1000, n);
        let (ports, msrs) = (
            PermissionMaps::port_pages(&caps),
            PermissionMaps::msr_pages(&caps),
        );
        let mut maps = PermissionMaps::root(pages(ports), pages(msrs), caps, &[0xCF9]).unwrap();
        assert_eq!(maps.ports.bytes()[0xCF9 / 8], 1 << (0xCF9 % 8));
        maps.set_port(0xCF9, false);
        maps.set_port(0x80, true);
        assert_eq!(
            (maps.ports.bytes()[0xCF9 / 8], maps.ports.bytes()[0x10]),
            (0, 1)
        );
        maps.set_msr(0x1B, MsrIntercept::None);
        assert_eq!(maps.msrs.bytes()[0x1B / 4] >> (0x1B % 4 * 2) & 3, 0);
        assert!(PermissionMaps::child(pages(2), pages(2), caps).is_none());
    }
}
