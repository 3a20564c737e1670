//! From real mode to our tables.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::boot::paging::{LARGE, PRESENT};
use crate::cpu::tables::{CODE_DESCRIPTOR, DATA_DESCRIPTOR};
use crate::mem::addr::{PAGE_SHIFT, PAGE_SIZE, Spa};
use crate::mem::phys::PhysMap;

/// Pages: the code with its parameters, and three levels of page tables.
pub(super) const PAGES: usize = 4;
/// Where in the first page the parameters are.
const PARAMETERS: usize = 0xF00;

const WRITABLE: u64 = 1 << 1;
/// Entries of a table that are for the upper half.
const UPPER_HALF: core::ops::Range<u64> = 256..512;

/// 32-bit code, data, 64-bit code; from 0 to 4 GiB.
const GDT: [u64; 4] = [0, 0x00CF_9B00_0000_FFFF, DATA_DESCRIPTOR, CODE_DESCRIPTOR];
/// PE, ET, NE, WP, PG.
const CR0: u32 = 0x8001_0031;
/// PAE.
const CR4: u32 = 1 << 5;
/// LME, NXE.
const EFER: u32 = 1 << 8 | 1 << 11;

/// What the code reads and writes.
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
    /// 1 for the processor that may go on; it makes a 0 of it.
    claim: AtomicU32,
    cr3: u32,
    padding_2: u32,
    host_cr3: u64,
    stack: u64,
    seed: u64,
    entry: u64,
    /// Where the image's part of the way begins.
    upper: u64,
}

const _: () = assert!(PARAMETERS + size_of::<Parameters>() <= PAGE_SIZE as usize);
const _: () = assert!(offset_of!(Parameters, gdt_base) == offset_of!(Parameters, gdt_limit) + 2);

/// The low pages, with what a processor needs to come up.
pub(super) struct Trampoline {
    phys: PhysMap,
    page: Spa,
    parameters: &'static mut Parameters,
}

impl Trampoline {
    /// The code, and tables that map the first 2 MiB and the upper half of the tables at `host`.
    ///
    /// # Safety
    /// `page` and the pages behind it, [`PAGES`] in all, are RAM below 1 MiB that nobody else uses as long as the value
    /// lives; `host` is the root of our tables.
    pub(super) unsafe fn new(phys: PhysMap, page: Spa, host: Spa) -> Self {
        let [pml4, pdpt, directory] = [1, 2, 3].map(|n| Spa(page.0 + n * PAGE_SIZE));
        for n in 0..PAGES as u64 {
            let _ = phys.zero_page(Spa(page.0 + n * PAGE_SIZE).page());
        }
        let set = |table: Spa, index: u64, entry: u64| {
            let _ = phys.copy_to(Spa(table.0 + 8 * index), &entry.to_le_bytes());
        };
        set(pml4, 0, pdpt.0 | PRESENT | WRITABLE);
        set(pdpt, 0, directory.0 | PRESENT | WRITABLE);
        set(directory, 0, PRESENT | LARGE);
        for index in UPPER_HALF {
            let entry = phys.read_u64(Spa(host.0 + 8 * index)).unwrap_or(0);
            set(pml4, index, entry);
        }
        let (code, protected, long) = code();
        let _ = phys.copy_to(page, code);
        let Some(start) = phys.frame_ptr(page.page()) else {
            unreachable!("all RAM is in the direct map");
        };
        // SAFETY: inside the page, aligned, zeroed, nobody else's; every field takes zero.
        let parameters = unsafe {
            start
                .cast::<u8>()
                .add(PARAMETERS)
                .cast::<Parameters>()
                .as_mut()
        };
        let base = page.0 as u32;
        parameters.gdt = GDT;
        parameters.gdt_limit = size_of_val(&GDT) as u16 - 1;
        parameters.gdt_base = base + PARAMETERS as u32;
        (parameters.protected, parameters.protected_selector) = (base + protected, 0x08);
        (parameters.long, parameters.long_selector) = (base + long, 0x18);
        parameters.cr3 = pml4.0 as u32;
        parameters.host_cr3 = host.0;
        parameters.upper = partita_secondary as *const () as u64;
        Self {
            phys,
            page,
            parameters,
        }
    }

