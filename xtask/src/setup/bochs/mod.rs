//! Bochs, the emulator with Intel's virtualization, and with AMD's as later processors have it.
//!
//! Only Debian's unstable suite has a Bochs that is young enough. Its packages, with all libraries down to libc, are
//! unpacked into a folder of their own, and Bochs is started by the dynamic linker in there: nothing is installed, it
//! takes no root, and this machine's own package lists stay as they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

mod idiv;
mod longjmp;

use super::apt;
use super::suite::Suite;
use crate::paths;
use crate::step::{Step, output};

/// The first release that starts UEFI firmware, and the one that this was made with.
const FIRST: (u32, u32) = (3, 1);

/// The suite that has it.
const SUITE: &str = "sid";

/// What is asked for. The display for terminals takes the least of libraries; it is never used.
const ROOTS: [&str; 4] = ["bochs", "bochs-term", "vgabios", "bochs-wx-"];

/// Beginnings of the names of packages that hold what Bochs is linked with, and of those of them that it can do without.
const WANTED: [&str; 4] = ["bochs", "lib", "vgabios", "zlib1g"];
const UNWANTED: [&str; 4] = ["bochsbios", "libllvm", "libpam", "libz3"];

/// Changes when what is done to the packages changes: then they are fetched again.
const RECIPE: u32 = 6;

const PROGRAM: &str = "usr/bin/bochs-bin";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LINKER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// UEFI firmware, as pairs of its variables and its code: the smaller one starts sooner.
const FIRMWARE: [(&str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_VARS.fd",
        "/usr/share/OVMF/OVMF_CODE.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
    ),
];

/// A Bochs that works, and the firmware for it.
#[derive(Clone, Debug)]
pub struct Bochs {
    root: PathBuf,
    firmware: PathBuf,
    models: Vec<String>,
}

impl Bochs {
    /// Finds the unpacked Bochs, or fetches it, once.
    ///
    /// # Errors
    /// If a package cannot be had, or the suite's Bochs does not work here.
    pub fn find() -> Result<Self> {
        apt::require(&[apt::EMULATOR[1]])?;
        let mut bochs = Self {
            root: paths::target("bochs/root"),
            firmware: firmware()?,
            models: Vec::new(),
        };
        let noted = paths::target(&format!("bochs/help.{RECIPE}"));
        let help = match std::fs::read_to_string(&noted) {
            Ok(help) => help,
            Err(_) => {
                bochs.fetch()?;
                let help = bochs.help()?;
                paths::write(&noted, help.as_bytes())?;
                help
            }
        };
        let version = version_in(&help).unwrap_or_default();
        eprintln!("    Bochs {version}, in {}", bochs.root.display());
        bochs.models = models_in(&help).map(str::to_owned).collect();
        Ok(bochs)
    }

    /// Makes sure that it has this processor model.
    ///
    /// # Errors
    /// With the models that it has.
    pub fn require(&self, model: &str) -> Result<()> {
        if self.models.iter().any(|known| known == model) {
            return Ok(());
        }
        bail!(
            "Bochs has no processor model {model:?}; it has {}",
            self.models.join(", ")
        )
    }

