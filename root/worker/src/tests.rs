//! The worker against a system that plays a script and remembers what it was asked for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use board::layout::{COM1_GSI, COM1_PORT, IOAPIC_BASE, RESET_PORT, SLEEP_CONTROL_PORT};
use board::ram::VecRam;
use root_abi::{Event, ExitReason, event};
use tlfs::{
    HvCallCode, HvInputAssertVirtualInterrupt, HvInputInstallIntercept, HvInterceptAccessType,
    HvInterceptType, HvMessage, HvMessageType, HvOutputTranslateVirtualAddress,
    HvPartitionCreationFlags as Flags, HvRegisterAssoc, HvRegisterName, HvStatus,
    HvTranslateGvaResultCode, HvX64InstructionLengthAndCr8, HvX64InterceptMessageHeader,
    HvX64IoPortAccessInfo, HvX64IoPortInterceptMessage, HvX64MemoryInterceptMessage,
    HvX64RegisterPage,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::*;

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
    translation: HvOutputTranslateVirtualAddress,
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
    type Ram = VecRam;
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
        let shared = self.0.borrow();
        if shared.refuse == Some(code) {
            let status = HvStatus::INVALID_PARAMETER;
            return Err(CallError::Hypercall { code, status });
        }
        if code == HvCallCode::TRANSLATE_VIRTUAL_ADDRESS {
            output.copy_from_slice(shared.translation.as_bytes());
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

    fn create_ram(&mut self, size: u64) -> Result<VecRam, CallError> {
        self.ask(Asked::Ram(size));
        if size > 64 << 20 {
            let call = "map_memory";
            return Err(CallError::System { call, error: 3 });
        }
        Ok(VecRam::new(size as usize))
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
        0
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

    fn log(&mut self, _text: &str) {}

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

#[test]
fn a_vm_is_set_up_in_the_order_that_partitions_demand() {
    let (exit, asked) = play([]);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let flags = Flags::LAPIC_ENABLED | Flags::X2APIC_CAPABLE | Flags::GPA_SUPER_PAGES_ENABLED;
    let order = [
        Asked::Create(flags),
        Asked::Initialize,
        Asked::Ram(8 << 20),
        Asked::Vp(0),
    ];
    assert_eq!(asked[..4], order);
    let registers = inputs(&asked, HvCallCode::SET_VP_REGISTERS);
    let rip = registers[0][16..]
        .chunks_exact(size_of::<HvRegisterAssoc>())
        .map(|entry| HvRegisterAssoc::read_from_bytes(entry).unwrap())
        .find(|entry| entry.name == HvRegisterName::RIP);
    assert_eq!(rip.unwrap().value.low, 0x10_0040);
    let intercepts: Vec<_> = inputs(&asked, HvCallCode::INSTALL_INTERCEPT)
        .iter()
        .map(|input| HvInputInstallIntercept::read_from_bytes(input).unwrap())
        .map(|input| {
            (
                input.intercept_type,
                input.access_type.0,
                input.intercept_parameter.0,
            )
        })
        .collect();
    let ports = (HvInterceptType::X64_IO_PORT_RANGE, 3, 0xFFFF_0000);
    assert_eq!(intercepts, [ports, (HvInterceptType::X64_APIC_EOI, 2, 0)]);
    assert_eq!(asked.last(), Some(&Asked::Wait(u64::MAX, Some(0))));
}

#[test]
fn a_vm_that_cannot_be_started_says_why() {
    let start = |definition: &[u8], files: &OneFile| live(Fake::default(), definition, files);
    let kernel = OneFile::kernel();
    let refused = |exit: Exit, text: &str| {
        assert_eq!(exit.reason, ExitReason::BadDefinition);
        assert!(exit.text.contains(text), "{}", exit.text);
    };
    refused(start(b"\xFF", &kernel), "not text");
    refused(start(b"name = \"a\"\n", &kernel), "memory");
    let with = |memory: u32, file: &str, boot: &str| {
        let text = format!("name = 'a'\nmemory = {memory}\nkernel = '{file}'\nboot = '{boot}'\n");
        start(text.as_bytes(), &kernel)
    };
    refused(with(8, "guest/other", "auto"), "guest/other");
    refused(with(128, "guest/kernel", "auto"), "128 MiB");
    refused(with(8, "guest/kernel", "pvh"), "cannot be started by PVH");
    assert_eq!(
        with(8, "guest/kernel", "multiboot").reason,
        ExitReason::Stopped
    );
    refused(
        start(DEFINITION, &OneFile(b"hello".to_vec())),
        "not a kernel",
    );
    let fake = Fake::default();
    fake.0.borrow_mut().refuse = Some(HvCallCode::SET_VP_REGISTERS);
    let exit = live(fake, DEFINITION, &kernel);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
}

#[test]
fn output_is_printed_by_the_line_and_the_vp_resumed_after_every_byte() {
    let (exit, asked) = play(b"hi\n".map(|byte| out(COM1_PORT, byte)));
    assert_eq!(exit.reason, ExitReason::Stopped);
    assert_eq!(printed(&asked), "hi\n");
    let waits: Vec<_> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Wait(deadline, resume) => Some((*deadline, *resume)),
            _ => None,
        })
        .collect();
    // What is not yet a line waits no longer than 2 ms.
    let forever = (u64::MAX, Some(0));
    assert_eq!(
        waits,
        [forever, (20_000, Some(0)), (20_000, Some(0)), forever]
    );
}

#[test]
fn a_prompt_without_end_of_line_is_printed_when_its_time_is_up() {
    let timeout = Step::Event(event::TIMEOUT, 0, 20_000);
    let (_, asked) = play([out(COM1_PORT, b'$'), timeout]);
    let place = asked
        .iter()
        .position(|asked| *asked == Asked::Printed("$".into()));
    let last_wait = Asked::Wait(u64::MAX, None);
    assert_eq!(
        asked[place.unwrap() + 1..],
        [last_wait],
        "nothing was left to resume"
    );
}

#[test]
fn power_off_reset_and_faults_end_the_run_with_what_was_printed() {
    let (exit, asked) = play([out(COM1_PORT, b'.'), out(SLEEP_CONTROL_PORT, 0x34)]);
    assert_eq!(
        (exit.reason, printed(&asked)),
        (ExitReason::PowerOff, ".".into())
    );
    let (exit, _) = play([out(RESET_PORT, 1)]);
    assert_eq!(exit.reason, ExitReason::Reset);
    let (exit, _) = play([out(0xF4, 0x21)]);
    assert_eq!(exit.reason, ExitReason::PowerOff);
    assert!(exit.text.contains("status 0x21"), "{}", exit.text);
    let fault = message(HvMessageType::UNRECOVERABLE_EXCEPTION, &header());
    let (exit, _) = play([Step::Intercept(registers(), fault)]);
    assert_eq!(exit.reason, ExitReason::Reset);
    assert!(
        exit.text.contains("triple fault of VP 0 at RIP 0x0"),
        "{}",
        exit.text
    );
    let refused = message(HvMessageType::INVALID_VP_REGISTER_VALUE, &[0u8; 8]);
    let (exit, _) = play([Step::Intercept(registers(), refused)]);
    assert_eq!(exit.reason, ExitReason::GuestFault);
}

#[test]
fn typed_input_becomes_an_interrupt_before_anything_else_runs() {
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let (_, asked) = play([
        ioapic(0, entry),
        ioapic(0x10, 0x8000 | 0x24),
        ioapic(0, entry + 1),
        ioapic(0x10, 3 << 24),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x01),
        Step::Typed(b"x"),
    ]);
    let interrupts = inputs(&asked, HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let input = HvInputAssertVirtualInterrupt::read_from_bytes(&interrupts[0]).unwrap();
    assert_eq!((input.vector, input.dest_addr), (0x24, 3));
    assert!(input.control.level_triggered() && !input.control.logical_dest_mode());
    assert_eq!(interrupts.len(), 1);
    let last = &asked[asked.len() - 2..];
    assert!(
        matches!(last, [Asked::Hypercall(..), Asked::Wait(..)]),
        "{last:?}"
    );
}

#[test]
fn what_is_due_happens_even_if_events_keep_coming() {
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let (_, asked) = play([
        ioapic(0, entry),
        ioapic(0x10, 0x24),
        // FIFO with trigger level 8: one byte is reported when its time is up.
        out(COM1_PORT + 2, 0x87),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x01),
        Step::Typed(b"x"),
        Step::Event(77, 0, 3471),
        Step::Event(77, 0, 3472),
    ]);
    let assertion = |asked: &Asked| matches!(asked, Asked::Hypercall(code, _) if *code == HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let place = asked.iter().position(assertion);
    assert_eq!(
        place,
        Some(asked.len() - 2),
        "after the last event, not before"
    );
}

#[test]
fn an_interrupt_that_the_hypervisor_refuses_is_the_guests_loss() {
    let fake = Fake::default();
    fake.0.borrow_mut().refuse = Some(HvCallCode::ASSERT_VIRTUAL_INTERRUPT);
    let entry = 0x10 + u64::from(COM1_GSI) * 2;
    let script = [
        ioapic(0, entry),
        ioapic(0x10, 0),
        out(COM1_PORT + 4, 0x08),
        out(COM1_PORT + 1, 0x02),
    ];
    fake.0.borrow_mut().script.extend(script);
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    assert_eq!(inputs(asked, HvCallCode::ASSERT_VIRTUAL_INTERRUPT).len(), 1);
}

#[test]
fn string_output_goes_through_the_guests_page_tables() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    // The page holds the kernel, whose byte 0x40 is made a letter.
    fake.0.borrow_mut().translation.gpa_page = 0x100;
    let mut kernel = OneFile::kernel();
    kernel.0[0x40] = b'h';
    let exit = live(fake.clone(), DEFINITION, &kernel);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    assert_eq!(printed(asked), "h");
    let input = &inputs(asked, HvCallCode::TRANSLATE_VIRTUAL_ADDRESS)[0];
    assert_eq!(input[24..32], 3u64.to_le_bytes());
    assert_eq!(
        input[16..20],
        0x11u32.to_le_bytes(),
        "a read that sets the accessed bit"
    );
}

