//! What can be recorded, and what an entry of it looks like.

use tlfs::{
    HvEventLogEntryHeader, HvEventLogEntryType, HvEventLogSystemSources, HvEventLogType,
    HvPartitionId, HvStatus, HvTraceGroups,
};
use zerocopy::{Immutable, IntoBytes};

use crate::arch::exit::Access;
use crate::partition::VpRef;

/// Most parameters of an entry.
const MAX_PARAMETERS: usize = 4;
/// Something that happened. Each gives one entry of LOCAL_DIAGNOSTICS, if its group of traces is enabled; creation and
/// deletion of a partition also give one of GLOBAL_SYSTEM_EVENTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A hypercall (HC).
    Hypercall {
        /// Guest RIP.
        rip: u64,
        /// The control word as the caller gave it.
        control: u64,
    },
    /// An exception of the guest that was intercepted before delivery (IM).
    GuestException {
        /// Guest RIP.
        rip: u64,
        /// Vector.
        vector: u8,
    },
    /// An exception that the hypervisor raises in the guest (IM).
    ReflectedException {
        /// Guest RIP.
        rip: u64,
        /// Vector.
        vector: u8,
    },
    /// RDMSR (IM).
    MsrRead {
        /// Guest RIP.
        rip: u64,
        /// MSR.
        index: u32,
        /// What the guest gets; 0 if that is not known yet.
        value: u64,
    },
    /// WRMSR (IM).
    MsrWrite {
        /// Guest RIP.
        rip: u64,
        /// MSR.
        index: u32,
        /// What the guest writes.
        value: u64,
    },
    /// A read of a control register (IM).
    CrRead {
        /// Guest RIP.
        rip: u64,
        /// Register.
        index: u8,
        /// What the guest gets; 0 where the processor does not tell where to.
        value: u64,
    },
    /// A write to a control register (IM).
    CrWrite {
        /// Guest RIP.
        rip: u64,
        /// Register.
        index: u8,
        /// What the guest writes; 0 where the processor does not tell where from.
        value: u64,
    },
    /// HLT (IM).
    Halt {
        /// Guest RIP.
        rip: u64,
    },
    /// CPUID (IM).
    Cpuid {
        /// Guest RIP.
        rip: u64,
        /// EAX before.
        eax: u32,
        /// ECX before.
        ecx: u32,
    },
    /// IN or INS (IM).
    IoPortRead {
        /// Guest RIP.
        rip: u64,
        /// Port.
        port: u16,
        /// What the guest gets; 0 if that is not known yet, or is in memory.
        value: u32,
    },
    /// OUT or OUTS (IM).
    IoPortWrite {
        /// Guest RIP.
        rip: u64,
        /// Port.
        port: u16,
        /// What the guest writes; 0 if that is in memory.
        value: u32,
    },
    /// The guest can take an interrupt (IM).
    InterruptPending {
        /// Guest RIP.
        rip: u64,
    },
    /// Triple fault (IM).
    GuestShutdown {
        /// Guest RIP.
        rip: u64,
    },
    /// A physical NMI (IM).
    Nmi {
        /// Guest RIP.
        rip: u64,
    },
    /// INVD or WBINVD (IM).
    Invd {
        /// Guest RIP.
        rip: u64,
    },
    /// Task switch (IM).
    TaskSwitch {
        /// Guest RIP.
        rip: u64,
    },
    /// A second-level translation that failed (IM).
    MemoryIntercept {
        /// Guest RIP.
        rip: u64,
        /// What the guest tried.
        access: Access,
    },
    /// HvCallCreatePartition (OB; system: PARTITION, AUDIT_SUCCESS or AUDIT_FAILURE).
    CreatePartition {
        /// The new id; INVALID if there is none.
        id: HvPartitionId,
        /// How it ended.
        status: HvStatus,
    },
    /// HvCallDeletePartition (OB; system, on success: PARTITION, AUDIT_SUCCESS).
    DeletePartition {
        /// The id.
        id: HvPartitionId,
        /// How it ended.
        status: HvStatus,
    },
    /// HvCallCreateVp (VP).
    CreateVp {
        /// Partition.
        id: HvPartitionId,
        /// VP index, in place of the documented thread id.
        index: u32,
        /// How it ended.
        status: HvStatus,
    },
    /// A VP deleted, alone or with its partition (VP).
    DeleteVp {
        /// Partition.
        id: HvPartitionId,
        /// VP index, in place of the documented thread id.
        index: u32,
        /// How it ended.
        status: HvStatus,
    },
    /// The root has enabled the test source (system: TEST).
    AdminTest,
}

