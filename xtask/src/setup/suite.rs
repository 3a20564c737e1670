//! Packages of other suites of Debian than this machine's. Nothing is installed, it takes no root, and this machine's own
//! package lists stay as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::paths;
use crate::step::{Step, output};

/// The package with the key that suites are signed with.
const KEYRING: apt::Package = apt::Package {
    name: "debian-archive-keyring",
    proof: "/usr/share/keyrings/debian-archive-keyring.gpg",
};

/// An apt with lists of its own, of one suite, that knows of no installed packages.
#[derive(Clone, Debug)]
pub struct Suite {
    config: PathBuf,
}

impl Suite {
    /// Fetches the lists of the suite of this name.
    ///
    /// # Errors
    /// If they cannot be had.
    pub fn open(name: &str) -> Result<Self> {
        apt::require(&[KEYRING])?;
        let base = format!("suites/{name}");
        let folder = paths::target_dir(&base)?;
        for part in ["lists/partial", "cache/archives/partial", "state"] {
            paths::target_dir(&format!("{base}/{part}"))?;
        }
        let sources = format!(
            "deb [signed-by={}] {} {name} main\n",
            KEYRING.proof,
            mirror()?
        );
        paths::write(&folder.join("sources.list"), sources.as_bytes())?;
        paths::write(&folder.join("status"), b"")?;
        let config = folder.join("apt.conf");
        let place = folder.display();
        let text = format!(
            "Dir::Etc::sourcelist \"{place}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State \"{place}/state\";\n\
             Dir::State::lists \"{place}/lists\";\n\
             Dir::State::status \"{place}/status\";\n\
             Dir::Cache \"{place}/cache\";\n\
             APT::Install-Recommends \"false\";\n\
             APT::Architecture \"amd64\";\n\
             Acquire::Languages \"none\";\n"
        );
        paths::write(&config, text.as_bytes())?;
        let suite = Self { config };
        Step::start(format!("Fetching the package lists of {name}"))
            .run(suite.get().arg("update"))
            .with_context(|| {
                format!("the package lists of Debian's {name} cannot be fetched: check the network")
            })?;
        Ok(suite)
    }

    /// An `apt-get` with these lists.
    pub fn get(&self) -> Command {
        let mut command = apt::apt_get();
        command.arg("--config-file").arg(&self.config);
        command
    }

    /// The dependencies of a package whose names begin with `prefix`.
    ///
    /// # Errors
    /// If the lists cannot be asked.
    pub fn dependencies(&self, name: &str, prefix: &str) -> Result<Vec<String>> {
        let mut cache = Command::new("apt-cache");
        cache.arg("--config-file").arg(&self.config);
        apt::dependencies(cache, name, prefix)
    }

    /// Fetches a package and unpacks it into `folder`, as [`apt::unpack`] does.
    ///
    /// # Errors
    /// If it cannot be downloaded or unpacked.
    pub fn unpack(&self, name: &str, folder: &Path) -> Result<()> {
        apt::unpack_by(self.get(), name, folder)
    }
}

/// Where this machine gets its Debian packages from.
fn mirror() -> Result<String> {
    let find = || -> Result<Option<String>> {
        let listing = output(
            Command::new("apt-get")
                .args(["indextargets", "--format", "$(REPO_URI)"])
                .env("LC_ALL", "C"),
        )
        .context("this machine has no apt, which fetches Debian's packages")?;
        let debian = listing.lines().map(str::trim).find(|uri| is_debian(uri));
        Ok(debian.map(str::to_owned))
    };
    if let Some(mirror) = find()? {
        return Ok(mirror);
    }
    // apt tells its sources only after it has looked at them.
    apt::update_lists(
        "apt knows no Debian mirror yet, from which Bochs and kernels could be fetched",
    )?;
    find()?.context(
        "apt's sources name no Debian mirror, from which Bochs 3.1 and other kernels could be fetched; \
         on another system give --vendor amd, which takes QEMU only",
    )
}

fn is_debian(uri: &str) -> bool {
    uri.trim().trim_end_matches('/').ends_with("/debian")
}

#[cfg(test)]
mod tests {
    use super::is_debian;

    #[test]
    fn the_archive_itself_is_no_archive_of_updates() {
        assert!(is_debian("http://mirror.test/debian/"));
        assert!(is_debian("http://mirror.test/pub/debian"));
        assert!(!is_debian("http://mirror.test/debian-security/"));
    }
}
