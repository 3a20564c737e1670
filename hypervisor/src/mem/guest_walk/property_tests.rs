//! Guest walks against the manual's rules written down once more, and against tables that our own walker made.

use proptest::prelude::*;

use super::fake::{FakeGuest, LONG};
use super::*;
use crate::mem::addr::{Gva, Gvpn, Spa, Spfn};
use crate::mem::format::{Host, Leaf, LeafSize, Pat, Rights};
use crate::mem::phys::PhysMap;
use crate::mem::table::PageTable;
use crate::mem::table::fake::FakeSource;
use crate::mem::testing::TestMemory;

/// Rights bits of one entry.
#[derive(Clone, Copy, Debug)]
struct Bits {
    present: bool,
    writable: bool,
    user: bool,
    no_execute: bool,
}

fn entry_bits() -> impl Strategy<Value = Bits> {
    let mostly = || prop::bool::weighted(0.85);
    (
        prop::bool::weighted(0.97),
        mostly(),
        mostly(),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(present, writable, user, no_execute)| Bits {
            present,
            writable,
            user,
            no_execute,
        })
}

#[derive(Clone, Copy, Debug)]
struct Controls {
    wp: bool,
    smep: bool,
    smap: bool,
    ac: bool,
    cpl: u8,
}

fn controls() -> impl Strategy<Value = Controls> {
    let any = any::<bool>;
    (any(), any(), any(), any(), 0..4u8).prop_map(|(wp, smep, smap, ac, cpl)| Controls {
        wp,
        smep,
        smap,
        ac,
        cpl,
    })
}

/// The tables of the manual: one access kind at a time, user or supervisor.
fn allowed(levels: &[Bits], c: Controls, access: TranslateFlags) -> bool {
    let writable = levels.iter().all(|bits| bits.writable);
    let user_page = levels.iter().all(|bits| bits.user);
    let executable = !levels.iter().any(|bits| bits.no_execute);
    match (c.cpl == 3, user_page, access) {
        (true, false, _) => false,
        (true, true, TranslateFlags::READ) => true,
        (true, true, TranslateFlags::WRITE) => writable,
        (true, true, _) => executable,
        (false, true, TranslateFlags::EXECUTE) => executable && !c.smep,
        (false, false, TranslateFlags::EXECUTE) => executable,
        (false, true, _) if c.smap && !c.ac => false,
        (false, _, TranslateFlags::WRITE) => writable || !c.wp,
        (false, _, _) => true,
    }
}

