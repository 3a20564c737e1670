//! CPUID leaves and capability MSRs as processors gave them.

use crate::arch::Refusal;
use crate::arch::vmx::controls::Controls;

/// A recorded processor.
pub struct Machine {
    /// What CPUID answers: only the leaves that the probe looks at.
    pub cpuid: &'static [(u32, u32, [u32; 4])],
    /// IA32_FEATURE_CONTROL and all of 0x480 to 0x491 that exist.
    pub msrs: &'static [(u32, u64)],
    /// Controls of a child's VP, or the refusal: worked out by hand from the manual's rules.
    pub child: Result<Controls, Refusal>,
}

/// Recorded from hardware, as it was published.
pub const PUBLISHED: [&Machine; 5] = [&PENRYN, &SANDY_BRIDGE, &BROADWELL, &SKYLAKE, &COFFEE_LAKE];

/// What Bochs 3.1 gives for some of its models after reset, before any firmware has set IA32_FEATURE_CONTROL.
pub const BOCHS: [&Machine; 4] = [
    &BOCHS_LYNNFIELD,
    &BOCHS_HASWELL,
    &BOCHS_SKYLAKE_X,
    &BOCHS_SAPPHIRE_RAPIDS,
];

/// Xeon X5482 (Penryn, 2007): no EPT, no true controls. From the processor reports in VirtualBox's sources,
/// `Intel_Xeon_X5482_3_20GHz.h`.
pub const PENRYN: Machine = Machine {
    cpuid: &[
        (0, 0, [0xA, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x1_0676, 0x404_0800, 0xC_E3BD, 0xBFEB_FBFF]),
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
        (0x485, 0x4_03C0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x27FF),
        (0x48A, 0x2C),
        (0x48B, 0x41_0000_0000),
    ],
    child: Err(Refusal::NoNestedPaging),
};

/// Core i7-2635QM (Sandy Bridge, 2011): no PAUSE-loop exiting, no INVPCID, no accessed bits in EPT. From the same
/// reports, `Intel_Core_i7_2635QM.h`.
pub const SANDY_BRIDGE: Machine = Machine {
    cpuid: &[
        (0, 0, [0xD, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x2_06A7, 0x410_0800, 0x1FBA_E3BF, 0xBFEB_FBFF]),
        (7, 0, [0, 0, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 1, 0x2810_0800]),
    ],
    msrs: &[
        (0x3A, 5),
        (0x480, 0xDA_0400_0000_0010),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x7F_FFFF_0003_6DFF),
        (0x484, 0xFFFF_0000_11FF),
        (0x485, 0x1004_01E5),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x6_27FF),
        (0x48A, 0x2A),
        (0x48B, 0xFF_0000_0000),
        (0x48C, 0xF01_0611_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x7F_FFFF_0003_6DFB),
        (0x490, 0xFFFF_0000_11FB),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0xE2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// Core i7-5600U (Broadwell, 2015, with the VMCS revision of Haswell). From the same reports,
