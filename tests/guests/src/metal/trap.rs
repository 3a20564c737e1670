//! Exceptions and interrupts: descriptor tables, probes that survive a fault, handlers.

use core::arch::global_asm;
use core::fmt::{Debug, Display};
use core::mem::size_of;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;

use super::cell::Global;
use super::exit;

/// Ring 0 code.
pub const CODE: u16 = 0x08;
/// Ring 0 data.
pub const DATA: u16 = 0x10;
/// Ring 3 data.
pub const USER_DATA: u16 = 0x18 | 3;
/// Ring 3 code.
pub const USER_CODE: u16 = 0x20 | 3;
const TSS: u16 = 0x28;
const INTERRUPT_FLAG: u64 = RFlags::INTERRUPT_FLAG.bits();

/// Vectors that payloads look for.
pub mod vector {
    /// #DB.
    pub const DEBUG: u8 = 1;
    /// NMI.
    pub const NMI: u8 = 2;
    /// #BP.
    pub const BREAKPOINT: u8 = 3;
    /// #UD.
    pub const UNDEFINED: u8 = 6;
    /// #NM.
    pub const NO_FPU: u8 = 7;
    /// #DF.
    pub const DOUBLE_FAULT: u8 = 8;
    /// #NP.
    pub const NOT_PRESENT: u8 = 11;
    /// #GP.
    pub const PROTECTION: u8 = 13;
    /// #PF.
    pub const PAGE_FAULT: u8 = 14;
    /// What payloads raise by INT, also from ring 3 and whatever RFLAGS.IF says.
    pub const SOFTWARE: u8 = 0x80;
}

/// The interrupted state, as the entry code leaves it on the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// R15, R14, R13, R12, R11, R10, R9, R8, RBP, RDI, RSI, RDX, RCX, RBX, RAX.
    pub registers: [u64; 15],
    /// Vector.
    pub vector: u64,
    /// Error code, 0 where the exception has none.
    pub error: u64,
    /// RIP.
    pub rip: u64,
    /// CS.
    pub cs: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RSP.
    pub rsp: u64,
    /// SS.
    pub ss: u64,
}

/// An exception that a probed instruction raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Vector.
    pub vector: u8,
    /// Error code, 0 where the exception has none.
    pub error: u32,
    /// RIP that was pushed.
    pub rip: u64,
    /// CR2 at that moment.
    pub address: u64,
}

/// What a vector's handler is.
pub type Handler = fn(&mut Frame);

/// Where a probe resumes after a fault; 0 when no probe runs. Armed by [`probe!`].
pub static RECOVERY: Global<u64> = Global::new(0);
static FAULT: Global<Option<Fault>> = Global::new(None);
static HANDLERS: Global<[Option<Handler>; 256]> = Global::new([None; 256]);
static COUNTS: [Global<u64>; 256] = [const { Global::new(0) }; 256];

/// Runs assembly that may fault: `probe!("rdmsr", in("ecx") msr, lateout("eax") low, …)` is a `Result<(), Fault>`.
///
/// The template is one string (lines separated by `;` or `\n`); local labels 77 and 78 are taken. After a fault execution
/// goes on behind the template, with the registers as the fault left them and the stack as it was. NMIs and external
/// interrupts are no faults.
#[macro_export]
macro_rules! probe {
    ($template:expr $(, $($operand:tt)*)?) => {{
        // SAFETY: what the instruction does is the payload's business (see the module `metal`). A fault resumes at
        // label 77 with all other registers unchanged, so the operands are as declared.
        unsafe {
            ::core::arch::asm!(
                "lea {probe_resume}, [rip + 77f]",
                "mov [rip + {probe_slot}], {probe_resume}",
                $template,
                "77:",
                "mov qword ptr [rip + {probe_slot}], 0",
                $($($operand)*,)?
                probe_resume = out(reg) _,
                probe_slot = sym $crate::metal::trap::RECOVERY,
            );
        }
        $crate::metal::trap::probed()
    }};
}

