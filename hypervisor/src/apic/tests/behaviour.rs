//! What guests rely on.

use super::*;

const MASKED: u64 = 1 << 16;
const PERIODIC: u64 = 1 << 17;
const LEVEL: u64 = 1 << 15;

#[test]
fn reset_values_are_architectural() {
    let apic = LocalApic::new(0x25, false);
    let expected = [
        (0x1B, 0xFEE0_0C00),
        (0x802, 0x25),
        (0x803, 0x60014),
        (0x808, 0),
        (0x80A, 0),
        (0x80D, 0x0002_0020),
        (SVR, 0xFF),
        (ESR, 0),
        (ICR, 0),
        (LVT_TIMER, MASKED),
        (LVT_LINT0, MASKED),
        (LVT_ERROR, MASKED),
        (INITIAL_COUNT, 0),
        (CURRENT_COUNT, 0),
        (DIVIDE, 0),
    ];
    for (msr, value) in expected {
        assert_eq!(apic.read(msr, || NOW), Ok(value), "{msr:x}");
    }
}

#[test]
fn absent_and_misused_registers_fault() {
    let mut apic = enabled();
    for msr in [0x800, 0x809, 0x80C, 0x80E, 0x82E, 0x831, 0x83A, 0x8FF] {
        assert!(apic.read(msr, || NOW).is_err(), "{msr:x}");
        assert!(apic.write(msr, 0, NOW).is_err(), "{msr:x}");
    }
    for write_only in [EOI, SELF_IPI] {
        assert!(apic.read(write_only, || NOW).is_err());
    }
    for read_only in [
        0x802,
        0x803,
        0x80A,
        0x80D,
        0x810,
        0x818,
        0x820,
        CURRENT_COUNT,
    ] {
        assert!(apic.write(read_only, 0, NOW).is_err(), "{read_only:x}");
    }
    let reserved = [
        (0x808, 0x100),
        (EOI, 1),
        (SVR, 0x400),
        (ESR, 1),
        (ICR, 1 << 20),
        (LVT_TIMER, 1 << 18),
        (LVT_ERROR, 1 << 8),
        (LVT_LINT0, 1 << 17),
        (DIVIDE, 4),
        (SELF_IPI, 0x100),
        (INITIAL_COUNT, 1 << 32),
    ];
    for (msr, value) in reserved {
        assert_eq!(
            apic.write(msr, value, NOW),
            Err(GeneralProtection),
            "{msr:x}"
        );
    }
}

#[test]
fn the_msrs_exist_in_x2apic_mode_only() {
    let mut apic = enabled();
    set(&mut apic, 0x1B, 0xFEE0_0000);
    assert!(apic.read(0x802, || NOW).is_err());
    set(&mut apic, 0x1B, 0xFEE0_0800);
    assert!(apic.read(0x802, || NOW).is_err());
    set(&mut apic, 0x1B, 0xFEE0_0C00);
    assert_eq!(apic.read(0x802, || NOW), Ok(0));
}

#[test]
fn disabling_the_apic_loses_its_state() {
    let mut apic = enabled();
    apic.accept(fixed(0x50));
    assert_eq!(write(&mut apic, 0x1B, 0xFEE0_0000), Effect::Readdressed);
    assert_eq!(apic.next_interrupt(), None);
    assert!(!apic.accept(fixed(0x50)));
    assert!(!apic.matches(Destination::AllIncludingSelf, false));
}

#[test]
fn a_software_disabled_apic_masks_its_lvt_and_accepts_only_the_unmaskable() {
    let mut apic = LocalApic::new(0, true);
    set(&mut apic, LVT_TIMER, 0xEC);
    assert_eq!(apic.read(LVT_TIMER, || NOW), Ok(MASKED | 0xEC));
    assert!(!apic.accept(fixed(0x50)));
    assert!(apic.accept(Delivery::Nmi));

    set(&mut apic, SVR, 0x1FF);
    set(&mut apic, LVT_TIMER, 0xEC);
    apic.accept(fixed(0x50));
    set(&mut apic, SVR, 0xFF);
    assert_eq!(apic.read(LVT_TIMER, || NOW), Ok(MASKED | 0xEC));
    assert_eq!(
        apic.next_interrupt(),
        Some(0x50),
        "what was accepted is kept"
    );
}

