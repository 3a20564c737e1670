//! Intercepted instructions with redundant prefixes, at every place across a page end: the results must be right, and
//! execution must go on at the byte behind the instruction, not one earlier or later.
#![no_std]
#![no_main]

use guests::metal::cpu::{cpuid, inb, outb, rdmsr, wrmsr};
use guests::metal::trap::{Handler, set_handler, vector};
use guests::metal::vendor::vendor;
use guests::metal::window::{CodePages, Registers, call};
use guests::metal::{Boot, apic, hypercall, memory, test, time};
use guests::{child, println};
use tlfs::{
    HV_X64_MSR_GUEST_OS_ID, HvCallCode, HvHypercallInput, HvInputGetPartitionProperty,
    HvPartitionId, HvPartitionPropertyCode,
};
use zerocopy::IntoBytes;

child!(main);

/// Prefixes that change nothing about the instructions here. REX.W must come last.
const HARMLESS: [&[u8]; 9] = [
    &[],
    &[0x3E],
    &[0x2E, 0x36],
    &[0x67],
    &[0x48],
    &[0x66],
    &[0x66, 0x67, 0x48],
    &[0xF2],
    &[0x3E, 0xF3, 0x64, 0x4F],
];
/// Of these, those without a meaning for VMMCALL and VMCALL: with F2 or F3 it is another instruction or none, and manuals
/// differ over 66.
const HARMLESS_TO_HYPERCALL: [&[u8]; 5] = [&[], &[0x3E], &[0x2E, 0x36], &[0x67], &[0x48]];
/// `inc r9` four times, then `ret`: an execution that goes on anywhere but at its first byte counts something else.
const COUNTER: [u8; 13] = [
    0x49, 0xFF, 0xC1, 0x49, 0xFF, 0xC1, 0x49, 0xFF, 0xC1, 0x49, 0xFF, 0xC1, 0xC3,
];
/// The longest instruction.
const LONGEST: usize = 15;
/// The UART's scratch register: keeps a byte.
const SCRATCH: u16 = 0x3FF;
const OPEN_PORT: u16 = 0x80;
const TIMER_VECTOR: u8 = 0x50;

/// An instruction: what is before its prefixes, its opcode and what is behind it.
struct Case<'a> {
    lead: &'a [u8],
    opcode: &'a [u8],
    tail: &'a [u8],
    prefixes: &'a [&'a [u8]],
}

impl<'a> Case<'a> {
    fn new(opcode: &'a [u8]) -> Self {
        Self {
            lead: &[],
            opcode,
            tail: &[],
            prefixes: &HARMLESS,
        }
    }

    /// Runs it with every prefix, at every place across the page end, and lets `check` look at the result.
    fn run(&self, registers: Registers, check: impl Fn(&Registers)) {
        let pages = CodePages::new();
        for prefix in self.prefixes {
            let mut code = Code::default();
            code.push(self.lead);
            code.push(prefix);
            code.push(self.opcode);
            let length = code.len;
            code.push(self.tail);
            code.push(&COUNTER);
            // From wholly on the first page to wholly on the second one.
            for before in 0..=length + 1 {
                let address = pages.place(code.bytes(), before);
                let mut after = Registers { r9: 0, ..registers };
                call(address, &mut after).unwrap_or_else(|fault| {
                    panic!(
                        "{:02x?}, {before} bytes before the page end: {fault:x?}",
                        code.bytes()
                    )
                });
                assert_eq!(
                    after.r9,
                    4,
                    "{:02x?}, {before} bytes before the page end: wrong RIP",
                    code.bytes()
                );
                check(&after);
            }
        }
    }
}

#[derive(Default)]
struct Code {
    bytes: [u8; 32],
    len: usize,
}

