//! Guest walks by mode, fault by fault.

use super::fake::{BITS32, FakeGuest, LONG, LONG5, PAE, REAL};
use super::*;
use crate::mem::addr::Gva;

const READ: TranslateFlags = TranslateFlags::READ;
const WRITE: TranslateFlags = TranslateFlags::WRITE;
const EXECUTE: TranslateFlags = TranslateFlags::EXECUTE;
const SET: TranslateFlags = TranslateFlags::SET_PAGE_TABLE_BITS;

/// Present, writable, user.
const PWU: u64 = 7;

fn found(gpa: u64, page_bytes: u64) -> Result<Translation, WalkError> {
    Ok(Translation {
        gpa: Gpa(gpa),
        page_bytes,
        pat_index: Some(0),
    })
}

/// Tables at 0x1000 (root), 0x2000, 0x3000, 0x4000 that map address 0x0000_7F12_3456_7000 to 0xAB_CDEF_0000.
fn long_guest() -> (FakeGuest, Gva) {
    let guest = FakeGuest::default();
    let gva = 0x7F12_3456_7000u64;
    for (level, table) in [(3, 0x1000), (2, 0x2000), (1, 0x3000), (0, 0x4000)] {
        let next = if level == 0 {
            0xAB_CDEF_0000
        } else {
            table + 0x1000
        };
        guest.set(table + (gva >> (12 + 9 * level) & 511) * 8, next | PWU);
    }
    (guest, Gva(gva))
}

fn slot(gva: Gva, level: u32, table: u64) -> u64 {
    table + (gva.0 >> (12 + 9 * level) & 511) * 8
}

#[test]
fn without_paging_addresses_are_physical_and_32_bits_wide() {
    let mut guest = FakeGuest::default();
    let result = translate(&guest, &REAL, Gva(0x7_FFFF_1234), READ).unwrap();
    assert_eq!((result.gpa, result.pat_index), (Gpa(0xFFFF_1234), None));
    guest.unmapped.insert(5);
    let error = translate(&guest, &REAL, Gva(0x5678), READ).unwrap_err();
    assert_eq!(
        error,
        WalkError::Gpa {
            gpa: Gpa(0x5678),
            fault: GpaFault::Unmapped
        }
    );
    assert_eq!(error.result_code(), 4);
}

#[test]
fn two_levels_with_4_kib_and_4_mib_pages() {
    let guest = FakeGuest::default();
    guest.set_u32(0x1000 + 4 * 3, 0x2000 | 7);
    guest.set_u32(0x2000 + 4 * 5, 0xFEED_5000 | 7);
    assert_eq!(
        translate(&guest, &BITS32, Gva(0x00C0_5678), WRITE),
        found(0xFEED_5678, 4096)
    );
    // Upper half of the address is ignored; bit 13 of a large page is address bit 32.
    guest.set_u32(0x1000 + 4 * 4, 0x0080_0000 | 1 << 13 | 0x80 | 7);
    assert_eq!(
        translate(&guest, &BITS32, Gva(0x9_0132_1678), WRITE),
        found(0x1_00B2_1678, 4 << 20)
    );
    let small = PagingState {
        physical_bits: 32,
        ..BITS32
    };
    let error = translate(&guest, &small, Gva(0x0132_1678), READ).unwrap_err();
    assert_eq!(error, WalkError::InvalidPageTableFlags { error_code: 9 });
    // Without CR4.PSE the bit means nothing: a table at 0x80_2000.
    guest.set_u32(0x0080_2000 + 4 * 0x321, 0x7000 | 7);
    let no_pse = PagingState { cr4: 0, ..BITS32 };
    assert_eq!(
        translate(&guest, &no_pse, Gva(0x0132_1678), READ),
        found(0x7678, 4096)
    );
}