#[test]
fn an_interrupt_that_arrives_in_its_own_service_comes_again_after_the_eoi() {
    let mut apic = enabled();
    apic.accept(fixed(0xF3));
    assert!(apic.begin(0xF3));
    assert!(apic.accept(fixed(0xF3)));
    assert_eq!(apic.next_interrupt(), None);
    assert_eq!(
        write(&mut apic, EOI, 0),
        Effect::EndOfInterrupt {
            vector: 0xF3,
            level: false
        }
    );
    assert_eq!(apic.next_interrupt(), Some(0xF3));
}

#[test]
fn auto_eoi_leaves_nothing_in_service() {
    let mut apic = enabled();
    apic.accept(fixed(0xF3));
    assert!(apic.begin_auto_eoi(0xF3));
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
    assert!(apic.accept(fixed(0x40)));
    assert_eq!(apic.next_interrupt(), Some(0x40));
}

#[test]
fn the_end_of_a_level_interrupt_is_reported() {
    let mut apic = enabled();
    apic.accept(level(0x41));
    apic.accept(fixed(0x52));
    for (vector, level) in [(0x52, false), (0x41, true)] {
        assert_eq!(apic.acknowledge(), vector);
        assert_eq!(
            write(&mut apic, EOI, 0),
            Effect::EndOfInterrupt { vector, level }
        );
    }
}

#[test]
fn an_acknowledge_without_an_interrupt_gives_the_spurious_vector() {
    let mut apic = enabled();
    assert!(!apic.begin(0x60));
    assert_eq!(apic.acknowledge(), 0xFF);
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
}

#[test]
fn cr8_is_the_upper_half_of_the_task_priority() {
    let mut apic = enabled();
    set(&mut apic, 0x808, 0x57);
    assert_eq!(apic.cr8(), 5);
    apic.set_cr8(5);
    assert_eq!(apic.tpr(), 0x57, "nothing moved to CR8");
    apic.set_cr8(6);
    assert_eq!(apic.tpr(), 0x60);
    apic.accept(fixed(0x6F));
    assert!(!apic.has_interrupt());
    apic.accept(fixed(0x70));
    assert_eq!(apic.next_interrupt(), Some(0x70));
}

#[test]
fn errors_are_latched_by_a_write_and_interrupt_once() {
    let mut apic = enabled();
    set(&mut apic, LVT_ERROR, 0xFE);
    set(&mut apic, SELF_IPI, 5);
    assert_eq!(apic.read(ESR, || NOW), Ok(0));
    assert_eq!(apic.acknowledge(), 0xFE);
    set(&mut apic, EOI, 0);
    set(&mut apic, ICR, 5);
    assert_eq!(
        apic.next_interrupt(),
        None,
        "the same error, before the ESR is written"
    );
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, || NOW), Ok(1 << 5));
    apic.accept(fixed(3));
    assert_eq!(apic.next_interrupt(), Some(0xFE));
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, || NOW), Ok(1 << 6));
}

#[test]
fn an_error_interrupt_with_an_illegal_vector_is_an_error_itself() {
    let mut apic = enabled();
    set(&mut apic, LVT_ERROR, 3);
    set(&mut apic, SELF_IPI, 5);
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, || NOW), Ok(1 << 5 | 1 << 6));
    assert!(!apic.has_pending());
}

#[test]
fn an_ipi_to_itself_needs_no_routing() {
    let mut apic = enabled();
    assert_eq!(write(&mut apic, ICR, 1 << 18 | 0x80), Effect::None);
    assert_eq!(apic.acknowledge(), 0x80);
    assert_eq!(write(&mut apic, SELF_IPI, 0x90), Effect::None);
    assert_eq!(apic.next_interrupt(), Some(0x90));
}

#[test]
fn a_software_disabled_apic_can_send() {
    let mut apic = LocalApic::new(0, true);
    assert!(matches!(
        write(&mut apic, ICR, 1 << 32 | 0xC500),
        Effect::Ipi(_)
    ));
}

#[test]
fn a_processor_starts_once() {
    let mut ap = LocalApic::new(1, false);
    assert!(ap.is_waiting_for_startup());
    assert!(ap.accept(Delivery::Init));
    // The BSP does not wait between INIT and startup, and sends the latter twice.
    assert!(ap.accept(Delivery::Startup { vector: 0x9A }));
    assert!(!ap.accept(Delivery::Startup { vector: 0x9B }));
    assert_eq!(ap.take_startup(), None, "INIT comes first");
    assert!(ap.take_init());
    assert!(ap.is_waiting_for_startup());
    assert_eq!(ap.take_startup(), Some(0x9A));
    assert!(!ap.is_waiting_for_startup());
    assert!(
        !ap.accept(Delivery::Startup { vector: 0x9A }),
        "it runs already"
    );
    assert!(!ap.has_pending());
}

