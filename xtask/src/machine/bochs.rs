//! A machine in Bochs: its configuration, its disk, its serial line.
//!
//! Bochs' time is virtual: one instruction is one tick of the TSC, and [`IPS`] of them, or [`COUNTED_IPS`], are a second of
//! every clock in the machine. So counts repeat, however busy the host is, and a halted processor is the next timer's at once.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{End, Link, Machine, Sign, qemu};
use crate::setup::bochs::Bochs;

/// The model for VMX when nobody asks for another.
pub const USUAL_INTEL: &str = "corei7_skylake_x";

/// Beginnings of the names of AMD's models.
const AMD: [&str; 7] = [
    "amd", "athlon", "phenom", "ryzen", "trinity", "turion", "zambezi",
];

/// Instructions, and ticks of the TSC, in a second of the machine's time: about what Bochs does in a second of the host's,
/// and clearly more than the least frequency that the hypervisor takes a measurement for.
const IPS: u32 = 125_000_000;

/// The same where instructions are counted: one is a nanosecond, as with QEMU's `-icount shift=0`, or 2 to the power of the
/// shift. What the hypervisor does for so many microseconds at a time is as many instructions then as there.
const COUNTED_IPS: u32 = 1_000_000_000;

/// Bytes of the disk: whole cylinders, and more than 2^28 sectors. A smaller one the firmware reads in pieces of 128 KiB, and
/// polls a timer for 10 ms after each, which is a third of all instructions up to the hypervisor's first.
const DISK: u64 = 270_000 * 16 * 63 * 512;

/// Where the firmware ends.
const FOUR_GIB: u64 = 1 << 32;

/// How long Bochs may take to connect to the serial line.
const CONNECT: Duration = Duration::from_secs(30);

/// How fast a machine's time passes while its processor is halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the host can.
    Free,
    /// No faster than the host's, and the host is not kept busy by a halted processor.
    Host,
}

/// Whether the model is AMD's.
pub fn is_amd(model: &str) -> bool {
    AMD.iter().any(|beginning| model.starts_with(beginning))
}

/// What the machine asks for that Bochs does not have.
pub fn lacks(machine: &Machine) -> Option<&'static str> {
    let qemus = machine.cpu != qemu::USUAL_CPU || !machine.extra.is_empty();
    qemus.then_some("the scenario's machine is described in QEMU's terms")
}

/// How the end of a machine shows. A halted payload and a reset keep Bochs running: what is printed tells.
pub fn sign(end: End) -> Sign {
    match end {
        End::Success => Sign::Text("payload ends with 0x10"),
        End::Off => Sign::Words("soft power off"),
        End::Reset => Sign::Text("BdsDxe: starting Boot"),
    }
}

/// Boots a copy of `image`; everything that Bochs writes is in `folder`, but for what a second serial port writes to
/// `counters`, if that is given.
///
/// # Errors
/// If Bochs does not start, or the files cannot be written.
pub fn boot(
    machine: &Machine,
    model: &str,
    bochs: &Bochs,
    image: &Path,
    folder: &Path,
    pace: Pace,
    counters: Option<&Path>,
) -> Result<Link> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Bochs is started in its folder.
    let counters = counters.map(std::path::absolute).transpose()?;
    write_disk(image, &folder.join("disk.img"))?;
    // Bochs is the one that connects: whatever it prints first is not lost.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("there is no port for the serial line")?;
    let settings = Settings {
        model,
        cpus: machine.cpus,
        ips: match machine.icount {
            true => COUNTED_IPS >> machine.icount_shift,
            false => IPS,
        },
        memory: mebibytes(&machine.memory)?,
        firmware: bochs.firmware(),
        video_bios: &bochs.video_bios(),
        port: listener.local_addr()?.port(),
        pace,
        counters: counters.as_deref(),
    };
    let config = folder.join("bochsrc");
    crate::paths::write(&config, settings.text()?.as_bytes())?;
    let output = File::create(folder.join("output"))?;
    let mut command = bochs.command();
    command
        .args(["-q", "-unlock", "-f"])
        .arg(&config)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut emulator = command.spawn().context("Bochs cannot be started")?;
    match connection(&listener, &mut emulator) {
        Ok(line) => Ok(Link {
            emulator,
            input: Box::new(line.try_clone()?),
            output: Box::new(line),
            words: Some(folder.join("output")),
            counters,
        }),
        Err(error) => {
            let _ = emulator.kill();
            let _ = emulator.wait();
            Err(error.context(last_words(folder)))
        }
    }
}

