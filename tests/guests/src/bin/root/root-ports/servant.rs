//! A child that makes the hypercalls it is told to, and writes down what comes for it.

use guests::root::child::VMM_FLAGS;
use guests::root::{Child, Root, Vp};
use guests::{check, child_code, fail, handler_code};
use tlfs::{
    HvCallCode, HvHypercallInput, HvHypercallResult, HvMessage, HvRegisterName, HvStatus,
    HvSynicSint,
};
use zerocopy::{FromZeros, IntoBytes};

use guests::root::way::{Way, event, message};

/// SINTs that it takes messages and events at, with their vectors.
pub const MESSAGES: u32 = 5;
pub const EVENTS: u32 = 6;
const MESSAGE_VECTOR: u8 = 0x51;
const EVENT_VECTOR: u8 = 0x61;
/// Interrupt that tells it to look for an order.
const ORDER: u8 = 0x41;

const CODE: u64 = 0x1000;
const ON_MESSAGE: u64 = 0x2000;
const ON_EVENT: u64 = 0x2400;
const ON_ORDER: u64 = 0x2800;
/// RCX, RDX, R8; RAX; whether there is an order.
const MAILBOX: u64 = 0x3000;
const HYPERCALL_PAGE: u64 = 0x4000;
const GDT: u64 = 0x6000;
const IDT: u64 = 0x7000;
const STACKS: u64 = 0x9000;
const TABLES: u64 = 0xA000;
/// An input block of a call of its own.
const INPUT: u64 = 0x1_0000;
/// Of each VP: message page, event flags page.
const PAGES: u64 = 0x2_0000;
const PAGES_OF_A_VP: u64 = 0x2000;
/// Of each VP, what came: the number of messages, from 0x100 on the messages, from 0xE000 on the flags.
const RECORDS: u64 = 0x3_0000;
const RECORD_OF_A_VP: u64 = 0x1_0000;
const RECORDED_FLAGS: u64 = 0xE000;
/// There: its APIC is on.
const READY: u64 = 0xF000;

/// How often, and for how long in microseconds, the root sleeps until something has happened.
const NAPS: u32 = 400;
const NAP: u64 = 5_000;

child_code!(
    /// Turns the APIC on, and makes the call that the mailbox has whenever an interrupt has ended its HLT.
    serve,
    "64",
    "mov ecx, 0x80f",
    "mov eax, 0x1ff",
    "xor edx, edx",
    "wrmsr",
    "mov dword ptr [r14 + 0xf000], 1",
    "2: sti",
    "hlt",
    "cli",
    "cmp dword ptr [0x3020], 0",
    "je 2b",
    "mov rcx, qword ptr [0x3000]",
    "mov rdx, qword ptr [0x3008]",
    "mov r8, qword ptr [0x3010]",
    "mov eax, 0x4000",
    "call rax",
    "mov qword ptr [0x3018], rax",
    "mov dword ptr [0x3020], 0",
    "jmp 2b",
);

handler_code!(
    /// Takes the message out of its slot, and says so if others wait. R15 is the message page, R14 the record.
    on_message,
    "push rsi",
    "push rdi",
    "cmp dword ptr [r15 + 0x500], 0",
    "je 2f",
    "mov eax, dword ptr [r14]",
    "and eax, 127",
    "shl eax, 8",
    "lea rdi, [r14 + rax + 0x100]",
    "lea rsi, [r15 + 0x500]",
    "mov ecx, 32",
    "cld",
    "rep movsq",
    "mov dword ptr [r15 + 0x500], 0",
    "mfence",
    "inc dword ptr [r14]",
    "test byte ptr [r15 + 0x505], 1",
    "jz 2f",
    "mov ecx, 0x40000084",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "2: pop rdi",
    "pop rsi",
);

handler_code!(
    /// Takes the event flags, and adds them to those that came before.
    on_event,
    "push rsi",
    "push rdi",
    "lea rsi, [r15 + 0x1600]",
    "lea rdi, [r14 + 0xe000]",
    "mov ecx, 32",
    "3: xor eax, eax",
    "xchg qword ptr [rsi], rax",
    "or qword ptr [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "dec ecx",
    "jnz 3b",
    "pop rdi",
    "pop rsi",
);

handler_code!(
    /// Ends the interrupt.
    on_order,
);

/// A child with two VPs, which run; the SINTs of the first are open.
pub struct Servant {
    pub child: Child,
    vps: [Vp; 2],
}

impl Servant {
    pub fn new(root: &mut Root) -> Self {
        let child = Child::with_ram(root, VMM_FLAGS);
        for (at, code) in [
            (CODE, serve()),
            (ON_MESSAGE, on_message()),
            (ON_EVENT, on_event()),
            (ON_ORDER, on_order()),
        ] {
            child.load(at, code);
        }
        child.put_long_segments(GDT);
        for (vector, handler) in [
            (MESSAGE_VECTOR, ON_MESSAGE),
            (EVENT_VECTOR, ON_EVENT),
            (ORDER, ON_ORDER),
        ] {
            child.put_long_gate(IDT, vector, handler);
        }
        child.put_page_tables(TABLES);
        let vps = [0, 1].map(|index| Vp::create(root, &child, index));
        let servant = Self { child, vps };
        for index in 0..2 {
            servant.prepare(root, index);
        }
        servant.listen(root, 0, true);
        for vp in servant.vps {
            vp.resume(root);
        }
        // An APIC that is off takes no interrupt, and the message in the slot would not be told of again.
        let ready = |vp| servant.child.peek(Self::record(vp) + READY) != 0;
        let runs = servant.until(root, || ready(0) && ready(1));
        check!(runs, "a child does not run");
        servant
    }

