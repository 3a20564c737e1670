//! A machine in QEMU: its command line.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::accel::Accel;
use super::{End, Link, Machine, Sign};

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// The software CPU with all it can.
pub const USUAL_CPU: &str = "max";

/// What it must not have: QEMU 7.2 computes flags behind CMPXCHG16B from whatever was computed last but one, so that an
/// interrupt right behind it saves others than there were, a trap flag among them (SUPPORT.md, quirks).
const BROKEN: &str = "-cx16";

/// Where the machine's first serial port goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// To the terminal in raw mode, shared with QEMU's monitor (Ctrl-A X quits).
    Terminal,
    /// To QEMU's standard input and output.
    Pipe,
}

/// What QEMU ends with: what a payload writes to the debug exit port is doubled and incremented.
pub fn sign(end: End) -> Sign {
    Sign::Status(match end {
        End::Success => 33,
        End::Off | End::Reset => 0,
    })
}

/// Boots `image` with the serial port on pipes, and a second one that writes to `counters`, if that is given.
///
/// # Errors
/// If QEMU does not start.
pub fn boot(machine: &Machine, image: &Path, log: File, counters: Option<&Path>) -> Result<Link> {
    // The software CPU is the same everywhere; a processor of this machine would make verdicts depend on it.
    let mut emulator = command(machine, image, Accel::Tcg, Serial::Pipe, counters)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("QEMU cannot be started")?;
    let (Some(input), Some(output)) = (emulator.stdin.take(), emulator.stdout.take()) else {
        bail!("QEMU has no serial line");
    };
    Ok(Link {
        emulator,
        input: Box::new(input),
        output: Box::new(output),
        words: None,
        counters: counters.map(Path::to_path_buf),
    })
}

/// The command that boots `image`. QEMU dies with the thread that starts it, whatever ends that thread.
pub fn command(
    machine: &Machine,
    image: &Path,
    accel: Accel,
    serial: Serial,
    counters: Option<&Path>,
) -> Command {
    let mut qemu = Command::new("setpriv");
    qemu.args([
        "--pdeathsig",
        "KILL",
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
    ])
    .args([
        "-machine",
        "q35",
        "-m",
        &machine.memory,
        "-smp",
        &machine.cpus.to_string(),
    ])
    .args(["-display", "none", "-nic", "none", "-no-reboot"])
    .args([
        "-drive",
        &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
    ])
    .arg("-drive")
    .arg(format!(
        "if=none,id=disk,format=raw,snapshot=on,file={}",
        image.display()
    ))
    .args(["-device", "ide-hd,drive=disk,bus=ide.0"])
    // A write to this port ends QEMU with the status 2 × value + 1: how payloads end a run.
    .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    let software_cpu = format!("{},{BROKEN}", machine.cpu);
    match (accel, machine.icount) {
        (Accel::Kvm, false) => qemu.args(["-accel", "kvm", "-cpu", "host"]),
        (_, true) => qemu.args([
            "-accel",
            "tcg,thread=single",
            "-icount",
            &format!("shift={},sleep=off", machine.icount_shift),
            "-cpu",
            &software_cpu,
        ]),
        (Accel::Tcg, false) => {
            // In one thread they take turns: one that waits for another does not keep it from running, and what QEMU 7.2
            // does wrong with a thread for each (SUPPORT.md, quirks) does not happen.
            let accel = match machine.cpus {
                0 | 1 => "tcg,thread=multi",
                _ => "tcg,thread=single",
            };
            qemu.args(["-accel", accel, "-cpu", &software_cpu])
        }
    };
    match serial {
        Serial::Terminal => qemu.args(["-serial", "mon:stdio"]),
        // A reset ends the run: a scenario sees it, and a machine that crashes does not start over.
        Serial::Pipe => qemu.args(["-serial", "stdio", "-monitor", "none", "-no-reboot"]),
    };
    if let Some(file) = counters {
        // A comma in a name is written twice.
        let file = file.display().to_string().replace(',', ",,");
        let backend = format!("file,id=counters,path={file}");
        qemu.args(["-chardev", &backend, "-serial", "chardev:counters"]);
    }
    if machine.gdb {
        qemu.args(["-s", "-S"]);
    }
    qemu.args(&machine.extra);
    qemu
}
