//! Linux guests that ship with nothing but their recipe: Debian's kernels for virtual machines and an initramfs with BusyBox
//! and the kernel's modules for VMBus, all taken from the distribution's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use super::initramfs::Initramfs;
use super::suite::Suite;
use crate::paths;

const KERNEL: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";

/// Modules of the kernel that the guest has, in the order in which they are to be loaded. Later kernels have the first one in
/// themselves.
const MODULES: [&str; 3] = ["hv_vmbus", "hv_utils", "hv_balloon"];
/// Where a kernel has them, below its folder of modules.
const MODULE_FOLDER: &str = "kernel/drivers/hv";

/// Later packages have their modules compressed.
const XZ: apt::Package = apt::Package {
    name: "xz-utils",
    proof: "/usr/bin/xz",
};

/// What definitions call an initramfs with the daemons of Hyper-V's services, in its release's folder.
pub const WITH_DAEMONS: &str = "initrd-daemons";

/// First process of the guest.
const INIT: &str = include_str!("guest-init.sh");

/// Whose kernel a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// That of this machine's suite: of Debian 12, Linux 6.1.
    Own,
    /// Debian 13: Linux 6.12.
    Trixie,
    /// Debian's unstable suite: Linux 7.2, or later by now.
    Sid,
}

impl Release {
    /// All of them.
    const ALL: [Self; 3] = [Self::Own, Self::Trixie, Self::Sid];

    /// The suite, if it is not this machine's.
    const fn suite(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Trixie => Some("trixie"),
            Self::Sid => Some("sid"),
        }
    }

    /// Where its files are, in archives (`guest/vmlinuz`, `guest/trixie/vmlinuz`).
    fn folder(self) -> String {
        match self.suite() {
            None => "guest/".to_owned(),
            Some(suite) => format!("guest/{suite}/"),
        }
    }

    /// The name of its kernel in definitions.
    fn kernel(self) -> String {
        self.folder() + "vmlinuz"
    }

    /// Those that a definition or its text names.
    pub fn named_in(text: &str) -> Vec<Self> {
        let named = |release: &Self| text.contains(&release.kernel());
        Self::ALL.into_iter().filter(named).collect()
    }
}

/// A kernel and its initramfs.
#[derive(Clone, Debug)]
pub struct LinuxGuest {
    /// Whose it is.
    pub release: Release,
    /// The bzImage.
    pub kernel: PathBuf,
    /// The compressed initramfs.
    pub initrd: PathBuf,
    /// The same with the daemons of Hyper-V's services, if it was asked for.
    pub with_daemons: Option<PathBuf>,
}

impl LinuxGuest {
    /// The file that a definition calls `name`, if it is one of these.
    pub fn file(&self, name: &str) -> Option<&Path> {
        match name.strip_prefix(&self.release.folder())? {
            "vmlinuz" => Some(&self.kernel),
            "initrd" => Some(&self.initrd),
            WITH_DAEMONS => self.with_daemons.as_deref(),
            _ => None,
        }
    }
}

/// Fetches the packages and packs the guest, each once; with what `daemons` has behind its initramfs, also that.
///
/// # Errors
/// If a package cannot be had or the initramfs cannot be written.
pub fn linux(release: Release, daemons: Option<&[u8]>) -> Result<LinuxGuest> {
    let place = match release.suite() {
        None => "guests".to_owned(),
        Some(suite) => format!("guests/{suite}"),
    };
    let folder = paths::target_dir(&place)?;
    let unpacked = paths::target_dir(&format!("{place}/linux"))?;
    let kernel = folder.join("vmlinuz");
    let modules = match modules(&unpacked) {
        Ok(modules) if kernel.exists() => modules,
        _ => {
            fetch(release, &unpacked)?;
            paths::write(&kernel, &paths::read(&find_kernel(&unpacked)?)?)?;
            modules(&unpacked)?
        }
    };
    let busybox = paths::target_dir("guests/busybox")?;
    let program = busybox.join("bin/busybox");
    if !program.exists() {
        apt::unpack(BUSYBOX, &busybox)?;
    }
    let initrd = folder.join("initrd.gz");
    let packed = initramfs(&paths::read(&program)?, &modules)
        .context("the guest's initramfs cannot be packed")?;
    update(&initrd, &packed)?;
    let with_daemons = daemons.map(|daemons| {
        let file = folder.join("initrd-daemons.gz");
        update(&file, &[&packed, daemons].concat())?;
        Ok::<_, anyhow::Error>(file)
    });
    Ok(LinuxGuest {
        release,
        kernel,
        initrd,
        with_daemons: with_daemons.transpose()?,
    })
}

