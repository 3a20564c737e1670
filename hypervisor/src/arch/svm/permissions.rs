//! The port and MSR permission maps: AMD64 manual volume 2, 15.10.1 and 15.11. A set bit intercepts.

use crate::arch::maps::MsrIntercept;

/// Pages of a port map: one bit a port, and a third page for accesses that run past port 0xFFFF.
pub const IOPM_PAGES: usize = 3;
/// Pages of an MSR map: two bits an MSR, for three ranges of 8192 MSRs.
pub const MSRPM_PAGES: usize = 2;

const IOPM_BYTES: usize = IOPM_PAGES * 4096;
const MSRPM_BYTES: usize = MSRPM_PAGES * 4096;

/// The two bits of an MSR: read, write.
const fn bits(intercept: MsrIntercept) -> u8 {
    match intercept {
        MsrIntercept::None => 0,
        MsrIntercept::Read => 1,
        MsrIntercept::Write => 2,
        MsrIntercept::Both => 3,
    }
}

/// A port permission map over its bytes.
#[derive(Debug)]
pub struct PortMap<'a>(&'a mut [u8; IOPM_BYTES]);

impl<'a> PortMap<'a> {
    /// A map that intercepts every port, or none, written over `bytes`. `None` if they are not three pages.
    pub fn new(bytes: &'a mut [u8], intercept_all: bool) -> Option<Self> {
        let bytes: &mut [u8; IOPM_BYTES] = bytes.try_into().ok()?;
        bytes.fill(if intercept_all { 0xFF } else { 0 });
        // A dword access to port 0xFFFF looks at three bits of the last page.
        if let Some(last) = bytes.get_mut(0x2000) {
            *last = 0xFF;
        }
        Some(Self(bytes))
    }

    /// The map that `bytes` hold already. `None` if they are not three pages.
    pub fn existing(bytes: &'a mut [u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Intercepts a port, or lets it pass.
    pub fn set(&mut self, port: u16, intercept: bool) {
        if let Some(byte) = self.0.get_mut(usize::from(port >> 3)) {
            let bit = 1 << (port & 7);
            *byte = if intercept { *byte | bit } else { *byte & !bit };
        }
    }

    /// Whether a port is intercepted.
    pub fn intercepts(&self, port: u16) -> bool {
        let byte = self.0.get(usize::from(port >> 3)).copied().unwrap_or(0xFF);
        byte & (1 << (port & 7)) != 0
    }
}

/// An MSR permission map over its bytes.
#[derive(Debug)]
pub struct MsrMap<'a>(&'a mut [u8; MSRPM_BYTES]);

impl<'a> MsrMap<'a> {
    /// A map that intercepts every MSR, or none that it covers, written over `bytes`. `None` if they are not two pages.
    /// MSRs outside the three covered ranges are always intercepted, by the processor.
    pub fn new(bytes: &'a mut [u8], intercept_all: bool) -> Option<Self> {
        let bytes: &mut [u8; MSRPM_BYTES] = bytes.try_into().ok()?;
        bytes.fill(if intercept_all { 0xFF } else { 0 });
        Some(Self(bytes))
    }

