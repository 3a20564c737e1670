//! From real mode to the kernel: a piece of code and page tables below 1 MiB, borrowed for as long as processors start.

use alloc::boxed::Box;
use alloc::vec;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use root_kernel::addr::{PAGE_SIZE, Pfn};
use root_kernel::frames::{Class, Owner};
use root_kernel::paging::{ENTRIES, KERNEL_HALF, TableMemory};

use crate::metal::block::Parts;
use crate::metal::memory::{self, Direct, DirectTables, FRAMES};

/// Pages: the code with its parameters, and three levels of tables that map the first 2 MiB and the kernel's half.
const PAGES: u64 = 4;
/// Where it may be: above real mode's interrupt table and the firmware's data, below the firmware's extended data, the
/// screen and ROMs.
const PLACES: core::ops::Range<u64> = 0x1..0x90;
/// Where in the first page the parameters are.
const PARAMETERS: u64 = 0xF00;

/// 32-bit code, data, 64-bit code; from 0 to 4 GiB.
const GDT: [u64; 4] = [
    0,
    0x00CF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00AF_9B00_0000_FFFF,
];
const CODE_32: u16 = 0x08;
const DATA: u16 = 0x10;
const CODE_64: u16 = 0x18;
/// PE and ET: the caches, which a reset leaves off, are on.
const CR0_PROTECTED: u32 = 0x11;
/// With WP, NE and PG.
const CR0_LONG: u32 = CR0_PROTECTED | 0x8001_0020;
/// PAE.
const CR4: u32 = 1 << 5;
/// LME, NXE.
const EFER: u32 = 1 << 8 | 1 << 11;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PRESENT: u64 = 1 << 7 | 1;

/// What the code reads.
#[repr(C)]
struct Parameters {
    gdt: [u64; 4],
    protected: u32,
    protected_selector: u16,
    padding: u16,
    long: u32,
    long_selector: u16,
    /// With the next one what LGDT takes.
    gdt_limit: u16,
    gdt_base: u32,
    cr3: u32,
    kernel_cr3: u64,
    stack: u64,
    parts: u64,
    entry: u64,
    /// The kernel's part of the way.
    upper: u64,
}

const _: () = assert!(PARAMETERS + size_of::<Parameters>() as u64 <= PAGE_SIZE);
const _: () = assert!(offset_of!(Parameters, gdt_base) == offset_of!(Parameters, gdt_limit) + 2);

/// 1 while a processor that is meant to come has not got off the trampoline.
static EXPECTED: AtomicU32 = AtomicU32::new(0);

/// A processor has got off the trampoline.
pub(super) fn left() {
    EXPECTED.store(0, Ordering::Release);
}

/// The low pages, taken from the kernel's frames.
pub(super) struct Trampoline {
    first: Pfn,
    /// What was in them.
    before: Box<[u8]>,
}

impl Trampoline {
    /// Takes the pages and writes code and tables. `None` if there are none.
    pub(super) fn new() -> Option<Self> {
        let first = FRAMES.with(|frames| {
            let low = Owner::kernel(Class::Low);
            let is_low = |pfn: u64| frames.owner(Pfn(pfn)) == Some(low);
            let place = |start: &u64| (*start..*start + PAGES).all(is_low);
            let first = Pfn((PLACES.start..PLACES.end - PAGES).find(place)?);
            frames.transfer(first, PAGES, low, Owner::KERNEL).ok()?;
            Some(first)
        })?;
        let mut before = vec![0; (PAGES * PAGE_SIZE) as usize].into_boxed_slice();
        for (page, place) in (0..).zip(before.chunks_mut(PAGE_SIZE as usize)) {
            memory::read_frame(first.plus(page), 0, place);
        }
        memory::zero(first, PAGES);
        memory::write_frame(first, 0, code().bytes);
        write_tables(first);
        Some(Self { first, before })
    }

    /// What a startup interrupt names.
    pub(super) fn page(&self) -> u8 {
        self.first.0 as u8
    }

    /// The next processor comes up on the stack of `parts` and goes to `entry` with them.
    pub(super) fn prepare(&self, parts: &'static Parts, entry: extern "C" fn(&'static Parts) -> !) {
        let base = self.first.address() as u32;
        let code = code();
        let parameters = Parameters {
            gdt: GDT,
            protected: base.wrapping_add(code.protected),
            protected_selector: CODE_32,
            padding: 0,
            long: base.wrapping_add(code.long),
            long_selector: CODE_64,
            gdt_limit: size_of_val(&GDT) as u16 - 1,
            gdt_base: base + PARAMETERS as u32,
            cr3: self.first.plus(1).address() as u32,
            kernel_cr3: memory::kernel_root().address(),
            stack: parts.stack(),
            parts: parts as *const Parts as u64,
            entry: entry as *const () as u64,
            upper: processor_upper as *const () as u64,
        };
        let place = memory::direct(self.first.address() + PARAMETERS).cast::<Parameters>();
        // SAFETY: in the trampoline's own page, aligned, and no processor is on its way: the last one has left or was reset.
        unsafe { place.write_volatile(parameters) };
        EXPECTED.store(1, Ordering::Release);
    }

    /// Whether the processor that is expected has come and left.
    pub(super) fn is_over(&self) -> bool {
        EXPECTED.load(Ordering::Acquire) == 0
    }

    /// Nobody is expected any more.
    pub(super) fn withdraw(&self) {
        EXPECTED.store(0, Ordering::Release);
    }

    /// Gives the pages back, with what was in them.
    pub(super) fn give_back(self) {
        for (page, bytes) in (0..).zip(self.before.chunks(PAGE_SIZE as usize)) {
            memory::write_frame(self.first.plus(page), 0, bytes);
        }
        let low = Owner::kernel(Class::Low);
        if let Err(error) =
            FRAMES.with(|frames| frames.transfer(self.first, PAGES, Owner::KERNEL, low))
        {
            panic!("trampoline: {error}");
        }
    }
}

