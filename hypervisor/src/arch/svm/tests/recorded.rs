//! Blocks that processors wrote, and what each feature makes of them.
//!
//! Each file says in its header where it is from. Instruction bytes are in none of them: the tests put those into the
//! recorded blocks of page faults as the manual (volume 2, "Decode Assists") says, and take them from the code that was
//! recorded beside the block.

use super::*;
use crate::arch::svm::enable::Processor;
use crate::insn::{self, CodeMode, Instruction, MAX_LENGTH};
use iced_x86::{Decoder, DecoderOptions};

const RYZEN: &str = include_str!("../recorded/ryzen.txt");
const ASSISTED: &str = include_str!("../recorded/ryzen-decode-assists.txt");
const EPYC: &str = include_str!("../recorded/epyc-9754.txt");

/// What Bochs' `ryzen` tells of itself.
const RYZEN_CAPS: Capabilities = Capabilities {
    asids: 32768,
    nrip_save: true,
    flush_by_asid: true,
    pause_filter: true,
    pause_threshold: true,
    ..BARE
};
const ASSISTED_CAPS: Capabilities = Capabilities {
    decode_assists: true,
    ..RYZEN_CAPS
};

/// One exit.
struct Recording {
    name: &'static str,
    /// What was at RIP.
    code: Vec<u8>,
    /// Offset in the block, and what was there.
    words: Vec<(usize, u64)>,
}

fn recordings(text: &'static str) -> Vec<Recording> {
    let mut all: Vec<Recording> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            all.push(Recording {
                name,
                code: Vec::new(),
                words: Vec::new(),
            });
            continue;
        }
        let Some(last) = all.last_mut() else { continue };
        if let Some(code) = line.strip_prefix("code ") {
            let digits: Vec<char> = code.chars().collect();
            let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
            last.code = digits.chunks(2).map(byte).collect();
            continue;
        }
        for (offset, value) in line.split(' ').filter_map(|item| item.split_once('=')) {
            let number = |digits| u64::from_str_radix(digits, 16).unwrap();
            last.words.push((number(offset) as usize, number(value)));
        }
    }
    all
}

fn recording(text: &'static str, name: &str) -> Recording {
    let found = recordings(text).into_iter().find(|r| r.name == name);
    found.unwrap_or_else(|| panic!("no {name:?} is recorded"))
}