#[test]
fn pae_has_four_bare_entries_above_two_levels() {
    let guest = FakeGuest::default();
    guest.set(0x1020 + 8 * 3, 0x2000 | 1);
    guest.set(0x2000 + 8 * 511, 0x3000 | 7);
    guest.set(0x3000 + 8 * 511, 0x12_3456_7000 | 7 | 1 << 63);
    assert_eq!(
        translate(&guest, &PAE, Gva(0xFFFF_FABC), WRITE | SET),
        found(0x12_3456_7ABC, 4096)
    );
    assert_eq!(guest.word(0x1020 + 8 * 3), 0x2001, "no accessed bit here");
    assert_eq!(guest.word(0x2000 + 8 * 511), 0x3027);
    let error = translate(&guest, &PAE, Gva(0xFFFF_FABC), EXECUTE).unwrap_err();
    assert_eq!(error, WalkError::PrivilegeViolation { error_code: 0x11 });
    guest.set(0x2000 + 8 * 510, 0x20_0000 | 0x87);
    assert_eq!(
        translate(&guest, &PAE, Gva(0xFFDF_FABC), READ),
        found(0x3F_FABC, 2 << 20)
    );
    guest.set(0x1020 + 8 * 3, 0x2000 | 3);
    let error = translate(&guest, &PAE, Gva(0xFFFF_FABC), READ).unwrap_err();
    assert_eq!(error, WalkError::InvalidPageTableFlags { error_code: 9 });
    assert_eq!(error.result_code(), 3);
}

#[test]
fn four_levels_with_every_page_size() {
    let (guest, gva) = long_guest();
    assert_eq!(
        translate(&guest, &LONG, Gva(gva.0 + 0x123), READ),
        found(0xAB_CDEF_0123, 4096)
    );
    guest.set(slot(gva, 1, 0x3000), 0x60_0000 | 0x87 | 1 << 12 | 1 << 3);
    let large = translate(&guest, &LONG, gva, READ).unwrap();
    assert_eq!(
        large,
        Translation {
            gpa: Gpa(0x76_7000),
            page_bytes: 2 << 20,
            pat_index: Some(5)
        }
    );
    guest.set(slot(gva, 2, 0x2000), 0x40_0000_0000 | 0x87);
    assert_eq!(
        translate(&guest, &LONG, gva, READ),
        found(0x40_0000_0000 + gva.0 % (1 << 30), 1 << 30)
    );
    let without = PagingState {
        gib_pages: false,
        ..LONG
    };
    assert_eq!(
        translate(&guest, &without, gva, READ)
            .unwrap_err()
            .result_code(),
        3
    );
}

#[test]
fn five_levels_widen_what_is_canonical() {
    let (guest, gva) = long_guest();
    assert_eq!(
        translate(&guest, &LONG, Gva(1 << 47), READ),
        Err(WalkError::NotCanonical)
    );
    let wide = Gva(gva.0 | 3 << 48);
    guest.set(0x9000 + 8 * 3, 0x1000 | PWU);
    let state = PagingState {
        cr3: 0x9000,
        ..LONG5
    };
    assert_eq!(
        translate(&guest, &state, wide, READ),
        found(0xAB_CDEF_0000, 4096)
    );
    assert_eq!(
        translate(&guest, &state, Gva(1 << 56), READ),
        Err(WalkError::NotCanonical)
    );
    assert_eq!(
        translate(&guest, &LONG, wide, READ),
        Err(WalkError::NotCanonical)
    );
    assert_eq!(
        translate(&guest, &LONG, Gva(0xFFFF_8000_0000_0000), READ)
            .unwrap_err()
            .result_code(),
        1
    );
}

