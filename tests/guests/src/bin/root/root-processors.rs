//! The root's other VPs: started by INIT and startup IPI, in real mode, each on its processor; interrupts both ways.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use guests::metal::apic::{ASSERT, INIT, STARTUP, command};
use guests::metal::cpu::interrupt_window;
use guests::metal::{Boot, apic, memory, time, trap};
use guests::root::{Root, Vp, report};
use guests::{check, ok, root};
use tlfs::{
    HvCallCode, HvInputGetLogicalProcessorRunTime, HvOutputGetLogicalProcessorRunTime,
    HvPartitionId, HvRegisterName, HvStatus, HvVpIndex,
};

root!(main);

/// Where the code of the others is, and their stacks and counters, in the root's low memory.
const CODE: u64 = 0x8000;
const STARTED: u64 = 0x9000;
const INTERRUPTED: u64 = 0x9004;
/// Vector by which they are woken, and its place in real mode's table.
const WAKE: u64 = 0x40;
const GATE: u64 = WAKE * 4;
/// Vector by which they answer, less their APIC id: interrupts of one vector would become one.
const ANSWER: u8 = 0x60;

const SECOND: u64 = 1_000_000;
/// Rounds of waking everybody.
const ROUNDS: u32 = 200;
/// Looks at each VP's registers.
const LOOKS: u32 = 64;

static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn main(boot: &Boot) {
    let others = boot.number("processors").unwrap_or(4) as u32 - 1;
    let root = Root::start(boot);
    for id in 1..=others as u8 {
        trap::set_handler(
            ANSWER + id,
            Some(|_| {
                ANSWERS.fetch_add(1, Ordering::Relaxed);
                apic::eoi();
            }),
        );
    }
    let (code, handler) = code();
    for (at, &byte) in (CODE..).zip(code) {
        memory::write(at, byte);
    }
    memory::write(GATE, (CODE >> 4) << 16 | handler);
    memory::write(STARTED, 0_u64);

    // A startup IPI without INIT before it: they wait for one since the start.
    for id in 1..=u64::from(others) {
        command(id, INIT);
        command(id, STARTUP | CODE >> 12);
    }
    let all = answered(others.into());
    let (told, there) = (ANSWERS.load(Ordering::Relaxed), started());
    check!(all, "{there} have started, {told} say so");
    report::same(started(), others, "VPs started");
    ok!("{others} VPs start in real mode, and send interrupts");

    for round in 1..=ROUNDS {
        for id in 1..=u64::from(others) {
            command(id, ASSERT | WAKE);
        }
        let wanted = u64::from(others) * (u64::from(round) + 1);
        check!(answered(wanted), "round {round}: not all answer");
    }
    report::same(interrupted(), others * ROUNDS, "interrupts");
    run_times(&root, others);
    ok!("they wake from HLT for interrupts of another processor, {ROUNDS} times");

    // What one VP asks of another one, which runs on its own processor.
    let mut so_far = ANSWERS.load(Ordering::Relaxed);
    for round in 0..LOOKS {
        for id in 1..=others {
            let vp = Vp {
                partition: HvPartitionId::SELF,
                index: HvVpIndex(id),
                registers: 0,
                message: 0,
            };
            let get = |name| match vp.try_get(&root, name) {
                Ok(value) => value,
                Err(status) => guests::fail!("{name:?} of VP {id}: {status:?}"),
            };
            let rip = get(HvRegisterName::RIP).low;
            check!(rip < code.len() as u64, "RIP of VP {id} is {rip:#x}");
            report::same(get(HvRegisterName::CS).low, CODE, "base of CS");
            report::same(get(HvRegisterName::CR0).low & 1, 0, "protected mode");
            if round % 8 == 0 {
                command(id.into(), ASSERT | WAKE);
                so_far += 1;
                check!(answered(so_far), "VP {id} does not answer");
            }
        }
    }
    ok!("registers of VPs that run on other processors, {LOOKS} times each");

    // All but self.
    apic::write(apic::register::ICR, 3 << 18 | ASSERT | WAKE);
    check!(
        answered(so_far + u64::from(others)),
        "the shorthand does not reach all"
    );
    ok!("all excluding self");

    // INIT stops one, startup starts it anew.
    let before = ANSWERS.load(Ordering::Relaxed);
    command(1, INIT);
    command(1, ASSERT | WAKE);
    check!(
        !answered_within(before + 1, SECOND / 20),
        "it runs after INIT"
    );
    command(1, STARTUP | CODE >> 12);
    check!(answered(before + 1), "it does not start again");
    report::same(started(), others + 1, "starts");
    ok!("INIT stops a VP, and it starts again");
    report::done()
}

