use manager::Definition;
use manager::definition::{ApicMode, Boot};

use super::*;

/// A folder of its own with these files.
fn folder(name: &str, files: &[&str]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("partita-kut-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("x86")).unwrap();
    for file in files {
        std::fs::write(folder.join(file), b"image").unwrap();
    }
    folder
}

#[test]
fn images_are_taken_flat_or_not_here_or_in_x86() {
    let folder = folder(
        "found",
        &[
            "hyperv_synic.elf",
            "x86/hyperv_synic.flat",
            "x86/hyperv_clock.flat",
            "x86/hyperv_clock.elf",
        ],
    );
    let tests = [&TESTS[0], &TESTS[4]];
    let found = find(&folder, &tests).unwrap();
    let files: Vec<_> = found.iter().map(|(_, file)| file.clone()).collect();
    let wanted = ["hyperv_synic.elf", "x86/hyperv_clock.flat"].map(|file| folder.join(file));
    assert_eq!(files, wanted);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn all_images_that_are_missing_are_named_once_with_how_to_build_them() {
    let folder = folder(
        "missing",
        &["x86/hyperv_synic.flat", "x86/hyperv_clock.flat"],
    );
    let tests: Vec<_> = TESTS.iter().collect();
    let error = find(&folder, &tests).err().unwrap().to_string();
    assert!(
        error.contains("no hyperv_connections, hyperv_stimer (.flat"),
        "{error}"
    );
    assert!(error.contains("make x86/hyperv_connections.flat x86/hyperv_stimer.flat"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn each_test_is_a_vm_as_it_wants_one() {
    let images: Vec<_> = TESTS
        .iter()
        .map(|test| (test, PathBuf::from(format!("/kut/x86/{}.flat", test.image))))
        .collect();
    let scenario = scenario(&images, 1).unwrap();
    assert_eq!(scenario.vm.len(), TESTS.len());
    let names: Vec<_> = scenario.member.iter().map(|member| &member.name).collect();
    assert_eq!(names.len(), 5, "four images and the environment: {names:?}");
    assert_eq!(
        scenario.member[0].text.as_deref(),
        Some("NR_CPUS=2\nTEST_DEVICE=1\n")
    );
    for vm in &scenario.vm {
        let text = toml::to_string(vm).unwrap();
        let vm = Definition::parse("kut", &text).unwrap();
        assert_eq!((vm.processors, vm.apic), (2, ApicMode::XApic));
        assert_eq!(vm.boot, Boot::Multiboot);
        assert!(vm.hyperv_testdev && vm.debug_exit && !vm.vmbus);
        for (_, file) in vm.files() {
            assert!(names.iter().any(|name| *name == file), "{file}");
        }
        assert_eq!(vm.cmdline.ends_with(" direct"), vm.name.ends_with("direct"));
    }
}
