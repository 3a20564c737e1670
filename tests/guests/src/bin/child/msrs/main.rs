//! Every class of MSR, the hypercall page, the Hyper-V CPUID leaves, and control registers.
//!
//! What the partition's privileges (leaf 0x40000003) offer must work; what they do not offer must not be there.
#![no_std]
#![no_main]

mod synthetic;

use guests::metal::cpu::{cpuid, rdmsr, wrmsr};
use guests::metal::trap::{expect_protection, vector};
use guests::metal::vendor::{Vendor, vendor};
use guests::metal::{Boot, test};
use guests::rng::Rng;
use guests::{child, println, probe, read_cr, write_cr};
use tlfs::{HV_X64_MSR_LAST, HvPartitionPrivilegeMask};

child!(main);

/// Privileges, as the type of the interface.
type Privileges = HvPartitionPrivilegeMask;

const EFER: u32 = 0xC000_0080;
const PAT: u32 = 0x277;
const SAMPLES: usize = 1500;

fn main(boot: &Boot) {
    test("hypervisor leaves", hypervisor_leaves);
    test("hidden features", hidden_features);
    test("unknown msrs", || {
        unknown_msrs(boot.number("seed").unwrap_or(1))
    });
    test("msrs of hidden features", msrs_of_hidden_features);
    test("msrs that a kernel takes for granted", constant_msrs);
    test(
        "synthetic msrs by privilege",
        synthetic::synthetic_by_privilege,
    );
    test("vp index", synthetic::vp_index);
    test("reference time", synthetic::reference_time);
    test("frequencies", synthetic::frequencies);
    test("reference tsc page", synthetic::reference_page);
    test("invariant tsc", synthetic::tsc_invariant);
    test("crash registers", synthetic::crash_registers);
    test("hypercall page", synthetic::hypercall_page);
    test("efer", efer);
    test("pat", pat);
    test("address registers keep their values", address_registers);
    test("system call registers keep their values", system_registers);
    test("control registers", control_registers);
    test("xcr0 and the size of its state", extended_state);
}

fn privileges() -> Privileges {
    let leaf = cpuid(0x4000_0003, 0);
    Privileges::from_cpuid(leaf.eax, leaf.ebx)
}

#[track_caller]
fn absent(msr: u32) {
    if let Ok(value) = rdmsr(msr) {
        panic!("MSR {msr:#x} reads {value:#x} instead of #GP");
    }
    for value in [0, 1, u64::MAX] {
        if wrmsr(msr, value).is_ok() {
            panic!("MSR {msr:#x} takes {value:#x} instead of #GP");
        }
    }
}

/// Guest sheet 2.2 to 2.5.
fn hypervisor_leaves() {
    assert_ne!(cpuid(1, 0).ecx & 1 << 31, 0, "hypervisor present");
    let first = cpuid(0x4000_0000, 0);
    assert!((0x4000_0005..=0x4000_FFFF).contains(&first.eax));
    assert_eq!([first.ebx, first.ecx, first.edx], tlfs::HV_CPUID_VENDOR);
    let interface = cpuid(0x4000_0001, 0);
    assert_eq!(interface.eax, tlfs::HV_CPUID_INTERFACE_HV1);
    assert_eq!((interface.ebx, interface.ecx, interface.edx), (0, 0, 0));
    let privileges = privileges();
    println!("privileges {:#x}", privileges.0);
    let needed = Privileges::ACCESS_HYPERCALL_MSRS.0 | Privileges::ACCESS_VP_INDEX.0;
    assert_eq!(privileges.0 & needed, needed);
    let forbidden = Privileges::CREATE_PARTITIONS.0
        | Privileges::CPU_MANAGEMENT.0
        | Privileges::ISOLATION.0
        | Privileges::ACCESS_VP_REGISTERS.0;
    assert_eq!(privileges.0 & forbidden, 0, "rights of a root in a child");
    let hints = cpuid(0x4000_0004, 0);
    assert_eq!(hints.eax & (1 << 12 | 1 << 14), 0, "nesting");
    assert_ne!(hints.eax & 1 << 9, 0, "no automatic EOI");
    let limits = cpuid(0x4000_0005, 0);
    assert!(limits.eax >= 1 && limits.ebx >= 1);
    for leaf in (first.eax + 1..0x4000_0100).chain([0x4000_0082, 0x4000_1000, 0x4000_FFFF]) {
        let answer = cpuid(leaf, 0);
        assert_eq!(
            (answer.eax, answer.ebx, answer.ecx, answer.edx),
            (0, 0, 0, 0),
            "leaf {leaf:#x}"
        );
    }
}

