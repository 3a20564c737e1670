//! 32-bit PAE paging whose registers the parent sets: the processor has to use the page directory pointers that the child's
//! memory has then, as if the child had loaded CR3 itself.

use guests::metal::vendor::{Vendor, vendor};
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::{
    HvMessageType, HvRegisterName, HvX64InvalidVpRegisterMessage, HvX64MemoryInterceptMessage,
};

use crate::guest::{CODE, Guest};

child_code!(
    window_code,
    "32",
    "3: mov eax, dword ptr [0x40000000]", // 0
    "out 0x80, eax",                      // 5
    "jmp 3b",                             // 7
    "mov ecx, cr3",                       // 9
    "xor ecx, 0x20",
    "mov cr3, ecx",
    "jmp 3b",
);

/// Where the code goes to the other table by itself.
const OTHER: u64 = 9;

/// Tables that begin with a page directory pointer for the first GiB and one for the window.
const ONE: u64 = 0x1_0000;
const TWO: u64 = 0x1_0020;
/// The same with a reserved bit.
const BAD: u64 = 0x1_0040;
/// Not in the child's memory.
const ABSENT: u64 = 0x8000_0000;

const LOW: u64 = 0x1_1000;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 1 << 7;
const PAGING: u64 = 0x8000_0011;
const PAE: u64 = 0x20;

/// The first 2 MiB one to one, and in the window a page that begins with `value`.
fn build(guest: &Guest, table: u64, window: u64, value: u64) {
    let (directory, last, page) = (window, window + 0x1000, window + 0x2000);
    for (place, entry) in [
        (table, LOW | PRESENT),
        (table + 8, directory | PRESENT),
        (LOW, LARGE | WRITABLE | PRESENT),
        (directory, last | WRITABLE | PRESENT),
        (last, page | WRITABLE | PRESENT),
        (page, value),
    ] {
        guest.child.poke(place, entry);
    }
}

/// Paging begins, goes to other tables, ends and begins again from outside, and goes on from inside.
pub fn set_from_outside(root: &mut Root) {
    let guest = Guest::flat(root, window_code());
    build(&guest, ONE, 0x2_0000, 0x1111);
    build(&guest, TWO, 0x3_0000, 0x2222);
    build(&guest, BAD, 0x4_0000, 0x3333);
    guest.child.poke(BAD + 8, 0x4_0000 | PRESENT | 1 << 1);
    let set = |root: &Root, name, value| guest.vp.set64(root, &[(name, value)]);
    let cr3 = |root: &Root, table| set(root, HvRegisterName::CR3, table);
    cr3(root, ONE);
    set(root, HvRegisterName::CR4, PAE);
    set(root, HvRegisterName::CR0, PAGING);
    report::same(guest.hear(root), 0x1111, "the window of the first table");
    cr3(root, TWO);
    report::same(guest.hear(root), 0x2222, "the window of the second table");
    guest.vp.jump(CODE + OTHER);
    report::same(guest.hear(root), 0x1111, "what the child loads itself");
    report::same(guest.hear(root), 0x1111, "what an exit has kept");
    set(root, HvRegisterName::CR0, PAGING & 0xFFFF);
    cr3(root, TWO);
    set(root, HvRegisterName::CR0, PAGING);
    report::same(guest.hear(root), 0x2222, "after a time without paging");
    ok!("PAE paging set from outside uses the tables of then");
    cr3(root, ABSENT);
    let message: HvX64MemoryInterceptMessage = guest.run_to(root, HvMessageType::UNMAPPED_GPA);
    let page = message.guest_physical_address & !0xFFF;
    report::same(page, ABSENT, "where the table should be");
    cr3(root, ONE);
    report::same(guest.hear(root), 0x1111, "a table that is there again");
    ok!("a table that is absent is an intercept");
    if vendor() == Vendor::Intel {
        cr3(root, BAD);
        let _: HvX64InvalidVpRegisterMessage =
            guest.run_to(root, HvMessageType::INVALID_VP_REGISTER_VALUE);
        cr3(root, TWO);
        report::same(guest.hear(root), 0x2222, "after a bad table");
        ok!("reserved bits of a page directory pointer are found at the next run");
    }
    guest.end(root);
}
