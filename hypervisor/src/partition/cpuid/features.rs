//! Which features partitions see.
//!
//! For a child the lists say what may pass, so that a feature of a future processor stays hidden until somebody has thought
//! about it. The root sees its machine, so for it they say what is hidden: what has registers that the hypervisor does not
//! switch or does not let the root write, and instructions that it does not let it execute.

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, AES, XSAVE, OSXSAVE,
/// AVX, F16C, RDRAND. Not: MONITOR, TSC-deadline (no such timer mode), VMX.
pub const LEAF1_ECX_CHILD: u32 = 1
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 17
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30;
/// Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, PGE, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2, HTT.
/// Not: MCE and MCA (no banks are virtualized), MTRR (guest sheet 12.6: hiding is the simplest honest state).
pub const LEAF1_EDX_CHILD: u32 = 0x1 << 0
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 28;
/// Leaf 7 EBX: FSGSBASE, BMI1, AVX2, FPU data pointer on exceptions only, SMEP, BMI2, ERMS, INVPCID, no FPU segments, AVX512F, AVX512DQ, RDSEED, ADX, SMAP, AVX512IFMA, CLFLUSHOPT,
/// CLWB, AVX512CD, SHA, AVX512BW, AVX512VL. Not: TSC_ADJUST (its MSR), MPX, RDT, PT.
pub const LEAF7_EBX_CHILD: u32 = 1
    | 1 << 3
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 13
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 23
    | 1 << 24
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
/// Leaf 7 ECX: AVX512VBMI, UMIP, PKU, OSPKE, AVX512VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512VNNI, AVX512BITALG, VPOPCNTDQ. Not: LA57, RDPID
/// (it goes with RDTSCP), CET.
pub const LEAF7_ECX_CHILD: u32 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 14;
/// Leaf 0x80000001 ECX: LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch, XOP, FMA4, TBM. Not: SVM, OSVW, IBS, SKINIT, WDT, performance counters,
/// topology extensions, MONITORX.
pub const EXT1_ECX_CHILD: u32 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 16 | 1 << 21;
/// Leaf 0x80000001 EDX: what leaf 1 EDX has, SYSCALL, NX, MMX extensions, fast FXSAVE, 1 GiB pages, long mode, 3DNow. Not: RDTSCP.
pub const EXT1_EDX_CHILD: u32 = (LEAF1_EDX_CHILD & 0x0183_F3FF)
    | 1 << 11
    | 1 << 20
    | 1 << 22
    | 1 << 25
    | 1 << 26
    | 1 << 29
    | 1 << 30
    | 1 << 31;

/// Leaf 1 ECX of the root: debug store with 64-bit layout and by privilege level, SMX.
pub const LEAF1_ECX_ROOT_HIDDEN: u32 = 1 << 2 | 1 << 4 | 1 << 6;
/// Leaf 1 EDX of the root: debug store.
pub const LEAF1_EDX_ROOT_HIDDEN: u32 = 1 << 21;
/// Leaf 7 EBX of the root: TSC_ADJUST, SGX, MPX, processor trace.
pub const LEAF7_EBX_ROOT_HIDDEN: u32 = 1 << 1 | 1 << 2 | 1 << 14 | 1 << 25;
/// Leaf 7 ECX of the root: shadow stacks, LA57, key locker, bus lock detection, ENQCMD, SGX launch control, supervisor
/// protection keys.
pub const LEAF7_ECX_ROOT_HIDDEN: u32 =
    1 << 7 | 1 << 16 | 1 << 23 | 1 << 24 | 1 << 29 | 1 << 30 | 1 << 31;
/// Leaf 7 EDX of the root: SGX attestation, user interrupts, PCONFIG, last branch records, indirect branch tracking, AMX.
pub const LEAF7_EDX_ROOT_HIDDEN: u32 =
    1 << 1 | 1 << 5 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25;
/// Leaf 7 subleaf 1 EAX of the root: LASS, FRED, LKGS, WRMSRNS, NMI sources, AMX-FP16, HRESET, LAM, MSR lists.
pub const LEAF7_1_EAX_ROOT_HIDDEN: u32 = 1 << 6 | 0x1F << 17 | 1 << 22 | 1 << 26 | 1 << 27;
/// Leaf 7 subleaf 1 EBX of the root: PBNDKB.
pub const LEAF7_1_EBX_ROOT_HIDDEN: u32 = 1 << 1;
/// Leaf 7 subleaf 1 ECX of the root: RDMSR and WRMSRNS with immediates.
pub const LEAF7_1_ECX_ROOT_HIDDEN: u32 = 1 << 5;
/// Leaf 7 subleaf 1 EDX of the root: AMX-COMPLEX, UIRET with flags, supervisor shadow stacks, AVX10.
pub const LEAF7_1_EDX_ROOT_HIDDEN: u32 = 1 << 8 | 1 << 17 | 1 << 18 | 1 << 19;
