//! Intercepts against a bus that remembers, and against the real board.

use proptest::prelude::*;
use tlfs::{
    HvInterceptAccessType, HvVpIndex, HvX64InstructionLengthAndCr8, HvX64InterceptMessageHeader,
    HvX64IoPortAccessInfo, HvX64RegisterPage, HvX64RegisterPageDirtyFlags as Dirty,
    HvX64SegmentAttributes, HvX64SegmentRegister, HvX64VpExecutionState,
};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::direct::DirectBoard;
use crate::layout::{PAGE, RamLayout};
use crate::ram::{OutOfRam, VecRam};

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSI: usize = 6;
const RDI: usize = 7;
/// Where the tests' instructions are.
const RIP: u64 = 0x1000;
/// Device memory in the tests.
const DEVICE: u64 = 0xFEC0_0010;

/// What a bus was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    PortRead(u16, u8),
    PortWrite(u16, u8, u32),
    MemoryRead(u64, u8),
    MemoryWrite(u64, u8, u64),
}

/// A bus that remembers, and reads the same value everywhere.
#[derive(Default)]
struct Recorder {
    asked: Vec<Asked>,
    reads: u64,
}

impl Bus for Recorder {
    fn port_read(&mut self, port: u16, size: u8, _now: u64) -> u32 {
        self.asked.push(Asked::PortRead(port, size));
        self.reads as u32
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, _now: u64) {
        self.asked.push(Asked::PortWrite(port, size, value));
    }

    fn memory_read(&mut self, gpa: u64, size: u8, _now: u64) -> u64 {
        self.asked.push(Asked::MemoryRead(gpa, size));
        self.reads
    }

    fn memory_write(&mut self, gpa: u64, size: u8, value: u64, _now: u64) {
        self.asked.push(Asked::MemoryWrite(gpa, size, value));
    }

    fn end_of_interrupt(&mut self, _vector: u8) {}

    fn take_end(&mut self) -> Option<Outcome> {
        None
    }
}

/// RAM behind page tables that map every address to itself plus 0x1_0000, but for one missing page.
struct Paged {
    ram: VecRam,
    missing: u64,
    translations: usize,
}

const SHIFT: u64 = 0x1_0000;

impl GuestRam for Paged {
    fn layout(&self) -> RamLayout {
        self.ram.layout()
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        self.ram.read(gpa, buf)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.ram.write(gpa, data)
    }
}

impl Guest for Paged {
    fn translate(&mut self, gva: u64, _access: Access) -> Result<u64, TranslateError> {
        self.translations += 1;
        if gva & !(PAGE - 1) == self.missing {
            Err(TranslateError::NotPresent)
        } else {
            Ok(gva.wrapping_add(SHIFT))
        }
    }
}

/// A VP with its surroundings.
struct Vp {
    bus: Recorder,
    guest: Paged,
    page: HvX64RegisterPage,
}

impl Vp {
    /// In 64-bit mode with paging.
    fn new() -> Self {
        let mut page = HvX64RegisterPage::new_zeroed();
        page.is_valid = 1;
        page.rip = RIP;
        page.rflags = 2;
        page.cr0 = 0x8000_0001;
        page.efer = 0x500;
        page.segment[1].attributes = HvX64SegmentAttributes::from_bits(0xA09B);
        Self {
            bus: Recorder::default(),
            guest: Paged {
                ram: VecRam::new(1 << 20),
                missing: u64::MAX,
                translations: 0,
            },
            page,
        }
    }

    /// In 16-bit real mode, DS at 0x2000, ES at 0x3000.
    fn real_mode() -> Self {
        let mut vp = Self::new();
        (vp.page.cr0, vp.page.efer) = (0, 0);
        vp.page.segment = [HvX64SegmentRegister::default(); 6];
        vp.page.segment[3].base = 0x2000;
        vp.page.segment[0].base = 0x3000;
        vp
    }

    fn header(&self, access: HvInterceptAccessType, length: u8) -> HvX64InterceptMessageHeader {
        HvX64InterceptMessageHeader {
            vp_index: HvVpIndex(0),
            instruction_length_and_cr8: HvX64InstructionLengthAndCr8::new()
                .with_instruction_length(length),
            intercept_access_type: access,
            execution_state: HvX64VpExecutionState::new()
                .with_efer_lma(self.page.efer & 0x400 != 0),
            cs_segment: self.page.segment[1],
            rip: self.page.rip,
            rflags: self.page.rflags,
        }
    }

