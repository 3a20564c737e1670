//! Stacks of a processor, each between unmapped pages: running over the end faults instead of corrupting.

use super::paging::{HostTables, STACKS, map as map_range};
use super::pool::Pool;
use crate::cpu::tables::ExceptionStacks;
use crate::mem::addr::PAGE_SIZE;
use crate::mem::format::{MemoryType, Rights};
use crate::mem::table::TableError;

/// Address space of one processor's stacks.
const STRIDE: u64 = 1 << 20;
/// Pages of the main stack.
const MAIN_PAGES: u64 = 32;
/// Pages of each exception stack. A panic prints from there.
const EXCEPTION_PAGES: u64 = 4;
/// Pages that all stacks of a processor take, tables not counted.
pub(super) const PAGES: u64 = MAIN_PAGES + 3 * EXCEPTION_PAGES;

/// The stacks of one processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stacks {
    /// Top of the one it runs on.
    pub main: u64,
    /// Tops of those for exceptions.
    pub exceptions: ExceptionStacks,
}

/// Maps the stacks of processor `index`.
pub(super) fn map(
    tables: &mut HostTables,
    pool: &mut Pool,
    index: u32,
) -> Result<Stacks, TableError> {
    let mut next = STACKS + u64::from(index) * STRIDE;
    let mut stack = |pages: u64| {
        let memory = pool.take(pages).ok_or(TableError::NoMemory)?;
        let bottom = next + PAGE_SIZE;
        next = bottom + pages * PAGE_SIZE;
        let range = (bottom, memory, pages * PAGE_SIZE);
        map_range(tables, pool, range, Rights::RW, MemoryType::WriteBack)?;
        Ok(next)
    };
    Ok(Stacks {
        main: stack(MAIN_PAGES)?,
        exceptions: ExceptionStacks {
            nmi: stack(EXCEPTION_PAGES)?,
            double_fault: stack(EXCEPTION_PAGES)?,
            machine_check: stack(EXCEPTION_PAGES)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;
    use crate::boot::paging::{new_tables, translate};
    use crate::mem::addr::Spa;
    use crate::mem::testing::TestMemory;

    #[test]
    fn an_unmapped_page_lies_below_every_stack() {
        let memory = TestMemory::new(2);
        // SAFETY: the test's memory, used by nothing else.
        let mut pool = unsafe { Pool::new(memory.phys(), Spa(0x1000), Spa(0x20_0000)) };
        let mut tables = new_tables(&Recorded(&[]), memory.phys(), &mut pool).unwrap();
        let root = tables.root().address();
        let mapped = |va| translate(memory.phys(), root, va).is_some();
        for index in 0..2 {
            let stacks = map(&mut tables, &mut pool, index).unwrap();
            let e = stacks.exceptions;
            for (top, pages) in [
                (stacks.main, MAIN_PAGES),
                (e.nmi, EXCEPTION_PAGES),
                (e.double_fault, EXCEPTION_PAGES),
                (e.machine_check, EXCEPTION_PAGES),
            ] {
                let bottom = top - pages * PAGE_SIZE;
                assert!(mapped(top - 1) && mapped(bottom));
                assert!(!mapped(bottom - 1), "guard page");
            }
            assert!(!mapped(e.machine_check));
        }
    }
}
