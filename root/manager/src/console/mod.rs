//! The console: one line of input being edited, or a guest's serial line attached.

mod attach;
mod command;
mod editor;
mod table;

pub use attach::{Escape, Typed};
pub use command::{Command, CountersOf, HELP, VmAction, parse};
pub use editor::{Editor, Input};
pub use table::{Table, kib, seconds};

/// What the console writes before it reads a line.
pub const PROMPT: &str = "partita> ";