/// Those of the others, which sleep and wake, and this one's, which never sleeps here.
fn run_times(root: &Root, others: u32) {
    let ask = |lp_index| -> Result<HvOutputGetLogicalProcessorRunTime, HvStatus> {
        let input = HvInputGetLogicalProcessorRunTime { lp_index };
        let code = HvCallCode::GET_LOGICAL_PROCESSOR_RUN_TIME;
        root.calls.ask(code, &input)
    };
    let look = |index| report::value(ask(index), "GetLogicalProcessorRunTime");
    let so_far = ANSWERS.load(Ordering::Relaxed);
    for id in 1..=others {
        let (own, before) = (look(0), look(id));
        command(id.into(), ASSERT | WAKE);
        check!(
            answered(so_far + u64::from(id)),
            "VP {id} does not answer in time"
        );
        // It sleeps again, as soon as its emulator's host lets it.
        let mut after = look(id);
        let slept = time::wait(5 * SECOND, || {
            after = look(id);
            let elapsed = after.global_time - before.global_time;
            after.local_run_time - before.local_run_time < elapsed
        });
        check!(slept, "LP {id} sleeps, and its run time grows");
        check!(
            after.local_run_time > before.local_run_time,
            "LP {id} woke, and its run time does not grow"
        );
        let own_after = look(0);
        check!(
            after.hypervisor_time <= after.local_run_time,
            "LP {id}: more of the hypervisor than of all"
        );
        report::same(
            own_after.local_run_time - own.local_run_time,
            own_after.global_time - own.global_time,
            "run time of a processor that is busy",
        );
    }
    let absent = ask(others + 1).err();
    report::same(absent, Some(HvStatus::INVALID_LP_INDEX), "one too many");
    ok!("run times of {others} other processors");
}

fn started() -> u32 {
    memory::read(STARTED)
}

fn interrupted() -> u32 {
    memory::read(INTERRUPTED)
}

fn answered(count: u64) -> bool {
    answered_within(count, 5 * SECOND)
}

fn answered_within(count: u64, micros: u64) -> bool {
    time::wait(micros, || {
        interrupt_window();
        ANSWERS.load(Ordering::Relaxed) >= count
    })
}

/// The code, and where in it the handler is.
fn code() -> (&'static [u8], u64) {
    let at = |symbol: unsafe extern "C" fn()| symbol as *const () as usize;
    let (start, end) = (at(processor_start), at(processor_end));
    // SAFETY: the assembler put these bytes between the two symbols.
    let code = unsafe { core::slice::from_raw_parts(start as *const u8, end - start) };
    (code, (at(processor_handler) - start) as u64)
}

unsafe extern "C" {
    fn processor_start();
    fn processor_handler();
    fn processor_end();
}

core::arch::global_asm!(
    ".pushsection .rodata.processor,\"a\",@progbits",
    ".globl processor_start, processor_handler, processor_end",
    ".code16",
    "processor_start:",
    "cli",
    "xorw %ax, %ax",
    "movw %ax, %ds",
    "movw %ax, %ss",
    // A stack by APIC id.
    "movl $0x802, %ecx",
    "rdmsr",
    "movw %ax, %sp",
    "shlw $8, %sp",
    "addw $0xA100, %sp",
    "movl $0x80F, %ecx",
    "movl $0x1FF, %eax",
    "xorl %edx, %edx",
    "wrmsr",
    "lock incl {started}",
    "movl $0x802, %ecx",
    "rdmsr",
    "addl ${answer}, %eax",
    "movl $0x830, %ecx",
    "wrmsr",
    "1:",
    "sti",
    "hlt",
    "jmp 1b",
    "processor_handler:",
    "pushl %eax",
    "pushl %ecx",
    "pushl %edx",
    "lock incl {interrupted}",
    "movl $0x80B, %ecx",
    "xorl %eax, %eax",
    "xorl %edx, %edx",
    "wrmsr",
    "movl $0x802, %ecx",
    "rdmsr",
    "addl ${answer}, %eax",
    "movl $0x830, %ecx",
    "wrmsr",
    "popl %edx",
    "popl %ecx",
    "popl %eax",
    "iretw",
    "processor_end:",
    ".code64",
    ".popsection",
    started = const STARTED,
    interrupted = const INTERRUPTED,
    answer = const ASSERT | ANSWER as u64,
    options(att_syntax)
);
