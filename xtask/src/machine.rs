//! The emulated machine: QEMU's command line.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::accel::Accel;

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// A machine to boot an image on.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// Processors.
    pub cpus: u32,
    /// RAM, as QEMU writes it: `512M`, `4G`.
    pub memory: String,
    /// QEMU's `-cpu` for the software CPU.
    pub cpu: String,
    /// One instruction is one nanosecond of virtual time, on one processor: repeatable counts.
    pub icount: bool,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
    /// Waits for gdb on port 1234 before the first instruction.
    #[serde(skip)]
    pub gdb: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: "2G".into(),
            cpu: "max".into(),
            icount: false,
            extra: Vec::new(),
            gdb: false,
        }
    }
}

/// Where the machine's first serial port goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// To the terminal in raw mode, shared with QEMU's monitor (Ctrl-A X quits).
    Terminal,
    /// To QEMU's standard input and output.
    Pipe,
}

impl Machine {
    /// The command that boots `image`. QEMU dies with the thread that starts it, whatever ends that thread.
    pub fn command(&self, image: &Path, accel: Accel, serial: Serial) -> Command {
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
            &self.memory,
            "-smp",
            &self.cpus.to_string(),
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
        match (accel, self.icount) {
            (Accel::Kvm, false) => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            (_, true) => qemu.args([
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                &self.cpu,
            ]),
            (Accel::Tcg, false) => qemu.args(["-accel", "tcg,thread=multi", "-cpu", &self.cpu]),
        };
        match serial {
            Serial::Terminal => qemu.args(["-serial", "mon:stdio"]),
            // A reset ends the run: a scenario sees it, and a machine that crashes does not start over.
            Serial::Pipe => qemu.args(["-serial", "stdio", "-monitor", "none", "-no-reboot"]),
        };
        if self.gdb {
            qemu.args(["-s", "-S"]);
        }
        qemu.args(&self.extra);
        qemu
    }
}
