//! A machine's serial line on this terminal, for an emulator that does not take the terminal itself.

use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context, Result};

use super::Link;

/// Ctrl-A: what follows is for us.
const ESCAPE: u8 = 1;

/// Connects both until the emulator ends, or until Ctrl-A X is typed, which ends it.
///
/// # Errors
/// If the terminal cannot be set up, or the emulator's end is not seen.
pub fn attach(mut link: Link) -> Result<()> {
    let raw = RawTerminal::enter()?;
    let (quit, end) = channel();
    let closed = quit.clone();
    std::thread::spawn(move || {
        show(&mut link.output);
        let _ = closed.send(());
    });
    std::thread::spawn(move || {
        if type_to(&mut link.input) {
            let _ = quit.send(());
        }
    });
    let _ = end.recv();
    let _ = link.emulator.kill();
    link.emulator
        .wait()
        .context("the emulator's end was not seen")?;
    drop(raw);
    println!();
    Ok(())
}

/// Prints what the machine prints.
fn show(output: &mut dyn Read) {
    let mut screen = std::io::stdout();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let text = buffer.get(..length).unwrap_or_default();
        if screen
            .write_all(text)
            .and_then(|()| screen.flush())
            .is_err()
        {
            return;
        }
    }
}

/// Types what is typed here; returns whether it was to quit.
fn type_to(input: &mut dyn Write) -> bool {
    let mut escaped = false;
    let mut byte = [0];
    while let Ok(1..) = std::io::stdin().read(&mut byte) {
        let [key] = byte;
        match (escaped, key) {
            (true, b'x' | b'X') => return true,
            (false, ESCAPE) => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
        if input.write_all(&byte).is_err() {
            break;
        }
    }
    // The end of what was typed is not the end of the machine.
    false
}

/// The terminal passes every key on while this lives.
struct RawTerminal {
    saved: Option<String>,
}

impl RawTerminal {
    fn enter() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self { saved: None });
        }
        let saved = stty(&["--save"])?;
        stty(&["raw", "-echo"])?;
        Ok(Self {
            saved: Some(saved.trim().to_owned()),
        })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = stty(&[saved]);
        }
    }
}

fn stty(arguments: &[&str]) -> Result<String> {
    let done = Command::new("stty")
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .context("stty cannot be started")?;
    anyhow::ensure!(
        done.status.success(),
        "stty {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
