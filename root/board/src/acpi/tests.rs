use super::*;
use crate::layout::{RESET_PORT, SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT};
use crate::ram::VecRam;

/// The tables by signature, found and checked as a kernel does it.
struct Found {
    ram: VecRam,
    rsdp: u64,
}

impl Found {
    fn new(processors: u32) -> Self {
        Self::with(processors, false)
    }

    fn with(processors: u32, vmbus: bool) -> Self {
        let mut ram = VecRam::new(2 << 20);
        let rsdp = write_tables(&mut ram, processors, vmbus).unwrap();
        Self { ram, rsdp }
    }

    fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(gpa, &mut bytes).unwrap();
        bytes
    }

    fn table_at(&self, gpa: u64) -> Vec<u8> {
        let len = u32_at(&self.bytes(gpa, 8), 4);
        let table = self.bytes(gpa, len as usize);
        assert_eq!(sum(&table), 0, "checksum at {gpa:#x}");
        table
    }

    fn table(&self, signature: &[u8; 4]) -> Vec<u8> {
        let rsdp = self.bytes(self.rsdp, 36);
        assert_eq!(rsdp[..8], *b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp), rsdp[15]), (0, 0, 2));
        let xsdt = self.table_at(u64_at(&rsdp, 24));
        assert_eq!(xsdt[..4], *b"XSDT");
        xsdt[36..]
            .chunks_exact(8)
            .map(|entry| self.table_at(u64_at(entry, 0)))
            .find(|table| table.starts_with(signature))
            .unwrap()
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

#[test]
fn the_fadt_is_hardware_reduced_and_names_the_power_registers() {
    let fadt = Found::new(1).table(b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(u32_at(&fadt, 112), 0x10_0431);
    assert_eq!(fadt[109..111], [0x24, 0]);
    let port = |offset: usize| {
        assert_eq!(fadt[offset..offset + 4], [1, 8, 0, 1]);
        u64_at(&fadt, offset + 4)
    };
    assert_eq!(port(116), u64::from(RESET_PORT));
    assert_eq!(fadt[128], crate::layout::RESET_VALUE);
    assert_eq!(port(244), u64::from(SLEEP_CONTROL_PORT));
    assert_eq!(port(256), u64::from(SLEEP_STATUS_PORT));
    assert_eq!(fadt[208..220], [0; 12], "no PM timer");
}

#[test]
fn the_fadt_points_at_a_dsdt_with_s5_and_a_serial_line() {
    let found = Found::new(2);
    let dsdt = found.table_at(u64_at(&found.table(b"FACP"), 140));
    assert_eq!(dsdt[..4], *b"DSDT");
    let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
    // Name(_S5_, Package(2) { 5, 0 }): the power-off type the sleep register takes.
    assert!(
        has(b"\x08_S5_\x12\x06\x02\x0A\x05\x0A\x00") || has(b"\x08_S5_\x12\x05\x02\x0A\x05\x00")
    );
    // Ports 0x3F8..0x3FF, then GSI 4 as consumer, edge, high, exclusive.
    assert!(has(&[0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8]));
    assert!(has(&[0x89, 6, 0, 0b0011, 1, 4, 0, 0, 0]));
    assert!(has(b"C000") && has(b"C001") && !has(b"C002"));
}

#[test]
fn vmbus_is_in_the_dsdt_if_there_is_one() {
    for vmbus in [false, true] {
        let found = Found::with(1, vmbus);
        let dsdt = found.table_at(u64_at(&found.table(b"FACP"), 140));
        let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
        assert_eq!(has(b"VMBS\x08_HID\x0DVMBUS\0"), vmbus);
        assert_eq!(has(b"VMOD\x08_HID\x0DACPI0004\0"), vmbus);
        // Name(_CRS, Buffer() { end tag, checksum }): there, and empty.
        assert_eq!(has(b"_CRS\x11\x05\x0A\x02\x79\x00"), vmbus);
    }
}

#[test]
fn the_madt_lists_processors_ascending_then_the_ioapic() {
    let madt = Found::new(257).table(b"APIC");
    assert_eq!(u32_at(&madt, 36), 0xFEE0_0000);
    assert_eq!(u32_at(&madt, 40), 0, "no PIC");
    let mut entries = &madt[44..];
    let mut ids = Vec::new();
    while entries.len() >= 2 {
        let (entry, rest) = entries.split_at(usize::from(entries[1]));
        match entry[0] {
            0 => {
                assert_eq!((entry[2], u32_at(entry, 4)), (entry[3], 1));
                ids.push(u32::from(entry[3]));
            }
            9 => {
                assert_eq!((u32_at(entry, 12), u32_at(entry, 8)), (u32_at(entry, 4), 1));
                assert!(u32_at(entry, 4) >= 255);
                ids.push(u32_at(entry, 4));
            }
            1 => assert_eq!((u32_at(entry, 4), u32_at(entry, 8)), (0xFEC0_0000, 0)),
            kind => panic!("entry of type {kind}"),
        }
        entries = rest;
    }
    assert!(entries.is_empty());
    assert_eq!(ids, (0..257).collect::<Vec<_>>());
}

#[test]
fn too_many_processors_are_refused_before_anything_overflows() {
    let mut ram = VecRam::new(2 << 20);
    assert!(write_tables(&mut ram, 1024, true).is_ok());
    for count in [1025, u32::MAX] {
        let refused = Err(AcpiError::TooManyProcessors(count));
        assert_eq!(write_tables(&mut ram, count, true), refused);
    }
}