impl Event {
    /// The group of traces that it belongs to.
    #[inline]
    pub const fn traces(&self) -> HvTraceGroups {
        match self {
            Self::Hypercall { .. } => HvTraceGroups::HC,
            Self::CreatePartition { .. } | Self::DeletePartition { .. } => HvTraceGroups::OB,
            Self::CreateVp { .. } | Self::DeleteVp { .. } => HvTraceGroups::VP,
            Self::AdminTest => HvTraceGroups::empty(),
            _ => HvTraceGroups::IM,
        }
    }

    /// The sources of system events that it belongs to: one of them is enough.
    #[inline]
    pub fn system_sources(&self) -> HvEventLogSystemSources {
        use HvEventLogSystemSources as Sources;
        match self {
            Self::CreatePartition { status, .. } if *status == HvStatus::SUCCESS => {
                Sources::PARTITION | Sources::AUDIT_SUCCESS
            }
            Self::CreatePartition { .. } => Sources::PARTITION | Sources::AUDIT_FAILURE,
            Self::DeletePartition { status, .. } if *status == HvStatus::SUCCESS => {
                Sources::PARTITION | Sources::AUDIT_SUCCESS
            }
            Self::AdminTest => Sources::TEST,
            _ => Sources::empty(),
        }
    }

    /// Its entry in one of the logs, if it has one there.
    pub(super) fn entry(&self, log: HvEventLogType) -> Option<Entry> {
        match log {
            HvEventLogType::LOCAL_DIAGNOSTICS => self.trace_entry(),
            HvEventLogType::GLOBAL_SYSTEM_EVENTS => self.system_entry(),
            _ => None,
        }
    }

    fn system_entry(&self) -> Option<Entry> {
        use HvEventLogEntryType as Type;
        match *self {
            Self::CreatePartition { id, status } if status == HvStatus::SUCCESS => {
                Some(Entry::new(Type::OPERATIONAL_PARTITION_CREATED, &[id.0]))
            }
            Self::CreatePartition { status, .. } => Some(Entry::new(
                Type::OPERATIONAL_PARTITION_CREATION_FAILED,
                &[u64::from(status.0)],
            )),
            Self::DeletePartition { id, status } if status == HvStatus::SUCCESS => {
                Some(Entry::new(Type::OPERATIONAL_PARTITION_DELETED, &[id.0]))
            }
            Self::AdminTest => Some(Entry::new(Type::ADMIN_TEST, &[])),
            _ => None,
        }
    }

