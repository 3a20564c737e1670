//! Children: from CreatePartition to DeletePartition.

use tlfs::{
    HV_LARGE_PAGE_PAGES, HvCallCode, HvCompatibilityVersion, HvInputAssertVirtualInterrupt,
    HvInputCreatePartition, HvInputDeleteVp, HvInputInstallIntercept, HvInputMapGpaPages,
    HvInputPartition, HvInputSetPartitionProperty, HvInputUnmapGpaPages, HvInterceptAccessMask,
    HvInterceptParameters, HvInterceptType, HvInterruptControl, HvInterruptType, HvMapGpaFlags,
    HvOutputPartitionId, HvPartitionCreationFlags, HvPartitionId, HvPartitionPropertyCode,
    HvPartitionSyntheticProcessorFeatures, HvStatus, HvUnmapGpaFlags, HvVpIndex,
};
use zerocopy::IntoBytes;

use super::Root;
use super::memory::{self, PAGE};
use super::report;

/// Pages of RAM that [`Child::with_ram`] gives a child, from guest physical address 0 on.
pub const RAM_PAGES: usize = 256;
/// Most list elements of MapGpaPages: the rest of the page behind the header.
pub const MAP_REPS: usize = 509;

/// Creation flags of Linux and the public VMM crates: local APIC, x2APIC, large pages, intercept page.
pub const VMM_FLAGS: HvPartitionCreationFlags = HvPartitionCreationFlags(
    HvPartitionCreationFlags::GPA_SUPER_PAGES_ENABLED.0
        | HvPartitionCreationFlags::EXO_PARTITION.0
        | HvPartitionCreationFlags::LAPIC_ENABLED.0
        | HvPartitionCreationFlags::INTERCEPT_MESSAGE_PAGE_ENABLED.0
        | HvPartitionCreationFlags::X2APIC_CAPABLE.0,
);

/// What Linux maps RAM with.
pub const RWX: HvMapGpaFlags = HvMapGpaFlags(
    HvMapGpaFlags::READABLE.0
        | HvMapGpaFlags::WRITABLE.0
        | HvMapGpaFlags::EXECUTABLE.0
        | HvMapGpaFlags::ADJUSTABLE.0,
);

/// A child partition.
pub struct Child {
    /// Its id.
    pub id: HvPartitionId,
    /// Frames that come back with its end; the first ones are its RAM.
    frames: [u64; MAX_FRAMES],
    count: usize,
}

const MAX_FRAMES: usize = RAM_PAGES + 32;

/// CreatePartition's input as Linux fills it, with rubbish in the padding.
pub fn creation(flags: HvPartitionCreationFlags) -> HvInputCreatePartition {
    HvInputCreatePartition {
        flags,
        compatibility_version: HvCompatibilityVersion::V_21_H2,
        padding: 0xBAD0_BAD0,
        // The crates hide what they do not know.
        disabled_processor_features: [1 << 63, 1 << 63],
        ..HvInputCreatePartition::default()
    }
}

impl Child {
    /// A partition with this id, of which nothing is known: for calls that have to fail.
    pub fn named(id: HvPartitionId) -> Self {
        Self {
            id,
            frames: [0; MAX_FRAMES],
            count: 0,
        }
    }

    /// CreatePartition.
    pub fn create(root: &mut Root, flags: HvPartitionCreationFlags) -> Self {
        let input = creation(flags);
        let own = root.id;
        let output: HvOutputPartitionId = root.pay(own, "CreatePartition", |calls| {
            calls.ask(HvCallCode::CREATE_PARTITION, &input)
        });
        let id = output.partition_id;
        check!(
            id != HvPartitionId::INVALID && id != HvPartitionId::SELF && id != own,
            "the new partition has the id {id:?}"
        );
        Self::named(id)
    }

    /// CreatePartition, the crates' synthetic features, InitializePartition (fast).
    pub fn active(root: &mut Root, flags: HvPartitionCreationFlags) -> Self {
        let child = Self::create(root, flags);
        let features = HvPartitionSyntheticProcessorFeatures::VMM_DEFAULT.0;
        let property = HvPartitionPropertyCode::SYNTHETIC_PROC_FEATURES;
        child.set_property(root, property, features);
        child.initialize(root);
        child
    }

    /// An active child with [`RAM_PAGES`] pages of zeroed RAM at 0.
    pub fn with_ram(root: &mut Root, flags: HvPartitionCreationFlags) -> Self {
        let mut child = Self::active(root, flags);
        for _ in 0..RAM_PAGES {
            child.new_frame(root);
        }
        let frames = child.frames;
        child.map(root, 0, &frames[..RAM_PAGES], RWX);
        child
    }

    /// A zeroed frame for the child, which the caller maps; it comes back with the child's end.
    pub fn new_frame(&mut self, root: &mut Root) -> u64 {
        let frame = root.memory.zeroed();
        let Some(place) = self.frames.get_mut(self.count) else {
            fail!("a child has at most {MAX_FRAMES} frames")
        };
        *place = frame;
        self.count += 1;
        frame
    }

