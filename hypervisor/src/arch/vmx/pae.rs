//! The page directory pointers of 32-bit PAE paging: the four entries of the table that CR3 names.
//!
//! A processor reads them when CR3 is loaded or PAE paging begins, and keeps them. With EPT an entry into the guest takes
//! them from the VMCS, and an exit puts them there (SDM volume 3, 27.3.2.4 and 28.3.4), so a guest's own MOV to CR0, CR3
//! or CR4 needs nobody. But when these registers are set from outside, the entries have to come from the guest's memory.

use crate::arch::state::{cr0, cr4, efer};
use crate::mem::addr::Gpa;

use super::fields::Guest;
use super::vcpu::Vcpu;

/// Bits of CR3 that name the table.
const TABLE: u64 = 0xFFFF_FFE0;
const PRESENT: u64 = 1;
/// Bits 2:1, 8:5, and those above any physical address.
const RESERVED: u64 = 0b11 << 1 | 0xF << 5 | 0xFFF << 52;

const FIELDS: [Guest; 4] = [Guest::Pdpte0, Guest::Pdpte1, Guest::Pdpte2, Guest::Pdpte3];

impl Vcpu {
    /// Gives the VMCS the entries that the VP's registers ask for, if these were set since they were last given. `read`
    /// reads the table at an address of the guest.
    ///
    /// An entry with reserved bits is the processor's to refuse.
    ///
    /// # Errors
    /// Those of `read`; the entries are still asked for then.
    pub fn load_directory_pointers<E>(
        &mut self,
        read: impl FnOnce(Gpa) -> Result<[u64; 4], E>,
    ) -> Result<(), E> {
        if !self.pointers_missing {
            return Ok(());
        }
        if self.pages_with_pae() {
            let entries = read(Gpa(self.cr3() & TABLE))?;
            for (field, entry) in FIELDS.into_iter().zip(entries) {
                self.guest.set(field, entry);
            }
        }
        self.pointers_missing = false;
        Ok(())
    }

    fn pages_with_pae(&self) -> bool {
        self.cr0() & cr0::PG != 0 && self.cr4() & cr4::PAE != 0 && self.efer() & efer::LMA == 0
    }

    /// Whether the processor takes the entries that the VMCS has (SDM volume 3, 27.3.1.6).
    pub(super) fn directory_pointers_fit(&self) -> bool {
        let fits = |entry: u64| entry & PRESENT == 0 || entry & RESERVED == 0;
        !self.pages_with_pae() || FIELDS.into_iter().all(|field| fits(self.field(field)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::child;
    use super::*;

    /// What is asked for, and the entries that the VMCS has then.
    fn load(v: &mut Vcpu, entries: [u64; 4]) -> (Option<Gpa>, [u64; 4]) {
        let mut asked = None;
        let done: Result<(), ()> = v.load_directory_pointers(|table| {
            asked = Some(table);
            Ok(entries)
        });
        assert_eq!(done, Ok(()));
        (asked, FIELDS.map(|field| v.field(field)))
    }

    fn paging() -> Vcpu {
        let mut v = child();
        v.set_cr3(0x1234_5678);
        v.set_cr4(cr4::PAE);
        v.set_cr0(cr0::PG | cr0::PE);
        v
    }

    #[test]
    fn each_register_that_is_set_has_the_entries_read_once() {
        let mut v = paging();
        let entries = [0x1001, 0, 0x3001, 0x4001];
        assert_eq!(load(&mut v, entries), (Some(Gpa(0x1234_5660)), entries));
        assert_eq!(load(&mut v, [0; 4]), (None, entries), "nothing was set");
        let sets: [fn(&mut Vcpu); 4] = [
            |v| v.set_cr0(v.cr0()),
            |v| v.set_cr3(0xF_0000_2FE0),
            |v| v.set_cr4(v.cr4()),
            |v| v.set_efer(0),
        ];
        for (turn, set) in sets.into_iter().enumerate() {
            set(&mut v);
            let entries = [turn as u64; 4];
            let (asked, now) = load(&mut v, entries);
            assert!(asked.is_some() && now == entries);
            assert_eq!(load(&mut v, [9; 4]).0, None);
        }
        assert_eq!(v.cr3() & TABLE, 0x2FE0, "the table lies below 4 GiB");
    }

    #[test]
    fn other_paging_has_no_such_entries() {
        let others: [fn(&mut Vcpu); 3] = [
            |v| v.set_cr0(cr0::PE),
            |v| v.set_cr4(0),
            |v| v.set_efer(efer::LME | efer::LMA),
        ];
        for other in others {
            let mut v = paging();
            other(&mut v);
            assert_eq!(load(&mut v, [7; 4]), (None, [0; 4]));
            // From here it is the guest's own doing that takes it to PAE paging.
            assert!(!v.pointers_missing);
        }
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_again() {
        let mut v = paging();
        assert_eq!(v.load_directory_pointers(|_| Err("absent")), Err("absent"));
        assert_eq!(load(&mut v, [1; 4]).1, [1; 4]);
    }

    #[test]
    fn parents_that_watch_registers_do_not_load_entries() {
        let mut v = paging();
        load(&mut v, [1; 4]);
        v.set_cr_intercepts(&crate::arch::CrIntercepts {
            cr0: cr0::PG,
            cr4: 0,
            cr8: false,
        });
        assert_eq!(load(&mut v, [2; 4]), (None, [1; 4]));
    }

    #[test]
    fn reserved_bits_of_present_entries_do_not_fit() {
        let mut v = paging();
        for (entry, fits) in [
            (0x7FFF_F019, true),
            (!PRESENT, true),
            (1 | 1 << 1, false),
            (1 | 1 << 2, false),
            (1 | 1 << 5, false),
            (1 | 1 << 8, false),
            (1 | 1 << 63, false),
        ] {
            v.set_cr3(0);
            load(&mut v, [0, 0, 0, entry]);
            assert_eq!(v.directory_pointers_fit(), fits, "{entry:#x}");
        }
        v.set_cr4(0);
        assert!(v.directory_pointers_fit());
    }
}
