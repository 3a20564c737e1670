//! Synthetic images for every protocol, and what is wrong with bad ones.

use proptest::prelude::*;

use super::*;
use crate::layout::{ACPI_TABLES, BOOT_INFO, BOOT_LISTS, COMMAND_LINE, PAGE};
use crate::ram::VecRam;
use tlfs::HvRegisterName as Name;

const MIB: u64 = 1 << 20;

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// A bzImage as small as the protocol allows: protocol 2.15, one setup sector, loaded at 16 MiB.
fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    put(&mut image, 0x1EF, &[0xFF]);
    put(&mut image, 0x1F1, &[1]);
    put(&mut image, 0x1FE, &0xAA55u16.to_le_bytes());
    put(&mut image, 0x200, &[0xEB, 0x6A]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x020Fu16.to_le_bytes());
    put(&mut image, 0x211, &[0x81]);
    put(&mut image, 0x22C, &0x7FFF_FFFFu32.to_le_bytes());
    put(&mut image, 0x236, &0x3Fu16.to_le_bytes());
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x258, &(16 * MIB).to_le_bytes());
    put(&mut image, 0x260, &(4 * MIB as u32).to_le_bytes());
    let kernel: Vec<u8> = (0..0x800u32).map(|index| index as u8 | 1).collect();
    put(&mut image, 0x1F4, &(kernel.len() as u32 / 16).to_le_bytes());
    image.extend(kernel);
    image
}

/// An ELF64 executable at 2 MiB: the headers, notes and code in one segment, and zeroed data after them.
fn elf64(note: Option<u32>, multiboot: Option<u32>, machine: u16) -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &2u16.to_le_bytes());
    put(&mut image, 18, &machine.to_le_bytes());
    put(&mut image, 20, &1u32.to_le_bytes());
    put(&mut image, 24, &0xFFFF_FFFF_8020_0800u64.to_le_bytes());
    put(&mut image, 32, &64u64.to_le_bytes());
    put(&mut image, 52, &64u16.to_le_bytes());
    put(&mut image, 54, &56u16.to_le_bytes());
    put(&mut image, 56, &2u16.to_le_bytes());
    let segment = |kind: u32, offset: u64, len: u64, room: u64| {
        let mut header = Vec::new();
        header.extend(kind.to_le_bytes());
        header.extend(7u32.to_le_bytes());
        for value in [
            offset,
            0xFFFF_FFFF_8020_0000 + offset,
            2 * MIB + offset,
            len,
            room,
            4,
        ] {
            header.extend(value.to_le_bytes());
        }
        header
    };
    put(&mut image, 64, &segment(1, 0, 0x1000, 0x3000));
    if let Some(entry) = note {
        put(&mut image, 120, &segment(4, 0x400, 20, 20));
        let words = [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry];
        for (index, word) in words.iter().enumerate() {
            put(&mut image, 0x400 + index * 4, &word.to_le_bytes());
        }
    }
    if let Some(flags) = multiboot {
        let magic = 0x1BAD_B002u32;
        let sum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
        for (index, word) in [magic, flags, sum].iter().enumerate() {
            put(&mut image, 0x600 + index * 4, &word.to_le_bytes());
        }
    }
    put(&mut image, 0x800, &[0xF4]);
    image
}

/// A flat image with multiboot addresses, loaded at 1 MiB, its header at file offset 16.
fn flat_multiboot() -> Vec<u8> {
    let mut image = vec![0x90; 0x200];
    let flags = 1u32 << 16;
    let magic = 0x1BAD_B002u32;
    let sum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let words = [
        magic, flags, sum, 0x10_0010, 0x10_0000, 0x10_0200, 0x10_1000, 0x10_0100,
    ];
    for (index, word) in words.iter().enumerate() {
        put(&mut image, 16 + index * 4, &word.to_le_bytes());
    }
    image
}

fn boot<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> BootImage<'a> {
    BootImage {
        kernel,
        initrd,
        command_line: "console=ttyS0 quiet",
        rng_seed: Some([0x5A; 32]),
        rsdp: ACPI_TABLES,
        protocol: None,
    }
}

fn run(kernel: &[u8], initrd: Option<&[u8]>) -> (VecRam, Result<InitialState, LoadError>) {
    let mut ram = VecRam::new(32 << 20);
    let state = load(&mut ram, &boot(kernel, initrd));
    (ram, state)
}

fn refusal(kernel: &[u8]) -> LoadError {
    run(kernel, None).1.unwrap_err()
}

fn bytes(ram: &VecRam, gpa: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(gpa, &mut bytes).unwrap();
    bytes
}

