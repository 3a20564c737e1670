//! Instructions that a child must not have, that are answered in place, or that are traced while they are intercepted.
#![no_std]
#![no_main]

use guests::metal::cell::{Global, Pages};
use guests::metal::cpu::{cpuid, rdmsr};
use guests::metal::trap::{Fault, Frame, Handler, set_gate_present, set_handler, vector};
use guests::metal::vendor::vendor;
use guests::metal::window::{CodePages, Registers, call};
use guests::metal::{Boot, memory, test};
use guests::{child, println, probe, read_cr, write_cr};
use tlfs::HV_X64_MSR_GUEST_OS_ID;

child!(main);

/// Trap flag in RFLAGS.
const TRAP: u64 = 1 << 8;
/// DR6: breakpoint 0, single step.
const DR6_B0: u64 = 1;
const DR6_BS: u64 = 1 << 14;

static DATA: Pages<4096> = Pages::new();
/// Where #DB came, and why.
static TRACE: Global<[(u64, u64); 8]> = Global::new([(0, 0); 8]);
static TRACED: Global<usize> = Global::new(0);
/// After how many #DB tracing ends.
static LIMIT: Global<usize> = Global::new(0);

fn main(boot: &Boot) {
    test("virtualization instructions", virtualization_instructions);
    if !boot.has("bare") {
        test("hidden instructions", hidden_instructions);
        test("time with processor number", time_with_processor_number);
    }
    test("performance counter", performance_counter);
    test("cache instructions", cache_instructions);
    test("software interrupts", software_interrupts);
    test("undefined instructions", undefined);
    test("breakpoints", breakpoints);
    test("debug registers", debug_registers);
    test("single step", || single_step(boot.has("bare")));
}

fn vector_of(result: Result<(), Fault>) -> Option<u8> {
    result.err().map(|fault| fault.vector)
}

/// Runs bytes; returns the vector of the exception.
fn run(bytes: &[u8]) -> Option<u8> {
    let mut code = [0xC3; 20];
    code[..bytes.len()].copy_from_slice(bytes);
    let pages = CodePages::new();
    let address = pages.place(&code, 40);
    let mut registers = Registers {
        rax: DATA.gpa(),
        ..Registers::default()
    };
    let result = call(address, &mut registers);
    if let Err(fault) = result {
        assert_eq!(fault.rip, address, "{bytes:02x?}");
    }
    vector_of(result)
}

/// Neither vendor's virtualization is offered: what one has is #UD by CPUID, what the other has is none of the
/// processor's.
fn virtualization_instructions() {
    let svm: [(&str, &[u8]); 7] = [
        ("vmrun", &[0x0F, 0x01, 0xD8]),
        ("vmload", &[0x0F, 0x01, 0xDA]),
        ("vmsave", &[0x0F, 0x01, 0xDB]),
        ("stgi", &[0x0F, 0x01, 0xDC]),
        ("clgi", &[0x0F, 0x01, 0xDD]),
        ("skinit", &[0x0F, 0x01, 0xDE]),
        ("invlpga", &[0x0F, 0x01, 0xDF]),
    ];
    // The memory operand of those that have one is [RAX].
    let vmx: [(&str, &[u8]); 13] = [
        ("vmlaunch", &[0x0F, 0x01, 0xC2]),
        ("vmresume", &[0x0F, 0x01, 0xC3]),
        ("vmxoff", &[0x0F, 0x01, 0xC4]),
        ("vmfunc", &[0x0F, 0x01, 0xD4]),
        ("vmread", &[0x0F, 0x78, 0xC1]),
        ("vmwrite", &[0x0F, 0x79, 0xC8]),
        ("vmptrld", &[0x0F, 0xC7, 0x30]),
        ("vmptrst", &[0x0F, 0xC7, 0x38]),
        ("vmclear", &[0x66, 0x0F, 0xC7, 0x30]),
        ("vmxon", &[0xF3, 0x0F, 0xC7, 0x30]),
        ("invept", &[0x66, 0x0F, 0x38, 0x80, 0x08]),
        ("invvpid", &[0x66, 0x0F, 0x38, 0x81, 0x08]),
        ("getsec", &[0x0F, 0x37]),
    ];
    for (name, bytes) in svm.into_iter().chain(vmx) {
        assert_eq!(run(bytes), Some(vector::UNDEFINED), "{name}");
    }
}

