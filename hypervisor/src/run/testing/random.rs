//! Calls made of arbitrary bytes: valid ones, almost valid ones, and noise, from the root and from its children.

use alloc::vec::Vec;

use tlfs::*;
use zerocopy::IntoBytes;

use super::{
    Bench, CALLER_PAGES, CHILD_BASE, DEVICE_PAGES, FULL_ACCESS, LINUX_FLAGS, ROOT_FRAMES, alloc,
};
use crate::hv::ROOT_ID;
use crate::hypercall::CALLS;
use crate::mem::addr::{Gpa, Gpfn};
use crate::mem::format::Rights;

/// Most calls of a play, so that it ends soon.
const MAX_CALLS: usize = 64;
/// Most elements of a list.
const MAX_REPS: usize = 600;

/// Where decisions come from; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|_| self.byte()))
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }
}

/// Parameters of a call, field by field.
struct Block<'a, 'c> {
    choices: &'a mut Choices<'c>,
    bench: &'a Bench,
    bytes: Vec<u8>,
}

impl<'a, 'c> Block<'a, 'c> {
    fn new(choices: &'a mut Choices<'c>, bench: &'a Bench) -> Self {
        Self {
            choices,
            bench,
            bytes: Vec::new(),
        }
    }

    fn put(mut self, value: impl IntoBytes + zerocopy::Immutable) -> Self {
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }

    /// A partition: mostly a child that exists.
    fn id(self) -> Self {
        let children = self.bench.children();
        let choice = self.choices.byte();
        let id = match choice {
            0..=15 => HvPartitionId::SELF,
            16..=23 => ROOT_ID,
            24..=27 => HvPartitionId::INVALID,
            28..=31 => HvPartitionId(self.choices.long()),
            _ => match children.get(usize::from(choice) % children.len().max(1)) {
                Some(child) => *child,
                None => HvPartitionId::SELF,
            },
        };
        self.put(id)
    }

    /// A VP: mostly one of the first three.
    fn vp(self) -> Self {
        let index = match self.choices.byte() {
            choice @ 0..=239 => u32::from(choice % 3),
            240..=243 => HvVpIndex::SELF.0,
            244..=247 => HvVpIndex::ANY.0,
            choice => u32::from(choice - 240),
        };
        self.put(index)
    }

    fn small(self) -> Self {
        let value = u32::from(self.choices.byte() % 8);
        self.put(value)
    }

    fn one_of<T: Copy + IntoBytes + zerocopy::Immutable>(self, list: &[T]) -> Self {
        let value = self.choices.of(list);
        self.put(value)
    }

    /// Any value, interesting ones more often.
    fn value(mut self) -> Self {
        let value = match self.choices.byte() % 8 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => 1 << (self.choices.byte() % 64),
            4 => u64::from(self.choices.word()) << 12 | 1,
            5 => self.frame(),
            6 => u64::from(self.choices.byte()),
            _ => self.choices.long(),
        };
        self.put(value)
    }

    /// A frame: mostly the root's, from few places, so that there are collisions.
    fn frame(&mut self) -> u64 {
        let first = ROOT_FRAMES.start;
        match self.choices.byte() {
            choice @ 0..=199 => first + 8 + u64::from(choice),
            choice @ 200..=239 => first + 512 * u64::from(choice % 6),
            240..=243 => DEVICE_PAGES.start,
            244..=247 => u64::from(self.choices.word()),
            _ => self.choices.long(),
        }
    }

    /// A register: one with effects, or any.
    fn register(self) -> Self {
        if self.choices.one_in(2) {
            let all = HvRegisterName::NAMED;
            let name = all[usize::from(self.choices.word()) % all.len()];
            self.put(name)
        } else {
            self.one_of(NAMES)
        }
    }

    /// A guest page: mostly a low one.
    fn gpfn(self) -> Self {
        let page = match self.choices.byte() {
            choice @ 0..=127 => u64::from(choice % 32),
            choice @ 128..=231 => 512 * u64::from(choice % 4),
            232..=239 => 511,
            240..=247 => u64::from(self.choices.word()),
            _ => self.choices.long(),
        };
        self.put(page)
    }
}

