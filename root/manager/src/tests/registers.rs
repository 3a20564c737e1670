//! The command `registers`.

use tlfs::{HvRegisterName as Name, HvRegisterValue};

use super::fake::{begun, typed, vm};
use crate::VmId;

#[test]
fn registers_that_are_not_zero_are_shown_for_each_vp() {
    let (mut manager, mut host) = begun(&[vm("a", "")]);
    host.registers = vec![
        (
            VmId(0),
            vec![
                (Name::RIP, HvRegisterValue::from_u64(0x1234)),
                (Name::RAX, HvRegisterValue::from_u64(0)),
            ],
        ),
        (
            VmId(0),
            vec![(Name::CS, HvRegisterValue::from_u128(0x9B_0010 << 96))],
        ),
    ];
    let expected = "registers a
REGISTER                                     VALUE
a:Hv VP 0
HvX64RegisterRip                            0x1234
a:Hv VP 1
HvX64RegisterCs   0x9b0010000000000000000000000000
partita> ";
    assert_eq!(typed(&mut manager, &mut host, "registers a"), expected);
}

#[test]
fn a_vm_that_is_off_has_no_registers() {
    let (mut manager, mut host) = begun(&[vm("a", "")]);
    assert!(typed(&mut manager, &mut host, "registers a").contains("a has no VPs"));
    assert!(typed(&mut manager, &mut host, "registers b").contains("there is no VM \"b\""));
}
