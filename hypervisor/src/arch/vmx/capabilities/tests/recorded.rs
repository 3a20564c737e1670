//! CPUID leaves and capability MSRs as processors gave them.

use crate::arch::vmx::controls::Controls;

/// A recorded processor.
pub struct Machine {
    /// What CPUID answers: only the leaves that the probe looks at.
    pub cpuid: &'static [(u32, u32, [u32; 4])],
    /// IA32_FEATURE_CONTROL and all of 0x480 to 0x491 that exist.
    pub msrs: &'static [(u32, u64)],
    /// Controls of a child's VP that the manual's rules give here, worked out by hand.
    pub child: Controls,
}

/// Xeon X5482 (Penryn, 2007), from the processor reports of VirtualBox, Intel_Xeon_X5482_3_20GHz.h.
pub const PENRYN: Machine = Machine {
    cpuid: &[
        (0, 0, [0xA, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x1_0676, 0x0404_0800, 0x000C_E3BD, 0xBFEB_FBFF]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 1, 0x2010_0800]),
    ],
    msrs: &[
        (0x3A, 5),
        (0x480, 0x5A_0800_0000_000D),
        (0x481, 0x3F_0000_0016),
        (0x482, 0xF7F9_FFFE_0401_E172),
        (0x483, 0x3_FFFF_0003_6DFF),
        (0x484, 0x3FFF_0000_11FF),
        (0x485, 0x0004_03C0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x27FF),
        (0x48A, 0x2C),
        (0x48B, 0x41_0000_0000),
    ],
    // Refused.
    child: NONE,
};

const NONE: Controls = Controls {
    pin: 0,
    primary: 0,
    secondary: 0,
    exit: 0,
    entry: 0,
};

/// Core i7-6700K (Skylake, 2015), from the same reports, Intel_Core_i7_6700K.h.
pub const SKYLAKE: Machine = Machine {
    cpuid: &[
        (0, 0, [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x5_06E3, 0x0210_0800, 0x7FFA_FBBF, 0xBFEB_FBFF]),
        (7, 0, [0, 0x029C_6FBF, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0800]),
    ],
    msrs: &[
        (0x3A, 5),
        (0x480, 0xDA_0400_0000_0004),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x1FF_FFFF_0003_6DFF),
        (0x484, 0x3_FFFF_0000_11FF),
        (0x485, 0x7004_C1E7),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x0037_27FF),
        (0x48A, 0x2E),
        (0x48B, 0x1F_FCFF_0000_0000),
        (0x48C, 0xF01_0633_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x1FF_FFFF_0003_6DFB),
        (0x490, 0x3_FFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Controls {
        pin: 0x3F,
        primary: 0xB6A0_6DF2,
        secondary: 0x14E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    },
};