const NAMES: &[HvRegisterName] = &[
    HvRegisterName::EXPLICIT_SUSPEND,
    HvRegisterName::INTERCEPT_SUSPEND,
    HvRegisterName::DISPATCH_SUSPEND,
    HvRegisterName::RIP,
    HvRegisterName::CR0,
    HvRegisterName::EFER,
    HvRegisterName::XFEM,
    HvRegisterName::APIC_BASE,
    HvRegisterName::GUEST_OS_ID,
    HvRegisterName::HYPERCALL,
    HvRegisterName::HYPERCALL,
    HvRegisterName::PENDING_INTERRUPTION,
    HvRegisterName::PENDING_EVENT0,
    HvRegisterName::DELIVERABILITY_NOTIFICATIONS,
    HvRegisterName::SINT0,
    HvRegisterName::SCONTROL,
    HvRegisterName::SIMP,
    HvRegisterName::EOM,
    HvRegisterName::REFERENCE_TSC,
];
const CREATION_FLAGS: &[u64] = &[
    LINUX_FLAGS.0,
    LINUX_FLAGS.0,
    LINUX_FLAGS.0,
    HvPartitionCreationFlags::EXO_PARTITION.0
        | HvPartitionCreationFlags::INTERCEPT_MESSAGE_PAGE_ENABLED.0,
    0,
    u64::MAX,
];
const MAP_FLAGS: &[u32] = &[
    FULL_ACCESS.0,
    FULL_ACCESS.0,
    FULL_ACCESS.0 | HvMapGpaFlags::LARGE_PAGE.0,
    FULL_ACCESS.0 | HvMapGpaFlags::LARGE_PAGE.0,
    HvMapGpaFlags::READABLE.0,
    HvMapGpaFlags::READABLE.0 | HvMapGpaFlags::NOT_CACHED.0,
    HvMapGpaFlags::NO_ACCESS.0,
    HvMapGpaFlags::NO_ACCESS.0 | HvMapGpaFlags::LARGE_PAGE.0,
    0,
    u32::MAX,
];
const STATES: &[HvGetSetVpStateType] = HvGetSetVpStateType::NAMED;

/// The header of a call, and the bytes of an element of its list.
fn header<'a, 'c>(code: HvCallCode, block: Block<'a, 'c>) -> Block<'a, 'c> {
    use HvCallCode as C;
    match code {
        C::CREATE_PARTITION => block.one_of(CREATION_FLAGS).zeros(48),
        C::GET_PARTITION_PROPERTY => block.id().one_of(HvPartitionPropertyCode::NAMED).small(),
        C::GET_PARTITION_PROPERTY_EX => block
            .id()
            .one_of(HvPartitionPropertyCode::NAMED)
            .small()
            .zeros(8),
        C::SET_PARTITION_PROPERTY => block
            .id()
            .one_of(HvPartitionPropertyCode::NAMED)
            .small()
            .value(),
        C::GET_NEXT_CHILD_PARTITION => block.id().id(),
        C::MAP_GPA_PAGES => block.id().gpfn().one_of(MAP_FLAGS).small(),
        C::UNMAP_GPA_PAGES => block.id().gpfn().one_of(&[0_u32, 0, 2, 2, 1, 4]).small(),
        C::INSTALL_INTERCEPT => block.id().small().one_of(HvInterceptType::NAMED).value(),
        C::CREATE_VP => block.id().vp().zeros(28),
        C::TRANSLATE_VIRTUAL_ADDRESS => block.id().vp().zeros(4).value().gpfn(),
        C::GET_VP_REGISTERS | C::SET_VP_REGISTERS => block.id().vp().zeros(4),
        C::INITIALIZE_EVENT_LOG_BUFFER_GROUP => block
            .one_of(HvEventLogType::NAMED)
            .one_of(&[4_u32, 4, 4, 2, 512, 513])
            .one_of(&[1_u32, 4096, 8192, 0x1_0000, u32::MAX])
            .one_of(&[1_u32, 1, 2, 0])
            .zeros(16),
        C::FINALIZE_EVENT_LOG_BUFFER_GROUP => block.one_of(HvEventLogType::NAMED).zeros(4),
        C::CREATE_EVENT_LOG_BUFFER
        | C::DELETE_EVENT_LOG_BUFFER
        | C::RELEASE_EVENT_LOG_BUFFER
        | C::FLUSH_EVENT_LOG_BUFFER
        | C::MAP_EVENT_LOG_BUFFER
        | C::UNMAP_EVENT_LOG_BUFFER => block.one_of(HvEventLogType::NAMED).small().zeros(8),
        C::SET_EVENT_LOG_GROUP_SOURCES => {
            block
                .one_of(HvEventLogType::NAMED)
                .zeros(4)
                .one_of(&[0_u64, 1, 0xFFFF, u64::MAX])
        }
        C::MAP_STATS_PAGE | C::UNMAP_STATS_PAGE => {
            let block = block.one_of(HvStatsObjectType::NAMED).zeros(4).id().vp();
            block.zeros(3).one_of(&[0_u8, 0, 0, 1])
        }
        C::REGISTER_INTERCEPT_RESULT | C::UNREGISTER_INTERCEPT_RESULT => block
            .id()
            .vp()
            .one_of(&[HvInterceptType::X64_CPUID, HvInterceptType::X64_MSR])
            .small()
            .small()
            .zeros(36),
        C::ASSERT_VIRTUAL_INTERRUPT => block
            .id()
            .small()
            .one_of(&[0_u32, 0, 1, 2, 3])
            .value()
            .one_of(&[0x30_u32, 0x31, 0xEF, 2, 0x100])
            .zeros(4),
        C::MAP_VP_STATE_PAGE | C::UNMAP_VP_STATE_PAGE => {
            block.id().vp().one_of(&[0_u16, 0, 1, 1, 2]).zeros(10)
        }
        C::GET_VP_STATE | C::SET_VP_STATE => block
            .id()
            .vp()
            .zeros(4)
            .one_of(STATES)
            .zeros(4)
            .value()
            .value(),
        C::GET_VP_CPUID_VALUES => block.id().vp().small().zeros(8),
        C::GET_SYSTEM_PROPERTY => block.one_of(HvSystemPropertyCode::NAMED).zeros(12),
        // One partition, or one and a VP.
        _ => block.id().vp().zeros(4),
    }
}

