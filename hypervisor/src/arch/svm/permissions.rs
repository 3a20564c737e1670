//! Where SVM has the bits of ports and MSRs (AMD64 manual volume 2, 15.10.1 and 15.11), and what the root of such a machine
//! does not reach.

use crate::arch::maps::{Layout, MsrIntercept, MsrRange};

/// SVM's maps. The third page of the port map is for accesses that run past port 0xFFFF. VMLOAD, VMSAVE and VMRUN switch
/// all that a child uses directly.
pub static PERMISSIONS: Layout = Layout {
    port_pages: 3,
    msr_pages: 2,
    msr_bits,
    writes_noted: &[],
    root_intercepted: &ROOT_INTERCEPTED,
    root_ignored: &[0xC001_0020], // microcode patch loader
};

/// Two bits an MSR, read and write, for three ranges of 8192 MSRs.
const fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let range = match msr >> 13 {
        0 => 0,
        0x6_0000 => 1,
        0x6_0008 => 2,
        _ => return None,
    };
    let read = range * 0x4000 + 2 * (msr & 0x1FFF) as usize;
    Some([read, read + 1])
}

const ROOT_INTERCEPTED: [MsrRange; 5] = [
    (0xC000_0104, 0xC000_0104, MsrIntercept::Write), // TSC ratio
    (0xC001_0010, 0xC001_001F, MsrIntercept::Write), // SYSCFG, HWCR, IORRs, TOP_MEM: memory types
    (0xC001_0020, 0xC001_0020, MsrIntercept::Both),  // microcode patch loader
    (0xC001_0111, 0xC001_0119, MsrIntercept::Both),  // SMM, VM_CR, HSAVE_PA, SVM key
    (0xC001_0130, 0xC001_0138, MsrIntercept::Both),  // SEV
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
    fn msr_bits_lie_where_the_manual_says() {
        let [mut maps, _] = of(&PERMISSIONS);
        for msr in [0x18, 0xC000_0080, 0xC001_0114] {
            for near in msr..msr + 4 {
                maps.set_msr(near, MsrIntercept::None);
            }
        }
        maps.set_msr(0x1B, MsrIntercept::Write);
        maps.set_msr(0xC000_0080, MsrIntercept::Read);
        maps.set_msr(0xC001_0114, MsrIntercept::Both);
        let (_, msrs) = maps.bytes();
        assert_eq!(msrs[0x1B / 4], 2 << (0x1B % 4 * 2));
        assert_eq!(msrs[0x800 + 0x80 / 4], 1);
        assert_eq!(msrs[0x1000 + 0x114 / 4], 3);
    }

    #[test]
    fn the_root_cannot_reach_what_the_hypervisor_stands_on() {
        let [_, root] = of(&PERMISSIONS);
        let (ports, _) = root.bytes();
        assert_eq!(ports[0x2000] & 7, 7, "an access past port 0xFFFF");
        for msr in [
            0x1B,
            0x800,
            0x8FF,
            0xC000_0080,
            0xC001_0114,
            0xC001_0117,
            0xC001_0020,
            0x4000_0000,
        ] {
            assert_eq!(root.intercepts_msr(msr), MsrIntercept::Both, "{msr:#x}");
        }
        assert_eq!(root.intercepts_msr(0x10), MsrIntercept::Write);
        assert_eq!(root.intercepts_msr(0xC000_0082), MsrIntercept::None);
    }
}
