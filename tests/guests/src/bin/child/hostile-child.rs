//! A child that makes hypercalls with any registers, writes any MSR and asks any CPUID leaf: nothing of it may hang, end the
//! VM, change registers that a hypercall must preserve, or touch memory that no parameter named.
//!
//! `seed=N` and `calls=N` on the command line.
#![no_std]
#![no_main]

use guests::metal::cell::Pages;
use guests::metal::cpu::{cpuid, rdmsr, wrmsr};
use guests::metal::trap::vector;
use guests::metal::vendor::vendor;
use guests::metal::window::{Registers, call};
use guests::metal::{Boot, apic};
use guests::rng::Rng;
use guests::tally::Tally;
use guests::{child, println};
use tlfs::{
    HV_X64_MSR_FIRST, HV_X64_MSR_GUEST_IDLE, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL,
    HV_X64_MSR_LAST, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_RESET, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP,
    HV_X64_MSR_VP_ASSIST_PAGE, HvCallCode, HvHypercallInput, HvHypercallResult,
    HvInputGetPartitionProperty, HvPartitionId, HvPartitionPropertyCode, HvStatus,
};

child!(main);

/// What a random address of RAM is replaced by: pages of which nothing else depends.
static PLAYGROUND: Pages<{ 32 * 4096 }> = Pages::new();
/// A hypercall, RET.
static CODE: Pages<4096> = Pages::new();

/// End of the RAM that the definition gives.
const RAM_END: u64 = 16 << 20;

fn main(boot: &Boot) {
    let seed = boot.number("seed").unwrap_or(1);
    let calls = boot.number("calls").unwrap_or(100_000);
    println!("seed {seed}, {calls} calls");
    apic::enable();
    CODE.write(&vendor().hypercall_page());
    let mut rng = Rng::new(seed);
    let mut tally = Tally::<1024>::new();
    for number in 0..calls {
        hypercall(&mut rng, &mut tally);
        if number.is_multiple_of(8) {
            any_cpuid(&mut rng);
        }
        if number.is_multiple_of(4) {
            any_msr(&mut rng);
        }
    }
    println!("{tally}");
    assert_eq!(tally.total(), calls);
    verdict(&tally);
    println!("ok hostile-child");
}

/// What the table must show: calls that a child may make succeed, what is the root's is refused.
fn verdict(tally: &Tally<1024>) {
    use HvCallCode as Code;
    for code in Code::NAMED {
        assert_ne!(tally.calls(*code), 0, "{code:?} was never made");
    }
    // What a partition may ask about itself.
    assert_ne!(tally.of(Code::GET_PARTITION_PROPERTY, HvStatus::SUCCESS), 0);
    let roots = [
        Code::CREATE_PARTITION,
        Code::INITIALIZE_PARTITION,
        Code::FINALIZE_PARTITION,
        Code::DELETE_PARTITION,
        Code::DEPOSIT_MEMORY,
        Code::WITHDRAW_MEMORY,
        Code::MAP_GPA_PAGES,
        Code::UNMAP_GPA_PAGES,
        Code::INSTALL_INTERCEPT,
        Code::CREATE_VP,
        Code::DELETE_VP,
        Code::GET_VP_REGISTERS,
        Code::SET_VP_REGISTERS,
        Code::ASSERT_VIRTUAL_INTERRUPT,
    ];
    for code in roots {
        assert_eq!(
            tally.of(code, HvStatus::SUCCESS),
            0,
            "{code:?} worked for a child"
        );
    }
}

/// An address as parameters dislike it, but never one whose change would end the payload itself.
fn address(rng: &mut Rng) -> u64 {
    let playground = PLAYGROUND.gpa();
    let inside = playground + rng.below(31 * 4096);
    match rng.below(8) {
        // Aligned, with room behind it.
        0..=2 => inside & !0xFFF,
        3 => inside & !7,
        // Near a page's end, or odd.
        4 => (inside | 0xFFF) - rng.below(64),
        5 => inside,
        _ => match rng.odd_value() {
            value if value < RAM_END || value.wrapping_add(1 << 20) < RAM_END => inside & !0xFFF,
            value => value,
        },
    }
}

/// A control word: mostly well-formed, so that calls are reached and not only their checks.
fn control(rng: &mut Rng) -> HvHypercallInput {
    let code = match rng.below(16) {
        0 => HvCallCode(rng.next_u64() as u16),
        1 => HvCallCode::GET_PARTITION_PROPERTY,
        _ => rng.pick(HvCallCode::NAMED),
    };
    let control = HvHypercallInput::simple(code).with_fast(rng.one_in(3));
    match rng.below(8) {
        0..=2 => control,
        3 | 4 => control.with_rep_count(1 + rng.below(8) as usize),
        5 => control.with_variable_header_size(rng.below(8) as usize),
        6 => control
            .with_rep_count(rng.below(4096) as usize)
            .with_rep_start(rng.below(4096) as usize),
        _ => HvHypercallInput::from_bits(rng.next_u64() & !0xFFFF | u64::from(code.0)),
    }
}