    fn handle(&mut self, message: &HvMessage) -> Outcome {
        let mut registers = Registers::new(&mut self.page).unwrap();
        handle(&mut self.bus, message, &mut registers, &mut self.guest, 0)
    }

    fn port(&mut self, access: HvInterceptAccessType, port: u16, size: u8) -> Outcome {
        let intercept = HvX64IoPortInterceptMessage {
            header: self.header(access, 2),
            port_number: port,
            access_info: HvX64IoPortAccessInfo::new().with_access_size(size),
            ..Default::default()
        };
        self.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept)
    }

    fn string_port(&mut self, code: &[u8]) -> Outcome {
        let intercept = HvX64IoPortInterceptMessage {
            header: self.header(HvInterceptAccessType::WRITE, code.len() as u8),
            port_number: 0x3F8,
            access_info: HvX64IoPortAccessInfo::new()
                .with_access_size(1)
                .with_string_op(true),
            instruction_byte_count: code.len() as u8,
            instruction_bytes: padded(code),
            ..Default::default()
        };
        self.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept)
    }

    fn memory(&mut self, code: &[u8]) -> Outcome {
        let intercept = HvX64MemoryInterceptMessage {
            header: self.header(HvInterceptAccessType::READ, 0),
            guest_physical_address: DEVICE,
            instruction_byte_count: code.len() as u8,
            instruction_bytes: padded(code),
            ..Default::default()
        };
        self.send(HvMessageType::UNMAPPED_GPA, &intercept)
    }

    fn send<T: IntoBytes + Immutable>(&mut self, kind: HvMessageType, payload: &T) -> Outcome {
        self.handle(&HvMessage::new(kind, 1, payload).unwrap())
    }

    fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.guest.read(gpa, &mut bytes).unwrap();
        bytes
    }
}

fn padded(code: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..code.len()].copy_from_slice(code);
    bytes
}

#[test]
fn in_changes_only_the_bytes_it_reads_but_clears_the_upper_half_for_32_bits() {
    for (size, expected) in [
        (1, 0x1111_2222_3333_44EF),
        (2, 0x1111_2222_3333_BEEF),
        (4, 0xDEAD_BEEF),
    ] {
        let mut vp = Vp::new();
        vp.bus.reads = 0xDEAD_BEEF;
        vp.page.gp_registers[RAX] = 0x1111_2222_3333_4444;
        let outcome = vp.port(HvInterceptAccessType::READ, 0x3FD, size);
        assert_eq!(outcome, Outcome::Resume);
        assert_eq!(vp.page.gp_registers[RAX], expected);
        assert_eq!(vp.page.rip, RIP + 2);
        let dirty = Dirty::GENERAL_PURPOSE | Dirty::INSTRUCTION_POINTER;
        assert_eq!(vp.page.dirty, dirty);
        assert_eq!(vp.bus.asked, [Asked::PortRead(0x3FD, size)]);
    }
}

#[test]
fn out_writes_the_low_bytes_of_rax_and_leaves_the_registers_alone() {
    for (size, expected) in [(1, 0x44), (2, 0x3344), (4, 0x1122_3344)] {
        let mut vp = Vp::new();
        vp.page.gp_registers[RAX] = 0xFFFF_FFFF_1122_3344;
        vp.port(HvInterceptAccessType::WRITE, 0xF4, size);
        assert_eq!(vp.bus.asked, [Asked::PortWrite(0xF4, size, expected)]);
        assert_eq!(vp.page.dirty, Dirty::INSTRUCTION_POINTER);
    }
}

#[test]
fn rip_wraps_at_4_gib_outside_of_64_bit_mode() {
    let mut vp = Vp::new();
    vp.page.segment[1].attributes = HvX64SegmentAttributes::from_bits(0xC09B);
    vp.page.rip = 0xFFFF_FFFF;
    vp.port(HvInterceptAccessType::READ, 0x80, 1);
    assert_eq!(vp.page.rip, 1);
}