#[test]
fn init_takes_back_a_start_and_what_was_pending() {
    let mut ap = LocalApic::new(1, false);
    ap.accept(Delivery::Startup { vector: 1 });
    ap.accept(Delivery::Nmi);
    ap.accept(Delivery::Init);
    assert!(ap.take_init());
    assert_eq!(ap.take_startup(), None);
    assert!(!ap.nmi_pending());
    assert_eq!(ap.base().value(), 0xFEE0_0C00);
}

#[test]
fn init_clears_the_registers_and_keeps_id_and_mode() {
    let mut apic = LocalApic::new(7, true);
    set(&mut apic, SVR, 0x1FF);
    set(&mut apic, 0x808, 0x40);
    set(&mut apic, INITIAL_COUNT, 1000);
    apic.accept(fixed(0x90));
    apic.accept(Delivery::Init);
    assert!(apic.take_init());
    assert!(
        !apic.is_waiting_for_startup(),
        "the BSP restarts at its reset vector"
    );
    assert_eq!(
        apic.save(NOW),
        LocalApic::new(7, true).save(NOW),
        "as after reset"
    );
    assert_eq!((apic.tpr(), apic.next_interrupt()), (0, None));
}

#[test]
fn the_unmaskable_ends_a_halt() {
    for delivery in [Delivery::Nmi, Delivery::Init] {
        let mut apic = LocalApic::new(0, true);
        assert!(apic.accept(delivery));
        assert!(apic.has_unmaskable() && apic.has_pending() && !apic.has_interrupt());
        assert!(!apic.accept(delivery), "one is latched");
    }
    assert!(!enabled().accept(Delivery::Smi));
}

#[test]
fn ext_int_passes_through_lint0() {
    let mut apic = enabled();
    assert!(
        !apic.accept(Delivery::ExtInt { vector: 8 }),
        "LINT0 is masked"
    );
    set(&mut apic, LVT_LINT0, 0x700);
    assert_eq!(apic.pending_ext_int(), Some(8));
    assert!(apic.has_interrupt());
    assert_eq!(apic.take_ext_int(), Some(8));
    assert_eq!(apic.take_ext_int(), None);
    assert_eq!(apic.clear_ext_int(), Cleared::Acknowledged);
    apic.accept(Delivery::ExtInt { vector: 9 });
    assert_eq!(apic.clear_ext_int(), Cleared::NotAcknowledged);
    assert_eq!(apic.take_ext_int(), None);
}

#[test]
fn ext_int_passes_a_disabled_apic() {
    let mut apic = enabled();
    set(&mut apic, 0x1B, 0xFEE0_0000);
    let lint0 = Delivery::Local {
        entry: LvtEntry::Lint0,
        pic_vector: 0x20,
    };
    assert!(apic.accept(lint0));
    assert_eq!(apic.take_ext_int(), Some(0x20));
    let lint1 = Delivery::Local {
        entry: LvtEntry::Lint1,
        pic_vector: 0,
    };
    assert!(apic.accept(lint1));
    assert!(apic.nmi_pending());
}

#[test]
fn a_local_input_delivers_what_its_entry_says() {
    let lint = |entry| Delivery::Local {
        entry,
        pic_vector: 0,
    };
    let mut apic = enabled();
    assert!(!apic.accept(lint(LvtEntry::Lint1)), "masked");
    set(&mut apic, LVT_LINT1, 0x400);
    assert!(apic.accept(lint(LvtEntry::Lint1)));
    assert!(apic.take_nmi());

    set(&mut apic, LVT_LINT0, LEVEL | 0x55);
    assert!(apic.accept(lint(LvtEntry::Lint0)));
    assert_eq!(apic.read(LVT_LINT0, || NOW), Ok(LEVEL | 1 << 14 | 0x55));
    apic.acknowledge();
    assert!(!apic.accept(lint(LvtEntry::Lint0)), "remote IRR holds it");
    assert_eq!(
        write(&mut apic, EOI, 0),
        Effect::EndOfInterrupt {
            vector: 0x55,
            level: true
        }
    );
    assert!(apic.accept(lint(LvtEntry::Lint0)));
}