/// What is not complete for a child is not announced to it.
fn hidden_features() {
    let one = cpuid(1, 0);
    assert_eq!(
        one.ecx & (1 << 3 | 1 << 5 | 1 << 24),
        0,
        "MONITOR, VMX, TSC deadline"
    );
    assert_eq!(one.edx & (1 << 7 | 1 << 12 | 1 << 14), 0, "MCE, MTRR, MCA");
    assert_ne!(one.ecx & 1 << 21, 0, "x2APIC");
    let extended = cpuid(0x8000_0001, 0);
    assert_eq!(extended.ecx & (1 << 2 | 1 << 12), 0, "SVM, SKINIT");
    assert_eq!(cpuid(0x8000_000A, 0).eax, 0, "SVM features");
    assert_eq!(cpuid(7, 0).ebx & 1 << 1, 0, "TSC_ADJUST");
}

/// Numbers outside of what any processor or hypervisor of this kind has.
fn unknown_msrs(seed: u64) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let ranges = [
        (0x2000, 0x4000_0000),
        (u64::from(HV_X64_MSR_LAST) + 1, 0xC000_0000),
        (0xC000_2000, 0xC001_0000),
        (0xC001_2000, 0x1_0000_0000),
    ];
    for (start, end) in ranges {
        for _ in 0..SAMPLES {
            absent((start + rng.below(end - start)) as u32);
        }
        absent(start as u32);
        absent((end - 1) as u32);
    }
}

/// MSRs of features that CPUID does not announce.
fn msrs_of_hidden_features() {
    let fixed = [
        // VM_CR, IGNNE, SMM_CTL, VM_HSAVE_PA, SMBASE, SMM address and mask: SVM and SMM.
        0xC001_0114,
        0xC001_0116,
        0xC001_0117,
        0xC001_0111,
        0xC001_0112,
        0xC001_0113,
        // Feature control, TSC adjustment, TSC deadline, speculation, prediction command, arch. capabilities.
        0x3A,
        0x3B,
        0x6E0,
        0x48,
        0x49,
        0x10A,
        // MTRR capabilities, default type, fixed ranges.
        0xFE,
        0x2FF,
        0x250,
        0x258,
        0x259,
        // Machine check.
        0x179,
        0x17A,
        0x17B,
        // Supervisor state of XSAVE.
        0xDA0,
    ];
    let announced = |msr| match msr {
        0x48 | 0x49 => {
            cpuid(7, 0).edx & (1 << 26) != 0 || cpuid(0x8000_0008, 0).ebx & (1 << 12 | 1 << 14) != 0
        }
        0x10A => cpuid(7, 0).edx & (1 << 29) != 0,
        _ => false,
    };
    let ranges = (0x480..=0x491) // VMX
        .chain(0x200..=0x20F) // variable MTRRs
        .chain(0x268..=0x26F) // fixed MTRRs
        .chain(0x400..=0x41F); // machine check banks
    for msr in fixed
        .into_iter()
        .chain(ranges)
        .filter(|msr| !announced(*msr))
    {
        absent(msr);
    }
    if cpuid(0x8000_0001, 0).edx & (1 << 27) == 0 {
        absent(0xC000_0103);
    }
}

