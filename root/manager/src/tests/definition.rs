//! Definitions: good ones are read, bad ones get an error that helps.

use proptest::prelude::*;

use balancer::{Buffer, HostReserve, Weight};

use crate::definition::{
    ApicMode, Board, Boot, Cpu, Definition, DefinitionError, DynamicMemory, HOST_FILE,
    HostDefinition, MIN_MEMORY, Restart,
};

const LEAST: &str = "name = \"a\"\nmemory = \"8 MiB\"\nkernel = \"guest/k\"\n";

fn parse(text: &str) -> Result<Definition, DefinitionError> {
    Definition::parse("vm/a.toml", text)
}

/// The error of a definition that is good but for `line`, which is its line 4 (or replaces the key).
fn error_of(line: &str) -> String {
    let key = line.split('=').next().unwrap_or_default().trim();
    let kept: Vec<_> = LEAST
        .lines()
        .filter(|other| !other.starts_with(&format!("{key} ")))
        .collect();
    parse(&format!("{}\n{line}\n", kept.join("\n")))
        .expect_err(line)
        .to_string()
}

#[test]
fn full_definition_is_read() {
    let text = r#"
        name = "debian-12_x"
        memory = "1 GiB"
        processors = 1
        kernel = "guest/vmlinuz"
        initrd = "guest/initrd"
        cmdline = "console=ttyS0 quiet"
        boot = "linux"
        board = "direct"
        apic = "xapic"
        vmbus = false
        debug_exit = true
        hyperv_testdev = true
        autostart = true
        start_order = 3
        restart = "on-failure"
        cpu_weight = 300
        cpu_cap = 0x4000
        cpu_reserve = 655
        node = 2
        spanning = false
    "#;
    let expected = Definition {
        name: "debian-12_x".into(),
        memory: 1 << 30,
        dynamic: None,
        processors: 1,
        kernel: "guest/vmlinuz".into(),
        initrd: Some("guest/initrd".into()),
        cmdline: "console=ttyS0 quiet".into(),
        boot: Boot::Linux,
        module: None,
        board: Board::Direct,
        apic: ApicMode::XApic,
        vmbus: false,
        debug_exit: true,
        hyperv_testdev: true,
        autostart: true,
        start_order: 3,
        restart: Restart::OnFailure,
        cpu: Cpu {
            weight: Some(300),
            cap: Some(0x4000),
            reserve: Some(655),
        },
        node: Some(2),
        spanning: false,
    };
    let read = parse(text).expect("valid");
    assert_eq!(read, expected);
    assert_eq!(
        read.files().collect::<Vec<_>>(),
        [("kernel", "guest/vmlinuz"), ("initrd", "guest/initrd")]
    );
}

#[test]
fn least_definition_gets_defaults() {
    let read = parse(LEAST).expect("valid");
    assert_eq!(
        (read.memory, read.processors, read.boot),
        (MIN_MEMORY, 1, Boot::Auto)
    );
    assert!(
        read.vmbus
            && !read.autostart
            && !read.debug_exit
            && !read.hyperv_testdev
            && read.cmdline.is_empty()
            && read.initrd.is_none()
    );
    assert_eq!(read.files().count(), 1);
    assert_eq!((read.restart, read.cpu), (Restart::Never, Cpu::default()));
    assert_eq!(read.apic, ApicMode::X2Apic);
}