    /// The next processor comes up on `stack` and goes to `entry` with `seed`.
    pub(super) fn prepare<S>(
        &mut self,
        stack: u64,
        seed: *mut S,
        entry: unsafe extern "sysv64" fn(*mut S) -> !,
    ) {
        self.parameters.stack = stack;
        self.parameters.seed = seed as u64;
        self.parameters.entry = entry as *const () as u64;
        self.parameters.claim.store(1, Ordering::Release);
    }

    /// A processor has come for what was prepared.
    pub(super) fn is_taken(&self) -> bool {
        self.parameters.claim.load(Ordering::Acquire) == 0
    }

    /// Takes back what was prepared. False if a processor has come for it.
    pub(super) fn withdraw(&self) -> bool {
        self.parameters.claim.swap(0, Ordering::AcqRel) != 0
    }

    /// What a startup message names.
    pub(super) const fn vector(&self) -> u8 {
        (self.page.0 >> PAGE_SHIFT) as u8
    }

    /// Ends it. A processor that comes after all finds code that puts it to sleep.
    pub(super) fn clear(self) {
        // What was prepared last is gone or taken. The tables have addresses of ours, which are nobody's business.
        for n in 1..PAGES as u64 {
            let _ = self.phys.zero_page(Spa(self.page.0 + n * PAGE_SIZE).page());
        }
    }
}

/// The code, and where in it protected and long mode begin.
fn code() -> (&'static [u8], u32, u32) {
    let at = |symbol: unsafe extern "C" fn()| symbol as *const () as usize;
    let start = at(partita_trampoline);
    let length = at(partita_trampoline_end) - start;
    // SAFETY: the assembler put these bytes between the two symbols.
    let code = unsafe { core::slice::from_raw_parts(start as *const u8, length) };
    let protected = at(partita_trampoline_protected) - start;
    let long = at(partita_trampoline_long) - start;
    (code, protected as u32, long as u32)
}

unsafe extern "C" {
    // None of them is ever called: what lies there runs as a copy.
    fn partita_trampoline();
    fn partita_trampoline_protected();
    fn partita_trampoline_long();
    fn partita_trampoline_end();
    fn partita_secondary();
}

