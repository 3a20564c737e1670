//! From a definition to a VM that runs.

use tlfs::HvInputVpRegisters;

use super::*;

#[test]
fn a_vm_is_set_up_in_the_order_that_partitions_demand() {
    let (exit, asked) = play([]);
    assert_eq!(exit.reason, ExitReason::Stopped);
    let flags = Flags::LAPIC_ENABLED | Flags::X2APIC_CAPABLE | Flags::GPA_SUPER_PAGES_ENABLED;
    let order = [
        Asked::Create(flags),
        Asked::Initialize,
        Asked::Ram(8 << 20),
        Asked::Vp(0),
    ];
    let steps: Vec<_> = asked
        .iter()
        .filter(|asked| !matches!(asked, Asked::Hypercall(..)))
        .take(4)
        .cloned()
        .collect();
    assert_eq!(steps, order);
    // A privilege that is given before the partition is initialized, on top of what it has.
    let at = |step| asked.iter().position(|asked| *asked == step);
    let early = &asked[at(Asked::Create(flags)).unwrap()..at(Asked::Initialize).unwrap()];
    let early = inputs(early, HvCallCode::SET_PARTITION_PROPERTY);
    assert_eq!(early.len(), 1);
    let property = HvInputSetPartitionProperty::read_from_bytes(&early[0]).unwrap();
    assert_eq!(
        (property.property_code, property.property_value),
        (
            HvPartitionPropertyCode::PRIVILEGE_FLAGS,
            PRIVILEGES | 1 << 7
        )
    );
    let registers = inputs(&asked, HvCallCode::SET_VP_REGISTERS);
    let rip = registers[0][16..]
        .chunks_exact(size_of::<HvRegisterAssoc>())
        .map(|entry| HvRegisterAssoc::read_from_bytes(entry).unwrap())
        .find(|entry| entry.name == HvRegisterName::RIP);
    assert_eq!(rip.unwrap().value.low, 0x10_0040);
    let intercepts: Vec<_> = inputs(&asked, HvCallCode::INSTALL_INTERCEPT)
        .iter()
        .map(|input| HvInputInstallIntercept::read_from_bytes(input).unwrap())
        .map(|input| {
            (
                input.intercept_type,
                input.access_type.0,
                input.intercept_parameter.0,
            )
        })
        .collect();
    let ports = (HvInterceptType::X64_IO_PORT_RANGE, 3, 0xFFFF_0000);
    let eoi = (HvInterceptType::X64_APIC_EOI, 2, 0);
    let connections = (HvInterceptType::UNKNOWN_SYNIC_CONNECTION, 4, 0);
    let [crash, reset] =
        [0x4000_0105, 0x4000_0003].map(|msr| (HvInterceptType::X64_MSR_INDEX, 2, msr));
    assert_eq!(intercepts, [ports, eoi, crash, reset, connections]);
    assert_eq!(asked.last(), Some(&Asked::Wait(u64::MAX, Some(0))));
}

#[test]
fn local_apics_start_in_the_mode_that_the_definition_says() {
    let last_bases = |more: &[u8]| {
        let fake = Fake::default();
        let definition = [DEFINITION, b"processors = 2\n", more].concat();
        live(fake.clone(), &definition, &OneFile::kernel());
        let asked = fake.0.borrow_mut().asked.split_off(0);
        let set = inputs(&asked, HvCallCode::SET_VP_REGISTERS);
        let mut bases = [None; 2];
        for input in set {
            let (header, list) = HvInputVpRegisters::read_from_prefix(&input).unwrap();
            let entries = list.chunks_exact(size_of::<HvRegisterAssoc>());
            let entries = entries.map(|entry| HvRegisterAssoc::read_from_bytes(entry).unwrap());
            let mut base = entries.filter(|entry| entry.name == HvRegisterName::APIC_BASE);
            if let Some(base) = base.next_back() {
                bases[header.vp_index.0 as usize] = Some(base.value.low);
            }
        }
        bases
    };
    // What is not said of the others stays the hypervisor's: x2APIC mode.
    assert_eq!(last_bases(b""), [Some(0xFEE0_0D00), None]);
    let xapic = [Some(0xFEE0_0900), Some(0xFEE0_0800)];
    assert_eq!(last_bases(b"apic = \"xapic\"\n"), xapic);
}