#[test]
fn an_absent_entry_at_any_level_is_a_fault_with_the_right_code() {
    for (level, table) in [(3, 0x1000), (2, 0x2000), (1, 0x3000), (0, 0x4000)] {
        let (guest, gva) = long_guest();
        guest.set(slot(gva, level, table), 0xFFFF_FFFF_FFFF_FFFE);
        let user = PagingState { cpl: 3, ..LONG };
        for (state, flags, code) in [
            (LONG, READ, 0),
            (LONG, WRITE, 2),
            (user, WRITE, 6),
            (user, EXECUTE, 0x14),
        ] {
            let error = WalkError::NotPresent { error_code: code };
            assert_eq!(translate(&guest, &state, gva, flags), Err(error));
        }
        let no_nx = PagingState {
            efer: 0x500,
            ..LONG
        };
        assert_eq!(
            translate(&guest, &no_nx, gva, EXECUTE),
            Err(WalkError::NotPresent { error_code: 0 })
        );
    }
}

#[test]
fn reserved_bits_are_found_at_every_level() {
    for (level, table) in [(3, 0x1000), (2, 0x2000), (1, 0x3000), (0, 0x4000)] {
        let mut bits = vec![1 << 40, 1 << 51];
        bits.extend((level == 3).then_some(1 << 7));
        for bit in bits {
            let (guest, gva) = long_guest();
            let entry = guest.word(slot(gva, level, table));
            guest.set(slot(gva, level, table), entry | bit);
            let error = translate(&guest, &LONG, gva, READ).unwrap_err();
            assert_eq!(
                error,
                WalkError::InvalidPageTableFlags { error_code: 9 },
                "bit {bit:#x} at level {level}"
            );
        }
        let (guest, gva) = long_guest();
        let entry = guest.word(slot(gva, level, table));
        guest.set(slot(gva, level, table), entry | 1 << 63 | 1 << 52 | 1 << 62);
        assert!(translate(&guest, &LONG, gva, READ).is_ok());
        let no_nx = PagingState {
            efer: 0x500,
            ..LONG
        };
        assert_eq!(
            translate(&guest, &no_nx, gva, READ)
                .unwrap_err()
                .result_code(),
            3
        );
    }
    let (guest, gva) = long_guest();
    guest.set(slot(gva, 1, 0x3000), 0x60_0000 | 0x87 | 1 << 13);
    assert_eq!(
        translate(&guest, &LONG, gva, READ)
            .unwrap_err()
            .result_code(),
        3
    );
}

#[test]
fn accessed_and_dirty_bits_are_set_on_request_and_only_by_success() {
    let (guest, gva) = long_guest();
    let leaf = slot(gva, 0, 0x4000);
    translate(&guest, &LONG, gva, WRITE).unwrap();
    assert_eq!(guest.word(leaf), 0xAB_CDEF_0007);
    translate(&guest, &LONG, gva, READ | SET).unwrap();
    assert_eq!(guest.word(leaf), 0xAB_CDEF_0027);
    translate(&guest, &LONG, gva, WRITE | SET).unwrap();
    assert_eq!(guest.word(leaf), 0xAB_CDEF_0067);
    assert_eq!(
        guest.word(slot(gva, 3, 0x1000)),
        0x2027,
        "only leaves get dirty"
    );
    guest.set(leaf, 0xAB_CDEF_0005);
    assert!(translate(&guest, &LONG, gva, WRITE | SET).is_err());
    assert_eq!(guest.word(leaf), 0xAB_CDEF_0005);
}

#[test]
fn the_dirty_bit_of_a_32_bit_entry_leaves_its_neighbour_alone() {
    let guest = FakeGuest::default();
    guest.set_u32(0x1000, 0x2000 | 7);
    guest.set_u32(0x2000 + 4, 0x9000 | 7);
    guest.set_u32(0x2000, 0x1234_5678);
    translate(&guest, &BITS32, Gva(0x1000), WRITE | SET).unwrap();
    assert_eq!(guest.get_u32(0x2004), 0x9067);
    assert_eq!(guest.get_u32(0x2000), 0x1234_5678);
}

