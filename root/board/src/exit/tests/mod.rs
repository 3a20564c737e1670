//! Intercepts against a bus that remembers, and against the real board.

use proptest::prelude::*;
use tlfs::{
    HvInterceptAccessType, HvVpIndex, HvX64InstructionLengthAndCr8, HvX64InterceptMessageHeader,
    HvX64IoPortAccessInfo, HvX64RegisterPage, HvX64RegisterPageDirtyFlags as Dirty,
    HvX64SegmentAttributes, HvX64SegmentRegister, HvX64VpExecutionState,
};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::device::testdev::SintTarget;
use crate::direct::DirectBoard;
use crate::layout::{PAGE, RamLayout};
use crate::ram::{OutOfRam, VecRam};

mod completion;
mod devices;
mod hypercalls;
mod msrs;
mod outcomes;
mod ports;

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
    /// Its one connection, for messages and events.
    connection: Option<(HvConnectionId, SintTarget)>,
}

impl Recorder {
    fn connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        let (id, target) = self.connection?;
        (id == to).then_some(target)
    }
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

    fn message_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.connection(to)
    }

    fn event_connection(&self, to: HvConnectionId) -> Option<SintTarget> {
        self.connection(to)
    }

    fn take_end(&mut self) -> Option<Outcome> {
        None
    }
}

/// RAM behind page tables that map every address to itself plus 0x1_0000, but for one missing page.
struct Paged {
    ram: VecRam,
    missing: u64,
    translations: usize,
    /// What connections were given: id, and type and payload of a message or a flag; and what they answer.
    given: Vec<Given>,
    answer: Result<(), HvStatus>,
    /// What there is at an address that was touched. Pages that are back are in RAM again.
    touched: Touched,
    /// Whether RAM is back when it is touched, whatever `touched` says.
    backs: bool,
    /// What was touched.
    asked: Vec<u64>,
    /// A page of the page tables that is mapped nowhere.
    table: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Message(u32, u32, Vec<u8>),
    Event(u32, u16),
    EchoedMessage(SintTarget, u32, Vec<u8>),
    EchoedEvent(SintTarget, u16),
    Free(u16),
    Crash(u64, u64, u64),
}

const SHIFT: u64 = 0x1_0000;

impl GuestRam for Paged {
    fn layout(&self) -> RamLayout {
        self.ram.layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.ram.is_ram(gpa, len)
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        self.ram.read(gpa, buf)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.ram.write(gpa, data)
    }
}

impl Guest for Paged {
    fn touched(&mut self, gpa: u64) -> Touched {
        self.asked.push(gpa);
        if self.backs && gpa < DEVICE {
            self.touched = Touched::Backed;
        } else if self.backs {
            self.touched = Touched::NotRam;
        }
        if self.touched == Touched::Backed {
            self.ram.set_present(gpa / PAGE..gpa / PAGE + 1, true);
            self.table = self.table.filter(|table| *table != gpa);
        }
        self.touched
    }

    fn translate(&mut self, gva: u64, _access: Access) -> Result<u64, TranslateError> {
        self.translations += 1;
        if let Some(table) = self.table {
            return Err(TranslateError::Unmapped(table));
        }
        if gva & !(PAGE - 1) == self.missing {
            Err(TranslateError::NotPresent)
        } else {
            Ok(gva.wrapping_add(SHIFT))
        }
    }

    fn post_message(&mut self, message: &PostedMessage<'_>) -> Result<(), HvStatus> {
        let (to, kind) = (message.connection.0, message.kind.0);
        self.given
            .push(Given::Message(to, kind, message.payload.to_vec()));
        self.answer
    }

    fn signal_event(&mut self, to: HvConnectionId, flag: u16) -> Result<(), HvStatus> {
        self.given.push(Given::Event(to.0, flag));
        self.answer
    }

    fn echo_message(
        &mut self,
        to: SintTarget,
        message: &PostedMessage<'_>,
    ) -> Result<(), HvStatus> {
        let payload = message.payload.to_vec();
        self.given
            .push(Given::EchoedMessage(to, message.kind.0, payload));
        self.answer
    }

    fn echo_event(&mut self, to: SintTarget, flag: u16) -> Result<(), HvStatus> {
        self.given.push(Given::EchoedEvent(to, flag));
        self.answer
    }

    fn slots_free(&mut self, sints: u16) {
        self.given.push(Given::Free(sints));
    }

    fn crashed(&mut self, crash: &GuestCrash) {
        let control = crash.control.into_bits();
        self.given.push(Given::Crash(control, crash.rip, crash.rsp));
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
                given: Vec::new(),
                answer: Ok(()),
                touched: Touched::NotRam,
                backs: false,
                asked: Vec::new(),
                table: None,
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
                .with_efer_lma(self.page.efer & 0x400 != 0)
                .with_interrupt_shadow(self.page.interrupt_state.interrupt_shadow()),
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
