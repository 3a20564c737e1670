//! x87, SSE and AVX state over exits and over switches to other VPs: no register may change, and no other VM's values appear.
//!
//! `seed=N` makes the values; run two at once with different seeds. `rounds=N` of exits of every kind.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::metal::cell::Pages;
use guests::metal::cpu::{cpuid, outb, rdmsr, wait_for_interrupt};
use guests::metal::trap::{Handler, set_handler, vector};
use guests::metal::{Boot, apic, hypercall, test, time};
use guests::rng::Rng;
use guests::{child, println, probe, read_cr, write_cr};
use tlfs::{HV_X64_MSR_GUEST_OS_ID, HvCallCode, HvOutputPartitionId, HvStatus};

child!(main);

const TIMER: u8 = 0x50;
/// Bytes of sixteen YMM registers.
const YMM: usize = 16 * 32;
const XMM: usize = 16 * 16;

static WANTED: Pages<4096> = Pages::new();
static FOUND: Pages<4096> = Pages::new();

fn main(boot: &Boot) {
    let seed = boot.number("seed").unwrap_or(1);
    let rounds = boot.number("rounds").unwrap_or(200);
    let mut rng = Rng::new(seed);
    // MP and not EM; OSFXSR, OSXMMEXCPT.
    write_cr!(0, read_cr!(0) & !4 | 2).expect("CR0");
    write_cr!(4, read_cr!(4) | 1 << 9 | 1 << 10).expect("CR4");
    apic::enable();
    set_handler(TIMER, Some((|_| apic::eoi()) as Handler));
    test("x87 and mxcsr at the start", reset_values);
    test("xmm over exits", || sse(&mut rng, rounds));
    test("x87 over exits", || x87(&mut rng, rounds));
    test("mxcsr over exits", mxcsr);
    if cpuid(1, 0).ecx & 1 << 28 != 0 && cpuid(1, 0).ecx & 1 << 26 != 0 {
        write_cr!(4, read_cr!(4) | 1 << 18).expect("OSXSAVE");
        set_xcr0(7);
        test("ymm over exits", || avx(&mut rng, rounds));
        test("xcr0 over exits", xcr0);
    } else {
        println!("no AVX here");
    }
    test("task switched", task_switched);
}

/// One exit of each kind, and now and then a halt, during which others run.
fn exits(round: u64) {
    cpuid(0, 0);
    let _ = rdmsr(HV_X64_MSR_GUEST_OS_ID);
    let id: Result<HvOutputPartitionId, _> =
        hypercall::simple(HvCallCode::GET_PARTITION_ID, &[0u8; 0]);
    assert!(matches!(id, Ok(_) | Err(HvStatus::ACCESS_DENIED)), "{id:?}");
    outb(0x80, round as u8);
    if round.is_multiple_of(8) {
        apic::start_timer(u64::from(TIMER), (time::apic_hz() / 5_000) as u32);
        wait_for_interrupt();
    }
}

fn random(rng: &mut Rng, page: &Pages<4096>, length: usize) {
    let mut bytes = [0; YMM];
    for chunk in bytes[..length].chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    page.fill(0);
    page.write(&bytes);
}

#[track_caller]
fn same(length: usize, round: u64) {
    let (mut wanted, mut found) = ([0; YMM], [0; YMM]);
    WANTED.read(&mut wanted);
    FOUND.read(&mut found);
    for (register, (wanted, found)) in wanted[..length]
        .chunks(length / 16)
        .zip(found[..length].chunks(length / 16))
        .enumerate()
    {
        assert_eq!(wanted, found, "register {register} in round {round}");
    }
}

/// `$instruction` for each of the sixteen registers, with 16 or 32 bytes of a page each.
macro_rules! each_register {
    ($instruction:literal, $page:expr) => {{
        let address = $page.address();
        // SAFETY: reads or writes the page, to which there is no reference; the registers are nobody's in a payload that is
        // compiled without them.
        unsafe {
            asm!(
                ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                $instruction,
                ".endr",
                in(reg) address,
            );
        }
    }};
}