#[test]
fn an_access_of_odd_size_or_without_length_is_a_fault_and_not_an_endless_loop() {
    let mut vp = Vp::new();
    let outcome = vp.port(HvInterceptAccessType::READ, 0x80, 3);
    assert!(matches!(
        outcome,
        Outcome::Fault(Fault::WrongInstruction { .. })
    ));
    let intercept = HvX64IoPortInterceptMessage {
        header: vp.header(HvInterceptAccessType::READ, 0),
        access_info: HvX64IoPortAccessInfo::new().with_access_size(1),
        ..Default::default()
    };
    // Without a length the instruction itself is looked at: IN AL, 0x80.
    vp.guest.write(RIP + SHIFT, &[0xE4, 0x80]).unwrap();
    let outcome = vp.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP + 2));
    vp.guest.missing = RIP;
    vp.page.rip = RIP;
    let outcome = vp.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept);
    assert_eq!(outcome, Outcome::Fault(Fault::CannotFetch { rip: RIP }));
}

#[test]
fn rep_outsb_reads_guest_memory_across_a_page_end() {
    let mut vp = Vp::new();
    let text = b"across the end of a page";
    vp.page.gp_registers[RSI] = 0x4FF8;
    vp.page.gp_registers[RCX] = text.len() as u64;
    vp.guest.write(0x4FF8 + SHIFT, text).unwrap();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    let expected: Vec<_> = text
        .iter()
        .map(|byte| Asked::PortWrite(0x3F8, 1, u32::from(*byte)))
        .collect();
    assert_eq!(vp.bus.asked, expected);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));
    assert_eq!(vp.page.gp_registers[RSI], 0x4FF8 + text.len() as u64);
    assert_eq!(vp.guest.translations, 2, "one for each page");
}

#[test]
fn a_long_repetition_is_done_in_parts_and_rip_waits_for_the_last() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RCX] = 2000;
    vp.page.gp_registers[RDI] = 0x8000;
    vp.bus.reads = 0x5A;
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Resume);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (976, RIP));
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Resume);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));
    assert_eq!(
        vp.bytes(0x8000 + SHIFT, 2001),
        [vec![0x5A; 2000], vec![0]].concat()
    );
}

#[test]
fn a_repetition_of_none_does_nothing_but_end() {
    let mut vp = Vp::new();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    assert_eq!((vp.bus.asked.len(), vp.page.rip), (0, RIP + 2));
}

#[test]
fn address_registers_have_16_bits_in_real_mode_and_follow_the_direction_flag() {
    let mut vp = Vp::real_mode();
    vp.page.rflags |= 1 << 10;
    vp.page.gp_registers[RCX] = 0xAAAA_0003;
    vp.page.gp_registers[RSI] = 0xBBBB_0001;
    vp.guest.write(0x2000, &[2, 1]).unwrap();
    vp.guest.write(0x1_1FFF, &[3]).unwrap();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    let expected = [1, 2, 3].map(|value| Asked::PortWrite(0x3F8, 1, value));
    assert_eq!(vp.bus.asked, expected);
    assert_eq!(vp.page.gp_registers[RSI], 0xBBBB_FFFE);
    assert_eq!(vp.page.gp_registers[RCX], 0xAAAA_0000);
    assert_eq!(vp.guest.translations, 0, "no paging");
}

#[test]
fn a_segment_prefix_moves_the_source_of_outs() {
    let mut vp = Vp::real_mode();
    vp.guest.write(0x3000, &[7]).unwrap();
    // OUTSB from ES.
    assert_eq!(vp.string_port(&[0x26, 0x6E]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::PortWrite(0x3F8, 1, 7)]);
}

#[test]
fn a_missing_page_becomes_a_page_fault_after_what_was_done_before_it() {
    let mut vp = Vp::new();
    vp.guest.missing = 0x9000;
    vp.page.gp_registers[RCX] = 10;
    vp.page.gp_registers[RDI] = 0x8FFD;
    vp.page.segment[2].attributes = HvX64SegmentAttributes::from_bits(0xC0F3);
    let page_fault = Exception {
        vector: 14,
        error_code: 0b110,
        parameter: 0x9000,
    };
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Inject(page_fault));
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (7, RIP));
    assert_eq!(vp.page.gp_registers[RDI], 0x9000);
    assert_eq!(vp.bus.asked.len(), 3, "the port is not read for nothing");
}