#[test]
fn the_timer_interrupts_through_its_entry() {
    let mut apic = enabled();
    set(&mut apic, DIVIDE, 0xB);
    set(&mut apic, LVT_TIMER, 0xEC);
    // One second.
    assert_eq!(
        write(&mut apic, INITIAL_COUNT, TIMER_FREQUENCY),
        Effect::TimerChanged
    );
    let deadline = apic.next_deadline().unwrap();
    assert_eq!(deadline, RefTime::from_millis(1000));
    assert!(!apic.tick(RefTime::from_units(deadline.units() - 1)));
    assert!(apic.tick(deadline));
    assert_eq!(apic.next_interrupt(), Some(0xEC));
    assert_eq!(apic.next_deadline(), None);
}

#[test]
fn missed_periods_are_one_interrupt() {
    let mut apic = enabled();
    set(&mut apic, DIVIDE, 0xB);
    set(&mut apic, LVT_TIMER, PERIODIC | 0xEC);
    set(&mut apic, INITIAL_COUNT, TIMER_FREQUENCY / 1000);
    assert!(apic.tick(RefTime::from_micros(3500)));
    assert_eq!(apic.next_deadline(), Some(RefTime::from_millis(4)));
    apic.acknowledge();
    assert!(!apic.tick(RefTime::from_micros(3999)));
    assert!(apic.tick(RefTime::from_millis(4)));
    assert!(
        !apic.tick(RefTime::from_millis(5)),
        "the last one is still requested"
    );
}

#[test]
fn a_masked_timer_counts_and_its_expiry_is_lost() {
    let mut apic = enabled();
    set(&mut apic, DIVIDE, 0xB);
    set(&mut apic, INITIAL_COUNT, 2000);
    assert_eq!(apic.next_deadline(), None);
    let later = RefTime::from_micros(5);
    assert_eq!(apic.read(CURRENT_COUNT, || later), Ok(1000));
    let after = RefTime::from_micros(20);
    let _ = apic.write(LVT_TIMER, 0xEC, after).unwrap();
    assert!(!apic.tick(after));
    assert_eq!(apic.next_deadline(), None);
}

#[test]
fn a_timer_with_an_illegal_vector_is_an_error() {
    let mut apic = enabled();
    set(&mut apic, LVT_TIMER, 2);
    set(&mut apic, INITIAL_COUNT, 1);
    assert!(!apic.tick(RefTime::from_millis(1)));
    set(&mut apic, ESR, 0);
    assert_eq!(apic.read(ESR, || NOW), Ok(1 << 6));
}

#[test]
fn lowest_priority_goes_to_the_least_busy() {
    let mut apics = [enabled(), enabled(), enabled()];
    apics[0].set_tpr(0x20);
    apics[1].accept(fixed(0x30));
    apics[1].acknowledge();
    let candidates = |apics: &[LocalApic]| {
        let all: Vec<_> = apics
            .iter()
            .enumerate()
            .filter_map(|(i, a)| Some((i, a.arbitration_priority()?)))
            .collect();
        lowest_priority(all)
    };
    assert_eq!(candidates(&apics), Some(2));
    set(&mut apics[2], SVR, 0xFF);
    assert_eq!(candidates(&apics), Some(0));
    assert_eq!(candidates(&[]), None);
}

#[test]
fn the_saved_state_has_the_tlfs_layout() {
    let mut apic = LocalApic::new(3, false);
    set(&mut apic, SVR, 0x1F7);
    set(&mut apic, LVT_TIMER, PERIODIC | 0xEC);
    set(&mut apic, LVT_LINT0, 0x700);
    set(&mut apic, 0x82F, MASKED | 0x61);
    set(&mut apic, ICR, 9 << 32 | 0xFD);
    set(&mut apic, DIVIDE, 3);
    set(&mut apic, INITIAL_COUNT, 0x1000);
    apic.accept(level(0x45));
    apic.acknowledge();
    apic.accept(fixed(0xEF));
    let bytes = apic.save(NOW).to_bytes();
    let word = |offset: usize| u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap());
    let expected = [
        (0, 3),
        (4, 0x60014),
        (8, 8),
        (16, 0x1F7),
        (20 + 8, 1 << 5),
        (52 + 8, 1 << 5),
        (84 + 28, 1 << 15),
        (120, 9),
        (124, 0xFD),
        (128, PERIODIC as u32 | 0xEC),
        (136, MASKED as u32),
        (140, 0x700),
        (152, MASKED as u32 | 0x61),
        (160, 0x1000),
        (164, 0x1000),
        (168, 3),
    ];
    for (offset, value) in expected {
        assert_eq!(word(offset), value, "offset {offset}");
    }
}
