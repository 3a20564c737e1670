//! I/O ports: single ones and ranges.

use guests::root::vp::gp;
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvStatus};

use crate::guest::{Guest, NONE, RW};

child_code!(
    io_code,
    "32",
    "mov dx, 0x510",       // 0
    "mov eax, 0x789abcde", // 4
    "out dx, al",          // 9
    "out dx, ax",          // 10
    "out dx, eax",         // 12
    "out 0x71, al",        // 13
    "in al, dx",           // 15
    "in ax, dx",           // 16
    "in eax, dx",          // 18
    "out 0x80, eax",       // 19
    "mov esi, 0x4000",     // 21
    "mov ecx, 3",          // 26
    "rep outsb",           // 31
    "mov edi, 0x5000",     // 33
    "insw",                // 38
    "mov eax, ecx",        // 40
    "out 0x80, eax",       // 42
);

const ANSWER: u64 = 0x1122_3344;

/// Every form of the instruction, and every field of its message.
pub fn fields(root: &mut Root) {
    let guest = Guest::flat(root, io_code());
    let range = HvInterceptParameters::io_port_range(0x500, 0x51F);
    guest.intercept(root, HvInterceptType::X64_IO_PORT_RANGE, RW, range);
    let port = HvInterceptParameters::io_port(0x71);
    guest.intercept(root, HvInterceptType::X64_IO_PORT, RW, port);
    // Offset, length, port, size, access.
    let plain = [
        (9, 1, 0x510, 1, Access::WRITE),
        (10, 2, 0x510, 2, Access::WRITE),
        (12, 1, 0x510, 4, Access::WRITE),
        (13, 2, 0x71, 1, Access::WRITE),
        (15, 1, 0x510, 1, Access::READ),
        (16, 2, 0x510, 2, Access::READ),
        (18, 1, 0x510, 4, Access::READ),
    ];
    for (offset, length, port, size, access) in plain {
        let message = guest.run_to_port(root, port);
        guest.check_header(&message.header, offset, length, access);
        let info = message.access_info;
        report::same(info.access_size(), size, "size of a port access");
        report::same(
            info.string_op() || info.rep_prefix(),
            false,
            "string or REP",
        );
        let bytes = &message.instruction_bytes;
        guest.check_bytes(message.header.rip, message.instruction_byte_count, bytes);
        report::same(message.rax as u32, 0x789A_BCDE, "RAX");
        if size == 4 && access == Access::READ {
            guest.vp.put(gp::RAX, ANSWER);
        }
        guest.vp.skip(length);
    }
    report::same(u64::from(guest.hear(root)), ANSWER, "what IN was given");
    ok!("IN and OUT of every size: header, port, access info, RAX");

    let message = guest.run_to_port(root, 0x510);
    guest.check_header(&message.header, 31, 2, Access::WRITE);
    let info = message.access_info;
    report::same(
        (info.access_size(), info.string_op(), info.rep_prefix()),
        (1, true, true),
        "REP OUTSB",
    );
    report::same((message.rsi, message.rcx), (0x4000, 3), "RSI and RCX");
    report::same(message.ds_segment, guest.vp.page().segment[3], "DS");
    guest.vp.put(gp::RCX, 0);
    guest.vp.skip(2);
    let message = guest.run_to_port(root, 0x510);
    guest.check_header(&message.header, 38, 2, Access::READ);
    let info = message.access_info;
    report::same(
        (info.access_size(), info.string_op(), info.rep_prefix()),
        (2, true, false),
        "INSW",
    );
    report::same(message.rdi, 0x5000, "RDI");
    report::same(message.es_segment, guest.vp.page().segment[0], "ES");
    guest.vp.skip(2);
    report::same(
        guest.hear(root),
        0,
        "ECX after REP OUTSB was done for the child",
    );
    guest.end(root);
    ok!("INS and OUTS: string, REP, RSI, RDI, RCX, DS, ES");
}

child_code!(
    mask_code,
    "32",
    "mov dx, 0x605",
    "xor eax, eax",
    "in eax, dx",
    "out 0x80, eax",
    "out dx, al",
    "xor eax, eax",
    "in al, dx",
    "out 0x80, eax",
    "out dx, al",
    "xor eax, eax",
    "in al, dx",
    "out 0x80, eax",
);

/// Masks: what is removed reads as all ones and swallows writes; reads and writes are told apart; a range includes its
/// ends.
pub fn masks(root: &mut Root) {
    let guest = Guest::flat(root, mask_code());
    let ports = HvInterceptType::X64_IO_PORT_RANGE;
    let range = HvInterceptParameters::io_port_range(0x5F0, 0x60F);
    guest.intercept(root, ports, NONE, range);
    report::same(guest.hear(root), u32::MAX, "an open bus");
    let one = HvInterceptParameters::io_port_range(0x605, 0x605);
    guest.intercept(root, ports, HvInterceptAccessMask::WRITE, one);
    let message = guest.run_to_port(root, 0x605);
    report::same(
        message.header.intercept_access_type,
        Access::WRITE,
        "access",
    );
    guest.vp.skip(1);
    report::same(
        guest.hear(root),
        0xFF,
        "a read of a port with write intercepts",
    );
    let single = HvInterceptParameters::io_port(0x605);
    let port = HvInterceptType::X64_IO_PORT;
    guest.intercept(root, port, HvInterceptAccessMask::READ, single);
    let message = guest.run_to_port(root, 0x605);
    report::same(message.header.intercept_access_type, Access::READ, "access");
    guest.vp.put(gp::RAX, 0x5A);
    guest.vp.skip(1);
    report::same(guest.hear(root), 0x5A, "a read that the parent answers");
    for (kind, mask, parameter) in [
        (
            ports,
            RW,
            HvInterceptParameters::io_port_range(0x610, 0x60F),
        ),
        (port, HvInterceptAccessMask::EXECUTE, single),
        (port, RW, HvInterceptParameters(0x1_0000)),
    ] {
        let status = guest.child.try_intercept(root, kind, mask, parameter);
        report::status(status, HvStatus::INVALID_PARAMETER, "a bad port intercept");
    }
    guest.end(root);
    ok!("port intercepts by mask, by port and by range");
}
