//! The memory of the guest, as the VSP moves it.

use core::ops::Range;

use board::exit::EFER_LMA;
use dynamic_memory::{GuestPages, Memory, PageRun, Pin};
use root_abi::Error;
use tlfs::HvRegisterName;

use super::pins::LazyPins;
use crate::setup::get_register;
use crate::system::{CallError, SharedRam, System};

/// What moves a guest's memory: the map of this process first, then the kernel's call, when pages go; the other way around
/// when they come. So nothing here touches a page that has no memory.
pub struct MemoryManager<'a, S: System> {
    /// The system.
    pub system: &'a mut S,
    /// The guest's RAM.
    pub ram: &'a S::Ram,
    /// The book of its pages.
    pub book: &'a mut GuestPages,
    /// What the guest cannot give away.
    pub pins: LazyPins<'a, S::Ram>,
    /// What failed last, and for which pages.
    pub failed: &'a mut Option<(PageRun, CallError)>,
}

impl<S: System> MemoryManager<'_, S> {
    /// Pages that are done, of a call for `run`.
    fn done(&mut self, run: PageRun, result: Result<u64, CallError>) -> u64 {
        match result {
            Ok(done) => done.min(run.count),
            Err(error) => {
                *self.failed = Some((run, error));
                0
            }
        }
    }
}

/// Whether pages are not as the call needs them.
fn is_state(error: &CallError) -> bool {
    matches!(error, CallError::System { error, .. } if *error == Error::State as i64)
}

const fn range(run: PageRun) -> Range<u64> {
    run.start..run.end()
}

impl<S: System> Memory for MemoryManager<'_, S> {
    fn book(&mut self) -> &mut GuestPages {
        self.book
    }

    fn pin(&mut self, run: PageRun) -> (Pin, u64) {
        self.pins.of(run)
    }

    fn take(&mut self, run: PageRun) -> u64 {
        self.ram.set_present(range(run), false);
        let taken = self.system.take_ram(range(run));
        let taken = self.done(run, taken);
        let (_, kept) = run.split(taken);
        self.ram.set_present(range(kept), true);
        taken
    }

    fn back(&mut self, run: PageRun) -> u64 {
        // Memory that is short, as it would be if the pages could not be had.
        if !self.ram.make_room(range(run)) {
            return 0;
        }
        let mut backed = self.system.back_ram(range(run));
        if backed.is_err_and(|error| is_state(&error)) {
            // Something is behind them already, which the book does not know of, and nobody else does: a call that failed in the
            // middle left it. It is not zeroed, so it goes. If that does not help, nothing does.
            let _ = self.system.take_ram(range(run));
            backed = self.system.back_ram(range(run));
        }
        let backed = self.done(run, backed);
        let (there, _) = run.split(backed);
        self.ram.set_present(range(there), true);
        backed
    }

    fn long_mode(&mut self) -> bool {
        // A guest whose registers cannot be read is taken for one that can have less.
        get_register(self.system, 0, HvRegisterName::EFER)
            .is_ok_and(|efer| efer.low & EFER_LMA != 0)
    }
}