#[test]
fn the_share_of_the_processors_is_set_before_there_are_vps() {
    let set = |more: &[u8]| {
        let fake = Fake::default();
        let definition = [DEFINITION, more].concat();
        live(fake.clone(), &definition, &OneFile::kernel());
        let asked = fake.0.borrow_mut().asked.split_off(0);
        let vps = asked.iter().position(|asked| *asked == Asked::Vp(0));
        let before = &asked[..vps.unwrap()];
        let all = inputs(&asked, HvCallCode::SET_PARTITION_PROPERTY);
        assert_eq!(inputs(before, HvCallCode::SET_PARTITION_PROPERTY), all);
        let read = |input: &Vec<u8>| {
            let input = HvInputSetPartitionProperty::read_from_bytes(input).unwrap();
            (input.property_code.0, input.property_value)
        };
        let shares = all.iter().map(read).filter(|(code, _)| code >> 16 == 2);
        shares.collect::<Vec<_>>()
    };
    let all = b"cpu_weight = 300\ncpu_cap = 16384\ncpu_reserve = 655\n";
    let expected = [(0x2_0003, 300), (0x2_0002, 16384), (0x2_0001, 655)];
    assert_eq!(set(all), expected);
    assert_eq!(set(b""), [], "what is not said stays the hypervisor's");
}

#[test]
fn a_vm_that_cannot_be_started_says_why() {
    let start = |definition: &[u8], files: &OneFile| live(Fake::default(), definition, files);
    let kernel = OneFile::kernel();
    let refused = |exit: Exit, text: &str| {
        assert_eq!(exit.reason, ExitReason::BadDefinition);
        assert!(exit.text.contains(text), "{}", exit.text);
    };
    refused(start(b"\xFF", &kernel), "not text");
    refused(start(b"name = \"a\"\nkernel = \"k\"\n", &kernel), "memory");
    let with = |memory: u32, file: &str, boot: &str| {
        let text = format!("name = 'a'\nmemory = {memory}\nkernel = '{file}'\nboot = '{boot}'\n");
        start(text.as_bytes(), &kernel)
    };
    refused(with(8, "guest/other", "auto"), "guest/other");
    refused(with(128, "guest/kernel", "auto"), "128 MiB");
    refused(with(8, "guest/kernel", "pvh"), "cannot be started by PVH");
    assert_eq!(
        with(8, "guest/kernel", "multiboot").reason,
        ExitReason::Stopped
    );
    let large = b"name = 'a'\nstartup = 32\nmaximum = '2 TiB'\nkernel = 'guest/kernel'\n";
    refused(start(large, &kernel), "addresses of 40 bits");
    refused(
        start(DEFINITION, &OneFile(b"hello".to_vec())),
        "not a kernel",
    );
    let fake = Fake::default();
    fake.0.borrow_mut().refuse = Some(HvCallCode::SET_VP_REGISTERS);
    let exit = live(fake, DEFINITION, &kernel);
    assert_eq!(exit.reason, ExitReason::WorkerFault);
}

#[test]
fn every_vp_is_resumed_once_at_the_start() {
    let fake = Fake::default();
    let timeouts = [0; 2].map(|_| Step::Event(event::TIMEOUT, 0, 0));
    fake.0.borrow_mut().script.extend(timeouts);
    let definition = [DEFINITION, b"processors = 3\n"].concat();
    live(fake.clone(), &definition, &OneFile::kernel());
    let shared = fake.0.borrow();
    let waits: Vec<_> = shared
        .asked
        .iter()
        .filter(|asked| matches!(asked, Asked::Wait(..)))
        .collect();
    let expected = [(0, 0), (0, 1), (u64::MAX, 2)].map(|(time, vp)| Asked::Wait(time, Some(vp)));
    assert_eq!(waits, expected.iter().collect::<Vec<_>>());
}
