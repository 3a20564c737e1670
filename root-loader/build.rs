//! Links the image for the bare machine at its fixed address.

fn main() {
    println!("cargo::rerun-if-changed=loader.ld");
    let metal = std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "none");
    if let (true, Some(folder)) = (metal, std::env::var_os("CARGO_MANIFEST_DIR")) {
        let script = std::path::Path::new(&folder).join("loader.ld");
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        // The target's default is a position-independent executable, whose relocations nobody would apply.
        println!("cargo::rustc-link-arg-bins=--no-pie");
    }
}
