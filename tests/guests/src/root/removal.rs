//! Taking a page away from a child, for those who measure it.

use tlfs::{HvCallCode, HvHypercallInput, HvInputUnmapGpaPages, HvStatus, HvUnmapGpaFlags};
use zerocopy::IntoBytes;

use super::child::RWX;
use super::memory::PAGE;
use super::{Child, Root, report};
use crate::metal::bench;

/// The page that comes and goes. The one behind it stays, as it does in the middle of a guest's memory: so its table of pages is in use,
/// and found to be at once.
const GPA: u64 = 0x1F_E000;

/// A page that is the child's now and then.
pub struct Removal {
    frame: u64,
}

impl Removal {
    /// The first 2 MiB of a child that has no large pages there and nothing at the end.
    pub fn new(root: &mut Root, child: &mut Child) -> Self {
        let [frame, neighbour] = [0, 1].map(|_| child.new_frame(root));
        child.map(root, GPA + PAGE, &[neighbour], RWX);
        Self { frame }
    }

    /// Maps the page, and gets ready to take it away.
    pub fn give(&self, root: &mut Root, child: &Child) {
        child.map(root, GPA, &[self.frame], RWX);
        let header = HvInputUnmapGpaPages {
            target_partition_id: child.id,
            target_gpa_base: GPA / PAGE,
            unmap_flags: HvUnmapGpaFlags(0),
            padding: 0,
        };
        root.calls.fill_input(&[header.as_bytes()]);
    }

    /// UnmapGpaPages, after [`give`](Self::give): when it began, and when it was done, by the TSC.
    pub fn take(&self, root: &Root) -> (u64, u64) {
        let control = HvHypercallInput::new()
            .with_call_code(HvCallCode::UNMAP_GPA_PAGES)
            .with_rep_count(1);
        let start = bench::tsc();
        let result = root.calls.raw(control, root.calls.input, 0);
        let end = bench::tsc();
        report::status(result.call_status(), HvStatus::SUCCESS, "UnmapGpaPages");
        (start, end)
    }
}
