//! A processor for tests on the host, whose VPs execute nothing but hypercalls.
//!
//! Everything is what it is on a real machine, but for the processor itself: its local APIC and its floating point
//! registers are plain memory. After every execution of a call the owners of all frames are checked.

mod calls;
mod execute;
mod random;

pub use calls::{FULL_ACCESS, LINUX_FLAGS};
pub use random::Stage;

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use tlfs::{HvHypercallResult, HvPartitionId, HvVpIndex};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::Cpu;
use super::start::ROOT_PRIVILEGES;
use crate::arch::Processor;
use crate::arch::exit::Event;
use crate::arch::fpu::FpuUnit;
use crate::arch::page::HwPages;
use crate::arch::state::{Segment, SegmentName, cr0, efer, rflags};
use crate::arch::testing::Vendor;
use crate::cpu::apic::LocalApic as PhysicalApic;
use crate::cpu::local::Local;
use crate::hv::testing::{FRAMES, HYPERVISOR_FRAMES, Machine};
use crate::hv::{Hypervisor, ROOT_ID};
use crate::hypercall::Buffers;
use crate::mem::addr::{Gpa, Gpfn, Spa, Spfn};
use crate::mem::format::Rights;
use crate::mem::frames::{GlobalCounts, PartitionSlot};
use crate::mem::page_box::PageBox;
use crate::partition::overlay::hypercall_code;
use crate::partition::table::{PartitionGuard, VpPlace, slot_of};
use crate::partition::{MAX_PARTITIONS, MAX_VPS, Partition, Vp, VpRef};
use crate::sched::Slot;

/// The root's first page for its code, page tables and parameters. They are the hypervisor's, as the pages are that it
/// provides to the root: so whatever the root gives away, it can go on calling.
pub const ROOT_BASE: Gpfn = Gpfn(16);
/// The same of a child.
pub const CHILD_BASE: Gpfn = Gpfn(8);
/// Pages that a caller needs from its base on: code, two page tables, input, output.
pub const CALLER_PAGES: u64 = 5;
/// Frames of the root.
pub const ROOT_FRAMES: Range<u64> = HYPERVISOR_FRAMES..FRAMES;
/// Pages behind the root's memory that are mapped for it and are no RAM: a device.
pub const DEVICE_PAGES: Range<u64> = FRAMES..FRAMES + 4;
/// What the output page holds before a call.
pub const UNTOUCHED: u8 = 0xA5;
/// Executions after which a call counts as one that never ends: more than the longest needs.
const MAX_EXECUTIONS: usize = 5000;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a result, after so many executions.
    Result(HvHypercallResult, usize),
    /// With a message for the VP's parent.
    Intercepted,
    /// With an exception.
    Exception(Event),
    /// With the caller at another instruction: it has set its own registers, or its parameters lie over its code. If the
    /// call is not over, it never will be.
    Elsewhere,
}

/// A machine, its processor, and the VP in hand.
pub struct Bench {
    /// What all processors share.
    pub hv: &'static Hypervisor,
    /// The processor.
    pub cpu: Box<Cpu>,
    machine: &'static Machine,
    // Always there between calls.
    hand: Option<PageBox<Vp>>,
    base: Gpfn,
    /// The owners of all frames are checked after every execution.
    audited: bool,
    /// Frames of the root that it has no use for.
    free: Vec<u64>,
}

impl Bench {
    /// One on a machine of each vendor, one after the other.
    pub fn each() -> impl Iterator<Item = Self> {
        Vendor::each().map(Self::of)
    }