#[test]
fn a_guest_that_changes_its_tables_meanwhile_gets_a_new_walk_and_at_last_a_fault() {
    let (guest, gva) = long_guest();
    guest.races.set(3);
    assert!(translate(&guest, &LONG, gva, WRITE | SET).is_ok());
    let (guest, gva) = long_guest();
    guest.races.set(usize::MAX);
    assert_eq!(
        translate(&guest, &LONG, gva, WRITE | SET),
        Err(WalkError::NotPresent { error_code: 2 })
    );
}

#[test]
fn physical_faults_name_the_table_or_the_page() {
    let gpa_error = |gpa, fault| {
        Err(WalkError::Gpa {
            gpa: Gpa(gpa),
            fault,
        })
    };
    let (mut guest, gva) = long_guest();
    guest.unmapped.insert(3);
    assert_eq!(
        translate(&guest, &LONG, gva, READ),
        gpa_error(slot(gva, 1, 0x3000), GpaFault::Unmapped)
    );
    let (mut guest, gva) = long_guest();
    guest.read_only.insert(4);
    assert!(
        translate(&guest, &LONG, gva, WRITE).is_ok(),
        "the table itself is only read"
    );
    let result = translate(&guest, &LONG, gva, WRITE | SET);
    assert_eq!(
        result,
        gpa_error(slot(gva, 0, 0x4000), GpaFault::NoWriteAccess)
    );
    let (mut guest, gva) = long_guest();
    guest.intercepted.insert(0x0ABC_DEF0);
    let error = translate(&guest, &LONG, gva, READ).unwrap_err();
    assert_eq!(error.result_code(), 8);
}

#[test]
fn protection_keys_bind_data_accesses_to_user_pages() {
    let (guest, gva) = long_guest();
    let leaf = slot(gva, 0, 0x4000);
    guest.set(leaf, guest.word(leaf) | 5 << 59);
    let keys = |pkru| PagingState {
        cr4: LONG.cr4 | 1 << 22,
        cpl: 3,
        pkru,
        ..LONG
    };
    let ok = |state, flags| translate(&guest, &state, gva, flags).is_ok();
    assert!(ok(keys(0xFFFF_F3FF), READ | WRITE));
    let denied = translate(&guest, &keys(1 << 10), gva, READ).unwrap_err();
    assert_eq!(denied, WalkError::PrivilegeViolation { error_code: 0x25 });
    assert!(ok(keys(1 << 10), EXECUTE));
    assert!(ok(keys(1 << 11), READ) && !ok(keys(1 << 11), WRITE));
    assert!(!ok(
        PagingState {
            cpl: 0,
            ..keys(1 << 11)
        },
        WRITE
    ));
    assert!(ok(
        PagingState {
            cpl: 0,
            cr0: 1 << 31,
            ..keys(1 << 11)
        },
        WRITE
    ));
    assert!(ok(keys(1 << 10), READ | TranslateFlags::PRIVILEGE_EXEMPT));
    assert!(ok(
        PagingState {
            cr4: LONG.cr4,
            ..keys(!0)
        },
        READ
    ));
}

#[test]
fn fetching_goes_over_page_boundaries_and_stops_where_nothing_is() {
    let (guest, gva) = long_guest();
    guest.set(slot(gva, 0, 0x4000) + 8, 0x5000 | PWU);
    guest.set(0xAB_CDEF_0FF8, 0x0807_0605_0403_0201);
    guest.set(0x5000, 0x100F_0E0D_0C0B_0A09);
    let mut bytes = [0; 15];
    assert_eq!(
        fetch(&guest, &LONG, Gva(gva.0 + 0xFFB), EXECUTE, &mut bytes[..10]),
        (10, None)
    );
    assert_eq!(bytes[..10], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    guest.set(slot(gva, 0, 0x4000) + 8, 0);
    let (read, error) = fetch(&guest, &LONG, Gva(gva.0 + 0xFFE), EXECUTE, &mut bytes);
    assert_eq!(
        (read, error),
        (2, Some(WalkError::NotPresent { error_code: 0x10 }))
    );
    assert_eq!(bytes[..2], [7, 8]);
}
