//! Second-level translation faults.

use tlfs::HvCacheType;

use super::Cpu;
use crate::arch::exit::{Access, NestedFault};
use crate::intercept::message;
use crate::log::events::{Event, record};
use crate::mem::format::{MemoryType, Rights};
use crate::partition::{Partition, Vp};

/// What a fault comes from.
enum Cause {
    /// Nothing any more: another processor has changed the translation meanwhile.
    Gone,
    /// The hypervisor's page over the guest's memory does not allow it.
    Overlay,
    /// The parent has mapped the page without this right.
    Forbidden(HvCacheType),
    /// The page of a local APIC in xAPIC mode, if this VP's is in it.
    LocalApic,
    /// There is no page.
    Absent,
}

impl Cpu {
    /// A memory access that the second-level tables do not allow.
    pub(super) fn nested_fault(&mut self, vp: &mut Vp, fault: &NestedFault) {
        let cause = self.partition(vp, |_, partition| cause(partition, fault));
        let (mapped, cache_type) = match cause {
            Cause::Gone => return,
            _ if vp.is_root() => return self.forbidden_memory(vp, fault),
            Cause::Overlay => return self.inject_gp(vp),
            Cause::Forbidden(cache_type) => (true, cache_type),
            Cause::LocalApic if self.access_apic_page(vp, fault) => return,
            Cause::LocalApic | Cause::Absent => (false, HvCacheType::UNCACHED),
        };
        self.report_memory(vp, fault, mapped, cache_type);
    }

    /// The parent has to allow this access, or to map the page that there is none of, before the VP can go on.
    pub fn memory_intercept(&mut self, vp: &mut Vp, fault: &NestedFault, mapped: bool) {
        let cache_type = if mapped {
            HvCacheType::WRITE_BACK
        } else {
            HvCacheType::UNCACHED
        };
        self.report_memory(vp, fault, mapped, cache_type);
    }

    /// Tells the parent of an access to memory that is not mapped, or not with the right for it.
    fn report_memory(
        &mut self,
        vp: &mut Vp,
        fault: &NestedFault,
        mapped: bool,
        cache_type: HvCacheType,
    ) {
        let code = if fault.access == Access::Execute {
            message::Code::default()
        } else {
            self.fetch(vp)
        };
        let seen = vp.hw.snapshot();
        let message = message::memory(vp, &seen, fault, mapped, cache_type, &code);
        self.intercept(vp, &seen, &message);
    }

    /// The root has touched memory that is not its own: its error, its fault.
    fn forbidden_memory(&mut self, vp: &mut Vp, fault: &NestedFault) {
        let text = "the root has touched memory that is not its own (GPA, RIP)";
        let (a, b) = (fault.gpa.0, vp.hw.rip());
        record(self.hv.now().units(), Event::Note { text, a, b });
        self.inject_gp(vp);
    }
}

fn cause(partition: &Partition, fault: &NestedFault) -> Cause {
    let page = fault.gpa.page();
    let Some(found) = partition.translation(page) else {
        return if partition.is_apic_page(page) {
            Cause::LocalApic
        } else {
            Cause::Absent
        };
    };
    let wanted = match fault.access {
        Access::Read => Rights::READ,
        // The processor also reads what it writes, and a walk marks the tables that it reads.
        Access::Write => Rights::RW,
        Access::Execute => Rights::RX,
    };
    if found.leaf.rights.contains(wanted) {
        Cause::Gone
    } else if partition.overlays.cover(page) {
        Cause::Overlay
    } else {
        Cause::Forbidden(cache_type(found.leaf.memory_type))
    }
}

fn cache_type(memory_type: MemoryType) -> HvCacheType {
    match memory_type {
        MemoryType::Uncacheable | MemoryType::UncacheableMinus => HvCacheType::UNCACHED,
        MemoryType::WriteCombining => HvCacheType::WRITE_COMBINING,
        MemoryType::WriteThrough => HvCacheType::WRITE_THROUGH,
        MemoryType::WriteProtected => HvCacheType::WRITE_PROTECTED,
        MemoryType::WriteBack => HvCacheType::WRITE_BACK,
    }
}