#[test]
fn moves_to_and_from_device_memory() {
    let write = |size, value| vec![Asked::MemoryWrite(DEVICE, size, value)];
    let read = |size| vec![Asked::MemoryRead(DEVICE, size)];
    let old = 0x1111_2222_3333_4444u64;
    let reads = 0x8877_6655_4433_22F1u64;
    // Code (the address register does not matter), what is asked, what RAX is then.
    let cases: &[(&[u8], Vec<Asked>, u64)] = &[
        (&[0x89, 0x03], write(4, 0x3333_4444), old),
        (&[0x48, 0x89, 0x03], write(8, old), old),
        (&[0x66, 0x89, 0x03], write(2, 0x4444), old),
        (&[0x88, 0x23], write(1, 0x44), old),
        (
            &[0xC7, 0x03, 0xEF, 0xBE, 0xAD, 0xDE],
            write(4, 0xDEAD_BEEF),
            old,
        ),
        (
            &[0x48, 0xC7, 0x03, 0xFF, 0xFF, 0xFF, 0xFF],
            write(8, u64::MAX),
            old,
        ),
        (&[0xC6, 0x03, 0x80], write(1, 0x80), old),
        (&[0x8B, 0x03], read(4), 0x4433_22F1),
        (&[0x48, 0x8B, 0x03], read(8), reads),
        (&[0x8A, 0x23], read(1), 0x1111_2222_3333_F144),
        (&[0x66, 0x8B, 0x03], read(2), 0x1111_2222_3333_22F1),
        (&[0x0F, 0xB6, 0x03], read(1), 0xF1),
        (&[0x0F, 0xB7, 0x03], read(2), 0x22F1),
        (&[0x48, 0x0F, 0xBE, 0x03], read(1), 0xFFFF_FFFF_FFFF_FFF1),
        (&[0x0F, 0xBE, 0x03], read(1), 0xFFFF_FFF1),
        (&[0x48, 0x63, 0x03], read(4), 0x4433_22F1),
        (
            &[0xA0, 0x10, 0, 0xC0, 0xFE, 0, 0, 0, 0],
            read(1),
            0x1111_2222_3333_44F1,
        ),
    ];
    for (code, asked, rax) in cases {
        let mut vp = Vp::new();
        vp.bus.reads = reads;
        vp.page.gp_registers[RAX] = old;
        assert_eq!(vp.memory(code), Outcome::Resume, "{code:02x?}");
        assert_eq!(&vp.bus.asked, asked, "{code:02x?}");
        assert_eq!(vp.page.gp_registers[RAX], *rax, "{code:02x?}");
        assert_eq!(vp.page.rip, RIP + code.len() as u64);
    }
}

#[test]
fn arithmetic_on_device_memory_reads_computes_writes_and_sets_flags() {
    const FLAGS: u64 = 0x8D5;
    let device = 0x0000_00F0u64;
    // Code with RAX = 0x1F or an immediate, value written back, RAX then, flags.
    let cases: &[(&[u8], Option<u64>, u64, u64)] = &[
        // OR [rbx], eax
        (&[0x09, 0x03], Some(0xFF), 0x1F, 0x04),
        // AND dword [rbx], 0x10
        (&[0x83, 0x23, 0x10], Some(0x10), 0x1F, 0),
        // XOR eax, [rbx]
        (&[0x33, 0x03], None, 0xEF, 0),
        // ADD byte [rbx], 0x10
        (&[0x80, 0x03, 0x10], Some(0), 0x1F, 0x45),
        // SUB eax, [rbx]
        (&[0x2B, 0x03], None, 0xFFFF_FF2F, 0x81),
        // CMP dword [rbx], 0xF0
        (&[0x81, 0x3B, 0xF0, 0, 0, 0], None, 0x1F, 0x44),
        // TEST dword [rbx], 0x0F
        (&[0xF7, 0x03, 0x0F, 0, 0, 0], None, 0x1F, 0x44),
        // XCHG [rbx], eax
        (&[0x87, 0x03], Some(0x1F), 0xF0, 0),
        // NOT dword [rbx]
        (&[0xF7, 0x13], Some(0xFFFF_FF0F), 0x1F, 0),
        // DEC byte [rbx]
        (&[0xFE, 0x0B], Some(0xEF), 0x1F, 0x90),
    ];
    for (code, written, rax, flags) in cases {
        let mut vp = Vp::new();
        vp.bus.reads = device;
        vp.page.gp_registers[RAX] = 0x1F;
        assert_eq!(vp.memory(code), Outcome::Resume, "{code:02x?}");
        let stored = vp.bus.asked.iter().find_map(|asked| match asked {
            Asked::MemoryWrite(_, _, value) => Some(*value),
            _ => None,
        });
        assert_eq!(stored, *written, "{code:02x?}");
        assert_eq!(vp.page.gp_registers[RAX], *rax, "{code:02x?}");
        assert_eq!(vp.page.rflags & FLAGS, *flags, "{code:02x?}");
    }
    let mut vp = Vp::new();
    vp.page.rflags |= 1;
    vp.memory(&[0xFE, 0x03]);
    assert_eq!(vp.page.rflags & 1, 1, "INC leaves CF alone");
}