/// What stock kernels access without a look at CPUID: it reads the same whatever is written. The other vendor's are absent.
fn constant_msrs() {
    const MICROCODE_REVISION: u32 = 0x8B;
    const MISC_ENABLE: u32 = 0x1A0;
    const PLATFORM_ID: u32 = 0x17;
    const HWCR: u32 = 0xC001_0015;
    const INTERRUPT_PENDING: u32 = 0xC001_0055;
    const DE_CFG: u32 = 0xC001_1029;
    // Event selects and counters, four of each.
    const COUNTERS: u32 = 0xC001_0000;
    let amd = |number: usize| match number {
        0 => HWCR,
        1 => INTERRUPT_PENDING,
        2 => DE_CFG,
        counter => COUNTERS + counter as u32 - 3,
    };
    let amd: [u32; 11] = core::array::from_fn(amd);
    let (own, others) = match vendor() {
        Vendor::Amd => (amd, [PLATFORM_ID; 11]),
        Vendor::Intel => ([PLATFORM_ID; 11], amd),
    };
    for msr in [MICROCODE_REVISION, MISC_ENABLE].into_iter().chain(own) {
        let value = rdmsr(msr).unwrap_or_else(|fault| panic!("MSR {msr:#x}: {fault:x?}"));
        for written in [0, u64::MAX, value] {
            wrmsr(msr, written).unwrap_or_else(|fault| panic!("MSR {msr:#x}: {fault:x?}"));
            assert_eq!(rdmsr(msr), Ok(value), "MSR {msr:#x}");
        }
    }
    let misc = rdmsr(MISC_ENABLE).expect("just read");
    // Fast strings; NX is not off, CPUID is not cut.
    assert_eq!(misc & (1 | 1 << 22 | 1 << 34), 1);
    others.into_iter().for_each(absent);
}

fn efer() {
    const SCE: u64 = 1;
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const NXE: u64 = 1 << 11;
    const SVME: u64 = 1 << 12;
    let old = rdmsr(EFER).expect("EFER");
    assert_eq!(old & (LME | LMA | NXE | SVME), LME | LMA | NXE, "{old:#x}");
    for value in [old | SCE, old & !SCE, old | SCE] {
        wrmsr(EFER, value).expect("SCE");
        assert_eq!(rdmsr(EFER), Ok(value));
    }
    expect_protection("EFER.SVME without SVM", wrmsr(EFER, old | SVME));
    expect_protection("EFER.LME off with paging on", wrmsr(EFER, old & !LME));
    for bit in [1, 7, 9, 16, 19, 32, 63] {
        expect_protection("a reserved bit of EFER", wrmsr(EFER, old | 1 << bit));
    }
    wrmsr(EFER, old).expect("as it was");
    assert_eq!(rdmsr(EFER), Ok(old));
}

fn pat() {
    let old = rdmsr(PAT).expect("PAT");
    assert_ne!(old, 0, "Linux would do without PAT");
    let new = 0x0001_0406_0007_0506;
    wrmsr(PAT, new).expect("all types valid");
    assert_eq!(rdmsr(PAT), Ok(new));
    for byte in 0..8 {
        for kind in [2, 3, 8, 0x46, 0xFF] {
            let value = new & !(0xFF << (byte * 8)) | kind << (byte * 8);
            expect_protection("a type that PAT does not have", wrmsr(PAT, value));
        }
    }
    assert_eq!(rdmsr(PAT), Ok(new));
    wrmsr(PAT, old).expect("as it was");
}

/// These are the processor's own: whether it refuses what is not canonical is its affair (QEMU's does not).
fn address_registers() {
    // FS base, GS base, kernel GS base, LSTAR, CSTAR.
    for msr in [
        0xC000_0100,
        0xC000_0101,
        0xC000_0102,
        0xC000_0082,
        0xC000_0083,
    ] {
        let old = rdmsr(msr).expect("it exists");
        for value in [0x7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, u64::MAX] {
            wrmsr(msr, value).expect("canonical");
            assert_eq!(rdmsr(msr), Ok(value), "MSR {msr:#x}");
        }
        wrmsr(msr, old).expect("as it was");
    }
}