fn element<'a, 'c>(code: HvCallCode, mut block: Block<'a, 'c>) -> Block<'a, 'c> {
    use HvCallCode as C;
    match code {
        C::DEPOSIT_MEMORY | C::MAP_GPA_PAGES => {
            let frame = block.frame();
            block.put(frame)
        }
        C::GET_VP_REGISTERS => block.register(),
        C::SET_VP_REGISTERS => block.register().zeros(12).value().value(),
        C::GET_VP_CPUID_VALUES => block.small().small().value().value(),
        _ => block,
    }
}

/// How long a list is: mostly short.
fn length(choices: &mut Choices<'_>, element: usize, header: usize) -> usize {
    let fits = (4096 - header).checked_div(element).unwrap_or(MAX_REPS);
    let wanted = match choices.byte() {
        choice @ 0..=199 => usize::from(choice % 8) + 1,
        choice @ 200..=239 => usize::from(choice),
        _ => MAX_REPS,
    };
    wanted.min(fits)
}

/// The control word and the parameters of a call that is well formed.
fn compose(choices: &mut Choices<'_>, bench: &Bench) -> (HvHypercallInput, Vec<u8>) {
    // A few make the others possible.
    const FREQUENT: &[HvCallCode] = &[
        HvCallCode::CREATE_PARTITION,
        HvCallCode::INITIALIZE_PARTITION,
        HvCallCode::INITIALIZE_PARTITION,
        HvCallCode::DEPOSIT_MEMORY,
        HvCallCode::DEPOSIT_MEMORY,
        HvCallCode::MAP_GPA_PAGES,
        HvCallCode::MAP_GPA_PAGES,
        HvCallCode::CREATE_VP,
        HvCallCode::CREATE_VP,
        HvCallCode::SET_VP_REGISTERS,
    ];
    let code = if choices.one_in(2) {
        choices.of(FREQUENT)
    } else {
        choices.of(CALLS).0
    };
    let is_rep = CALLS.iter().any(|&(call, rep)| call == code && rep);
    let mut bytes = header(code, Block::new(choices, bench)).bytes;
    let mut control = HvHypercallInput::simple(code);
    if is_rep {
        if code == HvCallCode::WITHDRAW_MEMORY {
            bytes.truncate(16);
        }
        if code == HvCallCode::DEPOSIT_MEMORY {
            bytes.truncate(8);
        }
        let one = element(code, Block::new(choices, bench)).bytes;
        let count = length(choices, one.len(), bytes.len());
        let different = choices.one_in(2);
        for index in 0..count {
            let mut bytes_of = if different && index < 16 {
                element(code, Block::new(choices, bench)).bytes
            } else {
                one.clone()
            };
            // Long lists of frames go up.
            if bytes_of.len() == 8 {
                let first = u64::from_le_bytes(core::array::from_fn(|at| bytes_of[at]));
                let step = if different { 0 } else { index as u64 };
                bytes_of = first.wrapping_add(step).to_le_bytes().into();
            }
            bytes.extend_from_slice(&bytes_of);
        }
        control.set_rep_count(count);
        if choices.one_in(16) {
            control.set_rep_start(usize::from(choices.byte()));
        }
    }
    if matches!(code, HvCallCode::GET_VP_STATE | HvCallCode::SET_VP_STATE) {
        let words = choices.byte() % 32;
        for _ in 0..words {
            bytes = Block {
                choices,
                bench,
                bytes,
            }
            .value()
            .bytes;
        }
        control.set_variable_header_size(words.into());
    }
    bytes.truncate(4096);
    (control, bytes)
}

