//! Links every payload the way it is started: children at 1 MiB, roots in the upper half.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for flavour in ["child", "root"] {
        let script = Path::new(&folder).join(format!("{flavour}.ld"));
        let sources = Path::new(&folder).join("src/bin").join(flavour);
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rerun-if-changed={}", sources.display());
        for name in programs(&sources) {
            println!("cargo::rustc-link-arg-bin={name}=-T{}", script.display());
        }
    }
    // The target's default is a position-independent executable, whose relocations nobody would apply.
    println!("cargo::rustc-link-arg-bins=--no-pie");
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
}

/// Names of the programs in a folder: one a file, or one a folder with a `main.rs`.
fn programs(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("src/bin has a folder of every flavour");
    let names = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let is_source =
            path.extension().is_some_and(|ending| ending == "rs") || path.join("main.rs").exists();
        let name = path.file_stem()?.to_str()?.to_owned();
        is_source.then_some(name)
    });
    names.collect()
}
