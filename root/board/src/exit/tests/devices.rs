//! Instructions at device memory.

use super::*;

#[test]
fn moves_to_and_from_device_memory() {
    let write = |size, value| vec![Asked::MemoryWrite(DEVICE, size, value)];
    let read = |size| vec![Asked::MemoryRead(DEVICE, size)];
    let old = 0x1111_2222_3333_4444u64;
    let reads = 0x8877_6655_4433_22F1u64;
    // Code (the address register does not matter), what is asked, what RAX is then.
    let cases: &[(&[u8], Vec<Asked>, u64)] = &[
        (&[0x89, 0x03], write(4, 0x3333_4444), old),
        (&[0x48, 0x89, 0x03], write(8, old), old),
        (&[0x66, 0x89, 0x03], write(2, 0x4444), old),
        (&[0x88, 0x23], write(1, 0x44), old),
        (
            &[0xC7, 0x03, 0xEF, 0xBE, 0xAD, 0xDE],
            write(4, 0xDEAD_BEEF),
            old,
        ),
        (
            &[0x48, 0xC7, 0x03, 0xFF, 0xFF, 0xFF, 0xFF],
            write(8, u64::MAX),
            old,
        ),
        (&[0xC6, 0x03, 0x80], write(1, 0x80), old),
        (&[0x8B, 0x03], read(4), 0x4433_22F1),
        (&[0x48, 0x8B, 0x03], read(8), reads),
        (&[0x8A, 0x23], read(1), 0x1111_2222_3333_F144),
        (&[0x66, 0x8B, 0x03], read(2), 0x1111_2222_3333_22F1),
        (&[0x0F, 0xB6, 0x03], read(1), 0xF1),
        (&[0x0F, 0xB7, 0x03], read(2), 0x22F1),
        (&[0x48, 0x0F, 0xBE, 0x03], read(1), 0xFFFF_FFFF_FFFF_FFF1),
        (&[0x0F, 0xBE, 0x03], read(1), 0xFFFF_FFF1),
        (&[0x48, 0x63, 0x03], read(4), 0x4433_22F1),
        (
            &[0xA0, 0x10, 0, 0xC0, 0xFE, 0, 0, 0, 0],
            read(1),
            0x1111_2222_3333_44F1,
        ),
    ];
    for (code, asked, rax) in cases {
        let mut vp = Vp::new();
        vp.bus.reads = reads;
        vp.page.gp_registers[RAX] = old;
        assert_eq!(vp.memory(code), Outcome::Resume, "{code:02x?}");
        assert_eq!(&vp.bus.asked, asked, "{code:02x?}");
        assert_eq!(vp.page.gp_registers[RAX], *rax, "{code:02x?}");
        assert_eq!(vp.page.rip, RIP + code.len() as u64);
    }
}

#[test]
fn arithmetic_on_device_memory_reads_computes_writes_and_sets_flags() {
    const FLAGS: u64 = 0x8D5;
    let device = 0x0000_00F0u64;
    // Code with RAX = 0x1F or an immediate, value written back, RAX then, flags.
    let cases: &[(&[u8], Option<u64>, u64, u64)] = &[
        // OR [rbx], eax
        (&[0x09, 0x03], Some(0xFF), 0x1F, 0x04),
        // AND dword [rbx], 0x10
        (&[0x83, 0x23, 0x10], Some(0x10), 0x1F, 0),
        // XOR eax, [rbx]
        (&[0x33, 0x03], None, 0xEF, 0),
        // ADD byte [rbx], 0x10
        (&[0x80, 0x03, 0x10], Some(0), 0x1F, 0x45),
        // SUB eax, [rbx]
        (&[0x2B, 0x03], None, 0xFFFF_FF2F, 0x81),
        // CMP dword [rbx], 0xF0
        (&[0x81, 0x3B, 0xF0, 0, 0, 0], None, 0x1F, 0x44),
        // TEST dword [rbx], 0x0F
        (&[0xF7, 0x03, 0x0F, 0, 0, 0], None, 0x1F, 0x44),
        // XCHG [rbx], eax
        (&[0x87, 0x03], Some(0x1F), 0xF0, 0),
        // NOT dword [rbx]
        (&[0xF7, 0x13], Some(0xFFFF_FF0F), 0x1F, 0),
        // DEC byte [rbx]
        (&[0xFE, 0x0B], Some(0xEF), 0x1F, 0x90),
    ];
    for (code, written, rax, flags) in cases {
        let mut vp = Vp::new();
        vp.bus.reads = device;
        vp.page.gp_registers[RAX] = 0x1F;
        assert_eq!(vp.memory(code), Outcome::Resume, "{code:02x?}");
        let stored = vp.bus.asked.iter().find_map(|asked| match asked {
            Asked::MemoryWrite(_, _, value) => Some(*value),
            _ => None,
        });
        assert_eq!(stored, *written, "{code:02x?}");
        assert_eq!(vp.page.gp_registers[RAX], *rax, "{code:02x?}");
        assert_eq!(vp.page.rflags & FLAGS, *flags, "{code:02x?}");
    }
    let mut vp = Vp::new();
    vp.page.rflags |= 1;
    vp.memory(&[0xFE, 0x03]);
    assert_eq!(vp.page.rflags & 1, 1, "INC leaves CF alone");
}

