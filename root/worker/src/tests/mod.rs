//! The worker against a system that plays a script and remembers what it was asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use board::layout::RamLayout;
use board::layout::{COM1_GSI, COM1_PORT, IOAPIC_BASE, RESET_PORT, SLEEP_CONTROL_PORT};
use board::ram::{GuestRam, OutOfRam, VecRam};
use manager::WorkerNews;
use root_abi::{Event, ExitReason, MemoryOrder, event};
use tlfs::{
    HvCallCode, HvInputAssertVirtualInterrupt, HvInputGetPartitionProperty,
    HvInputInstallIntercept, HvInputSetPartitionProperty, HvInterceptAccessType, HvInterceptType,
    HvMessage, HvMessageType, HvOutputTranslateVirtualAddress, HvPartitionCreationFlags as Flags,
    HvPartitionPropertyCode, HvRegisterAssoc, HvRegisterName, HvRegisterValue, HvStatus,
    HvTranslateGvaResultCode, HvX64HypercallInterceptMessage, HvX64InstructionLengthAndCr8,
    HvX64InterceptMessageHeader, HvX64InterruptStateRegister, HvX64IoPortAccessInfo,
    HvX64IoPortInterceptMessage, HvX64MemoryInterceptMessage, HvX64MsrInterceptMessage,
    HvX64PendingExceptionEvent, HvX64RegisterPage, HvX64VpExecutionState,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::*;
pub use ram::TestRam;

mod crashes;
mod ram;
mod running;
mod starting;
mod testdev;
mod touches;
mod vmbus;

/// The privileges of a new partition.
const PRIVILEGES: u64 = 0x30_0000_0E7E;

/// What a register reads as that no test has set; a value for DR6.
const DR6: u64 = 0xFFFF_0FF1;

/// Reference time of the root at which the fake's partition was made.
const PARTITION_MADE: u64 = 10_000_000;

/// What the system was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Create(Flags),
    Initialize,
    Ram(u64),
    Vp(u32),
    Wait(u64, Option<u32>),
    Hypercall(HvCallCode, Vec<u8>),
    Printed(String),
    Misbehave(u32),
}

/// What happens next.
enum Step {
    /// An intercept of VP 0 with these registers.
    Intercept(Box<HvX64RegisterPage>, Box<HvMessage>),
    Event(u32, u32, u64),
    Typed(&'static [u8]),
}

#[derive(Default)]
struct Shared {
    asked: Vec<Asked>,
    script: VecDeque<Step>,
    typed: VecDeque<u8>,
    /// The state of VP 0 for the next look at it.
    state: Option<(Box<HvX64RegisterPage>, Box<HvMessage>)>,
    refuse: Option<HvCallCode>,
    /// Hypercalls with their input and status.
    calls: Vec<(HvCallCode, Vec<u8>, HvStatus)>,
    /// What hypercalls answer, by code; others succeed.
    statuses: BTreeMap<u16, HvStatus>,
    logs: Vec<String>,
    /// What the manager was told but lines.
    told: Vec<WorkerNews<'static>>,
    time: u64,
    /// GUEST_OS_ID.
    identity: u64,
    /// CRASH_P0 to CRASH_P4.
    crash: [u64; 5],
    /// What other registers read as, by VP and name.
    registers: BTreeMap<(u32, HvRegisterName), u64>,
    translation: HvOutputTranslateVirtualAddress,
    /// What addresses lead to is mapped nowhere.
    is_unmapped: bool,
    /// Pages of free memory.
    free_pages: u64,
    /// Bytes that books may take.
    books: u64,
    /// Pages with memory that no book knows of, and whether it cannot be taken.
    stuck: Vec<u64>,
    is_stuck_for_ever: bool,
    /// Memory that came and went.
    moved: Vec<Moved>,
    /// The manager's order about memory.
    order: Option<MemoryOrder>,
}

/// What became of guest pages.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Moved {
    Backed(Range<u64>),
    Taken(Range<u64>),
}

#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Shared>>);