core::arch::global_asm!(
    ".pushsection .rodata.partita_trampoline,\"a\",@progbits",
    ".balign 16",
    ".globl partita_trampoline, partita_trampoline_protected, partita_trampoline_long, partita_trampoline_end",
    // Real mode, at the start of a page; EBX becomes its address.
    "partita_trampoline:",
    ".code16",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "xorl %ebx, %ebx",
    "movw %ax, %bx",
    "shll $4, %ebx",
    "lgdtl {parameters} + {gdt_limit}",
    // PE and ET; the caches, which INIT has left off, on.
    "movl $0x11, %eax",
    "movl %eax, %cr0",
    "ljmpl *({parameters} + {protected})",
    ".code32",
    "partita_trampoline_protected:",
    "movw $0x10, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "xorl %eax, %eax",
    "xchgl %eax, {parameters} + {claim}(%ebx)",
    "testl %eax, %eax",
    "jnz 2f",
    "1:",
    "hlt",
    "jmp 1b",
    "2:",
    "movl ${cr4}, %eax",
    "movl %eax, %cr4",
    "movl {parameters} + {cr3}(%ebx), %eax",
    "movl %eax, %cr3",
    "movl $0xC0000080, %ecx",
    "movl ${efer}, %eax",
    "xorl %edx, %edx",
    "wrmsr",
    "movl ${cr0}, %eax",
    "movl %eax, %cr0",
    "ljmpl *{parameters} + {long}(%ebx)",
    ".code64",
    "partita_trampoline_long:",
    "movl %ebx, %ebx",
    "movq {parameters} + {stack}(%rbx), %rsp",
    "movq {parameters} + {seed}(%rbx), %rdi",
    "movq {parameters} + {host_cr3}(%rbx), %rax",
    "movq {parameters} + {entry}(%rbx), %rcx",
    "jmpq *{parameters} + {upper}(%rbx)",
    "partita_trampoline_end:",
    ".popsection",
    // In the image: the tables of the trampoline, which map it too, are left behind.
    ".pushsection .text.partita_secondary,\"ax\",@progbits",
    ".globl partita_secondary",
    "partita_secondary:",
    "movq %rax, %cr3",
    "xorl %ebp, %ebp",
    "callq *%rcx",
    "ud2",
    ".popsection",
    parameters = const PARAMETERS,
    gdt_limit = const offset_of!(Parameters, gdt_limit),
    protected = const offset_of!(Parameters, protected),
    long = const offset_of!(Parameters, long),
    claim = const offset_of!(Parameters, claim),
    cr3 = const offset_of!(Parameters, cr3),
    stack = const offset_of!(Parameters, stack),
    seed = const offset_of!(Parameters, seed),
    host_cr3 = const offset_of!(Parameters, host_cr3),
    entry = const offset_of!(Parameters, entry),
    upper = const offset_of!(Parameters, upper),
    cr0 = const CR0,
    cr4 = const CR4,
    efer = const EFER,
    options(att_syntax)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::paging::translate;
    use crate::mem::testing::TestMemory;

    const PAGE: Spa = Spa(0x9000);
    const HOST: Spa = Spa(0x2_0000);

    fn read(memory: &TestMemory, offset: usize) -> u64 {
        memory
            .phys()
            .read_u64(Spa(PAGE.0 + (PARAMETERS + offset) as u64))
            .unwrap()
    }

    #[test]
    fn its_tables_map_itself_and_the_upper_half() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        let entries = [
            (0, 0x1111_1003_u64),
            (255, 0x2222_2003),
            (256, 0x3333_3003),
            (511, 0x4444_4003),
        ];
        for (index, entry) in entries {
            phys.copy_to(Spa(HOST.0 + 8 * index), &entry.to_le_bytes())
                .unwrap();
        }
        // SAFETY: the test's memory, used by nothing else.
        let trampoline = unsafe { Trampoline::new(phys, PAGE, HOST) };
        let cr3 = read(&memory, offset_of!(Parameters, cr3)) as u32;
        let root = Spa(cr3.into());
        assert_eq!(root, Spa(PAGE.0 + 0x1000));
        assert_eq!(translate(phys, root, PAGE.0 + 5), Some(Spa(PAGE.0 + 5)));
        assert_eq!(translate(phys, root, 0x20_0000), None);
        let copied = |index: u64| phys.read_u64(Spa(root.0 + 8 * index)).unwrap();
        assert_eq!(
            [copied(255), copied(256), copied(511)],
            [0, 0x3333_3003, 0x4444_4003]
        );
        assert_eq!(trampoline.vector(), 9);
        trampoline.clear();
        assert_eq!((copied(0), copied(511)), (0, 0));
    }

    #[test]
    fn one_processor_comes_for_what_was_prepared() {
        unsafe extern "sysv64" fn entry(_: *mut u8) -> ! {
            unreachable!("only its address counts")
        }
        let memory = TestMemory::new(2);
        // SAFETY: the test's memory, used by nothing else.
        let mut trampoline = unsafe { Trampoline::new(memory.phys(), PAGE, HOST) };
        assert!(
            trampoline.is_taken() && !trampoline.withdraw(),
            "nothing is prepared"
        );
        let mut seed = 0_u8;
        trampoline.prepare(0x7000, &raw mut seed, entry);
        assert!(!trampoline.is_taken());
        assert_eq!(read(&memory, offset_of!(Parameters, stack)), 0x7000);
        assert_eq!(
            read(&memory, offset_of!(Parameters, seed)),
            &raw const seed as u64
        );
        assert!(trampoline.withdraw() && !trampoline.withdraw());
    }

    #[test]
    fn the_code_fits_before_its_parameters() {
        let (code, protected, long) = code();
        assert!(code.len() <= PARAMETERS);
        assert!(0 < protected && protected < long && (long as usize) < code.len());
        assert_eq!(code[0], 0xFA, "CLI");
    }
}