#[test]
fn a_device_is_read_once_for_a_string_move_to_a_page_that_was_away() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RSI] = DEVICE - SHIFT;
    vp.page.gp_registers[RDI] = 0x5000;
    vp.bus.reads = 7;
    let away = (0x5000 + SHIFT) / PAGE;
    vp.guest.ram.set_present(away..away + 1, false);
    vp.guest.backs = true;
    for rip in [RIP, RIP + 1] {
        assert_eq!(vp.memory(&[0xA5]), Outcome::Resume);
        assert_eq!(vp.page.rip, rip);
    }
    assert_eq!(vp.bus.asked, [Asked::MemoryRead(DEVICE, 4)]);
    assert_eq!(vp.bytes(0x5000 + SHIFT, 4), [7, 0, 0, 0]);
}

#[test]
fn string_moves_go_between_ram_and_device_memory() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RSI] = 0x5000;
    vp.page.gp_registers[RDI] = DEVICE - SHIFT;
    vp.page.gp_registers[RCX] = 2;
    vp.guest
        .write(0x5000 + SHIFT, &[1, 0, 0, 0, 2, 0, 0, 0])
        .unwrap();
    assert_eq!(vp.memory(&[0xF3, 0xA5]), Outcome::Resume);
    let expected = [
        Asked::MemoryWrite(DEVICE, 4, 1),
        Asked::MemoryWrite(DEVICE + 4, 4, 2),
    ];
    assert_eq!(vp.bus.asked, expected);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));

    let mut vp = Vp::new();
    vp.page.gp_registers[RDI] = DEVICE - SHIFT;
    vp.page.gp_registers[RAX] = 0xAB;
    assert_eq!(vp.memory(&[0xAA]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::MemoryWrite(DEVICE, 1, 0xAB)]);
}

#[test]
fn an_instruction_whose_bytes_are_missing_is_read_from_memory() {
    let mut vp = Vp::new();
    // MOV [rbx+disp32], eax at a page end: its last byte is on the next page.
    vp.page.rip = 0x1FFB;
    let code = [0x89, 0x83, 0x10, 0, 0, 0];
    vp.guest.write(0x1FFB + SHIFT, &code).unwrap();
    vp.page.gp_registers[RAX] = 5;
    assert_eq!(vp.memory(&code[..2]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::MemoryWrite(DEVICE, 4, 5)]);
    assert_eq!((vp.page.rip, vp.guest.translations), (0x1FFB + 6, 2));
}

#[test]
fn what_cannot_be_emulated_ends_the_vm_with_the_instruction_as_the_reason() {
    let mut vp = Vp::new();
    // FXSAVE [rbx]
    let outcome = vp.memory(&[0x0F, 0xAE, 0x03]);
    let Outcome::Fault(fault) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(vp.bus.asked.is_empty() && vp.page.rip == RIP);
    let text = fault.to_string();
    assert!(
        text.contains("0f ae 03") && text.contains("0x1000"),
        "{text}"
    );
    // MOVUPS [rbx], xmm0; MOV [rbx], ds; LOCK CMPXCHG [rbx], ecx
    for code in [
        &[0x0F, 0x11, 0x03][..],
        &[0x8C, 0x1B],
        &[0xF0, 0x0F, 0xB1, 0x0B],
    ] {
        let outcome = vp.memory(code);
        assert!(
            matches!(outcome, Outcome::Fault(Fault::CannotEmulate { .. })),
            "{code:02x?}"
        );
    }
}
