//! What an image consists of: the built programs, and the boot archive around them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use boot_archive::{Archive, Builder};
use manager::{Definition, DefinitionError};

use crate::flat;
use crate::image::ImageTool;
use crate::metal::Metal;
use crate::paths;
use crate::setup::daemons;
use crate::setup::guest::{self, LinuxGuest, Release};

/// Member names that begin with this are programs of `tests/guests`.
const PAYLOAD: &str = "payload/";

/// Everything built that images are put together from.
pub struct System {
    hypervisor: PathBuf,
    metered: Option<PathBuf>,
    loader: Vec<u8>,
    root: Vec<u8>,
    worker: Vec<u8>,
    linux: Vec<LinuxGuest>,
    payloads: Option<PathBuf>,
    tool: ImageTool,
}

/// What goes into the build.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Linux guests.
    pub linux: Vec<Release>,
    /// For these, an initramfs with the daemons of Hyper-V's services besides.
    pub daemons: bool,
    /// The payload guests and roots.
    pub payloads: bool,
    /// The hypervisor that measures how long interrupts are off, besides the usual one.
    pub section_meter: bool,
}

impl Needs {
    /// What a text asks for that names members of archives: VM definitions, or the values of their keys.
    pub fn named_in(text: &str) -> Self {
        Self {
            linux: Release::named_in(text),
            daemons: text.contains(guest::WITH_DAEMONS),
            payloads: text.contains(PAYLOAD),
            section_meter: false,
        }
    }
}

/// What one archive holds beside the built programs.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The program in place of the root kernel: `payload/NAME`.
    pub root: Option<String>,
    /// VM definitions, in the order of the archive.
    pub definitions: Vec<DefinitionFile>,
    /// Further members; one named as another member replaces it.
    pub members: Vec<(String, Vec<u8>)>,
}

/// A VM definition and where the files that it names are looked for.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    /// The definition's file, or the file that it stands in; it is named in errors.
    pub file: PathBuf,
    /// The text.
    pub text: String,
}

impl DefinitionFile {
    /// Reads the definition in `file`, and looks now whether it is one: before minutes of building.
    ///
    /// # Errors
    /// If the file cannot be read or is no VM definition.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the VM definition {}", file.display()))?;
        let definition = Self {
            file: file.to_path_buf(),
            text,
        };
        definition.parse()?;
        Ok(definition)
    }

    /// The VM's name.
    ///
    /// # Errors
    /// If this is no VM definition.
    pub fn name(&self) -> Result<String> {
        Ok(self.parse()?.name)
    }

    fn parse(&self) -> Result<Definition, DefinitionError> {
        Definition::parse(&self.file.display().to_string(), &self.text)
    }
}

impl System {
    /// Builds all parts.
    ///
    /// # Errors
    /// If a part does not compile or a package cannot be had.
    pub fn build(needs: &Needs) -> Result<Self> {
        let metal = Metal::new()?;
        // What is fetched, and what is built elsewhere, waits for none of the bare-metal programs, nor they for it.
        std::thread::scope(|scope| {
            let others = scope.spawn(|| Self::others(&metal, needs));
            let metered = needs
                .section_meter
                .then(|| Self::metered(&metal))
                .transpose()?;
            let hypervisor = metal.program("hypervisor")?;
            let loader = paths::read(&metal.program("root-loader")?)?;
            let loader = flat::flatten(&loader).context("root-loader cannot be flattened")?;
            let root = paths::read(&metal.program("root-kernel")?)?;
            let worker = paths::read(&metal.program("worker")?)?;
            let payloads = needs.payloads.then(|| metal.payloads()).transpose()?;
            let (linux, tool) = others.join().map_err(|_| anyhow!("the thread died"))??;
            Ok(Self {
                hypervisor,
                metered,
                loader,
                root,
                worker,
                linux,
                payloads,
                tool,
            })
        })
    }