#[test]
fn memory_is_text_with_unit_or_number_of_mib() {
    let memory =
        |written: &str| parse(&LEAST.replace("\"8 MiB\"", written)).map(|read| read.memory);
    assert_eq!(memory("\"256 MiB\""), Ok(256 << 20));
    assert_eq!(memory("\"256MiB\""), Ok(256 << 20));
    assert_eq!(memory("\"2 GiB\""), Ok(2 << 30));
    assert_eq!(memory("1_024"), Ok(1 << 30));
    assert_eq!(memory("0x100"), Ok(256 << 20));
    let bad = [
        "\"7 MiB\"",
        "9",
        "6",
        "0",
        "-8",
        "\"256 MB\"",
        "\"256\"",
        "\"MiB\"",
        "\"\"",
        "true",
        "1.5",
        "[8]",
    ];
    let huge = [
        "\"17 TiB\"",
        "\"99999999999999999999 GiB\"",
        "\"18446744073709551615 TiB\"",
        "9223372036854775807",
    ];
    for written in bad.into_iter().chain(huge) {
        let error = memory(written).expect_err(written);
        assert_eq!(
            (error.line, error.key.as_deref()),
            (2, Some("memory")),
            "{written}"
        );
        assert!(error.problem.contains("multiple of 2 MiB"), "{error}");
    }
}

fn dynamic(more: &str) -> Result<Definition, DefinitionError> {
    parse(&format!("name = \"a\"\nkernel = \"guest/k\"\n{more}\n"))
}

#[test]
fn startup_in_place_of_memory_is_dynamic_memory() {
    let read = |more: &str| {
        let read = dynamic(more).expect("valid");
        (read.memory >> 20, read.dynamic.expect("dynamic"))
    };
    let full = "startup = 256\nminimum = 192\nmaximum = \"1 GiB\"\nbuffer = 2000\nweight = 10000";
    let expected = DynamicMemory {
        minimum: 192 << 20,
        maximum: 1 << 30,
        buffer: Buffer::new(2000).expect("in range"),
        weight: Weight::MAX,
    };
    assert_eq!(read(full), (256, expected));
    let usual = DynamicMemory {
        minimum: 512 << 20,
        maximum: 1 << 40,
        buffer: Buffer::DEFAULT,
        weight: Weight::DEFAULT,
    };
    assert_eq!(read("startup = \"1 GiB\""), (1024, usual));
    let (_, small) = read("startup = 32");
    assert_eq!(small.minimum, 32 << 20, "no more than it starts with");
    let (_, large) = read("startup = \"2 TiB\"");
    assert_eq!(large.maximum, 2 << 40, "no less than it starts with");
    let usual = crate::definition::USUAL_MAXIMUM;
    assert_eq!(usual, balancer::Settings::default().maximum << 20);
    assert_eq!(read("startup = 64\nweight = 0").1.weight, Weight::MIN);
}

#[test]
fn dynamic_memory_that_cannot_be_is_told_by_its_key() {
    for (more, key, remedy) in [
        ("startup = 64\nmemory = 64", "startup", "remove one of them"),
        (
            "startup = 64\nvmbus = false",
            "startup",
            "remove vmbus = false",
        ),
        ("memory = 64\nweight = 3", "weight", "write startup instead"),
        (
            "memory = 64\nbuffer = 30",
            "buffer",
            "write startup instead",
        ),
        (
            "memory = 64\nminimum = 64",
            "minimum",
            "write startup instead",
        ),
        (
            "memory = 64\nmaximum = 64",
            "maximum",
            "write startup instead",
        ),
        ("startup = 30", "startup", "at least 32 MiB"),
        ("startup = 64\nminimum = 30", "minimum", "at least 32 MiB"),
        (
            "startup = 64\nminimum = 66",
            "minimum",
            "lower it, or raise startup",
        ),
        (
            "startup = 64\nmaximum = 62",
            "maximum",
            "raise it, or lower startup",
        ),
        ("startup = 63", "startup", "multiple of 2 MiB"),
        (
            "startup = 64\nmaximum = \"16 TiB\"",
            "maximum",
            "at most 15 TiB",
        ),
        ("startup = \"16 TiB\"", "startup", "at most 15 TiB"),
        (
            "startup = 64\nmaximum = \"17 TiB\"",
            "maximum",
            "at most 16 TiB",
        ),
        ("startup = 64\nbuffer = 4", "buffer", "from 5 to 2000"),
        ("startup = 64\nbuffer = 2001", "buffer", "from 5 to 2000"),
        ("startup = 64\nweight = 10001", "weight", "from 0 to 10000"),
        ("startup = 64\nnumber = 0", "number", "there is no such key"),
    ] {
        let error = dynamic(more).expect_err(more);
        assert_eq!(error.key.as_deref(), Some(key), "{error}");
        assert!(error.problem.contains(remedy), "{error}");
        let line = error
            .line
            .checked_sub(3)
            .and_then(|at| more.lines().nth(at));
        assert!(line.is_some_and(|line| line.starts_with(key)), "{error}");
    }
}

