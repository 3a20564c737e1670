//! Where VMX has the bits of ports and MSRs (Intel SDM vol. 3C, "I/O-Bitmap Addresses" and "MSR-Bitmap Address"), and what
//! the root of such a machine does not reach.

use crate::arch::maps::{Layout, MsrIntercept, MsrRange};

/// VMX's maps. Bitmap B lies behind A; an access that runs past port 0xFFFF exits by itself. The VMCS has no place for
/// the SYSCALL registers, so their last values are those of writes that were seen.
pub static PERMISSIONS: Layout = Layout {
    port_pages: 2,
    msr_pages: 1,
    msr_bits,
    writes_noted: &[
        0xC000_0081, // STAR
        0xC000_0082, // LSTAR
        0xC000_0083, // CSTAR
        0xC000_0084, // SFMASK
    ],
    root_intercepted: &ROOT_INTERCEPTED,
    root_ignored: &[0x1A0], // MISC_ENABLE
};

/// One bit an access for two ranges of 8192 MSRs: reads of low and high ones, writes of low and high ones.
const fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let range = match msr >> 13 {
        0 => 0,
        0x6_0000 => 1,
        _ => return None,
    };
    let read = range * 0x2000 + (msr & 0x1FFF) as usize;
    Some([read, read + 0x4000])
}

const ROOT_INTERCEPTED: [MsrRange; 12] = [
    (0x9B, 0x9B, MsrIntercept::Both),     // SMM monitor
    (0x1A0, 0x1A0, MsrIntercept::Write),  // MISC_ENABLE: can take NX from the hypervisor's tables
    (0x1C4, 0x1C5, MsrIntercept::Both),   // XFD: decides what XSAVE switches
    (0x1F2, 0x1F3, MsrIntercept::Write),  // SMRR: memory types
    (0x1F6, 0x1F7, MsrIntercept::Write),  // SMRR2: the same
    (0x3F1, 0x3F1, MsrIntercept::Both),   // PEBS: writes to linear addresses, the hypervisor's too
    (0x480, 0x493, MsrIntercept::Both),   // VMX capabilities
    (0x560, 0x561, MsrIntercept::Both),   // processor trace: writes to machine addresses
    (0x570, 0x58F, MsrIntercept::Both),   // the same
    (0x600, 0x600, MsrIntercept::Both),   // debug store: as PEBS
    (0x982, 0x984, MsrIntercept::Write),  // memory encryption: takes address bits
    (0x17D0, 0x17D1, MsrIntercept::Both), // hardware feedback: writes to machine addresses
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::maps::testing::{check, of};

    #[test]
    fn partitions_reach_what_is_listed() {
        check(&PERMISSIONS);
    }

    #[test]
    fn bits_lie_where_the_manual_says() {
        let [_, mut maps] = of(&PERMISSIONS);
        maps.set_port(0x7FFF, true);
        maps.set_port(0x8000, true);
        maps.set_msr(0x60, MsrIntercept::Read);
        maps.set_msr(0x69, MsrIntercept::Write);
        maps.set_msr(0xC000_1FFA, MsrIntercept::Read);
        maps.set_msr(0xC000_1FFA, MsrIntercept::Both);
        let (ports, msrs) = maps.bytes();
        assert_eq!((ports[0xFFF], ports[0x1000]), (0x80, 1));
        let found = [0x60 / 8, 0x3FF + 0x400, 0x800 + 0x68 / 8, 0xFFF].map(|at| msrs[at]);
        assert_eq!(found, [1, 4, 2, 4]);
        assert_eq!(msrs[0x800 + 0x60 / 8], 0, "written without an exit");
    }

    #[test]
    fn the_root_cannot_reach_what_the_hypervisor_stands_on() {
        let [_, root] = of(&PERMISSIONS);
        for msr in [
            0x1B,
            0x3A,
            0x9B,
            0x17D0,
            0x17D1,
            0x480,
            0x493,
            0x570,
            0x6E0,
            0x8FF,
            0xDA0,
            0x4000_0000,
            0xC001_0000,
        ] {
            assert_eq!(root.intercepts_msr(msr), MsrIntercept::Both, "{msr:#x}");
        }
        for msr in [0x10, 0x79, 0x8B, 0x1F2, 0x1F7, 0x200, 0x2FF, 0xC000_0082] {
            assert_eq!(root.intercepts_msr(msr), MsrIntercept::Write, "{msr:#x}");
        }
        assert_eq!(root.intercepts_msr(0xC000_0102), MsrIntercept::None);
    }
}