/// Input in the playground: what identifiers and flags look like, in 8-byte words.
fn fill(rng: &mut Rng, gpa: u64) {
    let playground = PLAYGROUND.gpa();
    if gpa < playground || gpa >= playground + 31 * 4096 {
        return;
    }
    for word in 0..8 {
        let value = match rng.below(5) {
            0 => u64::MAX,
            1 => rng.below(0x200),
            2 => 0,
            3 => rng.below(4) | rng.below(4) << 32,
            _ => rng.odd_value(),
        };
        guests::metal::memory::write((gpa & !7) + word * 8, value);
    }
}

fn hypercall(rng: &mut Rng, tally: &mut Tally<1024>) {
    let control = control(rng);
    let (rdx, r8) = if control.fast() {
        (rng.odd_value(), rng.odd_value())
    } else {
        (address(rng), address(rng))
    };
    if !control.fast() {
        fill(rng, rdx);
    }
    // Now and then a call that is right in all: about itself, a partition may ask.
    let (control, rdx) = if rng.one_in(64) {
        let input = PLAYGROUND.gpa() + 31 * 4096;
        let property = HvInputGetPartitionProperty {
            partition_id: HvPartitionId::SELF,
            property_code: rng.pick(HvPartitionPropertyCode::NAMED),
            ..Default::default()
        };
        guests::metal::memory::write(input, property);
        (
            HvHypercallInput::simple(HvCallCode::GET_PARTITION_PROPERTY),
            input,
        )
    } else {
        (control, rdx)
    };
    let before = Registers {
        rax: rng.next_u64(),
        rbx: rng.next_u64(),
        rcx: control.into_bits(),
        rdx,
        rsi: rng.next_u64(),
        rdi: rng.next_u64(),
        r8,
        r9: 0,
    };
    let mut after = before;
    call(CODE.address(), &mut after)
        .unwrap_or_else(|fault| panic!("{control:?} {rdx:#x} {r8:#x}: {fault:x?}"));
    assert_eq!(
        (after.rbx, after.rsi, after.rdi),
        (before.rbx, before.rsi, before.rdi),
        "{control:?} changed a register"
    );
    let result = HvHypercallResult::from_bits(after.rax);
    assert_eq!(
        (result.reserved_16(), result.reserved_44()),
        (0, 0),
        "{control:?} gave {:#x}",
        after.rax
    );
    assert!(
        result.reps_completed() <= control.rep_count().max(control.rep_start()),
        "{control:?}: {result:?}"
    );
    tally.count(control.call_code(), result.call_status());
}

fn any_cpuid(rng: &mut Rng) {
    let leaf = match rng.below(4) {
        0 => rng.below(0x40) as u32,
        1 => 0x4000_0000 + rng.below(0x100) as u32,
        2 => 0x8000_0000 + rng.below(0x40) as u32,
        _ => rng.next_u64() as u32,
    };
    let subleaf = rng.odd_value() as u32;
    let first = cpuid(leaf, subleaf);
    assert_eq!(cpuid(leaf, subleaf), first, "leaf {leaf:#x} changes");
}

/// Reads and writes any MSR but those whose job is to end or to stop what runs here.
fn any_msr(rng: &mut Rng) {
    let msr = match rng.below(6) {
        0 => rng.below(0x2000) as u32,
        1 => 0xC000_0000 + rng.below(0x2000) as u32,
        2 => 0xC001_0000 + rng.below(0x2000) as u32,
        3 => HV_X64_MSR_FIRST + rng.below(u64::from(HV_X64_MSR_LAST - HV_X64_MSR_FIRST + 1)) as u32,
        4 => 0x800 + rng.below(0x100) as u32,
        _ => rng.next_u64() as u32,
    };
    let is_page = matches!(
        msr,
        HV_X64_MSR_HYPERCALL
            | HV_X64_MSR_REFERENCE_TSC
            | HV_X64_MSR_VP_ASSIST_PAGE
            | HV_X64_MSR_SIEFP
            | HV_X64_MSR_SIMP
    );
    let value = match rng.odd_value() {
        // An overlay page somewhere in RAM would cover the payload.
        _ if is_page => address(rng),
        value => value,
    };
    match msr {
        // Both stop this processor, which is their job.
        HV_X64_MSR_RESET | HV_X64_MSR_GUEST_IDLE => return,
        // INIT and SIPI do so too.
        apic::register::ICR if matches!(value >> 8 & 7, 5 | 6) => return,
        // An APIC that is off is off until a reset in some of its ways; and so are the tests of what remains.
        apic::APIC_BASE => return,
        // Local inputs programmed as INIT wait for an assertion that nobody makes: fine.
        _ => {}
    }
    for fault in [rdmsr(msr).err(), wrmsr(msr, value).err()]
        .into_iter()
        .flatten()
    {
        assert_eq!(
            (fault.vector, fault.error),
            (vector::PROTECTION, 0),
            "MSR {msr:#x}"
        );
    }
    if msr == HV_X64_MSR_GUEST_OS_ID {
        let _ = wrmsr(msr, 1);
    }
}
