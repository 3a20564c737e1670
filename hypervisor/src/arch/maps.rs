//! Which ports and MSRs a partition reaches without an exit: maps that the processor reads, shared by all VPs of a
//! partition, or of all children. A set bit intercepts; where the bits are is the vendor's [`Layout`].

use super::page::HwPages;
use super::{Capabilities, svm, vmx};
use crate::mem::addr::{PAGE_SIZE, Spa};

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

/// A range of MSRs, first and last, and which accesses to them are intercepted.
pub type MsrRange = (u32, u32, MsrIntercept);

/// How a vendor's processors read the maps, and what only its machines have.
#[derive(Debug)]
pub struct Layout {
    /// Pages in a row of a port map: a bit for each port, in order. What lies behind them intercepts.
    pub port_pages: usize,
    /// Pages in a row of an MSR map.
    pub msr_pages: usize,
    /// Numbers of an MSR's bits in its map, for reads and for writes. None: all accesses exit, whatever the map says.
    pub msr_bits: fn(u32) -> Option<[usize; 2]>,
    /// MSRs that belong to a VP, whose writes exit nevertheless: the processor does not save them on an exit.
    pub writes_noted: &'static [u32],
    /// MSRs of this vendor's machines that the root does not touch directly.
    pub root_intercepted: &'static [MsrRange],
    /// Those of them whose writes the root believes done.
    pub root_ignored: &'static [u32],
}

/// MSRs of a VP alone, so that a child may use them directly. PAT is not among them: a guest must not set reserved types,
/// which only an intercept can refuse. Nor is anything with an effect beyond the VP.
const CHILD_DIRECT: [u32; 10] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xC000_0081, // STAR
    0xC000_0082, // LSTAR
    0xC000_0083, // CSTAR
    0xC000_0084, // SFMASK
    0xC000_0100, // FS base
    0xC000_0101, // GS base
    0xC000_0102, // kernel GS base
];

/// MSRs of every machine that the root does not touch directly.
const ROOT_INTERCEPTED: [MsrRange; 16] = [
    (0x10, 0x10, MsrIntercept::Write),   // TSC: the hypervisor's clock
    (0x1B, 0x1B, MsrIntercept::Both),    // APIC base
    (0x3A, 0x3A, MsrIntercept::Both),    // feature control
    (0x3B, 0x3B, MsrIntercept::Both),    // TSC adjust
    (0x48, 0x48, MsrIntercept::Both),    // SPEC_CTRL: per VP
    (0x79, 0x79, MsrIntercept::Write),   // microcode update
    (0x8B, 0x8B, MsrIntercept::Write),   // microcode revision
    (0x1D9, 0x1D9, MsrIntercept::Both),  // DEBUGCTL
    (0x200, 0x26F, MsrIntercept::Write), // variable and fixed MTRRs
    (0x277, 0x277, MsrIntercept::Both),  // PAT: per VP
    (0x2FF, 0x2FF, MsrIntercept::Write), // MTRR default type
    (0x6E0, 0x6E0, MsrIntercept::Both),  // TSC deadline: the hypervisor's timer
    (0x800, 0x8FF, MsrIntercept::Both),  // x2APIC
    (0xDA0, 0xDA0, MsrIntercept::Both),  // XSS
    (0xC000_0080, 0xC000_0080, MsrIntercept::Both), // EFER
    (0xC000_0103, 0xC000_0103, MsrIntercept::Both), // TSC_AUX: per VP
];

/// MSRs of every machine whose writes the root believes done: the microcode is the firmware's affair. A kernel writes 0 into
/// its revision before it reads it.
const ROOT_IGNORED: [u32; 2] = [
    0x79, // microcode update
    0x8B, // microcode revision
];

/// Whether a write of the root's to an MSR has no effect.
pub(super) fn root_ignores(capabilities: &Capabilities, msr: u32) -> bool {
    ROOT_IGNORED.contains(&msr) || layout(capabilities).root_ignored.contains(&msr)
}

/// A port map and an MSR map in the processor's format.
#[derive(Debug)]
pub struct PermissionMaps {
    ports: HwPages,
    msrs: HwPages,
    layout: &'static Layout,
}

const fn layout(capabilities: &Capabilities) -> &'static Layout {
    match capabilities {
        Capabilities::Svm(_) => &svm::PERMISSIONS,
        Capabilities::Vmx(_) => &vmx::PERMISSIONS,
    }
}

impl PermissionMaps {
    /// Pages in a row that the port map takes.
    pub const fn port_pages(capabilities: &Capabilities) -> usize {
        layout(capabilities).port_pages
    }

    /// Pages in a row that the MSR map takes.
    pub const fn msr_pages(capabilities: &Capabilities) -> usize {
        layout(capabilities).msr_pages
    }

