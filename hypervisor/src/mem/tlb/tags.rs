//! TLB tags of one processor.

use super::mark::{CpuMark, Domain};

/// How this processor tags its TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// SVM: every entry carries an ASID.
    Asid {
        /// CPUID Fn8000_000A EDX.6: TLB_CONTROL can flush one ASID.
        flush_by_asid: bool,
    },
    /// VMX: guest-physical translations carry the EPT pointer and no VPID, so a fresh VPID does not get rid of them.
    Vpid,
}

/// What to flush on this entry: each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flush {
    /// Nothing.
    None,
    /// Entries with the VP's tag (SVM TLB_CONTROL 3).
    Tag,
    /// Entries of the domain, whatever their tag (VMX: INVEPT single-context). Where every entry has a tag, only those with
    /// the VP's.
    Domain,
    /// Everything (SVM TLB_CONTROL 1; VMX: INVEPT and INVVPID all-context).
    All,
}

/// What a VP enters with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagDecision {
    /// ASID or VPID, never 0.
    pub tag: u32,
    /// To be done at this entry or just before it.
    pub flush: Flush,
}

/// The tags of one processor, used by that processor alone.
#[derive(Debug)]
pub struct CpuTags {
    cpu: u32,
    kind: TagKind,
    count: u32,
    next: u32,
    /// Counts how often the tags were used up. Tags of VPs from former generations are void.
    generation: u64,
}

impl CpuTags {
    /// The tags 1 to `count` - 1 of processor `cpu`; 0 is the host's. None when there is no tag for guests.
    /// The first entry flushes everything, so nothing is assumed about the TLB.
    pub const fn new(cpu: u32, kind: TagKind, count: u32) -> Option<Self> {
        if count < 2 {
            return None;
        }
        Some(Self {
            cpu,
            kind,
            count,
            next: count,
            // Not that of a VP that never ran.
            generation: 1,
        })
    }

    #[inline(always)]
    fn decide(&mut self, vp: &mut VpTag, domain_generation: u64) -> TagDecision {
        let valid = vp.cpu == self.cpu && vp.tag_generation == self.generation;
        let fresh = vp.domain_generation == domain_generation;
        if valid && fresh {
            return TagDecision {
                tag: vp.tag,
                flush: Flush::None,
            };
        }
        vp.domain_generation = domain_generation;
        self.renew(vp, valid)
    }

    /// A VP whose entries are out of date, or that has none here.
    #[cold]
    fn renew(&mut self, vp: &mut VpTag, valid: bool) -> TagDecision {
        match self.kind {
            TagKind::Asid {
                flush_by_asid: true,
            } if valid => TagDecision {
                tag: vp.tag,
                flush: Flush::Tag,
            },
            TagKind::Vpid if valid => TagDecision {
                tag: vp.tag,
                flush: Flush::Domain,
            },
            // Without a flush by tag, a tag that was never used is as good and leaves the others alone.
            _ => self.assign(vp),
        }
    }

    /// Gives a VP a tag that has no entries.
    fn assign(&mut self, vp: &mut VpTag) -> TagDecision {
        let exhausted = self.next == self.count;
        if exhausted {
            self.next = 1;
            self.generation += 1;
        }
        (vp.cpu, vp.tag, vp.tag_generation) = (self.cpu, self.next, self.generation);
        self.next += 1;
        let flush = match self.kind {
            _ if exhausted => Flush::All,
            TagKind::Vpid => Flush::Domain,
            TagKind::Asid { .. } => Flush::None,
        };
        TagDecision { tag: vp.tag, flush }
    }
}

/// The TLB side of one VP: which tag it had where, and how current its entries were. Moves with the VP.
#[derive(Clone, Copy, Debug, Default)]
pub struct VpTag {
    cpu: u32,
    /// 0: never ran.
    tag: u32,
    tag_generation: u64,
    domain_generation: u64,
}

impl VpTag {
    /// A VP that never ran.
    pub const fn new() -> Self {
        Self {
            cpu: 0,
            tag: 0,
            tag_generation: 0,
            domain_generation: 0,
        }
    }

    /// Makes the VP flush its own entries at its next entry: after its paging registers were changed from outside.
    pub const fn invalidate(&mut self) {
        // Domains begin with generation 1.
        self.domain_generation = 0;
    }

    /// Whether no translation of the domain has gone since the VP entered last; also if it never did.
    pub fn is_current(&self, domain: &Domain) -> bool {
        self.domain_generation == 0 || self.domain_generation == domain.generation()
    }

    /// Processor and tag, for the model machine.
    #[cfg(test)]
    pub(super) fn was_on(&self) -> Option<(u32, u32)> {
        (self.tag != 0).then_some((self.cpu, self.tag))
    }
}

/// Enters a VP of `domain` on this processor: publishes it in the processor's mark and decides its tag and flush.
/// Interrupts are off from here until the guest runs. [`CpuMark::leave`] ends it.
pub fn enter(tags: &mut CpuTags, mark: &CpuMark, vp: &mut VpTag, domain: &Domain) -> TagDecision {
    let generation = mark.publish(domain);
    tags.decide(vp, generation)
}