fn system_registers() {
    // STAR, SFMASK, SYSENTER CS, ESP, EIP.
    let registers = [
        (0xC000_0081, 0x0013_0008_1234_5678),
        (0xC000_0084, 0x4_7700),
        (0x174, 0x10),
        (0x175, 0x1234_5678),
        (0x176, 0x8765_4321),
    ];
    for (msr, value) in registers {
        let old = rdmsr(msr).expect("it exists");
        wrmsr(msr, value).expect("any value");
        // An exit in between must not lose it.
        cpuid(0, 0);
        assert_eq!(rdmsr(msr), Ok(value), "MSR {msr:#x}");
        wrmsr(msr, old).expect("as it was");
    }
}

fn control_registers() {
    let (cr0, cr4) = (read_cr!(0), read_cr!(4));
    assert_eq!(cr0 & 0x8001_0001, 0x8001_0001, "PG, WP, PE");
    for bit in [1, 5, 16, 18] {
        write_cr!(0, cr0 ^ 1 << bit).expect("MP, NE, WP, AM");
        // An exit in between must not lose it.
        cpuid(0, 0);
        assert_eq!(read_cr!(0), cr0 ^ 1 << bit);
    }
    write_cr!(0, cr0).expect("as it was");
    let cached = cr0 | 1 << 30;
    write_cr!(0, cached).expect("CD");
    assert_eq!(read_cr!(0), cached, "CD reads as written");
    write_cr!(0, cr0).expect("as it was");
    for bit in [2, 7] {
        write_cr!(4, cr4 | 1 << bit).expect("TSD, PGE");
        cpuid(0, 0);
        assert_eq!(read_cr!(4), cr4 | 1 << bit);
    }
    write_cr!(4, cr4).expect("as it was");
    assert_eq!(cpuid(1, 0).ecx & 1 << 27, 0, "OSXSAVE follows CR4");
    if cpuid(1, 0).ecx & 1 << 26 != 0 {
        write_cr!(4, cr4 | 1 << 18).expect("OSXSAVE");
        assert_ne!(cpuid(1, 0).ecx & 1 << 27, 0, "OSXSAVE follows CR4");
        write_cr!(4, cr4).expect("as it was");
        assert_eq!(cpuid(1, 0).ecx & 1 << 27, 0);
    }
}

/// XCR0, and the size of the state in leaf 0xD that follows it.
fn extended_state() {
    if cpuid(1, 0).ecx & 1 << 26 == 0 {
        println!("no XSAVE here");
        return;
    }
    let cr4 = read_cr!(4);
    let undefined = probe!("xsetbv", in("ecx") 0, in("eax") 1, in("edx") 0);
    assert_eq!(
        undefined.map_err(|fault| fault.vector),
        Err(vector::UNDEFINED)
    );
    write_cr!(4, cr4 | 1 << 18).expect("OSXSAVE");
    let set = |value: u64, index: u32| probe!("xsetbv", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32);
    let supported = u64::from(cpuid(0xD, 0).eax) | u64::from(cpuid(0xD, 0).edx) << 32;
    assert_eq!(supported & 3, 3);
    expect_protection("XCR0 without x87", set(2, 0));
    expect_protection("XCR0 of zero", set(0, 0));
    expect_protection("XCR1", set(3, 1));
    expect_protection("a component that does not exist", set(3 | 1 << 62, 0));
    if supported & 4 != 0 {
        expect_protection("AVX without SSE", set(5, 0));
    }
    for value in [1, 3, 7, 3] {
        if value & !supported != 0 {
            continue;
        }
        set(value, 0).expect("supported");
        let (low, high): (u32, u32);
        probe!("xgetbv", in("ecx") 0, lateout("eax") low, lateout("edx") high).expect("XGETBV");
        assert_eq!((u64::from(low), high), (value, 0));
        let size = if value & 4 != 0 { 832 } else { 576 };
        assert_eq!(
            cpuid(0xD, 0).ebx,
            size,
            "size of the state with XCR0 = {value}"
        );
    }
    set(1, 0).expect("as it was");
    write_cr!(4, cr4).expect("as it was");
}