/// Makes calls until there are no more bytes, or many calls were made, and ends all that they made. What they answer is theirs; that the hypervisor
/// stays in order is checked.
///
/// # Panics
/// When it does not.
pub fn play(bench: &mut Bench, bytes: &[u8]) {
    let mut choices = Choices(bytes);
    bench.audited = false;
    match choices.byte() % 4 {
        0 => {}
        1 => {
            bench.child_with_vp();
        }
        2 => {
            let id = bench.child_with_vp();
            bench.add_vp(id, 1);
            bench.deposit(id, 8);
        }
        _ => {
            bench.child_with_vp();
            let id = bench.child_with_vp();
            let large = bench.large_frame();
            bench.map(id, 512, FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE, &[large]);
        }
    }
    for number in 1..=MAX_CALLS {
        if choices.0.is_empty() {
            break;
        }
        // A check looks at every frame: too long to do it each time.
        bench.audited = number.is_multiple_of(16);
        step(bench, &mut choices);
    }
    bench.audit();
    bench.switch_to_root();
    bench.tear_down();
    bench.audited = true;
}

/// Who calls now: mostly the root.
fn choose_caller(bench: &mut Bench, choices: &mut Choices<'_>) {
    bench.switch_to_root();
    if !choices.one_in(4) {
        return;
    }
    let children = bench.children();
    if children.is_empty() {
        return;
    }
    let id = choices.of(&children);
    let able = bench.with_partition(id, |child| {
        (0..CALLER_PAGES).all(|page| {
            let at = Gpfn(CHILD_BASE.0 + page).address();
            let rights = if child.overlays.hypercall_page() == Some(at.page()) {
                Rights::WRITE
            } else {
                Rights::RW
            };
            child.resolve(at, rights).is_ok()
        })
    });
    let vps = bench.vps(id);
    if able && !vps.is_empty() {
        let index = choices.of(&vps).0 as u16;
        bench.switch_to_child(id, index);
    }
}

fn step(bench: &mut Bench, choices: &mut Choices<'_>) {
    choose_caller(bench, choices);
    bench.restore();
    let (control, bytes) = compose(choices, bench);
    let mut control = control.into_bits();
    bench.write(bench.input(), &bytes);
    let (mut input, mut output) = (bench.input().0, bench.output().0);
    match choices.byte() {
        // Almost valid.
        0..=7 => control ^= 1 << (choices.byte() % 64),
        8..=15 => {
            let at = Gpa(bench.input().0 + u64::from(choices.byte() % 64));
            bench.write(at, &[choices.byte()]);
        }
        16..=19 => input = place(bench, choices),
        20..=23 => output = place(bench, choices),
        24..=27 => {
            // In registers.
            control |= 1 << 16;
            let word = |at: usize| {
                let mut word = [0; 8];
                if let Some(given) = bytes.get(at..at + 8) {
                    word.copy_from_slice(given);
                }
                u64::from_le_bytes(word)
            };
            (input, output) = (word(0), word(8));
        }
        // Noise.
        28..=31 => (control, input, output) = (choices.long(), choices.long(), choices.long()),
        _ => {}
    }
    bench.run(control, input, output);
}

/// An address at which parameters may not be.
fn place(bench: &Bench, choices: &mut Choices<'_>) -> u64 {
    let overlay = bench.with_partition(bench.caller(), |caller| caller.overlays.hypercall_page());
    match choices.byte() % 6 {
        0 => bench.input().0 + 4096 - 8 * u64::from(choices.byte() % 8),
        1 => bench.input().0 + u64::from(choices.byte()),
        2 => DEVICE_PAGES.start << 12,
        3 => overlay.map_or(0, |page| page.address().0),
        4 => u64::from(choices.word()) << 12,
        _ => choices.long(),
    }
}