fn word(ram: &VecRam, gpa: u64) -> u32 {
    u32::from_le_bytes(bytes(ram, gpa, 4).try_into().unwrap())
}

fn long(ram: &VecRam, gpa: u64) -> u64 {
    u64::from_le_bytes(bytes(ram, gpa, 8).try_into().unwrap())
}

fn register(state: &InitialState, name: Name) -> u64 {
    let mut found = state.registers.iter().filter(|assoc| assoc.name == name);
    let value = found.next().unwrap().value.low;
    assert!(found.next().is_none(), "{name:?} is set twice");
    value
}

#[test]
fn a_bzimage_starts_in_long_mode_at_its_64_bit_entry() {
    let (ram, state) = run(&bzimage(), None);
    let state = state.unwrap();
    assert_eq!(state.protocol, Protocol::Linux64);
    assert_eq!(register(&state, Name::RIP), 16 * MIB + 0x200);
    assert_eq!(register(&state, Name::RSI), BOOT_INFO);
    assert_eq!(register(&state, Name::CR0) & 0x8000_0001, 0x8000_0001);
    assert_eq!(register(&state, Name::EFER), 0x500);
    assert_eq!(register(&state, Name::RFLAGS), 2);
    assert_eq!(register(&state, Name::APIC_BASE), 0xFEE0_0D00);
    assert_eq!(bytes(&ram, 16 * MIB, 4), [1, 1, 3, 3]);
}

#[test]
fn the_identity_map_covers_4_gib() {
    let (ram, state) = run(&bzimage(), None);
    let root = register(&state.unwrap(), Name::CR3);
    for address in [0u64, 0x12_3456, 0xFFFF_FFFF, 0x8000_0000] {
        let pdpt = long(&ram, root + (address >> 39) * 8) & !0xFFF;
        let directory = long(&ram, pdpt + (address >> 30) * 8) & !0xFFF;
        let entry = long(&ram, directory + (address >> 21 & 0x1FF) * 8);
        assert_eq!(entry & 0x83, 0x83);
        assert_eq!(entry & !0x1F_FFFF, address & !0x1F_FFFF);
    }
}

#[test]
fn the_zero_page_has_the_setup_header_and_nothing_else_of_the_file() {
    let initrd = vec![0xA5; 5000];
    let (ram, state) = run(&bzimage(), Some(&initrd));
    state.unwrap();
    let page = bytes(&ram, BOOT_INFO, PAGE as usize);
    assert_eq!(page[0x1EF], 0, "the sentinel would erase the RSDP");
    assert_eq!(page[0x202..0x206], *b"HdrS");
    assert_eq!((page[0x210], page[0x211]), (0xFF, 0x01));
    assert_eq!(long(&ram, BOOT_INFO + 0x70), ACPI_TABLES);
    assert_eq!(word(&ram, BOOT_INFO + 0x228), COMMAND_LINE as u32);
    assert_eq!(bytes(&ram, COMMAND_LINE, 20), b"console=ttyS0 quiet\0");
    let initrd_at = u64::from(word(&ram, BOOT_INFO + 0x218));
    assert_eq!(word(&ram, BOOT_INFO + 0x21C), 5000);
    assert_eq!(initrd_at, 32 * MIB - 2 * PAGE);
    assert_eq!(bytes(&ram, initrd_at, 5000), initrd);
    assert_eq!(long(&ram, BOOT_INFO + 0x250), BOOT_LISTS);
    assert_eq!(
        (long(&ram, BOOT_LISTS), long(&ram, BOOT_LISTS + 8)),
        (0, 9 | 32 << 32)
    );
    assert_eq!(bytes(&ram, BOOT_LISTS + 16, 32), [0x5A; 32]);
}