/// What CPUID hides is #UD, and so is the hypercall of the other vendor.
fn hidden_instructions() {
    assert_eq!(cpuid(1, 0).ecx & 1 << 3, 0, "MONITOR");
    let other = vendor().no_hypercall();
    let hidden: [(&str, &[u8]); 6] = [
        ("monitor", &[0x0F, 0x01, 0xC8]),
        ("mwait", &[0x0F, 0x01, 0xC9]),
        ("monitorx", &[0x0F, 0x01, 0xFA]),
        ("mwaitx", &[0x0F, 0x01, 0xFB]),
        ("the other vendor's hypercall", &other),
        ("rsm", &[0x0F, 0xAA]),
    ];
    for (name, bytes) in hidden {
        assert_eq!(run(bytes), Some(vector::UNDEFINED), "{name}");
    }
}

/// RDTSCP is hidden as well. QEMU (7.2) has no intercept for it: there it executes, and shows nothing of the machine.
fn time_with_processor_number() {
    assert_eq!(cpuid(0x8000_0001, 0).edx & 1 << 27, 0, "RDTSCP");
    let mut number = 0xDEAD_u32;
    let result = probe!("rdtscp", out("eax") _, out("edx") _, inout("ecx") number);
    match vector_of(result) {
        None => assert_eq!(number, 0),
        vector => assert_eq!(vector, Some(vector::UNDEFINED)),
    }
}

/// A child has no counters: #GP by the architecture; an emulated processor without RDPMC says #UD.
fn performance_counter() {
    for index in [0u32, 5, 1 << 30, u32::MAX] {
        let result = probe!("rdpmc", in("ecx") index, out("eax") _, out("edx") _);
        let vector = vector_of(result);
        assert!(
            matches!(vector, Some(vector::PROTECTION | vector::UNDEFINED)),
            "{vector:?}"
        );
    }
}

/// INVD must not lose what was written, WBINVD must do nothing visible.
fn cache_instructions() {
    for round in 0..4u64 {
        memory::write(DATA.gpa(), 0x1234_5678_9ABC_0000 + round);
        assert_eq!(probe!("invd"), Ok(()));
        assert_eq!(
            memory::read::<u64>(DATA.gpa()),
            0x1234_5678_9ABC_0000 + round
        );
        assert_eq!(probe!("wbinvd"), Ok(()));
        assert_eq!(
            memory::read::<u64>(DATA.gpa()),
            0x1234_5678_9ABC_0000 + round
        );
    }
    let gpa = DATA.gpa();
    assert_eq!(
        probe!("invlpg [{gpa}]; clflush [{gpa}]", gpa = in(reg) gpa),
        Ok(())
    );
}

fn software_interrupts() {
    set_handler(
        vector::SOFTWARE,
        Some((|frame: &mut Frame| frame.registers[14] = 0x5150) as Handler),
    );
    let rax: u64;
    assert_eq!(probe!("int 0x80", inout("rax") 1u64 => rax), Ok(()));
    assert_eq!(rax, 0x5150);
    set_gate_present(vector::SOFTWARE, false);
    let fault = probe!("int 0x80").expect_err("no gate");
    assert_eq!(fault.vector, vector::NOT_PRESENT);
    // The gate's number, from the table, not external. (QEMU before 8 counts gates of 64-bit mode twice.)
    assert!(
        matches!(fault.error, 0x402 | 0x802),
        "error code {:#x}",
        fault.error
    );
    set_gate_present(vector::SOFTWARE, true);
    assert_eq!(probe!("int 0x80", inout("rax") 1u64 => _), Ok(()));
    let fault = probe!("int3").expect_err("#BP");
    assert_eq!(fault.vector, vector::BREAKPOINT);
    assert_eq!(run(&[0xCE]), Some(vector::UNDEFINED), "INTO in 64-bit mode");
}