    /// A command that runs Bochs with its own libraries, and dies with the thread that starts it.
    pub fn command(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(self.root.join(LINKER))
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join(PROGRAM))
            .env("BXSHARE", self.root.join("usr/share/bochs"))
            .env("LTDL_LIBRARY_PATH", libraries.join("bochs/plugins"))
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("LD_PRELOAD");
        command
    }

    /// The firmware in one file that ends at 4 GiB.
    pub fn firmware(&self) -> &Path {
        &self.firmware
    }

    /// The video BIOS, without which Bochs has no display.
    pub fn video_bios(&self) -> PathBuf {
        self.root.join("usr/share/vgabios/vgabios.bin")
    }

    fn fetch(&self) -> Result<()> {
        let _ = std::fs::remove_dir_all(&self.root);
        let suite = Suite::open(SUITE)?;
        let packages = closure(&suite)?;
        let folder = paths::target_dir("bochs/packages")?;
        let mut download = suite.get();
        download
            .arg("download")
            .args(&packages)
            .current_dir(&folder);
        Step::start("Downloading Bochs and its libraries")
            .run(&mut download)
            .context("Bochs' packages cannot be downloaded: check the network")?;
        let unpack = Step::start("Unpacking Bochs and its libraries");
        for entry in std::fs::read_dir(&folder)? {
            output(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(entry?.path())
                    .arg(&self.root),
            )?;
        }
        unpack.done();
        self.mend()?;
        std::fs::remove_dir_all(&folder).context("cannot remove Bochs' packages")
    }

    fn mend(&self) -> Result<()> {
        let file = self.root.join(PROGRAM);
        let mut program = paths::read(&file)?;
        let division = idiv::mend(&mut program)
            .with_context(|| format!("{} cannot be looked into", file.display()))?;
        let turns = longjmp::mend(&mut program);
        for (broken, what) in [(division, "IDIV"), (turns, "loop for several processors")] {
            if broken {
                eprintln!(
                    "    This build of Bochs has a broken {what}, which is mended in the copy"
                );
            }
        }
        if division || turns {
            // In place: the file stays executable.
            std::fs::write(&file, program)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    /// What it says about itself and its processor models, if it is a version that will do.
    fn help(&self) -> Result<String> {
        let help = self
            .command()
            .args(["--help", "cpu"])
            .stdin(Stdio::null())
            .output()
            .context("the Bochs just unpacked cannot be started")?;
        let text = String::from_utf8_lossy(&help.stdout) + String::from_utf8_lossy(&help.stderr);
        let Some(version) = version_in(&text) else {
            bail!(
                "the Bochs just unpacked does not start: {}\nIf a library is missing, the suite has split a package that \
                 xtask/src/setup/bochs does not fetch.",
                text.trim()
            );
        };
        match numbers(version) {
            Some(found) if found >= FIRST && found.0 == FIRST.0 => Ok(text.into_owned()),
            _ => bail!(
                "the suite has Bochs {version}; it has to be {}.{} or a later {0}.x",
                FIRST.0,
                FIRST.1
            ),
        }
    }
}

fn version_in(text: &str) -> Option<&str> {
    text.split("Bochs x86 Emulator ")
        .nth(1)?
        .split_whitespace()
        .next()
}

fn models_in(help: &str) -> impl Iterator<Item = &str> {
    let list = help.split("Supported CPU models:").nth(1);
    let lines = list.unwrap_or_default().lines().map(str::trim).skip(2);
    lines.take_while(|line| !line.is_empty())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

/// The firmware's parts in one file.
fn firmware() -> Result<PathBuf> {
    let there = |(variables, code): &&(&str, &str)| {
        Path::new(variables).exists() && Path::new(code).exists()
    };
    let (variables, code) = FIRMWARE
        .iter()
        .find(there)
        .context("the package ovmf has neither OVMF_CODE.fd nor OVMF_CODE_4M.fd")?;
    let mut firmware = paths::read(Path::new(variables))?;
    firmware.extend(paths::read(Path::new(code))?);
    let file = paths::target_dir("bochs")?.join("firmware.fd");
    if !std::fs::read(&file).is_ok_and(|old| old == firmware) {
        paths::write(&file, &firmware)?;
    }
    Ok(file)
}

/// The packages that Bochs needs, by name.
fn closure(suite: &Suite) -> Result<Vec<String>> {
    let listing = output(
        suite
            .get()
            .args(["install", "--yes", "--print-uris"])
            .args(ROOTS),
    )
    .context("Debian's unstable suite has no Bochs that can be installed at the moment")?;
    let names: Vec<String> = listing.lines().filter_map(package_in).collect();
    if names.is_empty() {
        bail!("apt-get names no packages for Bochs:\n{listing}");
    }
    Ok(names)
}

/// The package in a line `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH`, if Bochs needs it.
fn package_in(line: &str) -> Option<String> {
    let file = line.split_whitespace().nth(1)?;
    let (name, _) = file
        .strip_suffix(".deb")
        .filter(|_| line.starts_with('\''))?
        .split_once('_')?;
    let begins = |beginnings: &[&str]| beginnings.iter().any(|text| name.starts_with(text));
    (begins(&WANTED) && !begins(&UNWANTED)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{FIRST, models_in, numbers, package_in, version_in};

    #[test]
    fn models_are_the_list_between_empty_lines() {
        let help = "x\nSupported CPU models:\n\ni386\nryzen\n\n0000[SIM] quit\n";
        assert_eq!(models_in(help).collect::<Vec<_>>(), ["i386", "ryzen"]);
        assert_eq!(models_in("nothing").count(), 0);
    }

    #[test]
    fn libraries_are_taken_and_what_never_runs_is_not() {
        let line = |file: &str| format!("'http://mirror/pool/{file}' {file} 123 SHA256:0");
        let taken = |file: &str| package_in(&line(file));
        assert_eq!(taken("libc6_2.43-7_amd64.deb").as_deref(), Some("libc6"));
        assert_eq!(taken("libllvm22_1%3a22.1.8-3_amd64.deb"), None);
        assert_eq!(taken("systemd_262.1-1_amd64.deb"), None);
        assert_eq!(
            package_in("The following packages will be installed:"),
            None
        );
    }

    #[test]
    fn later_releases_of_the_same_major_version_will_do() {
        let found = |text| numbers(version_in(text).unwrap()).unwrap();
        assert_eq!(found("==\n  Bochs x86 Emulator 3.1\n Built"), FIRST);
        assert!(found("Bochs x86 Emulator 3.10.1 x") > FIRST);
        assert!(found("Bochs x86 Emulator 3.0 ") < FIRST);
    }
}
