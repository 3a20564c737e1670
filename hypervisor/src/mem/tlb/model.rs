//! A machine of four processors whose TLBs keep every entry for ever, unless told to flush.
//!
//! Combined mappings (guest-virtual to machine) belong to one VP, whose paging made them. SVM tags them with the ASID and
//! has no others. VMX tags them with VPID and EPT root, and has guest-physical mappings with the EPT root alone, for all
//! VPs of the domain (Intel SDM vol. 3C, "Creating and Using Cached Translation Information").

use std::collections::BTreeMap;

use super::*;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::{Leaf, LeafSize, Rights};
use crate::mem::frames::PartitionSlot;
use crate::mem::phys::PhysMap;
use crate::mem::table::fake::{FakeSource, Hardware};
use crate::mem::table::{Found, PageTable};
use crate::mem::testing::TestMemory;

pub const CPUS: usize = 4;
pub const DOMAINS: usize = 2;
pub const VPS: usize = 6;
pub const PAGES: [u64; 7] = [0, 1, 2, 511, 512, 513, 1023];

#[derive(Clone, Debug)]
pub enum Step {
    /// A VP enters on a processor (which leaves its guest before).
    Enter(usize, usize),
    Leave(usize),
    /// A processor uses a page.
    Use(usize, usize),
    /// Pages are mapped (with a difference to the frame and rights), over what was there.
    Map(usize, u64, u64, u64, bool),
    Unmap(usize, u64, u64),
    Protect(usize, u64, u64, bool),
    Split(usize, u64),
    /// The new generation is made and processors are kicked.
    Shoot(usize),
    /// The kicked processors leave; the removal is complete.
    Complete(usize),
    /// Another one's paging registers are changed.
    Invalidate(usize),
}

/// What a deliberately broken machine leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Defect {
    None,
    NoNewGeneration,
    NoKick,
    NoFlushAtRollover,
    NoFlushOfTag,
    TagKeptWhenMigrating,
    /// VMX: INVVPID where INVEPT is due.
    TagFlushedForDomain,
    /// VMX: a tag without entries is taken for a domain without entries.
    FreshTagNotFlushed,
}

/// A combined mapping.
#[derive(Clone, Copy)]
struct Combined {
    tag: u32,
    domain: usize,
    vp: usize,
    found: Found<Gpfn>,
}

struct Cpu {
    tags: CpuTags,
    running: Option<(usize, u32)>,
    combined: Vec<Combined>,
    /// Guest-physical mappings and their domain (VMX).
    guest_physical: Vec<(usize, Found<Gpfn>)>,
}

struct Space<F> {
    domain: Domain,
    table: PageTable<F, PhysMap>,
    source: FakeSource,
    /// What pages were since the last complete removal.
    past: BTreeMap<u64, Vec<(Spfn, Rights)>>,
    changed: bool,
    shot: bool,
}

pub struct World<'m, F> {
    kind: TagKind,
    defect: Defect,
    cpus: Vec<Cpu>,
    marks: &'m [CpuMark],
    vps: Vec<VpTag>,
    spaces: Vec<Space<F>>,
    _memory: Vec<TestMemory>,
}

impl<'m, F: Hardware<Page = Gpfn>> World<'m, F> {
    pub fn new(kind: TagKind, defect: Defect, marks: &'m [CpuMark]) -> Self {
        let memory: Vec<_> = (0..DOMAINS).map(|_| TestMemory::new(2)).collect();
        let space = |slot: usize| {
            let mut source = FakeSource::new(u64::MAX);
            let format = F::sample(LeafSize::Size2M);
            let table = PageTable::new(format, memory[slot].phys(), &mut source).unwrap();
            let domain = Domain::new(PartitionSlot(slot as u16));
            Space {
                domain,
                table,
                source,
                past: BTreeMap::new(),
                changed: false,
                shot: false,
            }
        };
        let cpu = |cpu: usize| Cpu {
            // Three tags for six VPs.
            tags: CpuTags::new(cpu as u32, kind, 4).unwrap(),
            running: None,
            combined: Vec::new(),
            guest_physical: Vec::new(),
        };
        Self {
            kind,
            defect,
            cpus: (0..CPUS).map(cpu).collect(),
            marks,
            vps: vec![VpTag::new(); VPS],
            spaces: (0..DOMAINS).map(space).collect(),
            _memory: memory,
        }
    }

