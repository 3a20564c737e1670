//! Packages of the distribution.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{Step, output};

/// A package, and a file that it installs: the quick way to see whether it is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    /// A file of it.
    pub proof: &'static str,
}

/// The emulator and its UEFI firmware.
pub const EMULATOR: [Package; 2] = [
    Package {
        name: "qemu-system-x86",
        proof: "/usr/bin/qemu-system-x86_64",
    },
    Package {
        name: "ovmf",
        proof: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    },
];

/// Counts the instructions of a program on this machine.
pub const COUNTER: [Package; 1] = [Package {
    name: "valgrind",
    proof: "/usr/bin/valgrind",
}];

/// The font of charts.
pub const FONT: [Package; 1] = [Package {
    name: "fonts-dejavu-core",
    proof: "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
}];

/// Makes sure that `packages` are installed: installs the missing ones as root.
///
/// # Errors
/// For another user with the one command to run; for root if the installation fails.
pub fn require(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.proof).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "missing on this machine: {}.\nThis is not Debian or Ubuntu, so install them by its own means.",
            missing.join(", ")
        );
    }
    if !is_root()? {
        bail!(
            "missing on this machine: {}. Run this once, then the same command again:\n\n    \
             sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends {}'\n",
            missing.join(", "),
            missing.join(" ")
        );
    }
    update()?;
    let mut install = apt_get();
    install
        .args(["install", "-y", "--no-install-recommends"])
        .args(&missing);
    Step::start(format!("Installing {}", missing.join(", ")))
        .run(&mut install)
        .with_context(|| {
            format!(
                "the packages {} cannot be installed; try `apt-get install {}` by hand to see more",
                missing.join(", "),
                missing.join(" ")
            )
        })
}

/// Fetches the package `name` without installing it and unpacks it into `folder`.
///
/// # Errors
/// If the package cannot be downloaded or unpacked.
pub fn unpack(name: &str, folder: &Path) -> Result<()> {
    unpack_by(apt_get(), name, folder)
}

/// As [`unpack`], by an `apt-get` that knows other lists.
///
/// # Errors
/// As there.
pub fn unpack_by(mut get: Command, name: &str, folder: &Path) -> Result<()> {
    let downloads = crate::paths::target_dir("downloads")?;
    let package = match downloaded(&downloads, name)? {
        Some(package) => package,
        None => {
            get.args(["download", name]).current_dir(&downloads);
            Step::start(format!("Downloading {name}"))
                .run(&mut get)
                .with_context(|| format!("the package {name} cannot be downloaded: check the network and `apt-get update`"))?;
            downloaded(&downloads, name)?
                .with_context(|| format!("apt-get download left no file for {name}"))?
        }
    };
    let mut extract = Command::new("dpkg-deb");
    extract.arg("-x").arg(&package).arg(folder);
    Step::start(format!("Unpacking {name}"))
        .run(&mut extract)
        .with_context(|| {
            format!(
                "{} is damaged; delete it and run the command again",
                package.display()
            )
        })
}

/// The dependency of the package `name` whose name begins with `prefix`: what a package that only points to the
/// current version points to.
///
/// # Errors
/// If the package lists know no such package.
pub fn dependency(name: &str, prefix: &str) -> Result<String> {
    let find = || -> Result<Option<String>> {
        let found = dependencies(Command::new("apt-cache"), name, prefix)?;
        Ok(found.into_iter().next())
    };
    if let Ok(Some(found)) = find() {
        return Ok(found);
    }
    update_lists(&format!("the package lists know no {name}"))?;
    find()?.with_context(|| {
        format!("this distribution has no package {name} that depends on {prefix}...")
    })
}

/// The dependencies of the package `name` whose names begin with `prefix`, as this `apt-cache` knows them.
///
/// # Errors
/// If it knows no such package.
pub fn dependencies(mut cache: Command, name: &str, prefix: &str) -> Result<Vec<String>> {
    cache
        .args(["depends", "--important", name])
        .env("LC_ALL", "C");
    let listing = output(&mut cache)?;
    let depends = |line: &str| {
        let name = line.trim().strip_prefix("Depends: ")?;
        name.starts_with(prefix).then(|| name.to_owned())
    };
    Ok(listing.lines().filter_map(depends).collect())
}

/// Fetches this machine's package lists, because of `lack`.
///
/// # Errors
/// For another user than root with the command to run; for root if they cannot be fetched.
pub fn update_lists(lack: &str) -> Result<()> {
    if !is_root()? {
        bail!("{lack}. Run this once, then the same command again:\n\n    sudo apt-get update\n");
    }
    update()
}

fn downloaded(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with(&format!("{name}_")) && file.ends_with(".deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn update() -> Result<()> {
    Step::start("Updating the package lists")
        .run(apt_get().arg("update"))
        .context("the package lists cannot be fetched: check the network and /etc/apt/sources.list")
}

/// An `apt-get` that asks nothing and is patient.
pub fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}