fn sse(rng: &mut Rng, rounds: u64) {
    for round in 0..rounds {
        random(rng, &WANTED, XMM);
        each_register!("movups xmm\\n, [{0} + 16 * \\n]", WANTED);
        exits(round);
        each_register!("movups [{0} + 16 * \\n], xmm\\n", FOUND);
        same(XMM, round);
    }
}

fn avx(rng: &mut Rng, rounds: u64) {
    for round in 0..rounds {
        random(rng, &WANTED, YMM);
        each_register!("vmovups ymm\\n, [{0} + 32 * \\n]", WANTED);
        exits(round);
        each_register!("vmovups [{0} + 32 * \\n], ymm\\n", FOUND);
        same(YMM, round);
    }
}

/// Control, status and tag words, and the registers. (The pointers to the last instruction are left out: processors
/// differ in when they keep them.)
fn x87_registers() -> [u8; 92] {
    FOUND.fill(0);
    // SAFETY: writes 108 bytes of the page and loads them again.
    unsafe {
        asm!("fnsave [{0}]", "frstor [{0}]", in(reg) FOUND.address());
    }
    let (mut bytes, mut kept) = ([0; 108], [0; 92]);
    FOUND.read(&mut bytes);
    kept[..12].copy_from_slice(&bytes[..12]);
    kept[12..].copy_from_slice(&bytes[28..]);
    kept
}

fn reset_values() {
    let mut control = [0u8; 2];
    // SAFETY: writes two bytes.
    unsafe { asm!("fninit", "fnstcw [{}]", in(reg) control.as_mut_ptr()) };
    assert_eq!(control, [0x7F, 0x03]);
    assert_eq!(read_mxcsr(), 0x1F80);
}

fn read_mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: writes the variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value) };
    value
}

fn mxcsr() {
    for value in [0x1F80u32, 0x9FC0, 0x7F80, 0x1FBF, 0x1F80] {
        // SAFETY: reads the variable; the bits are legal.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value) };
        exits(0);
        assert_eq!(read_mxcsr(), value);
    }
}

fn x87(rng: &mut Rng, rounds: u64) {
    for round in 0..rounds {
        let numbers: [i64; 8] = core::array::from_fn(|_| rng.next_u64() as i64);
        let control = 0x037F ^ (rng.below(4) as u16) << 10;
        // SAFETY: reads the array and the control word.
        unsafe {
            asm!(
                "fninit",
                "fldcw [{control}]",
                "fild qword ptr [{0}]",
                "fild qword ptr [{0} + 8]",
                "fild qword ptr [{0} + 16]",
                "fild qword ptr [{0} + 24]",
                "fild qword ptr [{0} + 32]",
                in(reg) numbers.as_ptr(),
                control = in(reg) &raw const control,
            );
        }
        let before = x87_registers();
        exits(round);
        let after = x87_registers();
        assert_eq!(before, after, "round {round}");
        assert_eq!(before[..2], control.to_le_bytes());
        let mut top = 0i64;
        // SAFETY: writes the variable.
        unsafe { asm!("fistp qword ptr [{}]", in(reg) &raw mut top) };
        assert_eq!(top, numbers[4], "round {round}");
    }
}

fn set_xcr0(value: u32) {
    probe!("xsetbv", in("ecx") 0, in("eax") value, in("edx") 0).expect("XCR0");
}

fn xcr0() {
    for value in [1, 3, 7] {
        set_xcr0(value);
        exits(0);
        let low: u32;
        probe!("xgetbv", in("ecx") 0, lateout("eax") low, out("edx") _).expect("XGETBV");
        assert_eq!(low, value);
    }
}

/// With CR0.TS the next use of the FPU is #NM, and exits do not clear it.
fn task_switched() {
    let cr0 = read_cr!(0);
    write_cr!(0, cr0 | 8).expect("TS");
    exits(0);
    let fault = probe!("fld1").err();
    assert_eq!(fault.map(|fault| fault.vector), Some(vector::NO_FPU));
    write_cr!(0, cr0).expect("as it was");
    assert_eq!(probe!("fninit"), Ok(()));
}
