//! What the end of an instruction brings about beside registers.

use tlfs::HvX64InterruptStateRegister as State;

use super::*;

const TRAP: u64 = 1 << 8;
const RESUME: u64 = 1 << 16;
const TRAPPED: Outcome = Outcome::Complete(Completion {
    interrupt_state: None,
    single_step: true,
});

/// The ways to an access: OUT, MOV [RDI], EAX, and OUTSB.
fn each_access(mut run: impl FnMut(&mut dyn FnMut(&mut Vp) -> Outcome, u64)) {
    run(
        &mut |vp| vp.port(HvInterceptAccessType::WRITE, 0x80, 1),
        RIP + 2,
    );
    run(&mut |vp| vp.memory(&[0x89, 0x07]), RIP + 2);
    run(&mut |vp| vp.string_port(&[0x6E]), RIP + 1);
}

#[test]
fn a_single_stepped_access_ends_in_a_trap_behind_it() {
    each_access(|access, behind| {
        let mut vp = Vp::new();
        vp.page.rflags |= TRAP;
        assert_eq!(access(&mut vp), TRAPPED);
        assert_eq!(vp.page.rip, behind);
        assert_eq!(vp.page.rflags, 2 | TRAP, "the trap itself clears TF");
    });
}

#[test]
fn an_access_ends_the_resume_flag_and_the_interrupt_shadow() {
    each_access(|access, behind| {
        let mut vp = Vp::new();
        vp.page.rflags |= RESUME;
        let masked = State::new().with_nmi_masked(true);
        vp.page.interrupt_state = masked.with_interrupt_shadow(true);
        let outcome = Outcome::Complete(Completion {
            interrupt_state: Some(masked),
            single_step: false,
        });
        assert_eq!(access(&mut vp), outcome);
        assert_eq!((vp.page.rip, vp.page.rflags), (behind, 2));
        assert!(vp.page.dirty.contains(Dirty::FLAGS));
    });
}

#[test]
fn an_ordinary_access_leaves_the_flags_alone() {
    each_access(|access, _| {
        let mut vp = Vp::new();
        assert_eq!(access(&mut vp), Outcome::Resume);
        assert!(!vp.page.dirty.contains(Dirty::FLAGS));
    });
}

#[test]
fn a_single_stepped_repetition_traps_after_each_element() {
    let mut vp = Vp::new();
    vp.page.rflags |= TRAP | RESUME;
    vp.page.gp_registers[RCX] = 2;
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), TRAPPED);
    assert_eq!((vp.page.rip, vp.page.gp_registers[RCX]), (RIP, 1));
    assert_ne!(vp.page.rflags & RESUME, 0, "it has not ended");
    assert_eq!(vp.string_port(&[0xF3, 0x6E]), TRAPPED);
    assert_eq!((vp.page.rip, vp.page.gp_registers[RCX]), (RIP + 2, 0));
    assert_eq!(vp.page.rflags & RESUME, 0);
}

#[test]
fn a_fault_in_the_instruction_comes_instead_of_the_trap() {
    let mut vp = Vp::new();
    vp.page.rflags |= TRAP;
    vp.guest.missing = 0;
    assert!(matches!(
        vp.string_port(&[0x6E]),
        Outcome::Inject(Exception { vector: 14, .. })
    ));
    assert_eq!(vp.page.rip, RIP);
}