fn undefined() {
    for bytes in [
        &[0x0F, 0x0B][..],
        &[0x0F, 0xFF, 0xC0],
        &[0x0F, 0xB9, 0xC0],
        &[0x06],
        &[0x0F, 0x04],
    ] {
        assert_eq!(run(bytes), Some(vector::UNDEFINED), "{bytes:02x?}");
    }
}

fn read_dr6() -> u64 {
    let value;
    // SAFETY: reading a debug register has no effects.
    unsafe { core::arch::asm!("mov {}, dr6", out(reg) value, options(nomem, nostack)) };
    value
}

fn write_dr6(value: u64) {
    // SAFETY: DR6 only tells what happened.
    unsafe { core::arch::asm!("mov dr6, {}", in(reg) value, options(nomem, nostack)) };
}

fn set_breakpoint(address: u64, dr7: u64) {
    probe!("mov dr0, {address}; mov dr7, {dr7}", address = in(reg) address, dr7 = in(reg) dr7)
        .expect("debug registers");
}

fn traced(frame: &mut Frame) {
    let (mut trace, at) = (TRACE.get(), TRACED.get());
    if let Some(place) = trace.get_mut(at) {
        *place = (frame.rip, read_dr6());
    }
    TRACE.set(trace);
    TRACED.set(at + 1);
    write_dr6(0xFFFF_0FF0);
    if at + 1 >= LIMIT.get() {
        frame.rflags &= !TRAP;
    }
    // An instruction breakpoint is a fault: RF lets the instruction run this time.
    frame.rflags |= 1 << 16;
}

fn take_trace() -> ([(u64, u64); 8], usize) {
    (TRACE.replace([(0, 0); 8]), TRACED.replace(0))
}

/// DR0 as an instruction and as a data breakpoint, also around intercepted instructions.
fn breakpoints() {
    set_handler(vector::DEBUG, Some(traced as Handler));
    LIMIT.set(1);
    let pages = CodePages::new();
    // XOR EAX,EAX; CPUID; NOP; RET
    let address = pages.place(&[0x31, 0xC0, 0x0F, 0xA2, 0x90, 0xC3], 40);
    for offset in [0, 2, 4] {
        set_breakpoint(address + offset, 0x402);
        call(address, &mut Registers::default()).expect("the handler lets it run");
        let (trace, count) = take_trace();
        assert_eq!(
            (count, trace[0].0),
            (1, address + offset),
            "instruction breakpoint"
        );
        assert_ne!(trace[0].1 & DR6_B0, 0);
    }
    // Writes of 8 bytes at the data page.
    set_breakpoint(DATA.gpa(), 0x402 | 1 << 16 | 2 << 18);
    memory::write(DATA.gpa() + 8, 1u64);
    assert_eq!(take_trace().1, 0);
    memory::write(DATA.gpa(), 1u64);
    assert_eq!(take_trace().1, 1, "data breakpoint");
    cpuid(0, 0);
    memory::write(DATA.gpa() + 4, 1u32);
    assert_eq!(take_trace().1, 1, "data breakpoint after an exit");
    set_breakpoint(0, 0x400);
    memory::write(DATA.gpa(), 2u64);
    assert_eq!(take_trace().1, 0);
    set_handler(vector::DEBUG, None);
}