#[test]
fn what_changed_of_the_memory_goes_by_its_keys() {
    let fixed = dynamic("memory = 64").expect("valid");
    let moving = dynamic("startup = 64\nminimum = 32\nmaximum = 128").expect("valid");
    let other = dynamic("startup = 66\nminimum = 34\nmaximum = 128\nbuffer = 9").expect("valid");
    let between =
        |one: &Definition, other: &Definition| one.differences(other).collect::<Vec<_>>().join(" ");
    assert_eq!(
        between(&fixed, &moving),
        "memory startup minimum maximum buffer weight"
    );
    assert_eq!(between(&moving, &other), "startup minimum buffer");
}

#[test]
fn errors_name_file_line_key_and_remedy() {
    for (line, remedy) in [
        ("name = \"a b\"", "letters, digits"),
        ("name = \"\"", "letters, digits"),
        ("processors = 0", "from 1 to 16"),
        ("processors = 17", "from 1 to 16"),
        ("processors = \"1\"", "from 1 to 16"),
        ("kernel = 5", "member of the boot archive"),
        ("initrd = \"\"", "member of the boot archive"),
        ("boot = \"uefi\"", "\"linux\" or \"pvh\" or \"multiboot\""),
        ("board = \"pc\"", "write \"direct\""),
        ("autostart = 1", "write true or false"),
        ("start_order = -1", "from 0 to"),
        ("cmdline = \"a\\u0000b\"", "remove it"),
        ("name = \"all\"", "choose another name"),
        (
            "restart = \"sometimes\"",
            "\"never\" or \"on-failure\" or \"always\"",
        ),
        ("restart = true", "\"never\" or"),
        ("cpu_weight = 0", "from 1 to 10000"),
        ("cpu_weight = 10001", "from 1 to 10000"),
        ("cpu_cap = 0", "from 1 to 65536"),
        ("cpu_cap = 65537", "from 1 to 65536"),
        ("cpu_reserve = \"half\"", "from 0 to 65536"),
    ] {
        let error = error_of(line);
        let key = line.split(' ').next().unwrap_or_default();
        let line_number = if LEAST.contains(&format!("{key} =")) {
            3
        } else {
            4
        };
        assert!(
            error.starts_with(&format!("vm/a.toml:{line_number}: {key}: ")),
            "{error}"
        );
        assert!(error.contains(remedy), "{error}");
    }
}

#[test]
fn unknown_key_lists_the_known_ones() {
    let error = parse(&format!("{LEAST}zmemory = 5\nmem = 5\n")).expect_err("unknown");
    assert_eq!((error.line, error.key.as_deref()), (4, Some("zmemory")));
    assert!(
        error.problem.contains("name, memory, processors, kernel"),
        "{error}"
    );
}

#[test]
fn missing_key_says_how_to_write_it() {
    let error = parse("name = \"a\"\nkernel = \"k\"\n").expect_err("no memory");
    assert_eq!(
        error.to_string(),
        "vm/a.toml:2: memory: this key is missing; add for example: memory = \"256 MiB\""
    );
}

#[test]
fn broken_toml_names_its_line() {
    let error = parse("name = \"a\"\nmemory = = 5\n").expect_err("broken");
    assert_eq!((error.line, error.key), (2, None));
    assert!(
        parse("name = \"a\"\nname = \"b\"\n").is_err(),
        "a key given twice"
    );
}