#[test]
fn string_moves_go_between_ram_and_device_memory() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RSI] = 0x5000;
    vp.page.gp_registers[RDI] = DEVICE - SHIFT;
    vp.page.gp_registers[RCX] = 2;
    vp.guest
        .write(0x5000 + SHIFT, &[1, 0, 0, 0, 2, 0, 0, 0])
        .unwrap();
    assert_eq!(vp.memory(&[0xF3, 0xA5]), Outcome::Resume);
    let expected = [
        Asked::MemoryWrite(DEVICE, 4, 1),
        Asked::MemoryWrite(DEVICE + 4, 4, 2),
    ];
    assert_eq!(vp.bus.asked, expected);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));

    let mut vp = Vp::new();
    vp.page.gp_registers[RDI] = DEVICE - SHIFT;
    vp.page.gp_registers[RAX] = 0xAB;
    assert_eq!(vp.memory(&[0xAA]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::MemoryWrite(DEVICE, 1, 0xAB)]);
}

#[test]
fn an_instruction_whose_bytes_are_missing_is_read_from_memory() {
    let mut vp = Vp::new();
    // MOV [rbx+disp32], eax at a page end: its last byte is on the next page.
    vp.page.rip = 0x1FFB;
    let code = [0x89, 0x83, 0x10, 0, 0, 0];
    vp.guest.write(0x1FFB + SHIFT, &code).unwrap();
    vp.page.gp_registers[RAX] = 5;
    assert_eq!(vp.memory(&code[..2]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::MemoryWrite(DEVICE, 4, 5)]);
    assert_eq!((vp.page.rip, vp.guest.translations), (0x1FFB + 6, 2));
}

#[test]
fn what_cannot_be_emulated_ends_the_vm_with_the_instruction_as_the_reason() {
    let mut vp = Vp::new();
    // FXSAVE [rbx]
    let outcome = vp.memory(&[0x0F, 0xAE, 0x03]);
    let Outcome::Fault(fault) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(vp.bus.asked.is_empty() && vp.page.rip == RIP);
    let text = fault.to_string();
    assert!(
        text.contains("0f ae 03") && text.contains("0x1000"),
        "{text}"
    );
    // MOVUPS [rbx], xmm0; MOV [rbx], ds; LOCK CMPXCHG [rbx], ecx
    for code in [
        &[0x0F, 0x11, 0x03][..],
        &[0x8C, 0x1B],
        &[0xF0, 0x0F, 0xB1, 0x0B],
    ] {
        let outcome = vp.memory(code);
        assert!(
            matches!(outcome, Outcome::Fault(Fault::CannotEmulate { .. })),
            "{code:02x?}"
        );
    }
}

#[test]
fn code_outside_of_memory_and_intercepted_ram_are_faults() {
    let mut vp = Vp::new();
    let mut intercept = HvX64MemoryInterceptMessage {
        header: vp.header(HvInterceptAccessType::EXECUTE, 0),
        guest_physical_address: DEVICE,
        ..Default::default()
    };
    let outcome = vp.send(HvMessageType::UNMAPPED_GPA, &intercept);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::ExecuteOutsideRam {
            rip: RIP,
            gpa: DEVICE
        })
    );
    intercept.header.intercept_access_type = HvInterceptAccessType::WRITE;
    intercept.guest_physical_address = 0x3000;
    let outcome = vp.send(HvMessageType::GPA_INTERCEPT, &intercept);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::RamAccess {
            rip: RIP,
            gpa: 0x3000
        })
    );
}