    /// A machine with a root alone, whose VP 0 is in hand, in 64-bit mode. The machine lives for ever.
    ///
    /// # Panics
    /// When the machine is too small, which it is not.
    pub fn of(vendor: Vendor) -> Self {
        let machine = Machine::of(vendor).leak();
        let hv: &'static Hypervisor = machine;
        let mut cpu = Box::new(new_cpu(hv));
        let devices = DEVICE_PAGES.end - DEVICE_PAGES.start;
        for (first, pages) in [(DEVICE_PAGES.start, devices), (ROOT_BASE.0, CALLER_PAGES)] {
            hv.set_root_rights(Spfn(first), pages, Some(Rights::RWX))
                .expect("reserve");
        }
        let mut root = hv.partitions.lookup(ROOT_ID).expect("exists");
        root.privileges = ROOT_PRIVILEGES;
        drop(root);
        let who = VpRef {
            slot: PartitionSlot::ROOT,
            index: 0,
        };
        let hand = cpu.take(who).expect("at home");
        cpu.load_fpu(&hand);
        cpu.queue.wake(Slot::ROOT);
        cpu.queue.pick(hv.now());
        let mut bench = Self {
            hv,
            cpu,
            machine,
            hand: Some(hand),
            base: ROOT_BASE,
            audited: true,
            free: ROOT_FRAMES.rev().collect(),
        };
        bench.prepare(ROOT_BASE);
        bench
    }

    /// The owners of all frames are not checked after every execution, but when everything is torn down.
    pub const fn audit_rarely(&mut self) {
        self.audited = false;
    }

    /// The VP in hand.
    pub fn hand(&mut self) -> &mut Vp {
        self.hand.as_deref_mut().expect("between calls")
    }

    /// The partition of the VP in hand.
    pub fn caller(&self) -> HvPartitionId {
        self.hand.as_deref().expect("between calls").partition_id
    }

    /// The processor and the VP in hand.
    pub fn parts(&mut self) -> (&mut Cpu, &mut Vp) {
        let hand = self.hand.as_deref_mut().expect("between calls");
        (&mut self.cpu, hand)
    }

    /// Takes another VP in hand, as it is.
    ///
    /// # Panics
    /// When there is no such VP.
    pub fn switch_to(&mut self, id: HvPartitionId, index: u16) {
        let slot = slot_of(id).expect("an id");
        let who = VpRef { slot, index };
        let from = self.hand.take().expect("between calls");
        if from.who == who {
            self.hand = Some(from);
            return;
        }
        let (hand, _) = self.cpu.exchange(from, who);
        assert_eq!(hand.who, who, "at home");
        self.hand = Some(hand);
        let root = slot == PartitionSlot::ROOT;
        self.base = if root { ROOT_BASE } else { CHILD_BASE };
    }

    /// Takes the root's VP in hand.
    pub fn switch_to_root(&mut self) {
        self.switch_to(ROOT_ID, 0);
    }

    /// Takes a child's VP in hand, in 64-bit mode and able to make calls, its page tables in its memory.
    ///
    /// # Panics
    /// When it has no memory for the tables and parameters.
    pub fn switch_to_child(&mut self, id: HvPartitionId, index: u16) {
        self.switch_to(id, index);
        self.prepare(CHILD_BASE);
    }

    /// Puts the VP in hand back into the state in which it makes calls, whatever was done to its registers.
    pub fn restore(&mut self) {
        self.prepare(self.base);
    }

    /// 64-bit mode, the lowest GiB mapped to itself, at the hypercall instruction.
    fn prepare(&mut self, base: Gpfn) {
        // For all privilege levels.
        const LINK: u64 = 7;
        const LARGE: u64 = 1 << 7;
        let page = |number: u64| Gpfn(base.0 + number).address();
        let id = self.caller();
        let code = hypercall_code(&self.cpu.hv.capabilities);
        self.machine.write(id, page(0), &code);
        let entry = page(2).0 | LINK;
        self.machine.write(id, page(1), &entry.to_le_bytes());
        let entry = LINK | LARGE;
        self.machine.write(id, page(2), &entry.to_le_bytes());
        self.base = base;
        let hw = &mut self.hand().hw;
        hw.set_rflags(rflags::FIXED);
        hw.set_cr0(cr0::PG | cr0::PE | cr0::ET);
        hw.set_cr3(page(1).0);
        hw.set_cr4(1 << 5);
        hw.set_efer(efer::LME | efer::LMA);
        let segment = |attributes| Segment {
            attributes,
            ..Segment::default()
        };
        hw.set_segment(SegmentName::Cs, &segment(0x209B));
        hw.set_segment(SegmentName::Ss, &segment(0x93));
        hw.set_rip(page(0).0);
    }

    /// GPA of the caller's input page.
    pub const fn input(&self) -> Gpa {
        Gpfn(self.base.0 + 3).address()
    }