#[test]
fn files_must_fit_the_boot_protocol() {
    assert!(parse(&format!("{LEAST}boot = \"linux\"\nmodule = \"m\"\n")).is_err());
    assert!(parse(&format!("{LEAST}boot = \"pvh\"\ninitrd = \"i\"\n")).is_err());
    assert!(parse(&format!("{LEAST}boot = \"multiboot\"\nmodule = \"m\"\n")).is_ok());
}

#[test]
fn a_reserve_above_the_cap_is_refused() {
    let error = error_of("cpu_reserve = 2\ncpu_cap = 1");
    assert!(
        error.starts_with("vm/a.toml:4: cpu_reserve: more is reserved"),
        "{error}"
    );
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    assert!(parse(&format!("name = {}", "[".repeat(100_000))).is_err());
}

fn lines() -> impl Strategy<Value = String> {
    let keys = [
        "name",
        "memory",
        "startup",
        "minimum",
        "maximum",
        "processors",
        "kernel",
        "initrd",
        "cmdline",
        "boot",
        "module",
        "board",
        "apic",
        "autostart",
        "x",
    ];
    let values = prop_oneof![
        Just("\"8 MiB\"".to_string()),
        Just("\"64 MiB\"".to_string()),
        Just("\"linux\"".to_string()),
        Just("true".to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\"[^\"\\\\\n]{0,10}\"",
        "[\\PC\n]{0,12}",
    ];
    (prop::sample::select(keys.to_vec()), values)
        .prop_map(|(key, value)| format!("{key} = {value}\n"))
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_lines_give_a_definition_within_limits_or_an_error(lines in prop::collection::vec(lines(), 0..12)) {
        let text = lines.concat();
        match parse(&text) {
            Ok(read) => {
                prop_assert!(read.memory >= MIN_MEMORY && read.memory % (2 << 20) == 0);
                prop_assert!((1..=16).contains(&read.processors));
                if let Some(DynamicMemory { minimum, maximum, .. }) = read.dynamic {
                    prop_assert!(32 << 20 <= minimum && minimum <= read.memory && read.memory <= maximum);
                }
                prop_assert!(!read.name.is_empty() && read.name.is_ascii());
            }
            Err(error) => prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1),
        }
    }
}

#[test]
fn the_hosts_definition_has_its_reserve() {
    let read = |text: &str| HostDefinition::parse(HOST_FILE, text);
    let usual = HostReserve {
        base: 400,
        per_gib: 30,
        extra: 0,
    };
    assert_eq!(read("").expect("nothing is needed").reserve, usual);
    let all = "reserve = 100\nreserve_per_gib = 0\nreserve_extra = 64\n";
    let expected = HostReserve {
        base: 100,
        per_gib: 0,
        extra: 64,
    };
    assert_eq!(read(all).expect("valid").reserve, expected);
    for (text, told) in [
        (
            "reserve_per_gib = 1025",
            "host.toml:1: reserve_per_gib: 1025 is out of range; write a number from 0 to 1024",
        ),
        ("\nreserve = \"1 GiB\"", "host.toml:2: reserve: a text"),
        (
            "memory = 4",
            "host.toml:1: memory: there is no such key; the keys are reserve, reserve_per_gib, reserve_extra",
        ),
        ("\0", "not valid TOML"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_vm_has_memory_of_any_node_unless_it_says_otherwise() {
    let keys =
        |more: &str| parse(&format!("{LEAST}{more}\n")).map(|read| (read.node, read.spanning));
    assert_eq!(keys(""), Ok((None, true)));
    assert_eq!(keys("node = 63\nspanning = false"), Ok((Some(63), false)));
    assert!(
        error_of("node = 64").contains("node: 64 is out of range; write a number from 0 to 63")
    );
    assert!(error_of("spanning = 1").contains("spanning: a number stands where true or false"));
    let changed = |more: &str| {
        let (old, new) = (parse(LEAST), parse(&format!("{LEAST}{more}\n")));
        let (old, new) = (old.expect("valid"), new.expect("valid"));
        old.differences(&new).collect::<Vec<_>>()
    };
    assert_eq!(changed("node = 0\nspanning = false"), ["node", "spanning"]);
}