    /// The Linux guests, and the tool that makes images.
    fn others(metal: &Metal, needs: &Needs) -> Result<(Vec<LinuxGuest>, ImageTool)> {
        let daemons = needs.daemons.then(daemons::initramfs).transpose()?;
        let linux = |release: &Release| guest::linux(*release, daemons.as_deref());
        let linux = needs.linux.iter().map(linux).collect::<Result<_>>()?;
        Ok((linux, ImageTool::build(metal)?))
    }

    fn metered(metal: &Metal) -> Result<PathBuf> {
        let program = metal.program_with("hypervisor", "metal,section-meter")?;
        let file = program.with_extension("section-meter");
        paths::write(&file, &paths::read(&program)?)?;
        Ok(file)
    }

    /// The hypervisor's ELF file.
    pub fn hypervisor(&self) -> &Path {
        &self.hypervisor
    }

    /// Makes the disk image `file` with this archive.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_image(&self, archive: &[u8], file: &Path) -> Result<()> {
        self.tool.write(&self.hypervisor, archive, file)
    }

    /// As [`Self::write_image`], with the hypervisor that measures how long interrupts are off.
    ///
    /// # Errors
    /// As there, and if that hypervisor was not built.
    pub fn write_metered_image(&self, archive: &[u8], file: &Path) -> Result<()> {
        let metered = self.metered.as_deref();
        let hypervisor = metered.context("the hypervisor with the meter was not built")?;
        self.tool.write(hypervisor, archive, file)
    }

    /// Puts a boot archive together.
    ///
    /// # Errors
    /// If a definition is not valid or names a file that is not there.
    pub fn archive(&self, contents: &Contents) -> Result<Vec<u8>> {
        let mut members = Members::default();
        members.set(
            "root",
            match &contents.root {
                Some(name) => self.payload(name)?,
                None => self.root.clone(),
            },
        );
        members.set("worker", self.worker.clone());
        for file in &contents.definitions {
            self.add_definition(file, contents, &mut members)?;
        }
        for (name, content) in &contents.members {
            members.set(name, content.clone());
        }
        let mut builder = Builder::new();
        builder.loader(self.loader.clone())?;
        for (name, content) in members.0 {
            builder.member(&name, content)?;
        }
        let archive = builder.build()?;
        Archive::open(&archive).context("the archive just written cannot be read")?;
        Ok(archive)
    }

    /// Adds a definition and the files that it names, but for those that are members by themselves.
    fn add_definition(
        &self,
        file: &DefinitionFile,
        contents: &Contents,
        members: &mut Members,
    ) -> Result<()> {
        let definition = file.parse()?;
        members.set(
            &format!("vm/{}.toml", definition.name),
            file.text.clone().into_bytes(),
        );
        for (key, name) in definition.files() {
            let given = contents.members.iter().any(|(other, _)| other == name);
            if !given && !members.has(name) {
                let content = self
                    .file(name, &file.file)
                    .with_context(|| format!("{}: {key}", file.file.display()))?;
                members.set(name, content);
            }
        }
        Ok(())
    }

    /// The content of the member `name` that the definition in `beside` asks for.
    fn file(&self, name: &str, beside: &Path) -> Result<Vec<u8>> {
        let own = beside.parent().unwrap_or(Path::new("")).join(name);
        if own.exists() {
            return paths::read(&own);
        }
        if let Some(file) = self.linux.iter().find_map(|linux| linux.file(name)) {
            return paths::read(file);
        }
        if name.starts_with(PAYLOAD) {
            return self.payload(name);
        }
        Err(anyhow!("there is no file {}", own.display()))
    }

    fn payload(&self, name: &str) -> Result<Vec<u8>> {
        let folder = self
            .payloads
            .as_ref()
            .with_context(|| format!("{name}: the payloads were not built"))?;
        let program = name
            .strip_prefix(PAYLOAD)
            .with_context(|| format!("{name} does not begin with {PAYLOAD}"))?;
        paths::read(&folder.join(program))
            .with_context(|| format!("tests/guests has no program {program}"))
    }
}

/// Members in order, each name once.
#[derive(Default)]
struct Members(Vec<(String, Vec<u8>)>);

impl Members {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    fn set(&mut self, name: &str, content: Vec<u8>) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = content,
            None => self.0.push((name.into(), content)),
        }
    }
}