    /// GPA of the caller's output page.
    pub const fn output(&self) -> Gpa {
        Gpfn(self.base.0 + 4).address()
    }

    /// Writes into the memory of the caller.
    ///
    /// # Panics
    /// Where it has none.
    pub fn write(&self, at: Gpa, bytes: &[u8]) {
        self.machine.write(self.caller(), at, bytes);
    }

    /// Reads from the memory of the caller.
    ///
    /// # Panics
    /// Where it has none.
    pub fn read<T: FromZeros + FromBytes + IntoBytes>(&self, at: Gpa) -> T {
        let mut value = T::new_zeroed();
        self.machine.read(self.caller(), at, value.as_mut_bytes());
        value
    }

    /// Reads from the memory of any partition.
    ///
    /// # Panics
    /// Where it has none.
    pub fn read_of(&self, id: HvPartitionId, at: Gpa, bytes: &mut [u8]) {
        self.machine.read(id, at, bytes);
    }

    /// Reads from the machine's memory.
    ///
    /// # Panics
    /// Outside of it.
    pub fn read_machine<T: FromZeros + FromBytes + IntoBytes>(&self, at: Spa) -> T {
        let mut value = T::new_zeroed();
        let done = self.hv.phys.copy_from(at, value.as_mut_bytes());
        done.expect("RAM");
        value
    }

    /// Works on a VP of any partition, in hand or not.
    pub fn with_vp<R>(
        &mut self,
        id: HvPartitionId,
        index: u16,
        work: impl FnOnce(&mut Vp) -> R,
    ) -> Option<R> {
        let slot = slot_of(id)?;
        let (cpu, hand) = self.parts();
        cpu.with_vp(hand, VpRef { slot, index }, work)
    }

    /// Works on a partition.
    ///
    /// # Panics
    /// When there is none with this id.
    pub fn with_partition<R>(
        &self,
        id: HvPartitionId,
        work: impl FnOnce(&mut Partition) -> R,
    ) -> R {
        work(&mut self.hv.partitions.lookup(id).expect("exists"))
    }

    /// Checks the owners of all frames.
    ///
    /// # Panics
    /// When one is wrong.
    pub fn audit(&self) {
        let done = self.hv.frames.lock().audit();
        assert_eq!(done, Ok(()), "owners of frames");
    }

    /// The counts of frames.
    pub fn counts(&self) -> GlobalCounts {
        self.hv.frames.lock().global_counts()
    }

    /// Whether the root may access a frame so.
    pub fn root_reaches(&self, frame: u64, rights: Rights) -> bool {
        self.with_partition(ROOT_ID, |root| {
            root.resolve(Gpfn(frame).address(), rights).is_ok()
        })
    }

    /// Ids of all children.
    pub fn children(&self) -> Vec<HvPartitionId> {
        (1..MAX_PARTITIONS as u16)
            .filter_map(|slot| {
                let entry = self.hv.partitions.entry(PartitionSlot(slot));
                PartitionGuard::lock(entry).map(|child| child.id)
            })
            .collect()
    }

    /// Indices of the VPs of a child that exist.
    ///
    /// # Panics
    /// For an id that is none.
    pub fn vps(&self, id: HvPartitionId) -> Vec<HvVpIndex> {
        let slot = slot_of(id).expect("an id");
        (0..MAX_VPS as u16)
            .filter(|&index| {
                let place = self.hv.partitions.vp(VpRef { slot, index }).lock();
                !matches!(*place, VpPlace::Absent)
            })
            .map(|index| HvVpIndex(index.into()))
            .collect()
    }
}

fn new_cpu(hv: &'static Hypervisor) -> Cpu {
    let leak_page = || Box::leak(Box::new([0_u8; 4096]));
    let pages = [HwPages::for_test(0, 1), HwPages::for_test(0x1000, 1)];
    hv.lp(0).mailbox.open(0);
    Cpu::new(
        hv,
        Box::leak(Box::new(Local::new(0, 0))),
        PhysicalApic::for_test(Box::leak(Box::new([0; 1024]))),
        Processor::for_test(0, pages, &hv.capabilities),
        FpuUnit::for_test(hv.fpu_format, leak_page()),
        Box::leak(Box::new(Buffers::new())),
    )
    .expect("one processor, and more than one tag")
}