    fn prepare(&self, root: &Root, index: u64) {
        use HvRegisterName as Name;
        let vp = &self.vps[index as usize];
        vp.enter_long(root, CODE, TABLES);
        vp.set_tables(root, (GDT, 0x17), (IDT, 0xFFF));
        let pages = PAGES + index * PAGES_OF_A_VP;
        vp.set64(
            root,
            &[
                (Name::RSP, STACKS + 0x400 * index),
                (Name::R15, pages),
                (Name::R14, RECORDS + index * RECORD_OF_A_VP),
                (Name::INTERNAL_ACTIVITY_STATE, 0),
                (Name::GUEST_OS_ID, 0x8100 << 48),
                (Name::HYPERCALL, HYPERCALL_PAGE | 1),
                (Name::SIMP, pages | 1),
                (Name::SIEFP, (pages + 0x1000) | 1),
                (Name::SCONTROL, 1),
            ],
        );
    }

    /// Opens or masks the SINTs of a VP, which is suspended for it if it runs.
    pub fn listen(&self, root: &Root, vp: usize, listens: bool) {
        let vp = &self.vps[vp];
        let sint = |vector| HvSynicSint::new().with_vector(vector).with_masked(!listens);
        let names = [(MESSAGES, MESSAGE_VECTOR), (EVENTS, EVENT_VECTOR)];
        let runs = vp.get(root, HvRegisterName::EXPLICIT_SUSPEND) == 0;
        vp.stop(root);
        for (number, vector) in names {
            if let Some(name) = HvRegisterName::sint(number) {
                vp.set64(root, &[(name, sint(vector).into_bits())]);
            }
        }
        if runs {
            vp.resume(root);
        }
    }

    /// A hypercall of its first VP.
    pub fn call(
        &self,
        root: &Root,
        control: HvHypercallInput,
        rdx: u64,
        r8: u64,
    ) -> HvHypercallResult {
        let words = [control.into_bits(), rdx, r8, u64::MAX, 1];
        for (index, word) in (0..).zip(words) {
            self.child.poke(MAILBOX + 8 * index, word);
        }
        self.child.interrupt(root, 0, ORDER);
        let done = self.until(root, || self.child.peek(MAILBOX + 0x20) == 0);
        check!(done, "a child does not make its call");
        HvHypercallResult::from_bits(self.child.peek(MAILBOX + 0x18))
    }

    /// A simple call with its input in memory.
    pub fn order(&self, root: &Root, code: HvCallCode, input: &[u8]) -> HvStatus {
        self.child.load(INPUT, input);
        let control = HvHypercallInput::simple(code);
        self.call(root, control, INPUT, 0).call_status()
    }

    fn fast(&self, root: &Root, code: HvCallCode, rdx: u64) -> HvStatus {
        let control = HvHypercallInput::simple(code).with_fast(true);
        self.call(root, control, rdx, 0).call_status()
    }

    /// Its PostMessage.
    pub fn post(&self, root: &Root, way: &Way, kind: u32, payload: &[u8]) -> HvStatus {
        let input = message(way.connection(), kind, payload);
        self.order(root, HvCallCode::POST_MESSAGE, input.as_bytes())
    }

    /// Its SignalEvent.
    pub fn signal(&self, root: &Root, way: &Way, flag: u16) -> HvStatus {
        self.fast(
            root,
            HvCallCode::SIGNAL_EVENT,
            event(way.connection(), flag),
        )
    }

    /// Lets children run until something is so.
    pub fn until(&self, root: &Root, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..NAPS {
            if done() {
                return true;
            }
            root.messages.nap(NAP);
        }
        done()
    }

    fn record(vp: usize) -> u64 {
        RECORDS + vp as u64 * RECORD_OF_A_VP
    }

    /// How many messages a VP has taken since the last [`forget`](Self::forget).
    pub fn count(&self, vp: usize) -> u64 {
        self.child.peek(Self::record(vp)) & 0xFFFF_FFFF
    }

    /// Waits until a VP has taken so many messages, and a moment more: there must not be others.
    #[track_caller]
    pub fn await_messages(&self, root: &Root, vp: usize, count: u64) {
        let came = self.until(root, || self.count(vp) >= count);
        root.messages.nap(NAP);
        if !came || self.count(vp) != count {
            let at = core::panic::Location::caller().line();
            let register = |name| self.vps[vp].get(root, name);
            fail!(
                "{} messages instead of {count} (line {at}); RIP {:#x}, RFLAGS {:#x}, suspended {} {}, activity {}",
                self.count(vp),
                register(HvRegisterName::RIP),
                register(HvRegisterName::RFLAGS),
                register(HvRegisterName::EXPLICIT_SUSPEND),
                register(HvRegisterName::INTERCEPT_SUSPEND),
                register(HvRegisterName::INTERNAL_ACTIVITY_STATE)
            );
        }
    }

    /// A message that a VP has taken, counted from the first one.
    pub fn message(&self, vp: usize, number: u64) -> HvMessage {
        let mut message = HvMessage::new_zeroed();
        let at = Self::record(vp) + 0x100 * (number + 1);
        for (index, word) in (0..).zip(message.as_mut_bytes().chunks_mut(8)) {
            word.copy_from_slice(&self.child.peek(at + 8 * index).to_le_bytes());
        }
        message
    }

    /// Event flags that a VP has taken: those of this word of 64.
    pub fn flags(&self, vp: usize, word: u64) -> u64 {
        self.child
            .peek(Self::record(vp) + RECORDED_FLAGS + 8 * word)
    }

    /// Forgets what came.
    pub fn forget(&self) {
        for vp in 0..2 {
            self.child.poke(Self::record(vp), 0);
            for word in 0..32 {
                self.child
                    .poke(Self::record(vp) + RECORDED_FLAGS + 8 * word, 0);
            }
        }
    }
}
