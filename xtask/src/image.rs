//! `cargo xtask image`: the bootable UEFI disk image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use manager::{HOST_FILE, HostDefinition};
use sha2::{Digest, Sha256};

use crate::metal::Metal;
use crate::paths;
use crate::step::{Step, output};
use crate::system::{Contents, DefinitionFile, Needs, System};

/// The VM of an image for which no other was named.
const SHIPPED: &str = "tests/scenarios/vm/debian.toml";

/// Writes disk images.
pub struct ImageTool {
    program: PathBuf,
}

impl ImageTool {
    /// Builds the tool with the UEFI loader inside, once.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn build(metal: &Metal) -> Result<Self> {
        let folder = paths::target("image-tool");
        let mut command = metal.toolchain().host_cargo();
        command
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&folder)
            .current_dir(paths::root().join("xtask/image"));
        Step::start("Building the UEFI loader").run(&mut command)?;
        Ok(Self {
            program: folder.join("release/partita-image"),
        })
    }

    /// Makes `image` from the hypervisor's ELF file and a boot archive, unless it already is just that.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn write(&self, hypervisor: &Path, archive: &[u8], image: &Path) -> Result<()> {
        let key = self.key(hypervisor, archive)?;
        let key_file = image.with_extension("key");
        if image.exists() && std::fs::read_to_string(&key_file).is_ok_and(|old| old == key) {
            return Ok(());
        }
        let archive_file = image.with_extension("archive");
        paths::write(&archive_file, archive)?;
        let mut command = Command::new(&self.program);
        command.arg(hypervisor).arg(&archive_file).arg(image);
        output(&mut command)?;
        paths::write(&key_file, key.as_bytes())
    }

    /// Changes whenever the image would.
    fn key(&self, hypervisor: &Path, archive: &[u8]) -> Result<String> {
        let mut hash = Sha256::new();
        for part in [
            &paths::read(&self.program)?,
            &paths::read(hypervisor)?,
            archive,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// The user's own files for an image.
#[derive(Args, Debug)]
pub struct Given {
    /// A VM definition to put into the image (repeatable); without one, the Debian guest that is fetched and packed
    #[arg(long = "vm", value_name = "FILE")]
    pub vms: Vec<PathBuf>,
    /// The host's definition: what it keeps of the machine's memory
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
}

impl Given {
    fn definitions(&self) -> Result<Vec<DefinitionFile>> {
        if self.vms.is_empty() {
            return Ok(vec![DefinitionFile::read(&paths::root().join(SHIPPED))?]);
        }
        self.vms
            .iter()
            .map(|file| DefinitionFile::read(file))
            .collect()
    }

    /// The host's definition, if it is one: looked at now, before minutes of building.
    fn host(&self) -> Result<Option<(String, Vec<u8>)>> {
        let Some(file) = &self.host else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the host's definition {}", file.display()))?;
        HostDefinition::parse(&file.display().to_string(), &text)?;
        Ok(Some((HOST_FILE.into(), text.into_bytes())))
    }
}

/// The image of the current sources with what is given; built where needed.
///
/// # Errors
/// If a part cannot be built or a definition is not valid.
pub fn default_image(given: &Given) -> Result<PathBuf> {
    let definitions = given.definitions()?;
    let host = given.host()?;
    let texts: String = definitions
        .iter()
        .map(|definition| definition.text.as_str())
        .collect();
    let system = System::build(&Needs::named_in(&texts))?;
    let archive = system.archive(&Contents {
        definitions,
        members: host.into_iter().collect(),
        ..Contents::default()
    })?;
    let image = paths::target_dir("images")?.join("default.img");
    system.write_image(&archive, &image)?;
    Ok(image)
}

/// Runs the command.
///
/// # Errors
/// If a part cannot be built or `file` cannot be written.
pub fn image(file: &Path, given: &Given) -> Result<()> {
    let image = default_image(given)?;
    std::fs::copy(&image, file).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!(
        "    {}: boots by UEFI, from an emulator's disk or a USB stick",
        file.display()
    );
    Ok(())
}
