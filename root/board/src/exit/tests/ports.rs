//! Port instructions.

use super::*;

#[test]
fn in_changes_only_the_bytes_it_reads_but_clears_the_upper_half_for_32_bits() {
    for (size, expected) in [
        (1, 0x1111_2222_3333_44EF),
        (2, 0x1111_2222_3333_BEEF),
        (4, 0xDEAD_BEEF),
    ] {
        let mut vp = Vp::new();
        vp.bus.reads = 0xDEAD_BEEF;
        vp.page.gp_registers[RAX] = 0x1111_2222_3333_4444;
        let outcome = vp.port(HvInterceptAccessType::READ, 0x3FD, size);
        assert_eq!(outcome, Outcome::Resume);
        assert_eq!(vp.page.gp_registers[RAX], expected);
        assert_eq!(vp.page.rip, RIP + 2);
        let dirty = Dirty::GENERAL_PURPOSE | Dirty::INSTRUCTION_POINTER;
        assert_eq!(vp.page.dirty, dirty);
        assert_eq!(vp.bus.asked, [Asked::PortRead(0x3FD, size)]);
    }
}

#[test]
fn out_writes_the_low_bytes_of_rax_and_leaves_the_registers_alone() {
    for (size, expected) in [(1, 0x44), (2, 0x3344), (4, 0x1122_3344)] {
        let mut vp = Vp::new();
        vp.page.gp_registers[RAX] = 0xFFFF_FFFF_1122_3344;
        vp.port(HvInterceptAccessType::WRITE, 0xF4, size);
        assert_eq!(vp.bus.asked, [Asked::PortWrite(0xF4, size, expected)]);
        assert_eq!(vp.page.dirty, Dirty::INSTRUCTION_POINTER);
    }
}

#[test]
fn rip_wraps_at_4_gib_outside_of_64_bit_mode() {
    let mut vp = Vp::new();
    vp.page.segment[1].attributes = HvX64SegmentAttributes::from_bits(0xC09B);
    vp.page.rip = 0xFFFF_FFFF;
    vp.port(HvInterceptAccessType::READ, 0x80, 1);
    assert_eq!(vp.page.rip, 1);
}

#[test]
fn an_access_of_odd_size_or_without_length_is_a_fault_and_not_an_endless_loop() {
    let mut vp = Vp::new();
    let outcome = vp.port(HvInterceptAccessType::READ, 0x80, 3);
    assert!(matches!(
        outcome,
        Outcome::Fault(Fault::WrongInstruction { .. })
    ));
    let intercept = HvX64IoPortInterceptMessage {
        header: vp.header(HvInterceptAccessType::READ, 0),
        access_info: HvX64IoPortAccessInfo::new().with_access_size(1),
        ..Default::default()
    };
    // Without a length the instruction itself is looked at: IN AL, 0x80.
    vp.guest.write(RIP + SHIFT, &[0xE4, 0x80]).unwrap();
    let outcome = vp.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept);
    assert_eq!((outcome, vp.page.rip), (Outcome::Resume, RIP + 2));
    vp.guest.missing = RIP;
    vp.page.rip = RIP;
    let outcome = vp.send(HvMessageType::X64_IO_PORT_INTERCEPT, &intercept);
    assert_eq!(outcome, Outcome::Fault(Fault::CannotFetch { rip: RIP }));
}

#[test]
fn rep_outsb_reads_guest_memory_across_a_page_end() {
    let mut vp = Vp::new();
    let text = b"across the end of a page";
    vp.page.gp_registers[RSI] = 0x4FF8;
    vp.page.gp_registers[RCX] = text.len() as u64;
    vp.guest.write(0x4FF8 + SHIFT, text).unwrap();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    let expected: Vec<_> = text
        .iter()
        .map(|byte| Asked::PortWrite(0x3F8, 1, u32::from(*byte)))
        .collect();
    assert_eq!(vp.bus.asked, expected);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));
    assert_eq!(vp.page.gp_registers[RSI], 0x4FF8 + text.len() as u64);
    assert_eq!(vp.guest.translations, 2, "one for each page");
}

#[test]
fn a_long_repetition_is_done_in_parts_and_rip_waits_for_the_last() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RCX] = 2000;
    vp.page.gp_registers[RDI] = 0x8000;
    vp.bus.reads = 0x5A;
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Resume);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (976, RIP));
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Resume);
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));
    assert_eq!(
        vp.bytes(0x8000 + SHIFT, 2001),
        [vec![0x5A; 2000], vec![0]].concat()
    );
}

#[test]
fn a_repetition_of_none_does_nothing_but_end() {
    let mut vp = Vp::new();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    assert_eq!((vp.bus.asked.len(), vp.page.rip), (0, RIP + 2));
}

#[test]
fn address_registers_have_16_bits_in_real_mode_and_follow_the_direction_flag() {
    let mut vp = Vp::real_mode();
    vp.page.rflags |= 1 << 10;
    vp.page.gp_registers[RCX] = 0xAAAA_0003;
    vp.page.gp_registers[RSI] = 0xBBBB_0001;
    vp.guest.write(0x2000, &[2, 1]).unwrap();
    vp.guest.write(0x1_1FFF, &[3]).unwrap();
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), Outcome::Resume);
    let expected = [1, 2, 3].map(|value| Asked::PortWrite(0x3F8, 1, value));
    assert_eq!(vp.bus.asked, expected);
    assert_eq!(vp.page.gp_registers[RSI], 0xBBBB_FFFE);
    assert_eq!(vp.page.gp_registers[RCX], 0xAAAA_0000);
    assert_eq!(vp.guest.translations, 0, "no paging");
}

