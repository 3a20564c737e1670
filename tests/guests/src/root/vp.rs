//! Virtual processors of children: registers, state pages, running.

use core::mem::size_of;

use tlfs::{
    HvCallCode, HvInputCreateVp, HvInputMapVpStatePage, HvInputUnmapVpStatePage,
    HvInputVpRegisters, HvMessage, HvMessageType, HvOutputMapVpStatePage, HvPartitionId,
    HvRegisterAssoc, HvRegisterName, HvRegisterValue, HvStatus, HvVpIndex, HvVpStatePageType,
    HvX64RegisterPage, HvX64RegisterPageDirtyFlags, HvX64SegmentAttributes, HvX64SegmentRegister,
    HvX64TableRegister,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::memory::{self, PAGE};
use super::{Root, child::Child, report};

/// How long a child may take to its next intercept.
const PATIENCE_MICROS: u64 = 5_000_000;

/// Offsets in the register page.
const DIRTY: u64 = 4;
const GP: u64 = 8;
const RIP: u64 = 136;

/// Numbers of general registers in the register page and in messages.
pub mod gp {
    /// RAX.
    pub const RAX: usize = 0;
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
}

/// A child's VP with both state pages mapped.
#[derive(Clone, Copy)]
pub struct Vp {
    /// Its partition.
    pub partition: HvPartitionId,
    /// Its index.
    pub index: HvVpIndex,
    /// Register page, physical address.
    pub registers: u64,
    /// Intercept message page, physical address.
    pub message: u64,
}

/// CreateVp's input as Linux fills it, with rubbish where Linux leaves it.
pub fn creation(partition: HvPartitionId, index: HvVpIndex) -> HvInputCreateVp {
    HvInputCreateVp {
        partition_id: partition,
        vp_index: index,
        padding: [0xBA; 3],
        subnode_id: 0xDEAD_BEEF_DEAD_BEEF,
        ..HvInputCreateVp::default()
    }
}

/// A flat segment with these attributes.
pub fn flat(selector: u16, attributes: u16) -> HvX64SegmentRegister {
    HvX64SegmentRegister {
        base: 0,
        limit: u32::MAX,
        selector,
        attributes: HvX64SegmentAttributes::from_bits(attributes),
    }
}

/// MapVpStatePage's input as Linux fills it: the hypervisor chooses the page.
pub fn state_page(
    partition: HvPartitionId,
    index: HvVpIndex,
    page_type: HvVpStatePageType,
) -> HvInputMapVpStatePage {
    HvInputMapVpStatePage {
        partition_id: partition,
        vp_index: index,
        page_type,
        ..HvInputMapVpStatePage::default()
    }
}

impl Vp {
    /// CreateVp and both state pages.
    pub fn create(root: &mut Root, child: &Child, index: u32) -> Self {
        let (partition, index) = (child.id, HvVpIndex(index));
        let input = creation(partition, index);
        root.pay(partition, "CreateVp", |calls| {
            calls.order(HvCallCode::CREATE_VP, &input).into_result()
        });
        let mut map = |page_type| {
            let input = state_page(partition, index, page_type);
            let output: HvOutputMapVpStatePage = root.pay(partition, "MapVpStatePage", |calls| {
                calls.ask(HvCallCode::MAP_VP_STATE_PAGE, &input)
            });
            output.map_location * PAGE
        };
        Self {
            partition,
            index,
            registers: map(HvVpStatePageType::REGISTERS),
            message: map(HvVpStatePageType::INTERCEPT_MESSAGE),
        }
    }

    /// UnmapVpStatePage.
    pub fn unmap_page(&self, root: &Root, page_type: HvVpStatePageType) -> HvStatus {
        let input = HvInputUnmapVpStatePage {
            partition_id: self.partition,
            vp_index: self.index,
            page_type,
            ..HvInputUnmapVpStatePage::default()
        };
        root.calls.order(HvCallCode::UNMAP_VP_STATE_PAGE, &input)
    }

    fn header(&self) -> HvInputVpRegisters {
        HvInputVpRegisters {
            partition_id: self.partition,
            vp_index: self.index,
            ..HvInputVpRegisters::default()
        }
    }

    /// GetVpRegisters of one register.
    ///
    /// # Errors
    /// Its status.
    pub fn try_get(&self, root: &Root, name: HvRegisterName) -> Result<HvRegisterValue, HvStatus> {
        let header = self.header();
        let mut value = HvRegisterValue::new_zeroed();
        let parts = [header.as_bytes(), name.as_bytes()];
        let code = HvCallCode::GET_VP_REGISTERS;
        let (status, done) = root.calls.rep(code, (0, 1), &parts, value.as_mut_bytes());
        status.into_result()?;
        report::same(done, 1, "registers read");
        Ok(value)
    }

    /// GetVpRegisters of one register of at most 64 bits.
    #[track_caller]
    pub fn get(&self, root: &Root, name: HvRegisterName) -> u64 {
        match self.try_get(root, name) {
            Ok(value) => value.low,
            Err(status) => fail!("GetVpRegisters of {name:?}: {status}"),
        }
    }

    /// SetVpRegisters: status and how many were applied. At most 64 at once.
    pub fn try_set(
        &self,
        root: &Root,
        list: &[(HvRegisterName, HvRegisterValue)],
    ) -> (HvStatus, usize) {
        let header = self.header();
        let mut elements = [HvRegisterAssoc::new_zeroed(); 64];
        for (element, (name, value)) in elements.iter_mut().zip(list) {
            // Root user space leaves rubbish in the padding.
            *element = HvRegisterAssoc {
                pad: [0x0BAD_0BAD; 3],
                ..HvRegisterAssoc::new(*name, *value)
            };
        }
        let parts = [header.as_bytes(), elements[..list.len()].as_bytes()];
        let code = HvCallCode::SET_VP_REGISTERS;
        root.calls.reps(code, list.len(), &parts, &mut [])
    }

    /// SetVpRegisters, which must succeed.
    #[track_caller]
    pub fn set(&self, root: &Root, list: &[(HvRegisterName, HvRegisterValue)]) {
        let (status, done) = self.try_set(root, list);
        if let (false, Some(refused)) = (status.is_success(), list.get(done)) {
            let at = core::panic::Location::caller();
            fail!(
                "SetVpRegisters of {:x?}: {status} (line {})",
                refused,
                at.line()
            );
        }
        report::same(done, list.len(), "registers written");
    }

    /// SetVpRegisters of registers of at most 64 bits.
    #[track_caller]
    pub fn set64(&self, root: &Root, list: &[(HvRegisterName, u64)]) {
        for part in list.chunks(64) {
            let mut values = [(HvRegisterName::RIP, HvRegisterValue::new_zeroed()); 64];
            for (place, (name, value)) in values.iter_mut().zip(part) {
                *place = (*name, HvRegisterValue::from_u64(*value));
            }
            self.set(root, &values[..part.len()]);
        }
    }

    /// Runs from `rip` in 32-bit protected mode without paging: flat segments, stack at 0x8000, interrupts off.
    #[track_caller]
    pub fn enter_flat(&self, root: &Root, rip: u64) {
        self.enter(root, rip, 0xC09B, [0x11, 0, 0, 0]);
    }

    /// Runs from `rip` in 64-bit mode with page tables at `cr3`.
    #[track_caller]
    pub fn enter_long(&self, root: &Root, rip: u64, cr3: u64) {
        self.enter(root, rip, 0xA09B, [0x8000_0011, cr3, 0x20, 0x500]);
    }

    #[track_caller]
    fn enter(&self, root: &Root, rip: u64, code: u16, [cr0, cr3, cr4, efer]: [u64; 4]) {
        use HvRegisterName as Name;
        let data = HvRegisterValue::from(flat(0x10, 0xC093));
        let segments = [Name::DS, Name::ES, Name::FS, Name::GS, Name::SS];
        self.set(root, &segments.map(|name| (name, data)));
        self.set(root, &[(Name::CS, flat(0x08, code).into())]);
        self.set64(
            root,
            &[
                (Name::CR4, cr4),
                (Name::CR3, cr3),
                (Name::EFER, efer),
                (Name::CR0, cr0),
                (Name::RFLAGS, 2),
                (Name::RSP, 0x8000),
                (Name::RIP, rip),
            ],
        );
    }

    /// Loads GDTR and IDTR.
    pub fn set_tables(&self, root: &Root, gdt: (u64, u16), idt: (u64, u16)) {
        let table = |(base, limit)| {
            HvRegisterValue::from(HvX64TableRegister {
                pad: [0; 3],
                limit,
                base,
            })
        };
        let list = [
            (HvRegisterName::GDTR, table(gdt)),
            (HvRegisterName::IDTR, table(idt)),
        ];
        self.set(root, &list);
    }

    /// Clears the suspend registers in the order of Linux: the VP runs when the root sleeps.
    #[track_caller]
    pub fn resume(&self, root: &Root) {
        self.set64(
            root,
            &[
                (HvRegisterName::INTERCEPT_SUSPEND, 0),
                (HvRegisterName::EXPLICIT_SUSPEND, 0),
            ],
        );
    }

    /// Stops the VP; returns whether an intercept waits for an answer.
    pub fn stop(&self, root: &Root) -> bool {
        self.set64(root, &[(HvRegisterName::EXPLICIT_SUSPEND, 1)]);
        self.get(root, HvRegisterName::INTERCEPT_SUSPEND) & 1 != 0
    }

    /// Waits for the VP's intercept and reads it from its page.
    #[track_caller]
    pub fn wait(&self, root: &mut Root) -> HvMessage {
        let Some(notice) = root.messages.wait(PATIENCE_MICROS) else {
            let at = core::panic::Location::caller();
            fail!(
                "VP {:?} sends no intercept: RIP {:#x}, suspended {}, {}, activity {} (line {})",
                self.index,
                self.get(root, HvRegisterName::RIP),
                self.get(root, HvRegisterName::EXPLICIT_SUSPEND),
                self.get(root, HvRegisterName::INTERCEPT_SUSPEND),
                self.get(root, HvRegisterName::INTERNAL_ACTIVITY_STATE),
                at.line()
            );
        };
        self.expect_notice(&notice);
        let mut message = HvMessage::new_zeroed();
        memory::copy_from(self.message, message.as_mut_bytes());
        report::same(
            message.header.sender,
            self.partition.0,
            "sender of an intercept message",
        );
        message
    }

    /// Fails unless a message of SINT0 is the notice of this VP's intercept.
    #[track_caller]
    pub fn expect_notice(&self, notice: &HvMessage) {
        let kind = notice.header.message_type;
        report::same(kind, HvMessageType::OPAQUE_INTERCEPT, "message of SINT0");
        report::same(notice.header.sender, self.partition.0, "sender of a notice");
        report::same(
            notice.payload_as::<HvVpIndex>(),
            Some(self.index),
            "VP of a notice",
        );
        report::same(notice.header.payload_size, 4, "payload of a notice");
    }

    /// Resumes the VP and waits for its next intercept.
    #[track_caller]
    pub fn run(&self, root: &mut Root) -> HvMessage {
        self.resume(root);
        self.wait(root)
    }

    /// Resumes the VP to its next intercept, which must be of this type, with exactly this payload.
    #[track_caller]
    pub fn run_to<T: FromBytes>(&self, root: &mut Root, kind: HvMessageType) -> T {
        let message = self.run(root);
        payload(&message, kind)
    }

    /// A copy of the register page.
    pub fn page(&self) -> HvX64RegisterPage {
        let mut page = HvX64RegisterPage::new_zeroed();
        memory::copy_from(self.registers, page.as_mut_bytes());
        page
    }

    fn mark_dirty(&self, flags: HvX64RegisterPageDirtyFlags) {
        let word = memory::read(self.registers);
        memory::write(self.registers, word | u64::from(flags.0) << (8 * DIRTY));
    }

    /// Changes a general register through the register page.
    pub fn put(&self, register: usize, value: u64) {
        memory::write(self.registers + GP + 8 * register as u64, value);
        self.mark_dirty(HvX64RegisterPageDirtyFlags::GENERAL_PURPOSE);
    }

    /// A general register, from the register page.
    pub fn take(&self, register: usize) -> u64 {
        memory::read(self.registers + GP + 8 * register as u64)
    }

    /// RIP, from the register page.
    pub fn rip(&self) -> u64 {
        memory::read(self.registers + RIP)
    }

    /// Changes RIP through the register page.
    pub fn jump(&self, rip: u64) {
        memory::write(self.registers + RIP, rip);
        self.mark_dirty(HvX64RegisterPageDirtyFlags::INSTRUCTION_POINTER);
    }

    /// Moves RIP on behind an instruction.
    pub fn skip(&self, length: u8) {
        self.jump(self.rip() + u64::from(length));
    }
}

/// The payload of a message that must be of this type, and exactly as long.
#[track_caller]
pub fn payload<T: FromBytes>(message: &HvMessage, kind: HvMessageType) -> T {
    report::same(message.header.message_type, kind, "intercept");
    report::same(
        usize::from(message.header.payload_size),
        size_of::<T>(),
        "size of a payload",
    );
    match message.payload_as() {
        Some(value) => value,
        None => fail!("{kind:?} is longer than a payload"),
    }
}