    /// The map that `bytes` hold already. `None` if they are not two pages.
    pub fn existing(bytes: &'a mut [u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Byte and shift of an MSR's two bits.
    const fn place(msr: u32) -> Option<(usize, u32)> {
        let base = match msr >> 13 {
            0 => 0,
            0x6_0000 => 0x800,
            0x6_0008 => 0x1000,
            _ => return None,
        };
        let index = msr & 0x1FFF;
        Some((base + (index >> 2) as usize, (index & 3) * 2))
    }

    /// Sets what is intercepted of an MSR. An MSR outside the covered ranges stays intercepted.
    pub fn set(&mut self, msr: u32, intercept: MsrIntercept) {
        let Some((byte, shift)) = Self::place(msr) else {
            return;
        };
        if let Some(byte) = self.0.get_mut(byte) {
            *byte = (*byte & !(3 << shift)) | (bits(intercept) << shift);
        }
    }

    /// What is intercepted of an MSR.
    pub fn intercepts(&self, msr: u32) -> MsrIntercept {
        let Some((byte, shift)) = Self::place(msr) else {
            return MsrIntercept::Both;
        };
        match (self.0.get(byte).copied().unwrap_or(0xFF) >> shift) & 3 {
            0 => MsrIntercept::None,
            1 => MsrIntercept::Read,
            2 => MsrIntercept::Write,
            _ => MsrIntercept::Both,
        }
    }
}

/// MSRs that VMLOAD, VMSAVE and VMRUN switch, so that a child may use them directly. PAT is not among them: a guest must
/// not set reserved types, which only an intercept can refuse. Nor is anything with an effect beyond the VP.
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

/// MSRs of the machine that the root does not touch directly: (first, last, which accesses).
const ROOT_INTERCEPTED: [(u32, u32, MsrIntercept); 21] = [
    (0x10, 0x10, MsrIntercept::Write),   // TSC: the hypervisor's clock
    (0x1B, 0x1B, MsrIntercept::Both),    // APIC base
    (0x3A, 0x3A, MsrIntercept::Both),    // feature control
    (0x3B, 0x3B, MsrIntercept::Both),    // TSC adjust
    (0x48, 0x48, MsrIntercept::Both),    // SPEC_CTRL: per VP
    (0x8B, 0x8B, MsrIntercept::Write),   // microcode revision
    (0x79, 0x79, MsrIntercept::Write),   // microcode update
    (0x1D9, 0x1D9, MsrIntercept::Both),  // DEBUGCTL
    (0x200, 0x26F, MsrIntercept::Write), // variable and fixed MTRRs
    (0x277, 0x277, MsrIntercept::Both),  // PAT: per VP
    (0x2FF, 0x2FF, MsrIntercept::Write), // MTRR default type
    (0x6E0, 0x6E0, MsrIntercept::Both),  // TSC deadline: the hypervisor's timer
    (0x800, 0x8FF, MsrIntercept::Both),  // x2APIC
    (0xDA0, 0xDA0, MsrIntercept::Both),  // XSS
    (0xC000_0080, 0xC000_0080, MsrIntercept::Both), // EFER
    (0xC000_0103, 0xC000_0103, MsrIntercept::Both), // TSC_AUX: per VP
    (0xC000_0104, 0xC000_0104, MsrIntercept::Write), // TSC ratio
    (0xC001_0010, 0xC001_001F, MsrIntercept::Write), // SYSCFG, HWCR, IORRs, TOP_MEM: memory types
    (0xC001_0020, 0xC001_0020, MsrIntercept::Both), // microcode patch loader
    (0xC001_0111, 0xC001_0119, MsrIntercept::Both), // SMM, VM_CR, HSAVE_PA, SVM key
    (0xC001_0130, 0xC001_0138, MsrIntercept::Both), // SEV
];

/// Writes the maps of a child: every port and every MSR is intercepted but those that live in the VMCB.
/// `None` if the slices are not three and two pages.
pub fn child_maps(ports: &mut [u8], msrs: &mut [u8]) -> Option<()> {
    PortMap::new(ports, true)?;
    let mut msrs = MsrMap::new(msrs, true)?;
    for msr in CHILD_DIRECT {
        msrs.set(msr, MsrIntercept::None);
    }
    Some(())
}

/// Writes the maps of the root: it has the machine, but for `ports` and the MSRs on which the hypervisor stands.
/// `None` if the slices are not three and two pages.
pub fn root_maps(port_bytes: &mut [u8], msr_bytes: &mut [u8], ports: &[u16]) -> Option<()> {
    let mut port_map = PortMap::new(port_bytes, false)?;
    for &port in ports {
        port_map.set(port, true);
    }
    let mut msrs = MsrMap::new(msr_bytes, false)?;
    for (first, last, intercept) in ROOT_INTERCEPTED {
        for msr in first..=last {
            msrs.set(msr, intercept);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn maps() -> (Vec<u8>, Vec<u8>) {
        (vec![0x5A; IOPM_BYTES], vec![0x5A; MSRPM_BYTES])
    }

    #[test]
    fn msr_bits_lie_where_the_manual_says() {
        let (_, mut m) = maps();
        let mut map = MsrMap::new(&mut m, false).unwrap();
        map.set(0x1B, MsrIntercept::Write);
        map.set(0xC000_0080, MsrIntercept::Read);
        map.set(0xC001_0114, MsrIntercept::Both);
        assert_eq!(m[0x1B / 4], 2 << ((0x1B % 4) * 2));
        assert_eq!(m[0x800 + 0x80 / 4], 1);
        assert_eq!(m[0x1000 + 0x114 / 4], 3);
    }

    #[test]
    fn a_child_reaches_no_port_and_only_its_own_msrs() {
        let (mut p, mut m) = maps();
        child_maps(&mut p, &mut m).unwrap();
        assert!(p.iter().all(|&b| b == 0xFF));
        let map = MsrMap::existing(&mut m).unwrap();
        let direct = (0..0x2000)
            .chain(0xC000_0000..0xC000_2000)
            .chain(0xC001_0000..0xC001_2000);
        let direct: Vec<u32> = direct
            .filter(|&msr| map.intercepts(msr) != MsrIntercept::Both)
            .collect();
        assert_eq!(direct, CHILD_DIRECT);
    }

    #[test]
    fn the_root_cannot_reach_what_the_hypervisor_stands_on() {
        let (mut p, mut m) = maps();
        root_maps(&mut p, &mut m, &[0xCF9]).unwrap();
        let ports = PortMap::existing(&mut p).unwrap();
        assert!(ports.intercepts(0xCF9) && !ports.intercepts(0xCF8) && !ports.intercepts(0x3F8));
        assert_eq!(
            p[0x2000] & 7,
            7,
            "an access past port 0xFFFF is intercepted"
        );
        let msrs = MsrMap::existing(&mut m).unwrap();
        for msr in [
            0x1B,
            0x800,
            0x830,
            0x8FF,
            0xC000_0080,
            0xC001_0114,
            0xC001_0117,
            0xC001_0020,
        ] {
            assert_eq!(msrs.intercepts(msr), MsrIntercept::Both, "{msr:#x}");
        }
        assert_eq!(msrs.intercepts(0x10), MsrIntercept::Write);
        assert_eq!(msrs.intercepts(0xC000_0082), MsrIntercept::None);
        assert_eq!(
            msrs.intercepts(0x4000_0000),
            MsrIntercept::Both,
            "outside the map's ranges"
        );
    }

    #[test]
    fn slices_of_another_length_are_refused() {
        let (mut p, mut m) = maps();
        assert!(child_maps(&mut p[..8192], &mut m).is_none());
        assert!(child_maps(&mut p, &mut m[..4096]).is_none());
    }

    proptest! {
        #[test]
        fn a_port_changes_its_own_bit_only(port: u16, all: bool) {
            let (mut p, _) = maps();
            PortMap::new(&mut p, all).unwrap().set(port, !all);
            let map = PortMap::existing(&mut p).unwrap();
            for other in 0..=u16::MAX {
                prop_assert_eq!(map.intercepts(other), all ^ (other == port));
            }
        }
    }
}