    #[rustfmt::skip] // A table.
    fn trace_entry(&self) -> Option<Entry> {
        use HvEventLogEntryType as Type;
        Some(match *self {
            Self::Hypercall { rip, control } => Entry::new(Type::HC_HYPERCALL, &[rip, control]),
            Self::GuestException { rip, vector } => Entry::new(Type::IM_GUEST_EXCEPTION, &[rip, vector.into()]),
            Self::ReflectedException { rip, vector } => Entry::new(Type::IM_REFLECTED_EXCEPTION, &[rip, vector.into()]),
            Self::MsrRead { rip, index, value } => Entry::new(Type::IM_MSR_READ, &[rip, index.into(), value]),
            Self::MsrWrite { rip, index, value } => Entry::new(Type::IM_MSR_WRITE, &[rip, index.into(), value]),
            Self::CrRead { rip, index, value } => Entry::new(Type::IM_CR_READ, &[rip, index.into(), value]),
            Self::CrWrite { rip, index, value } => Entry::new(Type::IM_CR_WRITE, &[rip, index.into(), value]),
            Self::Halt { rip } => Entry::new(Type::IM_HLT_INSTRUCTION, &[rip]),
            Self::Cpuid { rip, eax, ecx } => Entry::new(Type::IM_CPUID_INSTRUCTION, &[rip, eax.into(), ecx.into()]),
            Self::IoPortRead { rip, port, value } => Entry::new(Type::IM_IO_PORT_READ, &[rip, port.into(), value.into()]),
            Self::IoPortWrite { rip, port, value } => Entry::new(Type::IM_IO_PORT_WRITE, &[rip, port.into(), value.into()]),
            Self::InterruptPending { rip } => Entry::new(Type::IM_INTERRUPT_PENDING, &[rip]),
            Self::GuestShutdown { rip } => Entry::new(Type::IM_GUEST_SHUTDOWN, &[rip]),
            Self::Nmi { rip } => Entry::new(Type::IM_NMI_INTERRUPT, &[rip]),
            Self::Invd { rip } => Entry::new(Type::IM_INVD_INSTRUCTION, &[rip]),
            Self::TaskSwitch { rip } => Entry::new(Type::IM_TASK_SWITCH, &[rip]),
            Self::MemoryIntercept { rip, access } => Entry::new(Type::IM_MEMORY_INTERCEPT, &[rip, access as u64]),
            Self::CreatePartition { id, status } => Entry::new(Type::OB_CREATE_PARTITION, &[id.0, status.0.into()]),
            Self::DeletePartition { id, status } => Entry::new(Type::OB_DELETE_PARTITION, &[id.0, status.0.into()]),
            Self::CreateVp { id, index, status } => Entry::new(Type::VP_CREATE_VP, &[id.0, index.into(), status.0.into()]),
            Self::DeleteVp { id, index, status } => Entry::new(Type::VP_DELETE_VP, &[id.0, index.into(), status.0.into()]),
            Self::AdminTest => return None,
        })
    }
}

/// An entry without its time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Type.
    pub entry_type: HvEventLogEntryType,
    parameters: [u64; MAX_PARAMETERS],
    count: usize,
}

impl Entry {
    fn new<const COUNT: usize>(entry_type: HvEventLogEntryType, values: &[u64; COUNT]) -> Self {
        const { assert!(COUNT <= MAX_PARAMETERS) };
        let mut parameters = [0; MAX_PARAMETERS];
        parameters[..COUNT].copy_from_slice(values);
        Self {
            entry_type,
            parameters,
            count: COUNT,
        }
    }

    /// Parameters, 8 bytes each.
    #[cfg(test)]
    pub fn parameters(&self) -> &[u64] {
        &self.parameters[..self.count]
    }

    /// The entry as it lies in a buffer.
    pub fn sealed(&self, context: u32, time_stamp: u64) -> SealedEntry {
        let size = size_of::<HvEventLogEntryHeader>() + self.count * size_of::<u64>();
        SealedEntry {
            header: HvEventLogEntryHeader {
                context,
                size: size as u16,
                entry_type: self.entry_type,
                time_stamp,
            },
            parameters: self.parameters,
        }
    }
}

/// An entry with its header. What is behind its size is not written.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
pub(super) struct SealedEntry {
    header: HvEventLogEntryHeader,
    parameters: [u64; MAX_PARAMETERS],
}

impl SealedEntry {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        let size = usize::from(self.header.size);
        self.as_bytes().get(..size).unwrap_or(&[])
    }
}

/// Context of an entry (its meaning is left to the hypervisor): whose VP it is about. Bit 31 set, the low byte of the
/// partition's id in 23:16, the VP index in 15:0; 0 if it is about no VP.
pub(super) const fn context(vp: Option<VpRef>) -> u32 {
    match vp {
        Some(vp) => 1 << 31 | (vp.slot.0 as u32 & 0xFF) << 16 | vp.index as u32,
        None => 0,
    }
}