/// Writes a file, if it has another content so far.
fn update(file: &Path, content: &[u8]) -> Result<()> {
    match std::fs::read(file) {
        Ok(old) if old == content => Ok(()),
        _ => paths::write(file, content),
    }
}

/// Fetches a kernel with its modules.
fn fetch(release: Release, folder: &Path) -> Result<()> {
    const IMAGE: &str = "linux-image-";
    let Some(name) = release.suite() else {
        return apt::unpack(&apt::dependency(KERNEL, IMAGE)?, folder);
    };
    let suite = Suite::open(name)?;
    let images = suite.dependencies(KERNEL, IMAGE)?;
    let image = images
        .first()
        .with_context(|| format!("{name} has no package {KERNEL} that depends on {IMAGE}..."))?;
    // Later packages of a kernel are made of two others.
    let mut parts = suite.dependencies(image, "linux-binary-")?;
    parts.extend(suite.dependencies(image, "linux-modules-")?);
    if parts.is_empty() {
        return suite.unpack(image, folder);
    }
    parts.iter().try_for_each(|part| suite.unpack(part, folder))
}

/// The kernel in what was unpacked: in `boot`, or beside its modules.
fn find_kernel(unpacked: &Path) -> Result<PathBuf> {
    let beside = modules_folder(unpacked)?.join("vmlinuz");
    if beside.exists() {
        return Ok(beside);
    }
    let boot = unpacked.join("boot");
    for entry in
        std::fs::read_dir(&boot).with_context(|| format!("no folder {}", boot.display()))?
    {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        {
            return Ok(path);
        }
    }
    anyhow::bail!(
        "{} has no vmlinuz-*; delete {} and run the command again",
        boot.display(),
        unpacked.display()
    )
}

/// The folder of the kernel's version, in which its modules are.
fn modules_folder(unpacked: &Path) -> Result<PathBuf> {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place));
    let folder = places.iter().find(|place| place.is_dir());
    let folder = folder.with_context(|| format!("no modules in {}", unpacked.display()))?;
    let mut versions = std::fs::read_dir(folder)?;
    let version = versions
        .next()
        .with_context(|| format!("{} is empty", folder.display()))??;
    Ok(version.path())
}

/// The modules that there are, each with its name and contents. The last one is always there.
fn modules(unpacked: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let folder = modules_folder(unpacked)?.join(MODULE_FOLDER);
    let mut found = Vec::new();
    for name in MODULES {
        let (plain, packed) = (
            folder.join(format!("{name}.ko")),
            folder.join(format!("{name}.ko.xz")),
        );
        if plain.exists() {
            found.push((name, paths::read(&plain)?));
        } else if packed.exists() {
            found.push((name, decompress(&packed)?));
        }
    }
    let last = found.last().map(|(name, _)| *name);
    anyhow::ensure!(
        last == MODULES.last().copied(),
        "{} has no {}",
        folder.display(),
        MODULES.join(", ")
    );
    Ok(found)
}

fn decompress(file: &Path) -> Result<Vec<u8>> {
    apt::require(&[XZ])?;
    let run = Command::new(XZ.proof)
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()
        .context("xz cannot be run, which unpacks a kernel's modules")?;
    anyhow::ensure!(
        run.status.success(),
        "{} is damaged; delete it and run the command again",
        file.display()
    );
    Ok(run.stdout)
}

/// The guest's initramfs.
fn initramfs(busybox: &[u8], modules: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut initramfs = Initramfs::default();
    for folder in ["bin", "dev", "etc", "lib", "proc", "root", "sys", "tmp"] {
        initramfs.folder(folder)?;
    }
    initramfs.program("bin/busybox", busybox)?;
    initramfs.link("bin/sh", "busybox")?;
    for (name, content) in modules {
        initramfs.file(&format!("lib/{name}.ko"), content)?;
    }
    initramfs.program("init", INIT.as_bytes())?;
    initramfs.pack()
}