struct FakeVp {
    shared: Rc<RefCell<Shared>>,
    page: Box<HvX64RegisterPage>,
    message: Box<HvMessage>,
}

impl VpState for FakeVp {
    fn pages(&mut self) -> (&mut HvX64RegisterPage, &HvMessage) {
        if let Some((page, message)) = self.shared.borrow_mut().state.take() {
            (self.page, self.message) = (page, message);
        }
        (&mut self.page, &self.message)
    }
}

impl Fake {
    fn ask(&self, asked: Asked) {
        self.0.borrow_mut().asked.push(asked);
    }
}

impl System for Fake {
    type Ram = TestRam;
    type Vp = FakeVp;

    fn wait(&mut self, deadline: u64, resume: Option<u32>) -> Result<Event, CallError> {
        self.ask(Asked::Wait(deadline, resume));
        let mut shared = self.0.borrow_mut();
        let step = shared.script.pop_front();
        let (kind, vp, now) = match step {
            Some(Step::Intercept(page, message)) => {
                shared.state = Some((page, message));
                (event::INTERCEPT, 0, 0)
            }
            Some(Step::Event(kind, vp, now)) => (kind, vp, now),
            Some(Step::Typed(bytes)) => {
                shared.typed.extend(bytes);
                (event::CONSOLE, 0, 0)
            }
            None => (event::STOP, 0, 0),
        };
        Ok(Event { kind, vp, now })
    }

    fn hypercall(
        &mut self,
        code: HvCallCode,
        _reps: u16,
        input: &mut [u8],
        output: &mut [u8],
    ) -> Result<(), CallError> {
        self.ask(Asked::Hypercall(code, input.to_vec()));
        let mut shared = self.0.borrow_mut();
        let status = match shared.statuses.get(&code.0) {
            _ if shared.refuse == Some(code) => HvStatus::INVALID_PARAMETER,
            Some(status) => *status,
            None => HvStatus::SUCCESS,
        };
        shared.calls.push((code, input.to_vec(), status));
        if status != HvStatus::SUCCESS {
            return Err(CallError::Hypercall { code, status });
        }
        if code == HvCallCode::GET_PARTITION_PROPERTY {
            let input = HvInputGetPartitionProperty::read_from_bytes(input).unwrap();
            let value = match input.property_code {
                HvPartitionPropertyCode::REFERENCE_TIME => shared.time.wrapping_sub(PARTITION_MADE),
                HvPartitionPropertyCode::GUEST_OS_ID => shared.identity,
                HvPartitionPropertyCode::PRIVILEGE_FLAGS => PRIVILEGES,
                HvPartitionPropertyCode::PHYSICAL_ADDRESS_WIDTH => 40,
                other => panic!("{other:?}"),
            };
            output.copy_from_slice(&value.to_le_bytes());
        }
        if code == HvCallCode::GET_VP_REGISTERS {
            let values = output.chunks_exact_mut(size_of::<HvRegisterValue>());
            for (name, value) in input[16..].chunks_exact(4).zip(values) {
                let name = HvRegisterName(u32_at(name, 0));
                let number = name.0.wrapping_sub(HvRegisterName::GUEST_CRASH_P0.0);
                let crash = shared.crash.get(number as usize);
                let read = crash.or_else(|| shared.registers.get(&(u32_at(input, 8), name)));
                let usual = match name {
                    HvRegisterName::DELIVERABILITY_NOTIFICATIONS => 0,
                    _ => DR6,
                };
                let read = HvRegisterValue::from(read.copied().unwrap_or(usual));
                value.copy_from_slice(read.as_bytes());
            }
        }
        if code == HvCallCode::TRANSLATE_VIRTUAL_ADDRESS {
            let mut translation = shared.translation;
            let checks = input[16] & 7 != 0;
            if shared.is_unmapped && checks {
                translation.result_code = HvTranslateGvaResultCode::GPA_UNMAPPED;
            }
            output.copy_from_slice(translation.as_bytes());
        }
        Ok(())
    }

    fn create_partition(&mut self, flags: Flags) -> Result<(), CallError> {
        self.ask(Asked::Create(flags));
        Ok(())
    }