impl Code {
    fn push(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn main(boot: &Boot) {
    test("cpuid", cpuid_instruction);
    test("longest instruction", longest_instruction);
    test("rdmsr", || rdmsr_instruction(apic::APIC_BASE));
    test("in and out", port_instructions);
    test("string in and out", string_instructions);
    test("page fault of the second half", second_half_missing);
    if boot.has("bare") {
        println!("no hypervisor: the rest is not tried");
        return;
    }
    test("faults point at the first prefix", faults);
    test("wrmsr", wrmsr_instruction);
    test("hypercall", hypercall_instruction);
    test("hlt", hlt_instruction);
}

fn cpuid_instruction() {
    let wanted = cpuid(0x4000_0000, 0);
    let registers = Registers {
        rax: 0xFFFF_FFFF_4000_0000,
        rbx: u64::MAX,
        rcx: 0xFFFF_FFFF_0000_0000,
        rdx: u64::MAX,
        ..Registers::default()
    };
    Case::new(&[0x0F, 0xA2]).run(registers, |after| {
        let got = [after.rax, after.rbx, after.rcx, after.rdx];
        let wanted = [wanted.eax, wanted.ebx, wanted.ecx, wanted.edx];
        assert_eq!(
            got,
            wanted.map(u64::from),
            "halves above 32 bits are cleared"
        );
    });
}

/// 15 bytes are an instruction, 16 are #GP.
fn longest_instruction() {
    let pages = CodePages::new();
    for (prefixes, legal) in [(LONGEST - 2, true), (LONGEST - 1, false)] {
        let mut code = Code::default();
        code.push(&[0x3E; LONGEST][..prefixes]);
        code.push(&[0x0F, 0xA2]);
        code.push(&COUNTER);
        for before in [8, 40] {
            let address = pages.place(code.bytes(), before);
            let mut registers = Registers::default();
            let result = call(address, &mut registers);
            if legal {
                assert_eq!((result, registers.r9), (Ok(()), 4));
            } else {
                let fault = result.expect_err("16 bytes are too long");
                assert_eq!(
                    (fault.vector, fault.error, fault.rip),
                    (vector::PROTECTION, 0, address)
                );
            }
        }
    }
}

fn rdmsr_instruction(msr: u32) {
    let wanted = rdmsr(msr).expect("it exists");
    let registers = Registers {
        rax: u64::MAX,
        // Nothing above 32 bits: QEMU 7.2 looks for the intercept of an MSR by all of RCX.
        rcx: u64::from(msr),
        rdx: u64::MAX,
        ..Registers::default()
    };
    Case::new(&[0x0F, 0x32]).run(registers, |after| {
        assert_eq!((after.rax, after.rdx), (wanted & 0xFFFF_FFFF, wanted >> 32));
    });
}

fn wrmsr_instruction() {
    let old = rdmsr(HV_X64_MSR_GUEST_OS_ID).expect("it exists");
    let value = 0x8100_1234_5678_9ABC_u64;
    let registers = Registers {
        rax: value & 0xFFFF_FFFF,
        rcx: u64::from(HV_X64_MSR_GUEST_OS_ID),
        rdx: value >> 32,
        ..Registers::default()
    };
    Case::new(&[0x0F, 0x30]).run(registers, |_| {
        assert_eq!(rdmsr(HV_X64_MSR_GUEST_OS_ID), Ok(value));
        wrmsr(HV_X64_MSR_GUEST_OS_ID, 1).expect("any value is fine");
    });
    wrmsr(HV_X64_MSR_GUEST_OS_ID, old).expect("any value is fine");
}

/// A call that every partition may make about itself: its privileges, which CPUID tells too.
fn hypercall_instruction() {
    let instruction = vendor().hypercall();
    let (input, output) = (hypercall::input_page(), hypercall::output_page());
    let registers = Registers {
        rax: u64::MAX,
        rbx: 0x1111,
        rcx: HvHypercallInput::simple(HvCallCode::GET_PARTITION_PROPERTY).into_bits(),
        rdx: input.gpa(),
        r8: output.gpa(),
        rsi: 0x2222,
        rdi: 0x3333,
        ..Registers::default()
    };
    let case = Case {
        prefixes: &HARMLESS_TO_HYPERCALL,
        ..Case::new(&instruction)
    };
    input.fill(0);
    let property = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: HvPartitionPropertyCode::PRIVILEGE_FLAGS,
        ..Default::default()
    };
    input.write(property.as_bytes());
    let leaf = cpuid(0x4000_0003, 0);
    let wanted = u64::from(leaf.eax) | u64::from(leaf.ebx) << 32;
    output.fill(0xFF);
    case.run(registers, |after| {
        assert_eq!(after.rax, 0, "status");
        assert_eq!((after.rbx, after.rsi, after.rdi), (0x1111, 0x2222, 0x3333));
        assert_eq!(memory::read::<u64>(output.gpa()), wanted, "privileges");
        output.fill(0xFF);
    });
}

fn port_instructions() {
    outb(SCRATCH, 0x5A);
    let from_scratch = Registers {
        rax: 0x1122_3344_5566_7788,
        rdx: u64::from(SCRATCH),
        ..Registers::default()
    };
    let byte = Case {
        prefixes: &[
            &[],
            &[0x3E],
            &[0x66],
            &[0x67],
            &[0x48],
            &[0x26, 0x65, 0x66, 0x48],
        ],
        ..Case::new(&[0xEC])
    };
    byte.run(from_scratch, |after| {
        assert_eq!(after.rax, 0x1122_3344_5566_775A, "IN AL keeps the rest");
    });
    let open = Registers {
        rax: 0x1122_3344_5566_7788,
        rdx: 0x1_0000 | u64::from(OPEN_PORT),
        ..Registers::default()
    };
    let word = Case {
        prefixes: &[&[0x66], &[0x3E, 0x66], &[0x66, 0x67]],
        ..Case::new(&[0xED])
    };
    word.run(open, |after| assert_eq!(after.rax >> 16, 0x1122_3344_5566));
    let double = Case {
        prefixes: &[&[], &[0x3E], &[0x67], &[0x48]],
        ..Case::new(&[0xED])
    };
    double.run(open, |after| {
        assert_eq!(after.rax >> 32, 0, "IN EAX clears")
    });
    let immediate = Case {
        prefixes: &[&[], &[0x3E], &[0x66], &[0x67], &[0x48]],
        ..Case::new(&[0xE6, OPEN_PORT as u8])
    };
    immediate.run(open, |after| assert_eq!(after.rax, 0x1122_3344_5566_7788));
    let write = Registers {
        rax: 0xA7,
        rdx: u64::from(SCRATCH),
        ..Registers::default()
    };
    let out = Case {
        prefixes: &[&[], &[0x3E], &[0x66], &[0x67], &[0x48], &[0x2E, 0x2E, 0x2E]],
        ..Case::new(&[0xEE])
    };
    out.run(write, |_| {
        assert_eq!(inb(SCRATCH), 0xA7);
        outb(SCRATCH, 0);
    });
}

/// INS and OUTS with REP, a segment, a short address and both directions.
fn string_instructions() {
    let page = hypercall::input_page();
    outb(SCRATCH, 0x3C);
    let read = Registers {
        rcx: 5,
        rdx: u64::from(SCRATCH),
        rdi: page.address() + 16,
        ..Registers::default()
    };
    let ins = Case {
        prefixes: &[
            &[0xF3],
            &[0xF2],
            &[0x3E, 0xF3],
            &[0xF3, 0x67],
            &[0xF3, 0x48],
        ],
        ..Case::new(&[0x6C])
    };
    ins.run(read, |after| {
        assert_eq!((after.rcx, after.rdi), (0, page.address() + 21));
        let mut bytes = [0; 32];
        page.read(&mut bytes);
        assert_eq!(bytes[15..22], [0, 0x3C, 0x3C, 0x3C, 0x3C, 0x3C, 0]);
        page.fill(0);
    });
    page.write(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let write = Registers {
        rcx: 3,
        rdx: u64::from(SCRATCH),
        rsi: page.address() + 4,
        ..Registers::default()
    };
    let outs = Case {
        prefixes: &[&[0xF3], &[0x2E, 0xF3], &[0xF3, 0x67]],
        ..Case::new(&[0x6E])
    };
    outs.run(write, |after| {
        assert_eq!((after.rcx, after.rsi), (0, page.address() + 7));
        assert_eq!(inb(SCRATCH), 7, "the last byte stays");
        outb(SCRATCH, 0);
    });
    let backwards = Case {
        lead: &[0xFD],
        tail: &[0xFC],
        prefixes: &[&[0xF3]],
        ..Case::new(&[0x6E])
    };
    backwards.run(write, |after| {
        assert_eq!((after.rcx, after.rsi), (0, page.address() + 1));
        assert_eq!(inb(SCRATCH), 3);
        outb(SCRATCH, 0);
    });
    let none = Registers { rcx: 0, ..write };
    outs.run(none, |after| {
        assert_eq!((after.rcx, after.rsi), (0, page.address() + 4));
        assert_eq!(inb(SCRATCH), 0, "REP with a count of zero does nothing");
    });
}

/// RDMSR and WRMSR of an MSR that nobody has: the exception points at the first byte, with the registers as they were.
fn faults() {
    let pages = CodePages::new();
    for opcode in [0x32, 0x30] {
        for prefix in HARMLESS {
            let mut code = Code::default();
            code.push(prefix);
            code.push(&[0x0F, opcode]);
            let length = code.len;
            code.push(&COUNTER);
            for before in 0..=length {
                let address = pages.place(code.bytes(), before);
                let mut registers = Registers {
                    rax: 0x77,
                    rcx: 0x4FFF_FFF0,
                    rdx: 0x88,
                    ..Registers::default()
                };
                let fault = call(address, &mut registers).expect_err("no such MSR");
                assert_eq!(
                    (fault.vector, fault.error, fault.rip),
                    (vector::PROTECTION, 0, address),
                    "{:02x?}, {before} before the page end",
                    code.bytes()
                );
                assert_eq!(
                    (registers.rax, registers.rdx, registers.r9),
                    (0x77, 0x88, 0)
                );
            }
        }
    }
}

/// An instruction whose second half is on a page that is not there: a page fault at that page, and nothing happened.
fn second_half_missing() {
    let pages = CodePages::new();
    let code = [0x3E, 0x0F, 0xA2, 0xC3];
    for before in 1..3 {
        pages.show_second(true);
        let address = pages.place(&code, before);
        pages.show_second(false);
        let mut registers = Registers::default();
        let fault = call(address, &mut registers).expect_err("half an instruction");
        assert_eq!(
            (fault.vector, fault.rip, fault.address),
            (vector::PAGE_FAULT, address, address + before as u64)
        );
        assert_eq!(registers.rbx, 0, "CPUID was not executed");
    }
    pages.show_second(true);
}

/// STI, HLT with prefixes, CLI: the APIC timer ends each halt, and execution goes on behind the HLT.
fn hlt_instruction() {
    apic::enable();
    let handler: Handler = |_| apic::eoi();
    set_handler(TIMER_VECTOR, Some(handler));
    let count = (time::apic_hz() / 20_000) as u32;
    let case = Case {
        // CLI is one byte: the counter behind it still sees where HLT went on, because only at the right place is it
        // executed, and with interrupts on the next case would fail.
        lead: &[0x0F, 0x30, 0xFB],
        tail: &[0xFA],
        prefixes: &[&[], &[0x3E], &[0x66], &[0x67], &[0x48], &[0x66, 0x67, 0x48]],
        ..Case::new(&[0xF4])
    };
    apic::write(apic::register::DIVIDE, apic::DIVIDE_BY_1);
    apic::write(apic::register::LVT_TIMER, u64::from(TIMER_VECTOR));
    let before = guests::metal::trap::count(TIMER_VECTOR);
    let runs = guests::metal::cell::Global::new(0u64);
    // WRMSR in the lead starts the timer anew for every run.
    let registers = Registers {
        rax: u64::from(count),
        rcx: u64::from(apic::register::INITIAL_COUNT),
        ..Registers::default()
    };
    case.run(registers, |_| runs.set(runs.get() + 1));
    apic::stop_timer();
    assert_eq!(
        guests::metal::trap::count(TIMER_VECTOR) - before,
        runs.get(),
        "each halt ended by its own interrupt"
    );
}
