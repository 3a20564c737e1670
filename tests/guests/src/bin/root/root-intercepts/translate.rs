//! TranslateVirtualAddress, with page tables of the child's in 64-bit mode.

use guests::root::child::RWX;
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::HvTranslateGvaResultCode as Code;
use tlfs::{
    HvCacheType, HvCallCode, HvInputTranslateVirtualAddress, HvMapGpaFlags,
    HvOutputTranslateVirtualAddress, HvRegisterName, HvTranslateGvaControlFlags, HvUnmapGpaFlags,
};

use crate::guest::Guest;

child_code!(idle_code, "64", "2: mov eax, 1", "out 0x80, eax", "jmp 2b",);

/// Where the page tables lie.
pub const PML4: u64 = 0x1_0000;
const PDPT: u64 = 0x1_1000;
const DIRECTORY: u64 = 0x1_2000;
const TABLE: u64 = 0x1_3000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// Maps the first 2 MiB one to one with 4 KiB pages for the supervisor, writable.
pub fn build(guest: &Guest) {
    let all = PRESENT | WRITABLE | USER;
    for (table, next) in [(PML4, PDPT), (PDPT, DIRECTORY), (DIRECTORY, TABLE)] {
        guest.child.poke(table, next | all);
    }
    for page in 0..512 {
        set_page(guest, page, page << 12 | PRESENT | WRITABLE);
    }
}

/// Sets the entry of a page.
pub fn set_page(guest: &Guest, page: u64, entry: u64) {
    guest.child.poke(TABLE + 8 * page, entry);
}

fn entry(guest: &Guest, page: u64) -> u64 {
    guest.peek(TABLE + 8 * page)
}

fn translate(
    guest: &Guest,
    root: &Root,
    gva_page: u64,
    control_flags: HvTranslateGvaControlFlags,
) -> HvOutputTranslateVirtualAddress {
    let input = HvInputTranslateVirtualAddress {
        partition_id: guest.vp.partition,
        vp_index: guest.vp.index,
        padding: 0,
        control_flags,
        gva_page,
    };
    let call = HvCallCode::TRANSLATE_VIRTUAL_ADDRESS;
    report::value(root.calls.ask(call, &input), "TranslateVirtualAddress")
}

const READ: HvTranslateGvaControlFlags = HvTranslateGvaControlFlags::new().with_validate_read(true);
const WRITE: HvTranslateGvaControlFlags =
    HvTranslateGvaControlFlags::new().with_validate_write(true);
const EXECUTE: HvTranslateGvaControlFlags =
    HvTranslateGvaControlFlags::new().with_validate_execute(true);

fn ready(root: &mut Root) -> Guest {
    let guest = Guest::long(root, idle_code(), PML4);
    build(&guest);
    guest.hear(root);
    guest
}

/// Every result that a translation can have here.
pub fn results(root: &mut Root) {
    let guest = ready(root);
    // Supervisors obey read-only pages.
    guest.vp.set64(root, &[(HvRegisterName::CR0, 0x8001_0011)]);
    set_page(&guest, 0x20, 0x20 << 12 | PRESENT);
    set_page(&guest, 0x21, 0x21 << 12 | PRESENT | WRITABLE | USER);
    set_page(&guest, 0x22, 0);
    set_page(&guest, 0x23, 1 << 38 | PRESENT | WRITABLE);
    set_page(&guest, 0x24, 0x24 << 12 | PRESENT | WRITABLE);
    // A reserved bit above the physical address width of any processor that there is.
    set_page(&guest, 0x25, 1 << 51 | 0x25 << 12 | PRESENT | WRITABLE);
    let frame = guest.child.ram(0x2_4000);
    let adjustable = HvMapGpaFlags::ADJUSTABLE;
    let read_only = HvMapGpaFlags::READABLE | adjustable;
    guest.child.map(root, 0x2_4000, &[frame], read_only);
    let user = READ.with_user_access(true);
    let cases = [
        (0x30, READ, Code::SUCCESS),
        (0x30, WRITE, Code::SUCCESS),
        (0x30, EXECUTE, Code::SUCCESS),
        (0x20, READ, Code::SUCCESS),
        (0x20, WRITE, Code::PRIVILEGE_VIOLATION),
        (0x21, user, Code::SUCCESS),
        (0x30, user, Code::PRIVILEGE_VIOLATION),
        (0x30, user.with_privilege_exempt(true), Code::SUCCESS),
        (0x22, READ, Code::PAGE_NOT_PRESENT),
        (0x7_FFFF_FFFF, READ, Code::PAGE_NOT_PRESENT),
        (0x23, READ, Code::GPA_UNMAPPED),
        (0x24, READ, Code::SUCCESS),
        (0x24, WRITE, Code::GPA_NO_WRITE_ACCESS),
        (0x25, READ, Code::INVALID_PAGE_TABLE_FLAGS),
    ];
    for (page, control, wanted) in cases {
        let output = translate(&guest, root, page, control);
        if output.result_code != wanted {
            guests::fail!(
                "page {page:#x} with {control:?}: {:?} instead of {wanted:?}",
                output.result_code
            );
        }
        if wanted == Code::SUCCESS {
            report::same(output.gpa_page, page, "GPA page");
            let cache = u32::from(output.cache_type);
            report::same(cache, HvCacheType::WRITE_BACK.0, "cache type");
        }
        ok!("page {page:#x}: {wanted:?}");
    }
    guest.child.map(root, 0x2_4000, &[frame], RWX);
    guest.end(root);
}

/// What a translation leaves behind: accessed and dirty bits, the TLB lock.
pub fn flags(root: &mut Root) {
    let guest = ready(root);
    let bits = ACCESSED | DIRTY;
    report::same(entry(&guest, 0x40) & bits, 0, "a fresh entry");
    translate(&guest, root, 0x40, WRITE);
    report::same(entry(&guest, 0x40) & bits, 0, "a translation without marks");
    translate(&guest, root, 0x40, READ.with_set_page_table_bits(true));
    report::same(entry(&guest, 0x40) & bits, ACCESSED, "a marked read");
    translate(&guest, root, 0x40, WRITE.with_set_page_table_bits(true));
    report::same(entry(&guest, 0x40) & bits, bits, "a marked write");
    let lock = |root: &Root| guest.get(root, HvRegisterName::INTERCEPT_SUSPEND) & 2;
    report::same(lock(root), 0, "the TLB lock of a port intercept");
    translate(&guest, root, 0x40, READ.with_tlb_flush_inhibit(true));
    report::same(lock(root), 2, "the TLB lock");
    guest.hear(root);
    report::same(lock(root), 0, "the TLB lock after a resume");
    let (status, _) = guest.child.unmap(root, 0x4_0000, 1, HvUnmapGpaFlags(0));
    report::same(status.is_success(), true, "UnmapGpaPages");
    let output = translate(&guest, root, 0x40, READ);
    report::same(
        output.result_code,
        Code::GPA_UNMAPPED,
        "a page unmapped since",
    );
    guest.end(root);
    ok!("translations mark page tables, and lock the TLB, only if asked");
}