    fn initialize_partition(&mut self) -> Result<(), CallError> {
        self.ask(Asked::Initialize);
        Ok(())
    }

    fn create_ram(&mut self, startup: u64, reach: u64) -> Result<TestRam, CallError> {
        self.ask(Asked::Ram(startup));
        if startup > 64 << 20 {
            let call = "add_guest_memory";
            return Err(CallError::System { call, error: 3 });
        }
        let ram = VecRam::with_reach(startup as usize, reach as usize);
        Ok(TestRam::new(ram))
    }

    fn allow_books(&mut self, bytes: u64) {
        self.0.borrow_mut().books = bytes;
    }

    fn back_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError> {
        let mut shared = self.0.borrow_mut();
        if shared.stuck.iter().any(|page| pages.contains(page)) {
            let (call, error) = ("back_guest_memory", root_abi::Error::State as i64);
            return Err(CallError::System { call, error });
        }
        let wanted = pages.end - pages.start;
        let backed = wanted.min(shared.free_pages);
        shared.free_pages -= backed;
        shared
            .moved
            .push(Moved::Backed(pages.start..pages.start + backed));
        Ok(backed)
    }

    fn take_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError> {
        let mut shared = self.0.borrow_mut();
        let taken = pages.end - pages.start;
        if !shared.is_stuck_for_ever {
            shared.stuck.retain(|page| !pages.contains(page));
        }
        shared.free_pages += taken;
        shared.moved.push(Moved::Taken(pages));
        Ok(taken)
    }

    fn memory_order(&mut self) -> Option<MemoryOrder> {
        self.0.borrow_mut().order.take()
    }

    fn create_vp(&mut self, index: u32) -> Result<FakeVp, CallError> {
        self.ask(Asked::Vp(index));
        Ok(FakeVp {
            shared: self.0.clone(),
            page: Box::new(HvX64RegisterPage::new_zeroed()),
            message: Box::new(HvMessage::new_zeroed()),
        })
    }

    fn reference_time(&mut self) -> u64 {
        self.0.borrow().time
    }

    fn wall_clock(&mut self) -> i64 {
        1_700_000_000
    }

    fn random(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn console_write(&mut self, bytes: &[u8]) {
        self.ask(Asked::Printed(String::from_utf8_lossy(bytes).into_owned()));
    }

    fn console_read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let mut shared = self.0.borrow_mut();
        let count = buffer.len().min(shared.typed.len());
        for (place, byte) in buffer.iter_mut().zip(shared.typed.drain(..count)) {
            *place = byte;
        }
        &buffer[..count]
    }

    fn tell(&mut self, news: &WorkerNews<'_>) {
        let mut shared = self.0.borrow_mut();
        let (kind, bytes) = news.encode();
        // As the manager gets it.
        match WorkerNews::decode(kind, &bytes).expect("well-formed") {
            WorkerNews::Line(text) => shared.logs.push(text.into_owned()),
            WorkerNews::Guest(state) => shared.told.push(WorkerNews::Guest(state)),
            WorkerNews::Memory(state) => shared.told.push(WorkerNews::Memory(state)),
            WorkerNews::Crash(crash, text) => {
                let text = text.into_owned().into();
                shared.told.push(WorkerNews::Crash(crash, text));
            }
        }
    }

    fn misbehave(&mut self, how: u32) {
        self.ask(Asked::Misbehave(how));
    }
}

/// A flat multiboot kernel at 1 MiB.
struct OneFile(Vec<u8>);

impl OneFile {
    fn kernel() -> Self {
        let mut image = vec![0u8; 0x100];
        let (magic, flags) = (0x1BAD_B002u32, 1u32 << 16);
        let sum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
        let words = [magic, flags, sum, 0x10_0000, 0x10_0000, 0, 0, 0x10_0040];
        for (place, word) in image.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self(image)
    }
}

impl Files for OneFile {
    fn get(&self, name: &str) -> Option<&[u8]> {
        (name == "guest/kernel").then_some(&self.0)
    }
}