/// A VP as the exit left it.
fn load(caps: Capabilities, recording: &Recording) -> Vcpu {
    let mut v = vcpu(caps, VcpuKind::Child);
    let bytes = v.vmcb.bytes_mut();
    bytes.fill(0);
    for &(offset, value) in &recording.words {
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    v
}

fn mode(v: &Vcpu) -> CodeMode {
    if v.in_64_bit_code() {
        CodeMode::Code64
    } else {
        CodeMode::Code32
    }
}

/// By a decoder that is not ours.
fn measured(v: &Vcpu, code: &[u8]) -> u8 {
    let bits = if v.in_64_bit_code() { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, code, v.rip(), DecoderOptions::NONE);
    decoder.decode().len() as u8
}

const fn absent(general_protection: bool) -> Exit {
    Exit::Absent { general_protection }
}

const fn exception(vector: u8, error_code: Option<u32>, parameter: u64) -> Exit {
    Exit::Exception(ExceptionExit {
        vector,
        error_code,
        parameter,
    })
}

const fn cr(register: u8, gpr: Option<u8>) -> Exit {
    Exit::ControlRegister(CrExit {
        register,
        write: true,
        gpr,
    })
}

/// What happened, by the name of the recording, and whether next RIP says how long the instruction was.
fn expected(name: &str, assists: bool) -> (Exit, bool) {
    let named = |gpr| if assists { Some(gpr) } else { None };
    match name {
        "cpuid" => (Exit::Cpuid, true),
        "rdmsr" => (Exit::MsrRead, true),
        "wrmsr" => (Exit::MsrWrite, true),
        "vmmcall" => (Exit::Hypercall, true),
        "hlt after sti" => (Exit::Halt, true),
        "out dx, al" | "out dx, ax" | "in eax, dx" | "out 0x80, eax" | "rep outsb" | "insw" => {
            (Exit::Io, true)
        }
        "interrupt" => (Exit::ExternalInterrupt, false),
        "interrupt window" => (Exit::InterruptWindow, false),
        "#UD" => (exception(6, None, 0), false),
        "#BP" => (exception(3, None, 0), true),
        "#GP" => (exception(13, Some(0x58), 0), false),
        "#PF of a write" => (exception(14, Some(2), 0x23456), false),
        "#PF of a read" => (exception(14, Some(0), 0x7FFF_FF12_3456), false),
        "nested read" | "nested write" | "nested fetch" | "nested write without right" => {
            (Exit::NestedFault, false)
        }
        "iret" => (
            Exit::Unknown {
                code: 0x74,
                info: 0,
            },
            true,
        ),
        "shutdown" => (Exit::Shutdown, false),
        "invalid" => (Exit::InvalidState, false),
        "mov cr0, edi" => (cr(0, named(7)), true),
        "mov cr0, eax" => (cr(0, named(0)), true),
        "mov cr4, ebx" => (cr(4, named(3)), true),
        "mov dr0, rax" => (
            Exit::Unknown {
                code: 0x30,
                info: 0,
            },
            true,
        ),
        "xsetbv" => (Exit::Xsetbv, true),
        "invd" | "wbinvd" => (Exit::CacheControl, true),
        "rdpmc" => (absent(true), true),
        "vmrun" | "vmload" | "skinit" | "invlpga" | "monitor" | "mwait" | "rdtscp" => {
            (absent(false), true)
        }
        // Bochs exits before it writes DR6.
        "#DB of a single step" => (exception(1, None, 0xFFFF_0FF0), false),
        _ => panic!("{name:?}: nobody says what to expect"),
    }
}

#[test]
fn recorded_exits_are_taken_for_what_happened() {
    for (text, caps) in [(RYZEN, RYZEN_CAPS), (ASSISTED, ASSISTED_CAPS)] {
        let all = recordings(text);
        assert!(all.len() >= 18, "the file is read");
        for recording in &all {
            let (exit, _) = expected(recording.name, caps.decode_assists);
            assert_eq!(decoded(&load(caps, recording)), exit, "{}", recording.name);
        }
    }
}

#[test]
fn next_rip_is_the_length_of_each_recorded_instruction_and_of_nothing_else() {
    for recording in recordings(RYZEN).iter().chain(&recordings(ASSISTED)) {
        let v = load(RYZEN_CAPS, recording);
        let (_, instruction) = expected(recording.name, false);
        let length = instruction.then(|| measured(&v, &recording.code));
        assert_eq!(v.instruction_length(), length, "{}", recording.name);
    }
}

#[test]
fn without_next_rip_only_ports_tell_a_length_and_the_bytes_tell_the_same() {
    for recording in &recordings(RYZEN) {
        let v = load(BARE, recording);
        let (exit, instruction) = expected(recording.name, false);
        let told = v.instruction_length();
        assert_eq!(told.is_some(), exit == Exit::Io, "{}", recording.name);
        let Ok(found) = insn::decode(&recording.code, mode(&v)) else {
            continue;
        };
        if instruction {
            let v = load(RYZEN_CAPS, recording);
            assert_eq!(Some(found.length), v.instruction_length());
        }
    }
}

#[test]
fn the_operand_that_the_processor_names_is_that_of_the_instruction() {
    for name in ["mov cr0, edi", "mov cr0, eax", "mov cr4, ebx"] {
        let recording = recording(ASSISTED, name);
        let Exit::ControlRegister(access) = decoded(&load(ASSISTED_CAPS, &recording)) else {
            panic!("{name}");
        };
        let found = insn::decode(&recording.code, CodeMode::Code32).unwrap();
        assert_eq!(found.instruction, Instruction::MovToCr);
        assert_eq!(access.gpr, Some(found.general_register()), "{name}");
        assert_eq!(access.register, found.special_register(), "{name}");
    }
}

#[test]
fn clts_lmsw_and_smsw_have_no_operand_that_the_processor_names() {
    // The manual: bit 63 of EXITINFO1 is 0, as nothing else of it counts.
    for code in [exit_code::CR0_READ, 0x10, exit_code::CR0_SEL_WRITE] {
        let Exit::ControlRegister(access) = decoded(&exited(ASSISTED_CAPS, code, 9, 0)) else {
            panic!("{code:#x}");
        };
        assert_eq!((access.register, access.gpr), (0, None), "{code:#x}");
        assert_eq!(access.write, code != exit_code::CR0_READ);
    }
}

#[test]
fn a_published_trace_of_a_processor_with_decode_assists_reads_as_its_hypervisor_read_it() {
    let all = recordings(EPYC);
    let exits: Vec<Exit> = all.iter().map(|r| decoded(&load(RICH, r))).collect();
    // KVM took the first without emulating it. The last told no operand, and KVM emulated a MOV from RAX.
    let told = [cr(4, Some(0)), Exit::MsrRead, Exit::MsrWrite, cr(0, None)];
    assert_eq!(exits, told);
    let mov = insn::decode(&all[3].code, CodeMode::Code32).unwrap();
    assert_eq!((mov.instruction, mov.length), (Instruction::MovToCr, 3));
    assert_eq!((mov.special_register(), mov.general_register()), (0, 0));
}

#[test]
fn nested_faults_of_the_recording_say_what_was_tried_where() {
    for (name, gpa, access) in [
        ("nested read", 0x10_0000, Access::Read),
        ("nested write", 0x10_0000, Access::Write),
        ("nested fetch", 0x10_0000, Access::Execute),
        ("nested write without right", 0x4_0000, Access::Write),
    ] {
        let fault = load(RYZEN_CAPS, &recording(RYZEN, name)).nested_fault();
        assert_eq!((fault.gpa, fault.access), (Gpa(gpa), access), "{name}");
        assert!(!fault.table_walk && fault.gva.is_none(), "{name}");
    }
}

#[test]
fn bytes_of_a_faulting_instruction_are_those_that_the_processor_counted() {
    for name in [
        "nested read",
        "nested write",
        "#PF of a write",
        "#PF of a read",
    ] {
        let recording = recording(ASSISTED, name);
        let mut v = load(ASSISTED_CAPS, &recording);
        assert!(v.instruction_bytes().is_empty(), "this one counts none");
        v.control_mut()
            .instruction
            .copy_from_slice(&recording.code[..MAX_LENGTH]);
        // Bits 7:4 of the count are reserved.
        for count in 0..=u8::MAX {
            v.control_mut().bytes_fetched = count;
            let counted = usize::from(count % 16);
            assert_eq!(v.instruction_bytes(), &recording.code[..counted], "{name}");
        }
        v.caps = RYZEN_CAPS;
        assert!(v.instruction_bytes().is_empty(), "none without the feature");
    }
}

#[test]
fn bytes_that_another_exit_left_are_nobody_s() {
    for recording in &recordings(ASSISTED) {
        let mut v = load(ASSISTED_CAPS, recording);
        let fault = matches!(v.control().exit_code, exit_code::NPF | 0x4E);
        v.control_mut().bytes_fetched = 15;
        let count = v.instruction_bytes().len();
        assert_eq!(count, if fault { 15 } else { 0 }, "{}", recording.name);
    }
}

#[test]
fn a_recorded_triple_fault_has_what_was_in_delivery() {
    let mut v = load(RYZEN_CAPS, &recording(RYZEN, "shutdown"));
    v.settle_events();
    let general_protection = Event::Exception {
        vector: vector::GP,
        error_code: Some(0x43),
    };
    assert_eq!(v.pending_event(), Some(general_protection));
    assert_eq!(v.rare_exit(), Exit::Shutdown);
}

#[test]
fn an_injected_int_n_returns_by_next_rip_and_rip_stays() {
    let int = Event::Software {
        vector: 0x80,
        length: 2,
    };
    let mut v = load(RYZEN_CAPS, &recording(RYZEN, "vmmcall"));
    let rip = v.rip();
    assert!(v.inject(int));
    v.prepare_event();
    assert_eq!((v.rip(), v.control().next_rip), (rip, rip + 2));
    // A nested fault stops the delivery: the instruction executes again.
    v.control_mut().exit_int_info = event::VALID | event::TYPE_SOFTWARE | 0x80;
    v.settle_events();
    assert_eq!((v.rip(), v.pending_event()), (rip, None));
    // Outside 64-bit code the next RIP wraps.
    let mut v = load(RYZEN_CAPS, &recording(RYZEN, "out dx, al"));
    v.set_rip(0xFFFF_FFFF);
    assert!(v.inject(int));
    v.prepare_event();
    assert_eq!(v.control().next_rip, 1);
}

#[test]
fn one_tag_is_flushed_alone_and_at_one_entry_only() {
    let tlb_control = |name| {
        load(RYZEN_CAPS, &recording(RYZEN, name))
            .control()
            .tlb_control
    };
    assert_eq!(tlb_control("cpuid"), tlb_control::ALL, "the first entry");
    assert_eq!(tlb_control("wrmsr"), tlb_control::THIS_GUEST);
    for (caps, control) in [
        (RYZEN_CAPS, tlb_control::THIS_GUEST),
        (BARE, tlb_control::ALL),
    ] {
        let pages = [1, 2].map(|page| HwPages::for_test(page << 12, 1));
        let [host_save, host_state] = pages;
        let mut processor = Processor::for_test(0, host_save, host_state);
        let mut v = load(caps, &recording(RYZEN, "rdmsr"));
        for (flush, control) in [
            (Flush::None, tlb_control::NONE),
            (Flush::Tag, control),
            (Flush::None, tlb_control::NONE),
            (Flush::Domain, control),
            (Flush::All, tlb_control::ALL),
            (Flush::None, tlb_control::NONE),
        ] {
            v.set_tlb(1, flush);
            v.before_entry(&mut processor);
            assert_eq!(v.control().tlb_control, control, "{flush:?}");
            v.after_exit(&mut processor);
        }
        assert_eq!(processor.counters.tlb_flushes, 3);
    }
}
