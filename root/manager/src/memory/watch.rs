//! `mem --watch`: the VMs with Dynamic Memory in a table that is drawn again every second, as `top` is.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::host::Host;
use crate::input::Mode;
use crate::manager::Manager;
use crate::memory::scope::Scope;
use crate::memory::{PERIOD, mib};
use crate::top::{ROWS, cut, frame, number};

/// Columns of a VM's name; what is longer is cut.
const NAME: usize = 14;
/// Seconds in a sparkline.
pub const SECONDS: usize = 24;
/// Heights of a sparkline's bars.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Per cent of pressure from which on the bar is the highest.
const HIGHEST: u32 = 140;

/// The last pressures of a VM, one for each round, the newest last.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<u32>);

impl History {
    /// Keeps a pressure, per cent.
    pub fn push(&mut self, pressure: u32) {
        if self.0.len() >= SECONDS {
            self.0.pop_front();
        }
        self.0.push_back(pressure);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A bar for each.
    pub fn sparkline(&self) -> String {
        let bar = |pressure: &u32| {
            let last = BARS.len() as u32 - 1;
            let height = (pressure.saturating_mul(last) / HIGHEST).min(last);
            BARS.get(height as usize).copied().unwrap_or('?')
        };
        self.0.iter().map(bar).collect()
    }
}

/// The live table.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// When it was drawn.
    drawn: u64,
}

impl Watch {
    /// When it is to be drawn again.
    pub fn deadline(&self) -> u64 {
        self.drawn.saturating_add(PERIOD)
    }
}

impl Manager {
    /// `mem --watch`. What no round has seen yet is there as well, so that the first second shows all.
    pub(crate) fn enter_watch(&mut self, host: &mut impl Host) {
        for vm in self.vms.values_mut() {
            let pressures = vm.memory.state().map(|state| state.pressures);
            if let Some([pressure, _]) = pressures.filter(|_| vm.memory.history.is_empty()) {
                vm.memory.history.push(pressure);
            }
        }
        host.console_write(b"\x1b[2J");
        self.draw_memory(host);
    }

    /// Shows the table as it is now.
    pub(crate) fn draw_memory(&mut self, host: &mut impl Host) {
        let lines = self.watch_lines(host);
        host.console_write(frame(lines).as_bytes());
        let drawn = host.now();
        self.mode = Mode::Memory(Watch { drawn });
    }

    fn watch_lines(&self, host: &impl Host) -> Vec<String> {
        let rows = self.memory_rows(host);
        let balancers = self.balancers();
        let available = balancers.iter().map(|(_, [(_, mib), ..])| *mib);
        let available = available.reduce(u64::saturating_add);
        // There was no round yet.
        let now = || mib(self.look(host, &host.memory(), true, Scope::Machine).free());
        let available = available.or_else(|| self.has_dynamic().then(now));
        let title = match available {
            Some(mib) => format!("{mib} MiB available; any key ends this"),
            None => "no VM with Dynamic Memory runs; any key ends this".into(),
        };
        let mut lines = Vec::from([
            title,
            format!(
                "{:NAME$} {:>6} {:>6} {:>6} {:>5} {:>5} {:6} PRESSURE",
                "VM, MiB", "HAS", "SEES", "NEEDS", "PRES%", "AVG%", "STATE"
            ),
        ]);
        // With a line for those that are left out, and the cursor's.
        let room = ROWS - 2 - lines.len();
        for row in rows.iter().take(room) {
            let size = |pages: Option<u64>| pages.map_or("-".into(), |pages| number(mib(pages), 6));
            let percent =
                |value: Option<u32>| value.map_or("-".to_string(), |value| number(value.into(), 5));
            lines.push(format!(
                "{:NAME$} {:>6} {:>6} {:>6} {:>5} {:>5} {:6} {}",
                cut(row.name, NAME),
                size(Some(row.assigned)),
                size(row.told.map(|state| state.visible)),
                size(row.told.map(|state| state.newest)),
                percent(row.told.map(|state| state.pressures[0])),
                percent(row.told.map(|state| state.pressures[1])),
                row.condition.word(),
                row.history.sparkline()
            ));
        }
        let left_out = rows.len().saturating_sub(room);
        if left_out > 0 {
            lines.push(format!("and {left_out} more; \"mem\" shows all"));
        }
        lines
    }
}