/// Tables in the pages after the first one.
fn write_tables(first: Pfn) {
    let [top, second, third] = [1, 2, 3].map(|page| first.plus(page));
    let kernel = memory::kernel_root();
    FRAMES.with(|frames| {
        let mut tables = DirectTables {
            ram: Direct,
            frames,
            owner: Owner::KERNEL,
        };
        tables.write(top, 0, second.address() | PRESENT_WRITABLE);
        tables.write(second, 0, third.address() | PRESENT_WRITABLE);
        tables.write(third, 0, LARGE_PRESENT);
        for index in KERNEL_HALF..ENTRIES {
            let entry = tables.read(kernel, index);
            tables.write(top, index, entry);
        }
    });
}

/// The code, and where in it protected and long mode begin.
struct Code {
    bytes: &'static [u8],
    protected: u32,
    long: u32,
}

fn code() -> Code {
    let at = |symbol: unsafe extern "C" fn()| symbol as *const () as usize;
    let start = at(processor_trampoline);
    let len = at(processor_trampoline_end).wrapping_sub(start);
    Code {
        // SAFETY: the assembler put these bytes between the two symbols.
        bytes: unsafe { core::slice::from_raw_parts(start as *const u8, len) },
        protected: at(processor_protected).wrapping_sub(start) as u32,
        long: at(processor_long).wrapping_sub(start) as u32,
    }
}

unsafe extern "C" {
    // None of them is ever called: but for the last one, what lies there runs as a copy.
    fn processor_trampoline();
    fn processor_protected();
    fn processor_long();
    fn processor_trampoline_end();
    fn processor_upper();
}

core::arch::global_asm!(
    ".pushsection .rodata.processor_trampoline, \"a\", @progbits",
    ".balign 16",
    "processor_trampoline:",
    // Real mode, at the start of a page; EBX becomes its address.
    ".code16",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    "xor ebx, ebx",
    "mov bx, ax",
    "shl ebx, 4",
    "lgdtd [{parameters} + {gdt_limit}]",
    "mov eax, {cr0_protected}",
    "mov cr0, eax",
    "jmp fword ptr [{parameters} + {protected}]",
    ".code32",
    "processor_protected:",
    "mov ax, {data}",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "mov eax, {cr4}",
    "mov cr4, eax",
    "mov eax, [ebx + {parameters} + {cr3}]",
    "mov cr3, eax",
    "mov ecx, 0xC0000080",
    "mov eax, {efer}",
    "xor edx, edx",
    "wrmsr",
    "mov eax, {cr0_long}",
    "mov cr0, eax",
    "jmp fword ptr [ebx + {parameters} + {long}]",
    ".code64",
    "processor_long:",
    "mov ebx, ebx",
    "mov rsp, [rbx + {parameters} + {stack}]",
    "mov rdi, [rbx + {parameters} + {parts}]",
    "mov rax, [rbx + {parameters} + {kernel_cr3}]",
    "mov rcx, [rbx + {parameters} + {entry}]",
    "jmp [rbx + {parameters} + {upper}]",
    "processor_trampoline_end:",
    ".popsection",
    // In the image: the tables of the trampoline, which map it too, are left behind.
    ".pushsection .text.processor_upper, \"ax\", @progbits",
    "processor_upper:",
    "mov cr3, rax",
    "xor ebp, ebp",
    "call rcx",
    "ud2",
    ".popsection",
    parameters = const PARAMETERS,
    data = const DATA,
    cr0_protected = const CR0_PROTECTED,
    cr0_long = const CR0_LONG,
    cr4 = const CR4,
    efer = const EFER,
    gdt_limit = const offset_of!(Parameters, gdt_limit),
    protected = const offset_of!(Parameters, protected),
    long = const offset_of!(Parameters, long),
    cr3 = const offset_of!(Parameters, cr3),
    stack = const offset_of!(Parameters, stack),
    parts = const offset_of!(Parameters, parts),
    kernel_cr3 = const offset_of!(Parameters, kernel_cr3),
    entry = const offset_of!(Parameters, entry),
    upper = const offset_of!(Parameters, upper),
);