/// Why Bochs ended, as it says itself.
fn last_words(folder: &Path) -> String {
    let file = folder.join("output");
    let text = std::fs::read(&file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.split("exiting with the following message:").nth(1) {
        Some(message) => {
            let mut lines = message.lines().map(str::trim);
            let said = lines.find(|line| !line.is_empty());
            format!("Bochs: {}", said.unwrap_or_default())
        }
        None => format!("Bochs does not say why in {}", file.display()),
    }
}

/// Copies the image to a disk of [`DISK`] bytes, nearly all of it a hole.
fn write_disk(image: &Path, disk: &Path) -> Result<()> {
    std::fs::copy(image, disk)
        .with_context(|| format!("cannot copy {} to {}", image.display(), disk.display()))?;
    let disk = File::options().write(true).open(disk)?;
    disk.set_len(DISK).context("cannot make the disk larger")
}

/// Waits for Bochs to connect.
fn connection(listener: &TcpListener, emulator: &mut Child) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let until = Instant::now() + CONNECT;
    loop {
        match listener.accept() {
            Ok((line, _)) => {
                line.set_nonblocking(false)?;
                line.set_nodelay(true)?;
                return Ok(line);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = emulator.try_wait()? {
            bail!("Bochs ended at once ({status})");
        }
        if Instant::now() > until {
            bail!("Bochs does not connect to its serial line");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory as QEMU writes it, in MiB.
fn mebibytes(memory: &str) -> Result<u32> {
    let number = |unit| memory.strip_suffix(unit)?.parse::<u32>().ok();
    let gibibytes = || number('G')?.checked_mul(1024);
    number('M')
        .or_else(gibibytes)
        .with_context(|| format!("{memory:?} is no size like 512M or 2G"))
}

/// What goes into the configuration file.
struct Settings<'a> {
    model: &'a str,
    cpus: u32,
    ips: u32,
    memory: u32,
    firmware: &'a Path,
    video_bios: &'a Path,
    port: u16,
    pace: Pace,
    counters: Option<&'a Path>,
}

impl Settings<'_> {
    fn text(&self) -> Result<String> {
        let firmware_at = FOUR_GIB - self.firmware.metadata()?.len();
        let sync = match self.pace {
            Pace::Free => "none",
            Pace::Host => "slowdown",
        };
        let mut text = String::new();
        // The firmware finds its memory and its tables by fw_cfg. There is no display for which a PCI video card would work.
        write!(
            text,
            "romimage: file={firmware}, address={firmware_at:#x}\n\
             vgaromimage: file={video_bios}\n\
             vga: extension=none\n\
             display_library: rfb, options=\"timeout=0\"\n\
             plugin_ctrl: fw_cfg=1\n\
             fw_cfg: enabled=1\n\
             pci: enabled=1, chipset=i440fx\n\
             cpu: model={model}, count={cpus}, ips={ips}, cpuid_freq=ips, reset_on_triple_fault=0\n\
             clock: sync={sync}, time0=utc\n\
             memory: guest={memory}, host={memory}\n\
             ata0-master: type=disk, path=disk.img, mode=flat\n\
             boot: disk\n\
             com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}\n\
             sound: waveoutdrv=dummy\n\
             log: bochs.log\n\
             panic: action=fatal\n",
            firmware = self.firmware.display(),
            video_bios = self.video_bios.display(),
            model = self.model,
            cpus = self.cpus,
            ips = self.ips,
            memory = self.memory,
            port = self.port,
        )?;
        if let Some(file) = self.counters {
            let file = file.display();
            writeln!(text, "com2: enabled=1, mode=file, dev={file}")?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{lacks, mebibytes};
    use crate::machine::Machine;

    #[test]
    fn sizes_are_qemus() {
        assert_eq!(mebibytes("512M").unwrap(), 512);
        assert_eq!(mebibytes("2G").unwrap(), 2048);
        assert!(mebibytes("2").is_err());
        assert!(mebibytes("").is_err());
        assert!(mebibytes("9999999G").is_err());
    }

    #[test]
    fn a_machine_in_qemus_terms_is_not_for_bochs() {
        assert_eq!(lacks(&Machine::default()), None);
        let cpu = Machine {
            cpu: "max,-svm".into(),
            ..Machine::default()
        };
        assert!(lacks(&cpu).is_some());
    }
}
