//! The PVH structures: composed ones are read back, bad ones refused.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::start_info::*;

/// Memory whose first byte has the address `base`.
struct Window {
    base: u64,
    data: Vec<u8>,
}

impl PhysicalMemory for Window {
    fn bytes(&self, gpa: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(gpa.checked_sub(self.base)?).ok()?;
        self.data.get(at..)?.get(..len)
    }
}

fn ram(addr: u64, size: u64) -> MemoryMapEntry {
    MemoryMapEntry {
        addr,
        size,
        kind: kind::RAM,
        reserved: 0,
    }
}

fn composed(modules: &[Module<'_>], map: &[MemoryMapEntry], cmdline: &str) -> Window {
    let mut data = vec![0xCC; 8192];
    let used = compose(
        &mut data,
        0x10_0000,
        0xE_0000,
        cmdline,
        modules,
        map.iter().copied(),
    )
    .expect("fits");
    data.truncate(used);
    Window {
        base: 0x10_0000,
        data,
    }
}

#[test]
fn composed_start_info_is_read_back() {
    let modules = [
        Module {
            gpa: 0x40_0000,
            size: 0x5000,
            text: "archive",
        },
        Module {
            gpa: 0x80_0000,
            size: 1,
            text: "",
        },
    ];
    let map = [ram(0, 0xA_0000), ram(0x10_0000, 0x4000_0000)];
    let window = composed(&modules, &map, "debug");
    let info = StartInfo::read(&window, 0x10_0000).expect("sound");
    assert_eq!(info.header().rsdp_paddr, 0xE_0000);
    assert_eq!(info.text(info.header().cmdline_paddr), Some("debug"));
    assert_eq!(info.memory_map().collect::<Vec<_>>(), map);
    let read = info.modules().collect::<Vec<_>>();
    assert_eq!(
        read.iter().map(|m| (m.paddr, m.size)).collect::<Vec<_>>(),
        [(0x40_0000, 0x5000), (0x80_0000, 1)]
    );
    assert_eq!(
        info.text(read[module::ARCHIVE].cmdline_paddr),
        Some("archive")
    );
    assert_eq!(
        info.text(read[1].cmdline_paddr),
        None,
        "an empty text is absent"
    );
}

#[test]
fn buffer_too_small_is_an_error_at_every_size() {
    let modules = [Module {
        gpa: 0,
        size: 0,
        text: "archive",
    }];
    let need = composed(&modules, &[ram(0, 1)], "c").data.len();
    for size in 0..need {
        let result = compose(&mut vec![0; size], 0, 0, "c", &modules, [ram(0, 1)]);
        assert_eq!(result, Err(StartInfoError::NoSpace(size)));
    }
}

#[test]
fn bad_headers_are_refused() {
    let read = |header: HvmStartInfo| {
        let window = Window {
            base: 0,
            data: header.as_bytes().to_vec(),
        };
        StartInfo::read(&window, 0)
            .map(|_| ())
            .expect_err("refused")
    };
    let good = HvmStartInfo {
        magic: MAGIC,
        version: VERSION,
        ..Default::default()
    };
    assert_eq!(
        read(HvmStartInfo { magic: 5, ..good }),
        StartInfoError::Magic(5)
    );
    assert_eq!(
        read(HvmStartInfo { version: 0, ..good }),
        StartInfoError::Version(0)
    );
    let lost = HvmStartInfo {
        nr_modules: 1,
        modlist_paddr: u64::MAX - 3,
        ..good
    };
    assert_eq!(
        read(lost),
        StartInfoError::Unreadable {
            what: "the module list",
            gpa: u64::MAX - 3
        }
    );
    let many = HvmStartInfo {
        memmap_entries: 513,
        ..good
    };
    assert_eq!(
        read(many),
        StartInfoError::TooMany {
            what: "the memory map",
            count: 513,
            most: 512
        }
    );
}

#[test]
fn text_without_end_is_absent() {
    let mut window = composed(&[], &[], "abc");
    window.data.pop();
    let info = StartInfo::read(&window, 0x10_0000).expect("sound");
    assert_eq!(info.text(info.header().cmdline_paddr), None);
    assert_eq!(info.text(u64::MAX), None);
}

proptest! {
    #[test]
    fn arbitrary_start_info_never_panics(
        nr_modules in 0u32..70, memmap_entries in 0u32..600, at in any::<[u64; 4]>(), near in any::<[bool; 4]>(),
    ) {
        let address = |index: usize| if near[index] { at[index] % 5000 } else { at[index] };
        let header = HvmStartInfo {
            magic: MAGIC, version: VERSION, nr_modules, memmap_entries,
            modlist_paddr: address(0), memmap_paddr: address(1), cmdline_paddr: address(2), rsdp_paddr: address(3),
            ..Default::default()
        };
        let mut data = header.as_bytes().to_vec();
        data.resize(5000, 0x41);
        let window = Window { base: 0, data };
        if let Ok(info) = StartInfo::read(&window, 0) {
            prop_assert_eq!(info.modules().count(), nr_modules as usize);
            prop_assert_eq!(info.memory_map().count(), memmap_entries as usize);
            let _ = info.text(info.header().cmdline_paddr);
        }
    }
}