    /// Runs a step. An error is a VP that used a translation that was removed.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Enter(cpu, vp) => self.enter(cpu, vp),
            Step::Leave(cpu) => self.leave(cpu),
            Step::Use(cpu, page) => return self.use_page(cpu, PAGES[page]),
            Step::Map(domain, page, pages, shift, write) => self.change(domain, |table, source| {
                let rights = if write { Rights::RWX } else { Rights::RX };
                let leaf = Leaf::new(Spfn(page + shift), rights);
                table
                    .map(source, Gpfn(page), pages, leaf, LeafSize::Size2M)
                    .unwrap();
            }),
            Step::Unmap(domain, page, pages) => {
                self.change(domain, |table, source| {
                    table.unmap(source, Gpfn(page), pages).unwrap()
                });
            }
            Step::Protect(domain, page, pages, write) => self.change(domain, |table, source| {
                let rights = if write { Rights::RWX } else { Rights::READ };
                table.protect(source, Gpfn(page), pages, rights).unwrap();
            }),
            Step::Split(domain, page) => self.change(domain, |table, source| {
                table
                    .split_range(source, Gpfn(page), 1, LeafSize::Size4K)
                    .unwrap();
            }),
            Step::Shoot(domain) => self.shoot(domain),
            Step::Complete(domain) => self.complete(domain),
            Step::Invalidate(vp) => self.vps[vp].invalidate(),
        }
        Ok(())
    }

    fn enter(&mut self, cpu: usize, vp: usize) {
        self.leave(cpu);
        if self
            .cpus
            .iter()
            .any(|cpu| cpu.running.is_some_and(|(running, _)| running == vp))
        {
            return;
        }
        let domain = vp % DOMAINS;
        let before = self.vps[vp];
        let Cpu {
            tags,
            running,
            combined,
            guest_physical,
        } = &mut self.cpus[cpu];
        let decision = enter(
            tags,
            &self.marks[cpu],
            &mut self.vps[vp],
            &self.spaces[domain].domain,
        );
        let mut tag = decision.tag;
        assert!((1..4).contains(&tag));
        let before = before.was_on();
        let migrated = before.is_some_and(|(other, _)| other != cpu as u32);
        if migrated && self.defect == Defect::TagKeptWhenMigrating {
            tag = before.unwrap_or_default().1;
        }
        let fresh = before != Some((cpu as u32, tag));
        match decision.flush {
            Flush::All if self.defect == Defect::NoFlushAtRollover => {}
            Flush::Tag | Flush::Domain if self.defect == Defect::NoFlushOfTag => {}
            Flush::Domain if fresh && self.defect == Defect::FreshTagNotFlushed => {}
            Flush::Domain if self.defect == Defect::TagFlushedForDomain => {
                combined.retain(|entry| entry.tag != tag);
            }
            Flush::None => {}
            Flush::Tag => combined.retain(|entry| entry.tag != tag),
            Flush::Domain => {
                combined.retain(|entry| entry.domain != domain);
                guest_physical.retain(|entry| entry.0 != domain);
            }
            Flush::All => {
                combined.clear();
                guest_physical.clear();
            }
        }
        *running = Some((vp, tag));
    }

    fn leave(&mut self, cpu: usize) {
        self.cpus[cpu].running = None;
        self.marks[cpu].leave();
    }

    /// Any entry that matches may be used by a processor, so all must be right.
    fn use_page(&mut self, cpu: usize, page: u64) -> Result<(), String> {
        let vmx = self.kind == TagKind::Vpid;
        let Cpu {
            running,
            combined,
            guest_physical,
            ..
        } = &mut self.cpus[cpu];
        let Some((vp, tag)) = *running else {
            return Ok(());
        };
        let domain = vp % DOMAINS;
        let covers = |found: &Found<Gpfn>| found.frame_of(Gpfn(page)).is_some();
        let tagged = combined
            .iter()
            .filter(|entry| entry.tag == tag && (!vmx || entry.domain == domain));
        if let Some(other) = tagged.clone().find(|entry| entry.vp != vp) {
            return Err(format!("VP {vp} used what VP {} left", other.vp));
        }
        let mut hits: Vec<_> = tagged
            .map(|entry| entry.found)
            .filter(|found| covers(found))
            .collect();
        if vmx {
            let own = guest_physical.iter().filter(|entry| entry.0 == domain);
            hits.extend(own.map(|entry| entry.1).filter(|found| covers(found)));
        }
        let space = &self.spaces[domain];
        let walked = space.table.query(Gpfn(page)).filter(|_| hits.is_empty());
        guest_physical.extend(walked.filter(|_| vmx).map(|found| (domain, found)));
        // What was found in a guest-physical mapping becomes a combined one.
        combined.extend(walked.iter().chain(&hits).map(|&found| Combined {
            tag,
            domain,
            vp,
            found,
        }));
        match hits.iter().find(|found| !space.allows(found, page)) {
            Some(stale) => Err(format!(
                "VP {vp} on processor {cpu} used {stale:?} for page {page}"
            )),
            None => Ok(()),
        }
    }

    fn change(
        &mut self,
        domain: usize,
        change: impl FnOnce(&mut PageTable<F, PhysMap>, &mut FakeSource),
    ) {
        // One mutator at a time: the change before is completed first.
        if self.spaces[domain].shot {
            self.complete(domain);
        }
        let space = &mut self.spaces[domain];
        for page in PAGES {
            let old = space
                .table
                .query(Gpfn(page))
                .map(|found| (found.frame_of(Gpfn(page)), found.leaf.rights));
            if let Some((Some(frame), rights)) = old {
                space.past.entry(page).or_default().push((frame, rights));
            }
        }
        change(&mut space.table, &mut space.source);
        space.changed = true;
    }

    fn shoot(&mut self, domain: usize) {
        let space = &mut self.spaces[domain];
        if space.changed && !space.shot {
            // The marks are looked at again when it completes; meanwhile processors may leave and enter.
            let _ = space.domain.shoot_down(self.marks);
            if self.defect == Defect::NoNewGeneration {
                space.domain.forget_last_generation();
            }
            space.shot = true;
        }
    }

    fn complete(&mut self, domain: usize) {
        self.shoot(domain);
        if !self.spaces[domain].shot {
            return;
        }
        let shootdown = self.spaces[domain].domain.shootdown_again(self.marks);
        let targets: Vec<_> = shootdown.targets().collect();
        for &cpu in &targets {
            let (vp, _) = self.cpus[cpu]
                .running
                .expect("only processors in a guest are kicked");
            assert_eq!(vp % DOMAINS, domain, "and only for their own domain");
        }
        if self.defect != Defect::NoKick {
            targets.into_iter().for_each(|cpu| self.leave(cpu));
            let space = &self.spaces[domain];
            assert!(space.domain.shootdown_again(self.marks).is_done());
        }
        let space = &mut self.spaces[domain];
        space.past.clear();
        space.source.flush();
        (space.changed, space.shot) = (false, false);
    }
}

impl<F: Hardware<Page = Gpfn>> Space<F> {
    /// Whether a cached leaf gives a page no more than it has now, or had since the last complete removal.
    fn allows(&self, cached: &Found<Gpfn>, page: u64) -> bool {
        let now = self
            .table
            .query(Gpfn(page))
            .map(|found| (found.frame_of(Gpfn(page)), found.leaf.rights));
        let now = now.and_then(|(frame, rights)| Some((frame?, rights)));
        let mut allowed = now
            .into_iter()
            .chain(self.past.get(&page).into_iter().flatten().copied());
        let frame = cached.frame_of(Gpfn(page));
        allowed.any(|(good, rights)| frame == Some(good) && rights.contains(cached.leaf.rights))
    }
}