/// DR0 to DR3 keep their values over exits; DR4 and DR5 are aliases unless CR4.DE.
fn debug_registers() {
    let values = [0x1111, 0x2222, 0x3333_4444_5555, 0xFFFF_8000_0000_0000u64];
    let [a, b, c, d] = values;
    probe!(
        "mov dr0, {a}; mov dr1, {b}; mov dr2, {c}; mov dr3, {d}",
        a = in(reg) a, b = in(reg) b, c = in(reg) c, d = in(reg) d
    )
    .expect("addresses");
    cpuid(0, 0);
    let _ = rdmsr(HV_X64_MSR_GUEST_OS_ID);
    let (a, b, c, d): (u64, u64, u64, u64);
    // SAFETY: reading debug registers has no effects.
    unsafe {
        core::arch::asm!(
            "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d,
        );
    }
    assert_eq!([a, b, c, d], values);
    let high: u64 = 1 << 32 | 0x400;
    assert_eq!(
        vector_of(probe!("mov dr7, {high}", high = in(reg) high)),
        Some(vector::PROTECTION)
    );
    let cr4 = read_cr!(4);
    assert_eq!(probe!("mov {}, dr4", out(reg) _), Ok(()));
    write_cr!(4, cr4 | 1 << 3).expect("DE");
    assert_eq!(
        run(&[0x0F, 0x21, 0xE0]),
        Some(vector::UNDEFINED),
        "MOV RAX, DR4"
    );
    write_cr!(4, cr4).expect("as it was");
    let off: u64 = 0x400;
    probe!("mov dr7, {off}", off = in(reg) off).expect("off");
}

/// With the trap flag set, #DB comes right behind each instruction: one that the processor executes, one that the
/// hypervisor completes, and one that the root completes; behind a repeated one after each element. DR6 tells the reason, and
/// keeps what it said before.
fn single_step(bare: bool) {
    let hypercall = vendor().hypercall();
    // Name, bytes, where #DB comes from the instruction's first byte on, and whether it needs no hypervisor.
    let all: [(&str, &[u8], &[u64], bool); 9] = [
        ("nop", &[0x90], &[1, 2], true),
        ("cpuid", &[0x0F, 0xA2], &[2, 3], true),
        ("rdmsr", &[0x0F, 0x32], &[2, 3], false),
        ("wrmsr", &[0x0F, 0x30], &[2, 3], false),
        ("hypercall", &hypercall, &[3, 4], false),
        ("out", &[0xE6, 0x80], &[2, 3], true),
        ("in", &[0x66, 0xED], &[2, 3], true),
        ("outsb", &[0x6E], &[1, 2], true),
        ("rep outsb", &[0xF3, 0x6E], &[0, 0, 2, 3], true),
    ];
    set_handler(vector::DEBUG, Some(traced as Handler));
    let native = |(_, _, _, native): &(&str, &[u8], &[u64], bool)| *native || !bare;
    for (name, bytes, traps, _) in all.into_iter().filter(native) {
        // PUSHFQ; OR QWORD [RSP], TF; POPFQ; the instruction; NOP; NOP; RET
        let head = [0x9C, 0x48, 0x81, 0x0C, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9D];
        let mut code = [0x90; 24];
        code[..head.len()].copy_from_slice(&head);
        code[head.len()..head.len() + bytes.len()].copy_from_slice(bytes);
        code[head.len() + bytes.len() + 2] = 0xC3;
        let pages = CodePages::new();
        let address = pages.place(&code, 60);
        let first = address + head.len() as u64;
        LIMIT.set(traps.len());
        let mut registers = Registers {
            // For RDMSR and WRMSR; for the hypercall it is one with a rep count, which is refused.
            rcx: u64::from(HV_X64_MSR_GUEST_OS_ID),
            ..Registers::default()
        };
        if matches!(name, "in" | "outsb" | "rep outsb") {
            // A port where nothing is, what is written there, and how often.
            (registers.rdx, registers.rsi, registers.rcx) = (0x80, DATA.gpa(), 3);
        }
        call(address, &mut registers).unwrap_or_else(|fault| panic!("{name}: {fault:x?}"));
        let (trace, count) = take_trace();
        println!("{name}: {count} traps");
        assert_eq!(count, traps.len(), "{name}: {trace:x?}");
        for (at, (rip, dr6)) in traps.iter().zip(trace) {
            assert_eq!(rip, first + at, "{name}: {trace:x?}");
            assert_eq!(dr6, 0xFFFF_0FF0 | DR6_BS, "{name}: DR6");
        }
        if name == "rep outsb" {
            assert_eq!(registers.rsi, DATA.gpa() + 3);
        }
    }
    set_handler(vector::DEBUG, None);
}