    /// InitializePartition.
    pub fn initialize(&self, root: &mut Root) {
        let id = self.id;
        root.pay(id, "InitializePartition", |calls| {
            calls
                .fast(HvCallCode::INITIALIZE_PARTITION, id.0, 0)
                .into_result()
        });
    }

    /// SetPartitionProperty, which must succeed.
    #[track_caller]
    pub fn set_property(&self, root: &Root, code: HvPartitionPropertyCode, value: u64) {
        let input = HvInputSetPartitionProperty {
            partition_id: self.id,
            property_code: code,
            padding: 0,
            property_value: value,
        };
        let status = root.calls.order(HvCallCode::SET_PARTITION_PROPERTY, &input);
        report::status(status, HvStatus::SUCCESS, "SetPartitionProperty");
    }

    /// One issue of MapGpaPages of at most [`MAP_REPS`] elements: `list` has physical addresses.
    pub fn try_map(
        &self,
        root: &Root,
        gpa: u64,
        list: &[u64],
        flags: HvMapGpaFlags,
    ) -> (HvStatus, usize) {
        let header = HvInputMapGpaPages {
            target_partition_id: self.id,
            target_gpa_base: gpa / PAGE,
            map_flags: flags,
            padding: 0xDEAD_BEEF,
        };
        let mut elements = [0u64; MAP_REPS];
        for (element, page) in elements.iter_mut().zip(list) {
            *element = page / PAGE;
        }
        let parts = [header.as_bytes(), elements[..list.len()].as_bytes()];
        let code = HvCallCode::MAP_GPA_PAGES;
        root.calls.reps(code, list.len(), &parts, &mut [])
    }

    /// MapGpaPages as Linux issues it: batches of 509, and after a shortage the rest.
    #[track_caller]
    pub fn map(&self, root: &mut Root, gpa: u64, list: &[u64], flags: HvMapGpaFlags) {
        self.map_paying(root, gpa, list, flags, 256);
    }

    /// As [`Child::map`], with `pages` pages deposited for each shortage.
    #[track_caller]
    pub fn map_paying(
        &self,
        root: &mut Root,
        gpa: u64,
        list: &[u64],
        flags: HvMapGpaFlags,
        pages: u64,
    ) {
        let step = if flags.contains(HvMapGpaFlags::LARGE_PAGE) {
            HV_LARGE_PAGE_PAGES * PAGE
        } else {
            PAGE
        };
        let (mut position, mut shortages) = (0, 0);
        while position < list.len() {
            let batch = (list.len() - position).min(MAP_REPS);
            let at = gpa + position as u64 * step;
            let (status, done) = self.try_map(root, at, &list[position..position + batch], flags);
            position += done;
            if status.memory_shortage().is_some() {
                root.deposit(self.id, pages);
                shortages += 1;
                check!(shortages < 4096, "deposits do not help MapGpaPages");
            } else {
                report::status(status, HvStatus::SUCCESS, "MapGpaPages");
            }
        }
    }

    /// UnmapGpaPages of `count` elements (pages, or large pages by the flags).
    pub fn unmap(
        &self,
        root: &Root,
        gpa: u64,
        count: usize,
        flags: HvUnmapGpaFlags,
    ) -> (HvStatus, usize) {
        let header = HvInputUnmapGpaPages {
            target_partition_id: self.id,
            target_gpa_base: gpa / PAGE,
            unmap_flags: flags,
            padding: 0x0BAD_F00D,
        };
        let code = HvCallCode::UNMAP_GPA_PAGES;
        root.calls.reps(code, count, &[header.as_bytes()], &mut [])
    }

    /// InstallIntercept.
    pub fn try_intercept(
        &self,
        root: &Root,
        kind: HvInterceptType,
        mask: HvInterceptAccessMask,
        parameter: HvInterceptParameters,
    ) -> HvStatus {
        let input = HvInputInstallIntercept {
            partition_id: self.id,
            access_type: mask,
            intercept_type: kind,
            intercept_parameter: parameter,
        };
        root.calls.order(HvCallCode::INSTALL_INTERCEPT, &input)
    }

    /// InstallIntercept, which must succeed.
    #[track_caller]
    pub fn intercept(
        &self,
        root: &Root,
        kind: HvInterceptType,
        mask: HvInterceptAccessMask,
        parameter: HvInterceptParameters,
    ) {
        let status = self.try_intercept(root, kind, mask, parameter);
        report::status(status, HvStatus::SUCCESS, "InstallIntercept");
    }

    /// DeleteVp, in registers.
    pub fn delete_vp(&self, root: &Root, vp: HvVpIndex, fast: bool) -> HvStatus {
        let code = HvCallCode::DELETE_VP;
        if fast {
            return root.calls.fast(code, self.id.0, u64::from(vp.0));
        }
        let input = HvInputDeleteVp {
            partition_id: self.id,
            vp_index: vp,
            reserved: 0,
        };
        root.calls.order(code, &input)
    }

