//! Page directory pointers of a VP whose control registers were set from outside.

use super::Cpu;
use crate::arch::exit::{Access, NestedFault};
use crate::mem::addr::Gpa;
use crate::mem::guest_walk::{GpaFault, GuestMemory};
use crate::partition::Vp;
use crate::partition::memory::PartitionMemory;
use crate::partition::table::{PartitionEntry, PartitionGuard};

/// Bytes of an entry.
const ENTRY: usize = 8;

impl Cpu {
    /// Before a VP's turn: reads what its processor keeps of 32-bit PAE page tables, where it does. False if that is not
    /// possible: the VP's parent is told, as of an access by the VP itself, and the VP waits for it.
    #[inline(always)]
    pub(super) fn load_directory_pointers(&mut self, vp: &mut Vp) -> bool {
        let Vp { hw, home, .. } = vp;
        match hw.load_directory_pointers(|table| entries(self, home.0, table)) {
            Ok(()) => true,
            Err((gpa, fault)) => {
                self.no_directory_pointers(vp, gpa, fault);
                false
            }
        }
    }

    #[cold]
    fn no_directory_pointers(&mut self, vp: &mut Vp, gpa: Gpa, fault: GpaFault) {
        let access = NestedFault {
            gpa,
            gva: None,
            access: Access::Read,
            table_walk: true,
        };
        self.memory_intercept(vp, &access, fault != GpaFault::Unmapped);
    }
}

/// The table at an address of a partition; else where it could not be read, and why.
#[cold]
fn entries(cpu: &Cpu, home: &PartitionEntry, table: Gpa) -> Result<[u64; 4], (Gpa, GpaFault)> {
    let Some(partition) = PartitionGuard::lock(home) else {
        unreachable!("the partition of a VP exists")
    };
    let memory = PartitionMemory {
        hypervisor: cpu.hv,
        partition: &partition,
    };
    let mut entries = [0; 4];
    for (at, entry) in (table.0..).step_by(ENTRY).zip(&mut entries) {
        *entry = memory.read_u64(Gpa(at)).map_err(|fault| (Gpa(at), fault))?;
    }
    Ok(entries)
}