const DEFINITION: &[u8] =
    b"name = \"a\"\nmemory = 8\nkernel = \"guest/kernel\"\ndebug_exit = true\n";

fn registers() -> Box<HvX64RegisterPage> {
    let mut page = Box::new(HvX64RegisterPage::new_zeroed());
    page.is_valid = 1;
    page
}

fn header() -> HvX64InterceptMessageHeader {
    HvX64InterceptMessageHeader {
        instruction_length_and_cr8: HvX64InstructionLengthAndCr8::new().with_instruction_length(1),
        intercept_access_type: HvInterceptAccessType::WRITE,
        ..Default::default()
    }
}

fn message<T: IntoBytes + zerocopy::Immutable>(kind: HvMessageType, payload: &T) -> Box<HvMessage> {
    Box::new(HvMessage::new(kind, 1, payload).unwrap())
}

fn out(port: u16, value: u8) -> Step {
    let mut page = registers();
    page.gp_registers[0] = u64::from(value);
    let intercept = HvX64IoPortInterceptMessage {
        header: header(),
        port_number: port,
        access_info: HvX64IoPortAccessInfo::new().with_access_size(1),
        ..Default::default()
    };
    let kind = HvMessageType::X64_IO_PORT_INTERCEPT;
    Step::Intercept(page, message(kind, &intercept))
}

/// MOV [rdi], eax at the I/O APIC.
fn ioapic(offset: u64, value: u64) -> Step {
    let mut page = registers();
    page.gp_registers[0] = value;
    page.segment[1].attributes = tlfs::HvX64SegmentAttributes::from_bits(0xC09B);
    let mut intercept = HvX64MemoryInterceptMessage {
        header: header(),
        guest_physical_address: IOAPIC_BASE + offset,
        instruction_byte_count: 2,
        ..Default::default()
    };
    intercept.instruction_bytes[..2].copy_from_slice(&[0x89, 0x07]);
    Step::Intercept(page, message(HvMessageType::UNMAPPED_GPA, &intercept))
}

/// REP OUTSB with one element, with paging on.
fn outsb() -> Step {
    let mut page = registers();
    page.cr0 = 0x8000_0001;
    page.gp_registers[6] = 0x3040;
    let mut intercept = HvX64IoPortInterceptMessage {
        header: header(),
        port_number: COM1_PORT,
        access_info: HvX64IoPortAccessInfo::new()
            .with_access_size(1)
            .with_string_op(true),
        instruction_byte_count: 1,
        ..Default::default()
    };
    intercept.instruction_bytes[0] = 0x6E;
    let kind = HvMessageType::X64_IO_PORT_INTERCEPT;
    Step::Intercept(page, message(kind, &intercept))
}

/// WRMSR of something that the worker has asked to see.
fn wrmsr(msr: u32, value: u64) -> Step {
    let mut page = registers();
    page.gp_registers[4] = 0x7000;
    let intercept = HvX64MsrInterceptMessage {
        header: HvX64InterceptMessageHeader {
            rip: 0x1234,
            ..header()
        },
        msr_number: msr,
        rdx: value >> 32,
        rax: value & 0xFFFF_FFFF,
        ..Default::default()
    };
    let kind = HvMessageType::X64_MSR_INTERCEPT;
    Step::Intercept(page, message(kind, &intercept))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn play(script: impl IntoIterator<Item = Step>) -> (Exit, Vec<Asked>) {
    let fake = Fake::default();
    fake.0.borrow_mut().script.extend(script);
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    let asked = fake.0.borrow_mut().asked.split_off(0);
    (exit, asked)
}

fn inputs(asked: &[Asked], wanted: HvCallCode) -> Vec<Vec<u8>> {
    let input = |asked: &Asked| match asked {
        Asked::Hypercall(code, input) if *code == wanted => Some(input.clone()),
        _ => None,
    };
    asked.iter().filter_map(input).collect()
}

fn printed(asked: &[Asked]) -> String {
    let text = |asked: &Asked| match asked {
        Asked::Printed(text) => Some(text.clone()),
        _ => None,
    };
    asked.iter().filter_map(text).collect()
}