    /// A call whose input is the partition's id alone, in registers or in memory.
    pub fn order(&self, root: &Root, code: HvCallCode, fast: bool) -> HvStatus {
        if fast {
            return root.calls.fast(code, self.id.0, 0);
        }
        let input = HvInputPartition {
            partition_id: self.id,
        };
        root.calls.order(code, &input)
    }

    /// Physical address of a byte of the child's RAM, for the root.
    pub fn ram(&self, gpa: u64) -> u64 {
        let page = (gpa / PAGE) as usize;
        check!(page < self.count, "the child has no RAM at {gpa:#x}");
        self.frames[page] + gpa % PAGE
    }

    /// Copies bytes into the child's RAM; they must not cross a page.
    pub fn load(&self, gpa: u64, bytes: &[u8]) {
        check!(
            gpa % PAGE + bytes.len() as u64 <= PAGE,
            "a piece of a child's code crosses a page"
        );
        memory::copy_to(self.ram(gpa), bytes);
    }

    /// Reads 8 bytes of the child's RAM.
    pub fn peek(&self, gpa: u64) -> u64 {
        memory::read(self.ram(gpa))
    }

    /// Writes 8 bytes of the child's RAM.
    pub fn poke(&self, gpa: u64, value: u64) {
        memory::write(self.ram(gpa), value);
    }

    /// Writes a table of flat segments for 32-bit mode: code at selector 8, data at 16.
    pub fn put_segments(&self, gdt: u64) {
        self.poke(gdt + 8, 0x00CF_9B00_0000_FFFF);
        self.poke(gdt + 16, 0x00CF_9300_0000_FFFF);
    }

    /// Writes a 32-bit interrupt gate into a table: `vector` leads to `address`.
    pub fn put_gate(&self, idt: u64, vector: u64, address: u64) {
        let gate = address & 0xFFFF | 0x08 << 16 | 0x8E00 << 32 | (address >> 16) << 48;
        self.poke(idt + 8 * vector, gate);
    }

    /// As [`put_segments`](Self::put_segments), for 64-bit mode.
    pub fn put_long_segments(&self, gdt: u64) {
        self.poke(gdt + 8, 0x00AF_9B00_0000_FFFF);
        self.poke(gdt + 16, 0x00CF_9300_0000_FFFF);
    }

    /// Writes a 64-bit interrupt gate into a table: `vector` leads to `address`, below 4 GiB.
    pub fn put_long_gate(&self, idt: u64, vector: u8, address: u64) {
        let gate = address & 0xFFFF | 0x08 << 16 | 0x8E00 << 32 | (address >> 16) << 48;
        self.poke(idt + 16 * u64::from(vector), gate);
    }

    /// Writes page tables, of three pages, that map the first 2 MiB one to one.
    pub fn put_page_tables(&self, tables: u64) {
        self.poke(tables, (tables + PAGE) | 3);
        self.poke(tables + PAGE, (tables + 2 * PAGE) | 3);
        self.poke(tables + 2 * PAGE, 0x83);
    }

    /// AssertVirtualInterrupt, to one VP.
    pub fn try_assert(
        &self,
        root: &Root,
        control: HvInterruptControl,
        vp: u64,
        vector: u8,
    ) -> HvStatus {
        let input = HvInputAssertVirtualInterrupt {
            partition_id: self.id,
            control,
            dest_addr: vp,
            vector: vector.into(),
            ..HvInputAssertVirtualInterrupt::default()
        };
        let code = HvCallCode::ASSERT_VIRTUAL_INTERRUPT;
        root.calls.order(code, &input)
    }

    /// AssertVirtualInterrupt of a vector for one VP, as an edge, which must succeed.
    #[track_caller]
    pub fn interrupt(&self, root: &Root, vp: u64, vector: u8) {
        let control = HvInterruptControl::new().with_interrupt_type(HvInterruptType::FIXED);
        let status = self.try_assert(root, control, vp, vector);
        report::status(status, HvStatus::SUCCESS, "AssertVirtualInterrupt");
    }

    /// FinalizePartition, everything out of its pool, DeletePartition; its RAM comes back. All that was paid must come.
    #[track_caller]
    pub fn end(self, root: &mut Root) {
        let status = self.order(root, HvCallCode::FINALIZE_PARTITION, true);
        report::status(status, HvStatus::SUCCESS, "FinalizePartition");
        self.bury(root);
    }

    /// The end of a partition that is finalized, or never was initialized.
    #[track_caller]
    pub fn bury(self, root: &mut Root) {
        let paid = root.paid(self.id);
        let came = root.withdraw_all(self.id);
        report::same(came, paid, "pages from the pool of a finalized partition");
        let status = self.order(root, HvCallCode::DELETE_PARTITION, true);
        report::status(status, HvStatus::SUCCESS, "DeletePartition");
        for frame in &self.frames[..self.count] {
            root.memory.give_back(*frame);
        }
    }
}