#[test]
fn a_page_fault_of_the_guest_is_raised_in_the_guest() {
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(outsb());
    fake.0.borrow_mut().translation.result_code = HvTranslateGvaResultCode::PAGE_NOT_PRESENT;
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    let asked = &fake.0.borrow().asked;
    let inputs = inputs(asked, HvCallCode::SET_VP_REGISTERS);
    let entry = HvRegisterAssoc::read_from_bytes(&inputs[1][16..48]).unwrap();
    assert_eq!(entry.name, HvRegisterName::PENDING_EVENT0);
    // Pending, with error code, vector 14; the address in the upper half.
    assert_eq!((entry.value.low, entry.value.high), (0x000E_0101, 0x3040));
    assert_eq!(asked.last(), Some(&Asked::Wait(u64::MAX, Some(0))));
}

#[test]
fn every_vp_is_resumed_once_at_the_start() {
    let fake = Fake::default();
    let timeouts = [0; 2].map(|_| Step::Event(event::TIMEOUT, 0, 0));
    fake.0.borrow_mut().script.extend(timeouts);
    let definition = [DEFINITION, b"processors = 3\n"].concat();
    live(fake.clone(), &definition, &OneFile::kernel());
    let shared = fake.0.borrow();
    let waits: Vec<_> = shared
        .asked
        .iter()
        .filter(|asked| matches!(asked, Asked::Wait(..)))
        .collect();
    let expected = [(0, 0), (0, 1), (u64::MAX, 2)].map(|(time, vp)| Asked::Wait(time, Some(vp)));
    assert_eq!(waits, expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_worker_misbehaves_only_when_asked_and_unknown_events_change_nothing() {
    let script = [Step::Event(event::DEBUG, 3, 0), Step::Event(77, 0, 0)];
    let (exit, asked) = play(script);
    assert!(asked.contains(&Asked::Misbehave(3)));
    assert_eq!(exit.reason, ExitReason::Stopped);
    let (exit, _) = play([Step::Event(event::INTERCEPT, 9, 0)]);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
    // A register page that was never filled.
    let (exit, _) = play([Step::Event(event::INTERCEPT, 0, 0)]);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
}

#[test]
fn a_flood_of_input_is_taken_completely() {
    static FLOOD: [u8; 10_000] = [b'x'; 10_000];
    let fake = Fake::default();
    fake.0.borrow_mut().script.push_back(Step::Typed(&FLOOD));
    let exit = live(fake.clone(), DEFINITION, &OneFile::kernel());
    assert_eq!(exit.reason, ExitReason::Stopped);
    assert!(
        fake.0.borrow().typed.is_empty(),
        "or it would be reported for ever"
    );
}