#[test]
fn a_triple_fault_is_a_reset_that_tells_its_place() {
    let mut vp = Vp::new();
    let header = vp.header(HvInterceptAccessType::READ, 0);
    let outcome = vp.send(
        HvMessageType::UNRECOVERABLE_EXCEPTION,
        &HvX64UnrecoverableExceptionMessage { header },
    );
    let reason = ResetReason::TripleFault { vp: 0, rip: RIP };
    assert_eq!(outcome, Outcome::Reset(reason));
    assert_eq!(reason.to_string(), "triple fault of VP 0 at RIP 0x1000");
}

#[test]
fn other_messages_end_the_vm_or_get_the_architectures_answer() {
    let mut vp = Vp::new();
    let outcome = vp.send(HvMessageType::INVALID_VP_REGISTER_VALUE, &[0u8; 8]);
    assert_eq!(outcome, Outcome::Fault(Fault::InvalidState));
    let outcome = vp.send(HvMessageType::X64_HALT, &[0u8; 40]);
    assert_eq!(
        outcome,
        Outcome::Fault(Fault::UnexpectedMessage(0x8001_0007))
    );
    let outcome = vp.send(HvMessageType::X64_MSR_INTERCEPT, &[0u8; 64]);
    assert!(matches!(
        outcome,
        Outcome::Inject(Exception { vector: 13, .. })
    ));
    let cpuid = HvX64CpuidInterceptMessage {
        header: vp.header(HvInterceptAccessType::EXECUTE, 2),
        default_result_rax: 1,
        default_result_rcx: 2,
        default_result_rdx: 3,
        default_result_rbx: 4,
        ..Default::default()
    };
    assert_eq!(
        vp.send(HvMessageType::X64_CPUID_INTERCEPT, &cpuid),
        Outcome::Resume
    );
    let got = [RAX, RCX, RDX, RBX].map(|index| vp.page.gp_registers[index]);
    assert_eq!((got, vp.page.rip), ([1, 2, 3, 4], RIP + 2));
}

#[test]
fn a_register_page_that_is_not_valid_is_not_used() {
    let mut page = HvX64RegisterPage::new_zeroed();
    assert!(Registers::new(&mut page).is_none());
}

fn message_type() -> impl Strategy<Value = HvMessageType> {
    prop_oneof![
        4 => Just(HvMessageType::X64_IO_PORT_INTERCEPT),
        4 => Just(HvMessageType::UNMAPPED_GPA),
        1 => Just(HvMessageType::X64_APIC_EOI),
        1 => any::<u32>().prop_map(HvMessageType),
        1 => proptest::sample::select(HvMessageType::NAMED),
    ]
}

proptest! {
    #[test]
    fn no_message_makes_the_board_panic(
        kind in message_type(),
        payload in proptest::collection::vec(any::<u8>(), 240),
        code in proptest::collection::vec(any::<u8>(), 0..15),
        registers in proptest::collection::vec(any::<u64>(), 16),
        attributes: u16,
        efer: u64,
        paging: bool,
        gpa in prop_oneof![any::<u64>(), (0u64..0x1000).prop_map(|offset| 0xFEC0_0000 + offset)],
    ) {
        let mut vp = Vp::new();
        vp.page.gp_registers.copy_from_slice(&registers);
        vp.page.segment[1].attributes = HvX64SegmentAttributes::from_bits(attributes);
        vp.page.efer = efer;
        vp.page.cr0 = if paging { 0x8000_0001 } else { 0 };
        let mut message = HvMessage::new(kind, 1, &payload[..]).unwrap();
        if kind == HvMessageType::UNMAPPED_GPA {
            message.payload[56..64].copy_from_slice(&gpa.to_le_bytes());
            message.payload[44] = code.len() as u8;
            message.payload[64..64 + code.len()].copy_from_slice(&code);
        }
        let mut board = DirectBoard::new(&crate::Options::default());
        let mut view = Registers::new(&mut vp.page).unwrap();
        handle(&mut board, &message, &mut view, &mut vp.guest, 0);
    }
}
