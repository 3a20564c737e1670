//! Counters of Partita's own, on the page of a logical processor. Their indexes lie beyond any that Microsoft's
//! hypervisor uses; a root that knows nothing of them sees nothing of them.

use crate::stats::counters;

counters! {
    /// Every counter of Partita's own on a logical processor's page.
    GUEST_ENTRIES = 256, "PartitaLpGuestEntries", "";
    VMLOADS = 257, "PartitaLpVmloads", "";
    VMSAVES = 258, "PartitaLpVmsaves", "";
    XSAVES = 259, "PartitaLpXsaves", "";
    XRSTORS = 260, "PartitaLpXrstors", "";
    TLB_FLUSH_REQUESTS = 261, "PartitaLpTlbFlushRequests", "";
    MSR_WRITES = 262, "PartitaLpMsrWrites", "";
    CONTROL_REGISTER_WRITES = 263, "PartitaLpControlRegisterWrites", "";
    LONGEST_SECTION = 264, "PartitaLpLongestSection", "", gauge;
    LONGEST_SECTION_EXIT = 265, "PartitaLpLongestSectionExit", "", gauge;
    LONGEST_SECTION_RCX = 266, "PartitaLpLongestSectionRcx", "", gauge;
}