#[test]
fn the_e820_map_names_low_ram_the_acpi_range_and_all_ram_above() {
    let (ram, state) = run(&bzimage(), None);
    state.unwrap();
    assert_eq!(bytes(&ram, BOOT_INFO + 0x1E8, 1), [3]);
    let entries: Vec<_> = (0..3)
        .map(|index| BOOT_INFO + 0x2D0 + index * 20)
        .map(|at| (long(&ram, at), long(&ram, at + 8), word(&ram, at + 16)))
        .collect();
    let expected = [
        (0, 0x9_F000, 1),
        (0xE_0000, 0x2_0000, 2),
        (MIB, 31 * MIB, 1),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn a_wrong_bzimage_is_refused_with_its_reason() {
    let with = |offset: usize, value: &[u8]| {
        let mut image = bzimage();
        put(&mut image, offset, value);
        image
    };
    assert_eq!(refusal(&with(0x202, b"XXXX")), LoadError::NotAKernel);
    assert_eq!(
        refusal(&with(0x206, &[0x0B, 0x02])),
        LoadError::ProtocolTooOld { version: 0x020B }
    );
    assert_eq!(refusal(&with(0x211, &[0])), LoadError::LoadedLow);
    assert_eq!(refusal(&with(0x236, &[0x3E])), LoadError::No64BitEntry);
    assert!(matches!(
        refusal(&with(0x258, &[0x10, 0, 0, 0])),
        LoadError::BadField { value: 0x10, .. }
    ));
    assert!(matches!(
        refusal(&with(0x260, &[0xFF; 4])),
        LoadError::Place { .. }
    ));
    assert!(matches!(
        refusal(&with(0x1F4, &[0xFF; 2])),
        LoadError::Truncated { .. }
    ));
    assert!(matches!(
        refusal(&with(0x1F1, &[64])),
        LoadError::Truncated { .. }
    ));
    assert!(matches!(
        refusal(&with(0x201, &[0xFF])),
        LoadError::BadField { .. }
    ));
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernel = bzimage();
    let initrd = vec![1; 12 << 20];
    assert!(run(&kernel, Some(&initrd)).1.is_ok());
    let initrd = vec![1; (12 << 20) + 1];
    assert!(matches!(
        run(&kernel, Some(&initrd)).1,
        Err(LoadError::InitrdTooBig { .. })
    ));
    let mut ram = VecRam::new(32 << 20);
    let text = "x".repeat(2048);
    let mut image = boot(&kernel, None);
    image.command_line = &text;
    assert!(matches!(
        load(&mut ram, &image),
        Err(LoadError::CommandLineTooLong {
            len: 2048,
            max: 2047
        })
    ));
    image.command_line = "a\0b";
    assert!(matches!(
        load(&mut ram, &image),
        Err(LoadError::CommandLineNul)
    ));
    let mut ram = VecRam::new(0x8000);
    assert!(matches!(
        load(&mut ram, &boot(&kernel, None)),
        Err(LoadError::TooLittleMemory { .. })
    ));
}

#[test]
fn a_pvh_image_starts_in_protected_mode_with_its_start_info() {
    let (ram, state) = run(&elf64(Some(0x20_0800), None, 62), Some(b"module"));
    let state = state.unwrap();
    assert_eq!(state.protocol, Protocol::Pvh);
    assert_eq!(register(&state, Name::RIP), 0x20_0800);
    assert_eq!(register(&state, Name::RBX), BOOT_INFO);
    assert_eq!(
        (register(&state, Name::CR0), register(&state, Name::CR4)),
        (0x11, 0)
    );
    assert_eq!(bytes(&ram, 0x20_0800, 1), [0xF4]);
    assert_eq!(
        (word(&ram, BOOT_INFO), word(&ram, BOOT_INFO + 4)),
        (0x336E_C578, 1)
    );
    assert_eq!(word(&ram, BOOT_INFO + 12), 1);
    let module = long(&ram, BOOT_INFO + 16);
    assert_eq!(bytes(&ram, long(&ram, module), 6), b"module");
    assert_eq!(long(&ram, module + 8), 6);
    assert_eq!(bytes(&ram, long(&ram, BOOT_INFO + 24), 8), b"console=");
    assert_eq!(long(&ram, BOOT_INFO + 32), ACPI_TABLES);
    let map = long(&ram, BOOT_INFO + 40);
    assert_eq!(word(&ram, BOOT_INFO + 48), 3);
    assert_eq!((long(&ram, map + 48), word(&ram, map + 64)), (MIB, 1));
}

#[test]
fn an_elf_with_a_multiboot_header_starts_at_the_physical_entry() {
    let (ram, state) = run(&elf64(None, Some(0), 62), Some(b"NR_CPUS=1"));
    let state = state.unwrap();
    assert_eq!(state.protocol, Protocol::Multiboot);
    assert_eq!(register(&state, Name::RIP), 0x20_0800);
    assert_eq!(register(&state, Name::RAX), 0x2BAD_B002);
    let info = register(&state, Name::RBX);
    assert_eq!(word(&ram, info) & 0x4D, 0x4D);
    assert_eq!(word(&ram, info + 8), 31 << 10);
    assert_eq!(
        bytes(&ram, u64::from(word(&ram, info + 16)), 8),
        b"console="
    );
    let module = u64::from(word(&ram, info + 24));
    let (start, end) = (word(&ram, module), word(&ram, module + 4));
    assert_eq!((word(&ram, info + 20), end - start), (1, 9));
    assert_eq!(bytes(&ram, u64::from(start), 9), b"NR_CPUS=1");
    let (len, map) = (word(&ram, info + 44), u64::from(word(&ram, info + 48)));
    assert_eq!((len, word(&ram, map)), (3 * 24, 20));
    assert_eq!(
        (long(&ram, map + 52), long(&ram, map + 60)),
        (MIB, 31 * MIB)
    );
    let name = u64::from(word(&ram, info + 64));
    assert_eq!(bytes(&ram, name, 8), b"Partita\0");
}

#[test]
fn a_flat_multiboot_image_is_loaded_by_its_addresses() {
    let (ram, state) = run(&flat_multiboot(), None);
    let state = state.unwrap();
    assert_eq!(register(&state, Name::RIP), 0x10_0100);
    assert_eq!(bytes(&ram, 0x10_0100, 1), [0x90]);
    assert_eq!(word(&ram, BOOT_INFO) & 8, 0, "no modules");
    let mut outside = flat_multiboot();
    put(&mut outside, 16 + 28, &0x10_1000u32.to_le_bytes());
    assert_eq!(refusal(&outside), LoadError::Entry(0x10_1000));
    let mut low = flat_multiboot();
    for index in 3..8 {
        let at = 16 + index * 4;
        let address = u32::from_le_bytes(low[at..at + 4].try_into().unwrap()) - 0xF_F000;
        put(&mut low, at, &address.to_le_bytes());
    }
    assert!(matches!(
        refusal(&low),
        LoadError::Place { start: 0x1000, .. }
    ));
}

#[test]
fn a_protocol_that_is_asked_for_is_taken_or_refused() {
    let with = |kernel: &[u8], protocol| {
        let mut image = boot(kernel, None);
        image.protocol = Some(protocol);
        load(&mut VecRam::new(32 << 20), &image).map(|state| state.protocol)
    };
    let both = elf64(Some(0x20_0800), Some(0), 62);
    for protocol in [Protocol::Pvh, Protocol::Multiboot] {
        assert_eq!(with(&both, protocol), Ok(protocol));
        let refused = Err(LoadError::NotOfProtocol(protocol));
        assert_eq!(with(&bzimage(), protocol), refused);
    }
    let protocol = Protocol::Linux64;
    assert_eq!(with(&bzimage(), protocol), Ok(protocol));
    assert_eq!(
        with(&both, protocol),
        Err(LoadError::NotOfProtocol(protocol))
    );
}

#[test]
fn a_wrong_elf_or_multiboot_image_is_refused_with_its_reason() {
    assert_eq!(refusal(b""), LoadError::Empty);
    assert_eq!(refusal(b"#!/bin/sh\n"), LoadError::NotAKernel);
    assert_eq!(
        refusal(&elf64(None, None, 62)),
        LoadError::ElfWithoutProtocol
    );
    assert_eq!(
        refusal(&elf64(Some(0x20_0800), None, 183)),
        LoadError::ElfKind {
            machine: 183,
            kind: 2
        }
    );
    assert_eq!(
        refusal(&elf64(Some(0x30_0000), None, 62)),
        LoadError::Entry(0x30_0000)
    );
    let flags = 1 << 5;
    assert_eq!(
        refusal(&elf64(None, Some(flags), 62)),
        LoadError::MultibootFlags { flags }
    );
    assert!(matches!(
        refusal(&elf64(Some(0x20_0800), None, 62)[..0x900]),
        LoadError::Elf(_)
    ));
    let mut low = elf64(Some(0x20_0800), None, 62);
    put(&mut low, 64 + 24, &0x2000u64.to_le_bytes());
    assert!(matches!(refusal(&low), LoadError::Place { .. }));
}

proptest! {
    #[test]
    fn no_bytes_make_the_loader_panic(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz_bzimage(&data);
    }

    #[test]
    fn no_change_of_a_good_image_makes_the_loader_panic(
        kind in 0..4usize,
        changes in proptest::collection::vec((0..0x700usize, any::<u8>()), 1..8),
        len in 0..0x1000usize,
    ) {
        let mut image = match kind {
            0 => bzimage(),
            1 => elf64(Some(0x20_0800), None, 62),
            2 => elf64(None, Some(0), 62),
            _ => flat_multiboot(),
        };
        for (offset, byte) in changes {
            if let Some(place) = image.get_mut(offset) {
                *place = byte;
            }
        }
        image.truncate(len.max(0x400));
        fuzz_bzimage(&image);
    }
}