    /// A child's: every port and every MSR exits but those that belong to the VP alone (segment bases, SYSENTER and
    /// SYSCALL registers). `None` if the pages are not as many as they must be.
    pub fn child(ports: HwPages, msrs: HwPages, capabilities: &Capabilities) -> Option<Self> {
        Self::new(ports, msrs, layout(capabilities), true)
    }

    /// The root's: everything passes but `intercepted` ports and the MSRs on which the hypervisor stands. `None` if the
    /// pages are not as many as they must be.
    pub fn root(
        ports: HwPages,
        msrs: HwPages,
        capabilities: &Capabilities,
        intercepted: &[u16],
    ) -> Option<Self> {
        let mut maps = Self::new(ports, msrs, layout(capabilities), false)?;
        for &port in intercepted {
            maps.set_port(port, true);
        }
        Some(maps)
    }

    fn new(
        mut ports: HwPages,
        mut msrs: HwPages,
        layout: &'static Layout,
        child: bool,
    ) -> Option<Self> {
        if ports.len() != layout.port_pages * PAGE_SIZE as usize
            || msrs.len() != layout.msr_pages * PAGE_SIZE as usize
        {
            return None;
        }
        let (of_ports, behind) = ports.bytes_mut().split_at_mut_checked(PORT_BYTES)?;
        of_ports.fill(if child { 0xFF } else { 0 });
        behind.fill(0xFF);
        msrs.bytes_mut().fill(if child { 0xFF } else { 0 });
        let mut maps = Self {
            ports,
            msrs,
            layout,
        };
        if child {
            maps.pass_own_msrs();
        } else {
            maps.intercept_machine();
        }
        for &msr in layout.writes_noted {
            maps.set_msr(msr, MsrIntercept::Write);
        }
        Some(maps)
    }

    fn pass_own_msrs(&mut self) {
        for msr in CHILD_DIRECT {
            self.set_msr(msr, MsrIntercept::None);
        }
    }

    fn intercept_machine(&mut self) {
        for &(first, last, intercept) in ROOT_INTERCEPTED.iter().chain(self.layout.root_intercepted)
        {
            for msr in first..=last {
                self.set_msr(msr, intercept);
            }
        }
    }

    /// Intercepts a port, or lets it pass. VPs that run see it after their next exit.
    pub fn set_port(&mut self, port: u16, intercept: bool) {
        set_bit(self.ports.bytes_mut(), port.into(), intercept);
    }