proptest! {
    #[test]
    fn permissions_are_those_of_the_manual(
        levels in prop::array::uniform4(entry_bits()),
        c in controls(),
        access in prop::sample::select(vec![TranslateFlags::READ, TranslateFlags::WRITE, TranslateFlags::EXECUTE]),
    ) {
        let guest = FakeGuest::default();
        for (index, bits) in levels.iter().enumerate() {
            let next = (index as u64 + 2) << 12;
            let entry = next | u64::from(bits.present) | u64::from(bits.writable) << 1 | u64::from(bits.user) << 2
                | u64::from(bits.no_execute) << 63;
            guest.set((index as u64 + 1) << 12, entry);
        }
        let state = PagingState {
            cr0: 1 << 31 | u64::from(c.wp) << 16,
            cr4: LONG.cr4 | u64::from(c.smep) << 20 | u64::from(c.smap) << 21,
            alignment_check: c.ac,
            cpl: c.cpl,
            ..LONG
        };
        let result = translate(&guest, &state, Gva(0x123), access);
        let base = match access {
            TranslateFlags::WRITE => 2,
            TranslateFlags::EXECUTE => 0x10,
            _ => 0,
        } | if c.cpl == 3 { 4 } else { 0 };
        if !levels.iter().all(|bits| bits.present) {
            prop_assert_eq!(result, Err(WalkError::NotPresent { error_code: base }));
        } else if allowed(&levels, c, access) {
            prop_assert_eq!(result.map(|found| found.gpa), Ok(Gpa(0x5123)));
        } else {
            prop_assert_eq!(result, Err(WalkError::PrivilegeViolation { error_code: base | 1 }));
        }
    }

    #[test]
    fn explicit_rings_override_the_cpl(
        levels in prop::array::uniform4(entry_bits()), c in controls(), exempt in any::<bool>(),
    ) {
        let guest = FakeGuest::default();
        for (index, bits) in levels.iter().enumerate() {
            let entry = (index as u64 + 2) << 12 | 1 | u64::from(bits.writable) << 1 | u64::from(bits.user) << 2;
            guest.set((index as u64 + 1) << 12, entry);
        }
        let state = |cpl| PagingState { cpl, cr4: LONG.cr4 | u64::from(c.smap) << 21, alignment_check: c.ac, ..LONG };
        let asks = |cpl, flags| translate(&guest, &state(cpl), Gva(0), TranslateFlags::READ | flags).is_ok();
        let user = levels.iter().all(|bits| bits.user);
        prop_assert_eq!(asks(c.cpl, TranslateFlags::USER_ACCESS), user);
        prop_assert_eq!(asks(0, TranslateFlags::SUPERVISOR_ACCESS), !user || !c.smap || c.ac);
        prop_assert_eq!(asks(3, TranslateFlags::SUPERVISOR_ACCESS), !user || !c.smap, "AC is for CPL 0 to 2");
        prop_assert_eq!(asks(0, TranslateFlags::ENFORCE_SMAP), !user || !c.smap);
        prop_assert!(asks(0, TranslateFlags::OVERRIDE_SMAP));
        let both = TranslateFlags::USER_ACCESS | TranslateFlags::SUPERVISOR_ACCESS;
        prop_assert_eq!(asks(0, both), user && (!c.smap || c.ac));
        if exempt {
            prop_assert!(asks(c.cpl, TranslateFlags::PRIVILEGE_EXEMPT));
        }
    }

    /// Whatever the guest has in its memory and registers, a walk ends with a result.
    #[test]
    fn garbage_never_panics(
        words in prop::collection::vec(any::<u64>(), 64), cr0 in any::<u64>(), cr3 in any::<u64>(), cr4 in any::<u64>(),
        efer in any::<u64>(), gva in any::<u64>(), flags in any::<u64>(), physical_bits in 32..=52u8,
    ) {
        struct Garbage(Vec<u64>);
        impl GuestMemory for Garbage {
            fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault> {
                Ok(self.0[(at.0 >> 3) as usize % self.0.len()] | 1)
            }
            fn compare_exchange_u64(&self, _: Gpa, old: u64, _: u64) -> Result<u64, GpaFault> {
                Ok(old)
            }
            fn check(&self, _: Gpa, _: TranslateFlags) -> Result<(), GpaFault> {
                Ok(())
            }
        }
        let state = PagingState { cr0, cr3, cr4, efer, physical_bits, ..LONG };
        let flags = TranslateFlags::from_bits_truncate(flags);
        if let Ok(found) = translate(&Garbage(words.clone()), &state, Gva(gva), flags) {
            prop_assert!(found.gpa.0 >> physical_bits.max(40) == 0);
        }
        let mut bytes = [0; 40];
        fetch(&Garbage(words), &state, Gva(gva), flags, &mut bytes);
    }

    #[test]
    fn tables_of_our_own_walker_translate_alike(
        maps in prop::collection::vec((0..3usize, 0..1030u64, 1..600u64, 0..4096u64, 0..4usize), 1..6),
        probes in prop::collection::vec((0..3usize, 0..2000u64, 0..4096u64), 1..30),
    ) {
        const REGIONS: [u64; 3] = [0, 0x7_FFFF_F000, 0xFFFF_8000_0000_0000 >> 12];
        let ram = TestMemory::new(2);
        let mut source = FakeSource::new(u64::MAX);
        let mut table = PageTable::new(Host::new(40, Pat::RESET, LeafSize::Size1G), ram.phys(), &mut source).unwrap();
        let rights = [Rights::READ, Rights::RW, Rights::RX, Rights::RWX | Rights::USER];
        for (region, page, pages, frame, right) in maps {
            let leaf = Leaf::new(Spfn(frame), rights[right]);
            table.map(&mut source, Gvpn(REGIONS[region] + page), pages, leaf, LeafSize::Size1G).unwrap();
        }
        let state = PagingState { cr3: table.root().address().0, ..LONG };
        let guest = Identity(ram.phys());
        for (region, page, offset) in probes {
            let page = Gvpn(REGIONS[region] + page);
            let gva = Gva(page.0 << 12 | offset);
            let found = table.query(page);
            for (flags, right) in [
                (TranslateFlags::READ, Rights::READ),
                (TranslateFlags::WRITE, Rights::WRITE),
                (TranslateFlags::EXECUTE, Rights::EXECUTE),
                (TranslateFlags::USER_ACCESS, Rights::USER),
            ] {
                let expected = found.filter(|found| found.leaf.rights.contains(right));
                let expected = expected.map(|found| Gpa(found.frame_of(page).unwrap().0 << 12 | offset));
                prop_assert_eq!(translate(&guest, &state, gva, flags).ok().map(|found| found.gpa), expected);
            }
        }
    }
}

/// A guest whose physical memory is the machine's.
struct Identity(PhysMap);

impl GuestMemory for Identity {
    fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault> {
        self.0.read_u64(Spa(at.0)).map_err(|_| GpaFault::Unmapped)
    }

    fn compare_exchange_u64(&self, at: Gpa, old: u64, new: u64) -> Result<u64, GpaFault> {
        self.0
            .compare_exchange_u64(Spa(at.0), old, new)
            .map_err(|_| GpaFault::Unmapped)
    }

    fn check(&self, _: Gpa, _: TranslateFlags) -> Result<(), GpaFault> {
        Ok(())
    }
}
