//! The Rust toolchain for code that runs on the bare machine.
//!
//! Two can do it: a rustup toolchain with the target `x86_64-unknown-none` and the library's source, and the one that
//! Debian packages for web browsers, which is young enough and has the source, but no such target: there the library
//! is compiled along.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, Package};
use crate::paths;
use crate::step::{Step, output};

/// The target of everything that runs on the bare machine.
pub const TARGET: &str = "x86_64-unknown-none";

const RUSTFLAGS: &str = "CARGO_TARGET_X86_64_UNKNOWN_NONE_RUSTFLAGS";

/// Longest time for rustup to fetch the target, in seconds.
const RUSTUP_SECONDS: &str = "180";

const DISTRIBUTION: [Package; 4] = [
    Package {
        name: "rustc-web",
        proof: "/usr/bin/rustc",
    },
    Package {
        name: "cargo-web",
        proof: "/usr/bin/cargo",
    },
    Package {
        name: "rust-web-src",
        proof: "/usr/lib/rustlib/src/rust/library",
    },
    Package {
        name: "lld",
        proof: "/usr/bin/ld.lld",
    },
];

const DISTRIBUTION_CLIPPY: Package = Package {
    name: "rust-web-clippy",
    proof: "/usr/bin/cargo-clippy",
};

/// The hypervisor's last words name the functions on the stack; that takes frame pointers.
const FLAGS: &str = "-Cforce-frame-pointers=yes";
/// Only the distribution's toolchain has to be told which linker links for the bare machine.
const DISTRIBUTION_FLAGS: &str = "-Cforce-frame-pointers=yes -Clinker-flavor=ld.lld";

/// The toolchain taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The one that runs `cargo xtask`, with the target installed by rustup.
    Rustup,
    /// The distribution's, compiling `core` and `alloc` along.
    Distribution,
}

impl Toolchain {
    /// Finds a toolchain, or sets one up, and says which. `PARTITA_TOOLCHAIN` (`rustup`, `distribution`) overrides.
    ///
    /// # Errors
    /// If neither can be had.
    pub fn find() -> Result<Self> {
        let wish = std::env::var("PARTITA_TOOLCHAIN").unwrap_or_default();
        let taken = if wish != "distribution" && rustup_has_target()? {
            Self::Rustup
        } else {
            if wish == "rustup" {
                anyhow::bail!(
                    "PARTITA_TOOLCHAIN=rustup, but rustup could not add {TARGET} and rust-src"
                );
            }
            apt::require(&DISTRIBUTION)?;
            Self::Distribution
        };
        eprintln!("    Bare-metal toolchain: {}", taken.name());
        Ok(taken)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup's, with its x86_64-unknown-none library",
            Self::Distribution => "the distribution's /usr/bin/cargo, compiling the library along",
        }
    }

    /// A `cargo SUBCOMMAND` that compiles for the bare machine.
    pub fn cargo(self, subcommand: &str) -> Command {
        let mut command = self.plain_cargo();
        command
            .args([subcommand, "--target", TARGET])
            .arg("--target-dir")
            .arg(paths::target("metal"));
        if self == Self::Distribution {
            command.args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
        }
        command
    }

    /// A cargo that compiles programs for this machine and, inside them, for UEFI.
    pub fn host_cargo(self) -> Command {
        let mut command = self.plain_cargo();
        // The UEFI loader compiles its own library, which a stable compiler does only if told so.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }

    fn plain_cargo(self) -> Command {
        match self {
            Self::Rustup => {
                let mut command =
                    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                command.env(RUSTFLAGS, FLAGS).env_remove("RUSTFLAGS");
                command
            }
            Self::Distribution => distribution_cargo(),
        }
    }

    /// Makes sure that this toolchain has its clippy.
    ///
    /// # Errors
    /// If the package cannot be installed.
    pub fn require_clippy(self) -> Result<()> {
        match self {
            Self::Rustup => Ok(()),
            Self::Distribution => apt::require(&[DISTRIBUTION_CLIPPY]),
        }
    }
}

fn distribution_cargo() -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        // rustup's proxies must not shadow the compiler that belongs to this cargo.
        .env("PATH", format!("/usr/bin:{path}"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld")
        .env(RUSTFLAGS, DISTRIBUTION_FLAGS)
        .env("CARGO_TARGET_X86_64_UNKNOWN_UEFI_LINKER", "lld-link")
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_UEFI_RUSTFLAGS",
            "-Clinker-flavor=lld-link",
        );
    for name in [
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "LD_LIBRARY_PATH",
    ] {
        command.env_remove(name);
    }
    command
}

/// Whether the running rustup toolchain has the target and the library's source, after one try to add them.
fn rustup_has_target() -> Result<bool> {
    let sysroot = PathBuf::from(
        output(
            Command::new("rustc")
                .args(["--print", "sysroot"])
                .current_dir(paths::root()),
        )?
        .trim(),
    );
    if complete(&sysroot) {
        return Ok(true);
    }
    let refused = paths::target_dir("setup")?.join("rustup-refused");
    if refused.exists() || output(Command::new("rustup").arg("--version")).is_err() {
        return Ok(false);
    }
    let add = |what: &[&str]| {
        Step::start(format!("rustup {}", what.join(" "))).run(
            Command::new("timeout")
                .args([RUSTUP_SECONDS, "rustup"])
                .args(what)
                .current_dir(paths::root()),
        )
    };
    if add(&["target", "add", TARGET]).is_ok()
        && add(&["component", "add", "rust-src"]).is_ok()
        && complete(&sysroot)
    {
        return Ok(true);
    }
    eprintln!(
        "    rustup cannot add {TARGET} here; not tried again until {} is deleted",
        refused.display()
    );
    std::fs::write(&refused, "rustup could not add the bare-metal target\n")
        .context("cannot note that rustup refused")?;
    Ok(false)
}

fn complete(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib");
    library.join(TARGET).join("lib").exists()
        && library.join("src/rust/library/Cargo.lock").exists()
}
