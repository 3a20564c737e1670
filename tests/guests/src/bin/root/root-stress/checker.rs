//! What the children run: both VPs read and write random pages of a window, and interrupt each other.

use guests::child_code;

/// Where the code lies.
pub const CODE: u64 = 0x1000;
/// Handler of [`IPI`].
pub const HANDLER: u64 = CODE + 0x200;
/// Descriptor tables.
pub const GDT: u64 = 0x2000;
/// Interrupt descriptor table: up to the gate of [`IPI`].
pub const IDT: u64 = 0x3000;
/// Counters of each VP, of 8 bytes: rounds @0, interrupts @4.
pub const COUNTERS: u64 = 0x4000;
/// Pages of RAM from 0 on, stacks at the end.
pub const RAM_PAGES: u64 = 8;
/// The window.
pub const WINDOW: u64 = 0x40_0000;
/// Pages in the window.
pub const PAGES: usize = 64;
/// The interrupt by which VPs wake each other.
pub const IPI: u8 = 0x40;
/// Port at which a VP complains: EAX what it found, EBX what should be there.
pub const COMPLAIN: u16 = 0x99;

child_code! {
    /// 32-bit, without paging. EBP is the pattern of page 0, EDI a number for randomness, ESI the ICR's high half: the
    /// other VP.
    checker, "32",
    // The local APIC on.
    "mov ecx, 0x80F",
    "mov eax, 0x1FF",
    "xor edx, edx",
    "wrmsr",
    "sti",
    "2:",
    // xorshift
    "mov eax, edi",
    "shl eax, 13",
    "xor edi, eax",
    "mov eax, edi",
    "shr eax, 17",
    "xor edi, eax",
    "mov eax, edi",
    "shl eax, 5",
    "xor edi, eax",
    // A word of a page of the window.
    "mov ecx, edi",
    "and ecx, 0x3FFFC",
    "mov ebx, ecx",
    "shr ebx, 12",
    "or ebx, ebp",
    "mov eax, [ecx + 0x400000]",
    "cmp eax, ebx",
    "jne 5f",
    "mov [ecx + 0x400000], ebx",
    "lock inc dword ptr [esp]",
    "test dword ptr [esp], 0x3FF",
    "jne 2b",
    // The other VP, and sleep until somebody wakes this one: now and then.
    "mov ecx, 0x830",
    "mov eax, 0x4040",
    "mov edx, esi",
    "wrmsr",
    "test dword ptr [esp], 0xFFF",
    "jne 2b",
    "hlt",
    "jmp 2b",
    "5:",
    "out 0x99, eax",
    "jmp 2b",
}

child_code! {
    /// The handler: counts, ends the interrupt. ESP + 12 was the stack pointer that the checker uses as a counter.
    handler, "32",
    "push eax",
    "push ecx",
    "push edx",
    "lock inc dword ptr [esp + 28]",
    "mov ecx, 0x80B",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "pop edx",
    "pop ecx",
    "pop eax",
    "iretd",
}

/// The code of a VP.
pub fn code() -> &'static [u8] {
    checker()
}

/// The code of the handler.
pub fn handler_code() -> &'static [u8] {
    handler()
}