#[test]
fn a_segment_prefix_moves_the_source_of_outs() {
    let mut vp = Vp::real_mode();
    vp.guest.write(0x3000, &[7]).unwrap();
    // OUTSB from ES.
    assert_eq!(vp.string_port(&[0x26, 0x6E]), Outcome::Resume);
    assert_eq!(vp.bus.asked, [Asked::PortWrite(0x3F8, 1, 7)]);
}

#[test]
fn a_missing_page_becomes_a_page_fault_after_what_was_done_before_it() {
    let mut vp = Vp::new();
    vp.guest.missing = 0x9000;
    vp.page.gp_registers[RCX] = 10;
    vp.page.gp_registers[RDI] = 0x8FFD;
    vp.page.segment[2].attributes = HvX64SegmentAttributes::from_bits(0xC0F3);
    let page_fault = Exception {
        vector: 14,
        error_code: 0b110,
        parameter: 0x9000,
    };
    assert_eq!(vp.string_port(&[0xF3, 0x6C]), Outcome::Inject(page_fault));
    assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (7, RIP));
    assert_eq!(vp.page.gp_registers[RDI], 0x9000);
    assert_eq!(vp.bus.asked.len(), 3, "the port is not read for nothing");
}

/// Pages that are away, each of which the guest's first touch brings back.
fn away(vp: &mut Vp, pages: &[u64]) {
    vp.guest.touched = Touched::Backed;
    for page in pages {
        vp.guest.ram.set_present(*page..page + 1, false);
    }
}

#[test]
fn a_string_goes_on_at_a_page_that_was_away_when_that_is_there() {
    let (outs, ins) = ([0xF3, 0x6E], [0xF3, 0x6C]);
    let pages = [(0x4000 + SHIFT) / PAGE, (0x5000 + SHIFT) / PAGE];
    for code in [outs, ins] {
        let mut vp = Vp::new();
        vp.page.gp_registers[RSI] = 0x4FF8;
        vp.page.gp_registers[RDI] = 0x4FF8;
        vp.page.gp_registers[RCX] = 16;
        away(&mut vp, &pages);
        vp.guest.touched = Touched::Waits;
        assert_eq!(vp.string_port(&code), Outcome::Wait);
        vp.guest.touched = Touched::Backed;
        for left in [16, 8] {
            assert_eq!(vp.string_port(&code), Outcome::Resume);
            assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (left, RIP));
        }
        assert_eq!(vp.string_port(&code), Outcome::Resume);
        assert_eq!((vp.page.gp_registers[RCX], vp.page.rip), (0, RIP + 2));
        assert_eq!(vp.bus.asked.len(), 16, "each element once");
        let [first, second] = pages.map(|page| page * PAGE);
        assert_eq!(vp.guest.asked, [first + 0xFF8, first + 0xFF8, second]);
    }
}

#[test]
fn a_wide_element_is_written_when_both_of_its_pages_are_there() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RDI] = 0x4FFE;
    away(&mut vp, &[(0x5000 + SHIFT) / PAGE]);
    vp.bus.reads = 0x0403_0201;
    assert_eq!(vp.string_port(&[0x6D]), Outcome::Resume);
    assert_eq!((vp.bus.asked.len(), vp.page.rip), (0, RIP));
    assert_eq!(vp.string_port(&[0x6D]), Outcome::Resume);
    assert_eq!(vp.bytes(0x4FFE + SHIFT, 4), [1, 2, 3, 4]);
    assert_eq!((vp.bus.asked.len(), vp.page.rip), (1, RIP + 1));
}

#[test]
fn page_tables_and_code_that_are_away_are_waited_for_as_well() {
    let mut vp = Vp::new();
    vp.page.gp_registers[RSI] = 0x4000;
    vp.guest.table = Some(0x7000);
    away(&mut vp, &[]);
    assert_eq!(vp.string_port(&[0x6E]), Outcome::Resume);
    assert_eq!((&vp.guest.asked[..], vp.page.rip), (&[0x7000][..], RIP));
    assert_eq!(vp.string_port(&[0x6E]), Outcome::Resume);
    assert_eq!(vp.page.rip, RIP + 1);
    // No bytes come with the message.
    vp.page.rip = RIP;
    vp.guest.write(RIP + SHIFT, &[0x6E]).unwrap();
    away(&mut vp, &[(RIP + SHIFT) / PAGE]);
    assert_eq!(vp.string_port(&[]), Outcome::Resume);
    assert_eq!(vp.page.rip, RIP);
    assert_eq!(vp.string_port(&[]), Outcome::Resume);
    assert_eq!(vp.page.rip, RIP + 1);
    // A table that is no RAM is the guest's mistake.
    vp.page.rip = RIP;
    (vp.guest.table, vp.guest.touched) = (Some(DEVICE), Touched::NotRam);
    let fault = Fault::Translation {
        gva: 0x4002,
        result: 4,
    };
    assert_eq!(vp.string_port(&[0x6E]), Outcome::Fault(fault));
}
