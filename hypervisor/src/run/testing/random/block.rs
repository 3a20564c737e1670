//! Parameter blocks of calls, made of arbitrary bytes.

use alloc::vec::Vec;

use tlfs::*;
use zerocopy::{Immutable, IntoBytes};

use super::super::{Bench, DEVICE_PAGES, FULL_ACCESS, LINUX_FLAGS, ROOT_FRAMES, alloc};
use crate::hv::ROOT_ID;

/// Where decisions come from; zeros when there are no more.
pub(super) struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|_| self.byte()))
    }

    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }
}

/// Parameters of a call, field by field.
pub(super) struct Block<'a, 'c> {
    pub choices: &'a mut Choices<'c>,
    pub bench: &'a Bench,
    pub bytes: Vec<u8>,
}

impl<'a, 'c> Block<'a, 'c> {
    pub fn new(choices: &'a mut Choices<'c>, bench: &'a Bench) -> Self {
        Self {
            choices,
            bench,
            bytes: Vec::new(),
        }
    }

    fn put(mut self, value: impl IntoBytes + Immutable) -> Self {
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

    fn one_of<T: Copy + IntoBytes + Immutable>(self, list: &[T]) -> Self {
        let value = self.choices.of(list);
        self.put(value)
    }

    /// Any value, interesting ones more often.
    pub fn value(mut self) -> Self {
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
pub(super) fn header<'a, 'c>(code: HvCallCode, block: Block<'a, 'c>) -> Block<'a, 'c> {
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

pub(super) fn element<'a, 'c>(code: HvCallCode, mut block: Block<'a, 'c>) -> Block<'a, 'c> {
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
