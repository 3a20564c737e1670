//! What there is once for each logical processor, and that others reach: counters, the pages of its root VP, its mailbox.

mod home;
mod mailbox;
mod run_clock;

use core::sync::atomic::AtomicBool;

pub use home::{Residents, find_home, find_lighter};
pub use mailbox::{Mailbox, VpSet};
pub use run_clock::RunClock;

use crate::mem::page_box::{Frame, PageBox};
use crate::stats::StatsPage;
use crate::synic::{EventFlagsPage, MessagePage};

/// Pages that the hypervisor provides to one of the root's VPs (root sheet F.3). The root reaches them at the address that
/// they have; its memory map says that they are reserved.
#[derive(Debug)]
pub struct RootVpPages {
    /// SIM page.
    pub messages: PageBox<MessagePage>,
    /// SIEF page.
    pub event_flags: PageBox<EventFlagsPage>,
    /// Event ring page.
    pub event_ring: Frame,
    /// VP assist page.
    pub assist: Frame,
}

/// A logical processor, as all see it. The root's VP with its index runs there, and nowhere else.
pub struct LogicalProcessor {
    /// What others leave for it.
    pub mailbox: Mailbox,
    /// The VPs of children that have their turns here.
    pub residents: Residents,
    /// For how long it has run.
    pub run_clock: RunClock,
    /// Its counters.
    pub stats: PageBox<StatsPage>,
    /// The root has them mapped.
    pub stats_mapped: AtomicBool,
    /// Of the root's VP.
    pub root: RootVpPages,
}
