//! Accesses to memory that is not there, or that the map flags forbid.

use guests::root::child::RWX;
use guests::root::vp::gp;
use guests::root::{Root, report};
use guests::{check, child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{
    HvCacheType, HvMapGpaFlags, HvMessageType, HvUnmapGpaFlags, HvX64MemoryInterceptMessage,
};

use crate::guest::{CODE, Guest};

child_code!(
    access_code,
    "32",
    "mov eax, dword ptr [ebx]", // 0
    "out 0x80, eax",            // 2
    "mov dword ptr [ebx], eax", // 4
    "out 0x80, eax",            // 6
    "call ebx",                 // 8
    "out 0x80, eax",            // 10
    "hlt",
);

/// Offsets, by access: read, write, execute.
const READ: u64 = 0;
const WRITE: u64 = 4;
const CALL: u64 = 8;

fn hit(
    guest: &Guest,
    root: &mut Root,
    kind: HvMessageType,
    gpa: u64,
    access: Access,
) -> HvX64MemoryInterceptMessage {
    let message: HvX64MemoryInterceptMessage = guest.run_to(root, kind);
    report::same(message.guest_physical_address, gpa, "address");
    report::same(message.header.intercept_access_type, access, "access");
    report::same(message.header.vp_index, guest.vp.index, "VP");
    report::same(
        message.header.rip,
        guest.vp.rip(),
        "RIP of message and register page",
    );
    if kind == HvMessageType::GPA_INTERCEPT {
        report::same(message.cache_type, HvCacheType::WRITE_BACK, "cache type");
    }
    let info = message.memory_access_info;
    if info.gva_valid() {
        report::same(message.guest_virtual_address, gpa, "virtual address");
    }
    if access != Access::EXECUTE {
        let bytes = &message.instruction_bytes;
        guest.check_bytes(message.header.rip, message.instruction_byte_count, bytes);
    }
    let length = message.header.instruction_length();
    check!(length == 0 || length == 2, "instruction length {length}");
    message
}

fn go(guest: &Guest, offset: u64, address: u64) {
    guest.vp.jump(CODE + offset);
    guest.vp.put(gp::RBX, address);
}

/// Addresses without a mapping: UNMAPPED_GPA.
pub fn unmapped(root: &mut Root) {
    let guest = Guest::flat(root, access_code());
    for address in [0x10_0000, 0xFEC0_0010, 0xFFFF_FFF0] {
        let kind = HvMessageType::UNMAPPED_GPA;
        go(&guest, READ, address);
        hit(&guest, root, kind, address, Access::READ);
        report::same(guest.vp.rip(), CODE, "RIP before the access");
        guest.vp.put(gp::RAX, address ^ 0x1234);
        guest.vp.skip(2);
        let heard = u64::from(guest.hear(root));
        report::same(heard, address ^ 0x1234, "what the parent answers");
        hit(&guest, root, kind, address, Access::WRITE);
        report::same(guest.vp.rip(), CODE + WRITE, "RIP before the access");
        guest.vp.skip(2);
        guest.hear(root);
        hit(&guest, root, kind, address, Access::EXECUTE);
        report::same(guest.vp.rip(), address, "RIP of a fetch");
        guest.vp.jump(CODE + CALL + 2);
        guest.hear(root);
    }
    guest.end(root);
    ok!("unmapped memory: read, written, executed");
}

/// Pages with fewer rights: GPA_INTERCEPT; the rights that are left need no intercept.
pub fn narrowed(root: &mut Root) {
    const TARGET: u64 = 0x4_0000;
    let guest = Guest::flat(root, access_code());
    let frame = guest.child.ram(TARGET);
    let kind = HvMessageType::GPA_INTERCEPT;
    let read = HvMapGpaFlags::READABLE;
    let adjustable = HvMapGpaFlags::ADJUSTABLE;
    let forms = [
        (HvMapGpaFlags::NO_ACCESS, [true, true, true]),
        (read, [false, true, true]),
        (read | HvMapGpaFlags::EXECUTABLE, [false, true, false]),
        (read | HvMapGpaFlags::WRITABLE, [false, false, true]),
        (RWX, [false, false, false]),
    ];
    for (flags, [no_read, no_write, no_execute]) in forms {
        // RET, for a call to succeed.
        guest.child.poke(TARGET, 0xC3);
        let source = if flags == HvMapGpaFlags::NO_ACCESS {
            0
        } else {
            frame
        };
        guest.child.map(root, TARGET, &[source], flags | adjustable);
        go(&guest, READ, TARGET);
        if no_read {
            hit(&guest, root, kind, TARGET, Access::READ);
            guest.vp.put(gp::RAX, 0xC3);
            guest.vp.skip(2);
        }
        report::same(guest.hear(root), 0xC3, "what was read");
        if no_write {
            hit(&guest, root, kind, TARGET, Access::WRITE);
            guest.vp.skip(2);
        }
        guest.hear(root);
        if no_execute {
            hit(&guest, root, kind, TARGET, Access::EXECUTE);
            guest.vp.jump(CODE + CALL + 2);
        }
        guest.hear(root);
        ok!("pages mapped with {flags:?}");
    }
    // An absent page counts as done; then it is unmapped, no more protected.
    let (status, done) = guest.child.unmap(root, TARGET, 1, HvUnmapGpaFlags(0));
    report::same((status.is_success(), done), (true, 1), "UnmapGpaPages");
    let (status, done) = guest.child.unmap(root, TARGET, 1, HvUnmapGpaFlags(0));
    report::same(
        (status.is_success(), done),
        (true, 1),
        "UnmapGpaPages again",
    );
    go(&guest, READ, TARGET + 8);
    hit(
        &guest,
        root,
        HvMessageType::UNMAPPED_GPA,
        TARGET + 8,
        Access::READ,
    );
    guest.child.map(root, TARGET, &[frame], RWX);
    guest.end(root);
}
