//! Exits from recorded control blocks.

use super::*;

#[test]
fn ports_are_decoded_with_the_next_instruction() {
    // IN AX, 0x3FD: IN, 16 bits.
    let v = exited(BARE, exit_code::IOIO, 0x03FD_0021, 0x1002);
    let io = IoExit {
        port: 0x3FD,
        size: 2,
        input: true,
        string: false,
        rep: false,
    };
    assert_eq!((decoded(&v), v.port_access()), (Exit::Io, io));
    assert_eq!(
        v.instruction_length(),
        Some(2),
        "ports tell their length on every processor"
    );
    // REP OUTSB to 0x80.
    let v = exited(BARE, exit_code::IOIO, 0x0080_001C, 0x1002);
    let outs = IoExit {
        port: 0x80,
        size: 1,
        input: false,
        string: true,
        rep: true,
    };
    assert_eq!((decoded(&v), v.port_access()), (Exit::Io, outs));
}

#[test]
fn msr_direction_is_in_the_information() {
    assert_eq!(decoded(&exited(BARE, exit_code::MSR, 0, 0)), Exit::MsrRead);
    assert_eq!(decoded(&exited(BARE, exit_code::MSR, 1, 0)), Exit::MsrWrite);
}

#[test]
fn nested_faults_tell_access_and_table_walks() {
    let fault = |info1| {
        let v = exited(BARE, exit_code::NPF, info1, 0xFEE0_0300);
        assert_eq!(decoded(&v), Exit::NestedFault);
        v.nested_fault()
    };
    let read = NestedFault {
        gpa: Gpa(0xFEE0_0300),
        gva: None,
        access: Access::Read,
        table_walk: false,
    };
    assert_eq!(fault(0x1_0000_0004), read);
    assert_eq!(fault(0x1_0000_0006).access, Access::Write);
    assert_eq!(fault(0x1_0000_0014).access, Access::Execute);
    assert!(fault(0x2_0000_0006).table_walk);
}

#[test]
fn control_registers_name_their_operand_with_decode_assists_only() {
    let exit = |caps| decoded(&exited(caps, 0x13, 1 << 63 | 9, 0));
    let mov = |gpr| {
        Exit::ControlRegister(CrExit {
            register: 3,
            write: true,
            gpr,
        })
    };
    assert_eq!(exit(RICH), mov(Some(9)));
    assert_eq!(exit(BARE), mov(None));
}

#[test]
fn exceptions_carry_their_parameters() {
    let v = exited(BARE, exit_code::EXCEPTION_0 + 14, 6, 0xFFFF_8000_0000_1234);
    let fault = ExceptionExit {
        vector: 14,
        error_code: Some(6),
        parameter: 0xFFFF_8000_0000_1234,
    };
    assert_eq!(decoded(&v), Exit::Exception(fault));
    let mut v = exited(BARE, exit_code::EXCEPTION_0 + 13, 6, 0);
    let code = |v: &Vcpu| match decoded(v) {
        Exit::Exception(exception) => exception.error_code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&v), Some(6));
    v.set_efer(0);
    v.set_cr0(0);
    assert_eq!(code(&v), None, "there are none in real mode");
    let v = exited(BARE, exit_code::EXCEPTION_0 + 6, 0x55, 0);
    assert!(matches!(
        decoded(&v),
        Exit::Exception(ExceptionExit {
            error_code: None,
            ..
        })
    ));
}

#[test]
fn what_a_guest_does_not_have_is_absent() {
    for code in [
        exit_code::VMRUN,
        exit_code::VMLOAD,
        0x83,
        0x84,
        0x85,
        exit_code::SKINIT,
        exit_code::RDTSCP,
        exit_code::MWAIT,
    ] {
        let absent = Exit::Absent {
            general_protection: false,
        };
        assert_eq!(decoded(&exited(BARE, code, 0, 0)), absent, "{code:#x}");
    }
    assert_eq!(
        decoded(&exited(BARE, exit_code::INVALID, 0, 0)),
        Exit::InvalidState
    );
    assert_eq!(
        decoded(&exited(BARE, 0x999, 7, 0)),
        Exit::Unknown {
            code: 0x999,
            info: 7
        }
    );
}

#[test]
fn lengths_come_from_the_processor_or_not_at_all() {
    assert_eq!(
        exited(RICH, exit_code::CPUID, 0, 0).instruction_length(),
        Some(3)
    );
    assert_eq!(
        exited(BARE, exit_code::CPUID, 0, 0).instruction_length(),
        None
    );
    assert_eq!(
        exited(RICH, exit_code::NPF, 0, 0).instruction_length(),
        None,
        "not saved on faults"
    );
    let mut wild = exited(RICH, exit_code::CPUID, 0, 0);
    wild.control_mut().next_rip = 0x9999;
    assert_eq!(
        wild.instruction_length(),
        None,
        "no instruction is that long"
    );
}

#[test]
fn instruction_bytes_need_decode_assists_and_a_fault() {
    let mut v = exited(RICH, exit_code::NPF, 0, 0);
    v.control_mut().bytes_fetched = 2;
    v.control_mut().instruction[..2].copy_from_slice(&[0x89, 0x07]);
    assert_eq!(v.instruction_bytes(), [0x89, 0x07]);
    v.caps = BARE;
    assert!(v.instruction_bytes().is_empty());
}