    /// Sets what is intercepted of an MSR. MSRs outside the processor's map always exit. VPs that run see it after their
    /// next exit.
    pub fn set_msr(&mut self, msr: u32, intercept: MsrIntercept) {
        let Some([read, write]) = (self.layout.msr_bits)(msr) else {
            return;
        };
        let (reads, writes) = match intercept {
            MsrIntercept::None => (false, false),
            MsrIntercept::Read => (true, false),
            MsrIntercept::Write => (false, true),
            MsrIntercept::Both => (true, true),
        };
        set_bit(self.msrs.bytes_mut(), read, reads);
        set_bit(self.msrs.bytes_mut(), write, writes);
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

/// Bytes of a bit for each port.
const PORT_BYTES: usize = 0x1_0000 / 8;

fn set_bit(bytes: &mut [u8], number: usize, value: bool) {
    if let Some(byte) = bytes.get_mut(number / 8) {
        let bit = 1 << (number % 8);
        *byte = if value { *byte | bit } else { *byte & !bit };
    }
}

/// What the maps of a layout say, for the tests of each vendor.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A child's maps, and the root's with port 0xCF9 intercepted.
    pub fn of(layout: &'static Layout) -> [PermissionMaps; 2] {
        let pages = |count| HwPages::for_test(0x1000, count);
        let [child, mut root] = [true, false].map(|child| {
            let (ports, msrs) = (pages(layout.port_pages), pages(layout.msr_pages));
            PermissionMaps::new(ports, msrs, layout, child).unwrap()
        });
        root.set_port(0xCF9, true);
        [child, root]
    }

    fn bit(bytes: &[u8], number: usize) -> bool {
        bytes[number / 8] >> (number % 8) & 1 != 0
    }

    /// The ranges that a map could cover, and what lies around them.
    fn every_msr() -> impl Iterator<Item = u32> {
        let high = 0xBFFF_F000..0xC002_0000;
        (0..0x1_0000).chain(0x4000_0000..0x4000_2000).chain(high)
    }

    impl PermissionMaps {
        /// The bytes of both maps.
        pub fn bytes(&self) -> (&[u8], &[u8]) {
            (self.ports.bytes(), self.msrs.bytes())
        }

        /// Whether a port is intercepted.
        pub fn intercepts_port(&self, port: u16) -> bool {
            bit(self.ports.bytes(), port.into())
        }

        /// What is intercepted of an MSR.
        pub fn intercepts_msr(&self, msr: u32) -> MsrIntercept {
            let bits = (self.layout.msr_bits)(msr);
            match bits.map(|bits| bits.map(|number| bit(self.msrs.bytes(), number))) {
                Some([false, false]) => MsrIntercept::None,
                Some([true, false]) => MsrIntercept::Read,
                Some([false, true]) => MsrIntercept::Write,
                Some([true, true]) | None => MsrIntercept::Both,
            }
        }

        /// All MSRs with this intercept, of those with which one can be asked for.
        pub fn msrs_with(&self, intercept: MsrIntercept) -> Vec<u32> {
            let covered = |msr: &u32| (self.layout.msr_bits)(*msr).is_some();
            every_msr()
                .filter(covered)
                .filter(|&msr| self.intercepts_msr(msr) == intercept)
                .collect()
        }
    }

    /// What must hold for every layout: who reaches what, and that no two bits are one.
    pub fn check(layout: &'static Layout) {
        let [child, root] = of(layout);
        let own: Vec<u32> = CHILD_DIRECT.to_vec();
        let mut direct = child.msrs_with(MsrIntercept::None);
        assert_eq!(child.msrs_with(MsrIntercept::Write), layout.writes_noted);
        assert_eq!(child.msrs_with(MsrIntercept::Read), []);
        direct.extend(layout.writes_noted);
        direct.sort();
        assert_eq!(direct, own);
        assert!((0..=u16::MAX).all(|port| child.intercepts_port(port)));
        assert!((0..=u16::MAX).all(|port| root.intercepts_port(port) == (port == 0xCF9)));
        let lists = || ROOT_INTERCEPTED.iter().chain(layout.root_intercepted);
        for intercept in [MsrIntercept::Both, MsrIntercept::Write, MsrIntercept::Read] {
            let of = lists().filter(|range| range.2 == intercept);
            let mut listed: Vec<u32> = of.flat_map(|&(first, last, _)| first..=last).collect();
            if intercept == MsrIntercept::Write {
                listed.extend(layout.writes_noted);
            }
            listed.sort();
            assert_eq!(root.msrs_with(intercept), listed, "each is covered, once");
        }
        for &msr in ROOT_IGNORED.iter().chain(layout.root_ignored) {
            let seen = [MsrIntercept::Both, MsrIntercept::Write];
            assert!(seen.contains(&root.intercepts_msr(msr)), "{msr:#x}");
        }
        let mut bits: Vec<usize> = every_msr().filter_map(layout.msr_bits).flatten().collect();
        let all = bits.len();
        bits.sort();
        bits.dedup();
        assert_eq!(bits.len(), all, "a bit for each access to each MSR");
        assert!(bits.last().unwrap() / 8 < layout.msr_pages * 4096);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capabilities() -> Capabilities {
        Capabilities::Svm(svm::Capabilities::default())
    }

    #[test]
    fn a_change_reaches_the_map_that_the_processor_reads() {
        let caps = capabilities();
        let pages = |n| HwPages::for_test(0x1000, n);
        let (ports, msrs) = (
            PermissionMaps::port_pages(&caps),
            PermissionMaps::msr_pages(&caps),
        );
        let mut maps = PermissionMaps::root(pages(ports), pages(msrs), &caps, &[0xCF9]).unwrap();
        assert_eq!(maps.ports.bytes()[0xCF9 / 8], 1 << (0xCF9 % 8));
        maps.set_port(0xCF9, false);
        maps.set_port(0x80, true);
        assert_eq!(
            (maps.ports.bytes()[0xCF9 / 8], maps.ports.bytes()[0x10]),
            (0, 1)
        );
        maps.set_msr(0x1B, MsrIntercept::None);
        assert_eq!(maps.msrs.bytes()[0x1B / 4] >> (0x1B % 4 * 2) & 3, 0);
        assert!(PermissionMaps::child(pages(2), pages(2), &caps).is_none());
        assert!(PermissionMaps::child(pages(3), pages(1), &caps).is_none());
    }

    proptest! {
        #[test]
        fn a_port_changes_its_own_bit_only(port: u16, of_root: bool) {
            let [child, root] = testing::of(&svm::PERMISSIONS);
            let mut maps = if of_root { root } else { child };
            maps.set_port(0xCF9, !of_root);
            maps.set_port(port, of_root);
            for other in 0..=u16::MAX {
                prop_assert_eq!(maps.intercepts_port(other), of_root == (other == port));
            }
        }
    }
}