/// Result of the probe that just ended.
pub fn probed() -> Result<(), Fault> {
    match FAULT.replace(None) {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// Panics, naming `what`, unless a probe ended with #GP(0).
#[track_caller]
pub fn expect_protection<T: Debug>(what: impl Display, result: Result<T, Fault>) {
    match result {
        Err(fault) => assert_eq!(
            (fault.vector, fault.error),
            (vector::PROTECTION, 0),
            "{what}"
        ),
        Ok(value) => panic!("{what} gave {value:x?} instead of #GP"),
    }
}

/// Sets or removes what runs when `vector` is taken. A handler of an exception comes before any probe's recovery.
pub fn set_handler(vector: u8, handler: Option<Handler>) {
    let mut handlers = HANDLERS.get();
    handlers[usize::from(vector)] = handler;
    HANDLERS.set(handlers);
}

/// How often a vector was taken (32 and above, and the NMI).
pub fn count(vector: u8) -> u64 {
    COUNTS[usize::from(vector)].get()
}

extern "C" fn handle(frame: &mut Frame) {
    let number = frame.vector as usize & 0xFF;
    let counter = &COUNTS[number];
    counter.set(counter.get() + 1);
    // SAFETY: the table is a live variable of this one processor; one element is copied.
    let handler = unsafe { (*HANDLERS.pointer())[number] };
    if number >= 32 && number != usize::from(vector::SOFTWARE) && frame.rflags & INTERRUPT_FLAG == 0
    {
        crate::println!("payload: interrupt {number} with interrupts off, {frame:#x?}");
        exit::failure()
    }
    if let Some(handler) = handler {
        handler(frame);
        return;
    }
    if number >= 32 || number == usize::from(vector::NMI) {
        return;
    }
    let address = crate::read_cr!(2);
    let resume = RECOVERY.replace(0);
    if resume != 0 {
        FAULT.set(Some(Fault {
            vector: number as u8,
            error: frame.error as u32,
            rip: frame.rip,
            address,
        }));
        frame.rip = resume;
        // A fault in ring 3 comes back to ring 0 only by a handler of its own.
        return;
    }
    crate::println!("payload: unexpected exception {number}, CR2 {address:#x}, {frame:#x?}");
    exit::failure()
}

// Every vector has a stub of 16 bytes that makes the stack look alike.
global_asm!(
    ".text",
    ".macro trap_stub vector",
    ".balign 16",
    ".if (\\vector == 8) || (\\vector >= 10 && \\vector <= 14) || (\\vector == 17) || (\\vector == 21) || (\\vector == 29) || (\\vector == 30)",
    ".else",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp trap_common",
    ".endm",
    ".altmacro",
    ".balign 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".set vector_number, 0",
    ".rept 256",
    "trap_stub %vector_number",
    ".set vector_number, vector_number + 1",
    ".endr",
    ".noaltmacro",
    "trap_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {handler}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    handler = sym handle,
);

unsafe extern "C" {
    /// The first of 256 stubs of 16 bytes.
    static trap_stubs: [[u8; 16]; 256];
}

#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct TaskState {
    reserved0: u32,
    stacks: [u64; 3],
    reserved1: u64,
    interrupt_stacks: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Stack([u8; 0x4000]);

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Idt([[u64; 2]; 256]);

static TASK: Global<TaskState> = Global::new(TaskState {
    reserved0: 0,
    stacks: [0; 3],
    reserved1: 0,
    interrupt_stacks: [0; 7],
    reserved2: 0,
    reserved3: 0,
    io_map: size_of::<TaskState>() as u16,
});
static GDT: Global<[u64; 7]> = Global::new([0; 7]);
static IDT: Global<Idt> = Global::new(Idt([[0; 2]; 256]));
/// For faults that may be the stack's, and for NMIs.
static FAULT_STACK: Global<Stack> = Global::new(Stack([0; 0x4000]));
/// On which ring 0 is entered from ring 3.
static ENTRY_STACK: Global<Stack> = Global::new(Stack([0; 0x4000]));

const FAULT_IST: u64 = 1;

/// Loads descriptor tables with a gate for every vector; interrupts stay off.
pub fn init() {
    let mut task = TASK.get();
    task.interrupt_stacks[FAULT_IST as usize - 1] = top(&FAULT_STACK);
    task.stacks[0] = top(&ENTRY_STACK);
    TASK.set(task);
    let base = TASK.pointer() as u64;
    let limit = (size_of::<TaskState>() - 1) as u64;
    GDT.set([
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56,
        base >> 32,
    ]);
    IDT.set(Idt(core::array::from_fn(gate)));
    // SAFETY: the tables hold valid descriptors and stay where they are; the selectors are theirs.
    unsafe {
        lgdt(&pointer(&GDT));
        CS::set_reg(SegmentSelector(CODE));
        SS::set_reg(SegmentSelector(DATA));
        DS::set_reg(SegmentSelector(DATA));
        ES::set_reg(SegmentSelector(DATA));
        load_tss(SegmentSelector(TSS));
    }
    load_idt();
}

/// Loads the payload's interrupt descriptor table (again, for a test that took it away).
pub fn load_idt() {
    // SAFETY: the table holds valid gates and stays where it is.
    unsafe { lidt(&pointer(&IDT)) };
}

/// Makes the gate of a vector present, or not: then an interrupt through it is #NP.
pub fn set_gate_present(vector: u8, present: bool) {
    const PRESENT: u64 = 1 << 47;
    let mut idt = IDT.get();
    let gate = &mut idt.0[usize::from(vector)];
    gate[0] = if present {
        gate[0] | PRESENT
    } else {
        gate[0] & !PRESENT
    };
    IDT.set(idt);
}

/// Loads an interrupt descriptor table in which there is no gate: the next exception is a triple fault.
pub fn load_empty_idt() {
    let empty = DescriptorTablePointer {
        limit: 0,
        base: VirtAddr::zero(),
    };
    // SAFETY: whoever does this wants the processor to shut down.
    unsafe { lidt(&empty) };
}

fn top(stack: &Global<Stack>) -> u64 {
    stack.pointer() as u64 + size_of::<Stack>() as u64
}

fn pointer<T>(table: &'static Global<T>) -> DescriptorTablePointer
where
    T: Copy,
{
    DescriptorTablePointer {
        limit: (size_of::<T>() - 1) as u16,
        base: VirtAddr::new_truncate(table.pointer() as u64),
    }
}

fn gate(number: usize) -> [u64; 2] {
    // SAFETY: only the address is taken.
    let stub = unsafe { &raw const trap_stubs[number] } as u64;
    let ist = match number {
        2 | 8 | 18 => FAULT_IST,
        _ => 0,
    };
    let from_user = [vector::BREAKPOINT, vector::SOFTWARE].map(usize::from);
    let kind = if from_user.contains(&number) {
        0xEE
    } else {
        0x8E
    };
    let low = stub & 0xFFFF
        | u64::from(CODE) << 16
        | ist << 32
        | kind << 40
        | (stub >> 16 & 0xFFFF) << 48;
    [low, stub >> 32]
}