/// `Intel_Core_i7_5600U.h`.
pub const BROADWELL: Machine = Machine {
    cpuid: &[
        (0, 0, [0x14, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x3_06D4, 0x10_0800, 0x7FFA_FBFF, 0xBFEB_FBFF]),
        (7, 0, [0, 0x21C_2FBB, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0800]),
    ],
    msrs: &[
        (0x3A, 5),
        (0x480, 0xDA_0400_0000_0012),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x7F_FFFF_0003_6DFF),
        (0x484, 0xFFFF_0000_11FF),
        (0x485, 0x3004_81E5),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x37_67FF),
        (0x48A, 0x2A),
        (0x48B, 0x5_7CFF_0000_0000),
        (0x48C, 0xF01_0633_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x7F_FFFF_0003_6DFB),
        (0x490, 0xFFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x14E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// Core i7-6700K (Skylake, 2015). From the same reports, `Intel_Core_i7_6700K.h`.
pub const SKYLAKE: Machine = Machine {
    cpuid: &[
        (0, 0, [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x5_06E3, 0x210_0800, 0x7FFA_FBBF, 0xBFEB_FBFF]),
        (7, 0, [0, 0x29C_6FBF, 0, 0]),
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
        (0x489, 0x37_27FF),
        (0x48A, 0x2E),
        (0x48B, 0x1F_FCFF_0000_0000),
        (0x48C, 0xF01_0633_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x1FF_FFFF_0003_6DFB),
        (0x490, 0x3_FFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x94E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// A six-core Coffee Lake of 2018 (signature 0x906EA, microcode 0xB4), with SGX and speculation controls. From a
/// published `VBox.log` of VirtualBox 6.1, which prints these registers.
pub const COFFEE_LAKE: Machine = Machine {
    cpuid: &[
        (0, 0, [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x9_06EA, 0x310_0800, 0x7FFA_FBBF, 0xBFEB_FBFF]),
        (7, 0, [0, 0x29C_67AF, 0x4000_0000, 0x9C00_2400]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0800]),
    ],
    msrs: &[
        (0x3A, 0x2_0005),
        (0x480, 0xDA_0400_0000_0004),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x1FF_FFFF_0003_6DFF),
        (0x484, 0x3_FFFF_0000_11FF),
        (0x485, 0x7004_C1E7),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x37_27FF),
        (0x48A, 0x2E),
        (0x48B, 0x5F_BCFF_0000_0000),
        (0x48C, 0xF01_0673_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x1FF_FFFF_0003_6DFB),
        (0x490, 0x3_FFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x94E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// `corei5_lynnfield_750` of Bochs: EPT, but no unrestricted guest mode, like all before Westmere.
pub const BOCHS_LYNNFIELD: Machine = Machine {
    cpuid: &[
        (0, 0, [0xB, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x1_06E5, 0x1_0800, 0x98_E3BD, 0xBFEB_FBFF]),
        (7, 0, [0, 0, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 1, 0x2810_0000]),
    ],
    msrs: &[
        (0x3A, 0),
        (0x480, 0xD8_1000_0000_002B),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x407F_FFFF_0003_6DFF),
        (0x484, 0xFFFF_0000_11FF),
        (0x485, 0x4_01E0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x67FF),
        (0x48A, 0x54),
        (0x48B, 0x7F_0000_0000),
        (0x48C, 0xF01_0611_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x407F_FFFF_0003_6DFB),
        (0x490, 0xFFFF_0000_11FB),
    ],
    child: Err(Refusal::Lacks("unrestricted guest mode")),
};

/// `corei7_haswell_4770` of Bochs.
pub const BOCHS_HASWELL: Machine = Machine {
    cpuid: &[
        (0, 0, [0xD, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x3_06C3, 0x1_0800, 0x77FA_F3BF, 0xBFEB_FBFF]),
        (7, 0, [0, 0x27AB, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0000]),
    ],
    msrs: &[
        (0x3A, 0),
        (0x480, 0xD8_1000_0000_002B),
        (0x481, 0x7F_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x407F_FFFF_0003_6DFF),
        (0x484, 0xFFFF_0000_11FF),
        (0x485, 0x2004_01E0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x17_27FF),
        (0x48A, 0x54),
        (0x48B, 0x4_7FFF_0000_0000),
        (0x48C, 0xF01_0633_4141),
        (0x48D, 0x7F_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x407F_FFFF_0003_6DFB),
        (0x490, 0xFFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x14E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// `corei7_skylake_x` of Bochs.
pub const BOCHS_SKYLAKE_X: Machine = Machine {
    cpuid: &[
        (0, 0, [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x5_0654, 0x1_0800, 0x77FA_F3BF, 0xBFEB_FBFF]),
        (7, 0, [0, 0xD19F_27EB, 0, 0]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0000]),
    ],
    msrs: &[
        (0x3A, 0),
        (0x480, 0xD8_1000_0000_002B),
        (0x481, 0xFF_0000_0016),
        (0x482, 0xFFF9_FFFE_0401_E172),
        (0x483, 0x407F_FFFF_0003_6DFF),
        (0x484, 0xFFFF_0000_11FF),
        (0x485, 0x6004_01E0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x37_27FF),
        (0x48A, 0x54),
        (0x48B, 0x257_7FFF_0000_0000),
        (0x48C, 0xF01_0673_4141),
        (0x48D, 0xFF_0000_0016),
        (0x48E, 0xFFF9_FFFE_0400_6172),
        (0x48F, 0x407F_FFFF_0003_6DFB),
        (0x490, 0xFFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x14E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// `sapphire_rapids` of Bochs: tertiary controls, user waits.
pub const BOCHS_SAPPHIRE_RAPIDS: Machine = Machine {
    cpuid: &[
        (0, 0, [0x20, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, 0, [0x8_06F8, 0x1_0800, 0x77FE_F3BF, 0xBFEB_FBFF]),
        (7, 0, [2, 0xF1BF_27EB, 0x9841_5FEE, 0xFFD0_4430]),
        (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, [0, 0, 0x121, 0x2C10_0000]),
    ],
    msrs: &[
        (0x3A, 0),
        (0x480, 0x1D8_1000_0000_0004),
        (0x481, 0xFF_0000_0016),
        (0x482, 0xFFFB_FFFE_0401_E172),
        (0x483, 0xF87F_FFFF_0003_6DFF),
        (0x484, 0x58_FFFF_0000_11FF),
        (0x485, 0x6004_01E0),
        (0x486, 0x8000_0021),
        (0x487, 0xFFFF_FFFF),
        (0x488, 0x2000),
        (0x489, 0x3F7_3FFF),
        (0x48A, 0x54),
        (0x48B, 0x6D7_7FFF_0000_0000),
        (0x48C, 0xF01_06F3_4141),
        (0x48D, 0xFF_0000_0016),
        (0x48E, 0xFFFB_FFFE_0400_6172),
        (0x48F, 0xF87F_FFFF_0003_6DFB),
        (0x490, 0x58_FFFF_0000_11FB),
        (0x491, 1),
    ],
    child: Ok(Controls {
        pin: 0x7F,
        primary: 0xB6A0_6DF2,
        secondary: 0x14E2,
        exit: 0x003F_6FFF,
        entry: 0xD1FF,
    }),
};

/// True controls of a mobile processor of 2020 (no MPX, CET and protection keys to come), as a published `VBox.log` of
/// VirtualBox 6.1 has them: pin-based, primary, exit, entry. Its other registers were not published.
pub const TRUE_CONTROLS_2020: [u64; 4] = [
    0xFF_0000_0016,
    0xFFFB_FFFE_0400_6172,
    0x137F_FFFF_0003_6DFB,
    0x16_FFFF_0000_11FB,
];

/// What is published of a Core Ultra 7 255U (2024), by the tests of another hypervisor: IA32_VMX_BASIC, CR4_FIXED1 and
/// IA32_VMX_EPT_VPID_CAP.
pub const PARTS_2024: [(u32, u64); 3] = [
    (0x480, 0x03DA_0500_0000_0013),
    (0x489, 0x01F7_6FFF),
    (0x48C, 0xF01_06F3_4141),
];
