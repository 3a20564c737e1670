//! `top`: processors and VPs in a table that is drawn again every second.
//!
//! It takes a terminal of 80 columns and 24 rows, and of its control sequences only home, erase to the end of the line, and
//! erase what is below.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tlfs::stats::{logical_processor as lp, vp};

use crate::counters::{Object, Whose, get, intercepts, interrupts};
use crate::host::{Host, VmId};
use crate::input::Mode;
use crate::life::SECOND;
use crate::manager::Manager;
use crate::rates::{PerMille, per_mille, per_second};
use crate::report;

/// Columns of the terminal; the last stays free, so that no terminal wraps.
pub const COLUMNS: usize = 80;
/// Rows of the terminal; the cursor rests on the last.
pub const ROWS: usize = 24;
/// Columns of a VM's name; what is longer is cut.
const NAME: usize = 22;
const ESCAPE: u8 = 0x1B;

/// Counters of a logical processor at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processor {
    /// Time on its own clock, 100 ns, and how much of that it was busy.
    pub time: u64,
    /// See `time`.
    pub busy: u64,
    /// How long the root's VP there has run, 100 ns.
    pub root: u64,
    /// Interrupts.
    pub interrupts: u64,
}

/// Counters of a VP at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vp {
    /// How long it has run, 100 ns.
    pub run_time: u64,
    /// Intercepts.
    pub intercepts: u64,
    /// Hypercalls.
    pub hypercalls: u64,
    /// Virtual interrupts.
    pub interrupts: u64,
}

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Reference time, 100 ns.
    pub time: u64,
    /// Processors by index.
    pub processors: BTreeMap<u32, Processor>,
    /// VPs of VMs by index.
    pub vps: BTreeMap<(VmId, u32), Vp>,
}

impl Look {
    /// Looks at the machine, and at the VMs named.
    pub fn at(host: &impl Host, vms: &[VmId]) -> Self {
        let mut look = Self {
            time: host.now(),
            ..Self::default()
        };
        // VPs first: looking at them brings the pages of their processors up to date.
        for vm in vms {
            host.counters(Whose::Vm(*vm), &mut |object, page| {
                if let Object::VirtualProcessor(index) = object {
                    let figures = Vp {
                        run_time: get(page, vp::TOTAL_RUN_TIME),
                        intercepts: intercepts(page),
                        hypercalls: get(page, vp::HYPERCALLS_COUNT),
                        interrupts: get(page, vp::VIRTUAL_INTERRUPTS),
                    };
                    look.vps.insert((*vm, index), figures);
                }
            });
        }
        let processors = &mut look.processors;
        host.counters(Whose::Machine, &mut |object, page| {
            if let Object::LogicalProcessor(index) = object {
                let processor = processors.entry(index).or_default();
                processor.time = get(page, lp::GLOBAL_TIME);
                processor.busy = get(page, lp::TOTAL_RUN_TIME);
                processor.interrupts = interrupts(page);
            }
        });
        // The root has one VP for each processor, which never leaves it.
        host.counters(Whose::Root, &mut |object, page| {
            if let Object::VirtualProcessor(index) = object
                && let Some(processor) = processors.get_mut(&index)
            {
                processor.root = get(page, vp::TOTAL_RUN_TIME);
            }
        });
        look
    }
}

/// The live table.
#[derive(Clone, Debug)]
pub struct Top {
    last: Look,
}

impl Top {
    /// When it is to be drawn again.
    pub fn deadline(&self) -> u64 {
        self.last.time.saturating_add(SECOND)
    }
}

impl Manager {
    /// `top`.
    pub(crate) fn enter_top(&mut self, host: &mut impl Host) {
        host.console_write(b"\x1b[2J");
        self.draw_top(host, None);
    }

    /// Shows the table as it is now, with rates since it was shown before.
    pub(crate) fn draw_top(&mut self, host: &mut impl Host, before: Option<&Top>) {
        let last = Look::at(host, &self.looked_at());
        self.draw(host, before.map(|top| &top.last), &last);
        self.mode = Mode::Top(Top { last });
    }

    /// A key was pressed. Returns what was typed after it.
    pub(crate) fn leave_top<'b>(&mut self, host: &mut impl Host, typed: &'b [u8]) -> &'b [u8] {
        self.mode = Mode::Commands;
        host.console_write(b"\r\x1b[J");
        self.prompt(host);
        match typed {
            // A cursor key is several bytes.
            [] | [ESCAPE, ..] => &[],
            [_, rest @ ..] => rest,
        }
    }

    fn looked_at(&self) -> Vec<VmId> {
        let ids = self.ids().into_iter();
        ids.filter(|id| self.has_worker(*id)).collect()
    }

    fn draw(&self, host: &mut impl Host, old: Option<&Look>, new: &Look) {
        let vm = |id: VmId| {
            let state = self.state(id).map_or("", |state| state.word());
            (self.name(id).unwrap_or("?"), state)
        };
        let running = self.looked_at().len();
        let title = format!("{running} of {} VMs run", self.vms.len());
        let screen = screen(&title, old, new, vm);
        host.console_write(screen.as_bytes());
    }
}

/// The table as bytes for a terminal. `vm` gives a VM's name and state. Without an `old` look there are no rates.
pub fn screen<'n>(
    title: &str,
    old: Option<&Look>,
    new: &Look,
    vm: impl Fn(VmId) -> (&'n str, &'n str),
) -> String {
    frame(lines(title, old, new, vm))
}

/// Lines as bytes for a terminal, cut to its width, over what was there before.
pub fn frame(lines: Vec<String>) -> String {
    let mut screen = String::from("\x1b[H");
    for line in lines {
        let line: String = line.chars().take(COLUMNS - 1).collect();
        screen += line.trim_end();
        screen += "\x1b[K\r\n";
    }
    screen + "\x1b[J"
}

fn lines<'n>(
    title: &str,
    old: Option<&Look>,
    new: &Look,
    vm: impl Fn(VmId) -> (&'n str, &'n str),
) -> Vec<String> {
    let mut lines = Vec::new();
    let up = report::duration(new.time);
    lines.push(format!("Partita, up {up}; {title}; any key ends this"));
    lines.push(format!(
        "{:>4} {:>7} {:>7} {:>7} {:>10}",
        "LP", "BUSY%", "ROOT%", "IDLE%", "INTR/S"
    ));
    let time = old.map(|old| new.time.saturating_sub(old.time));
    // With the headings, a line for the VPs that are left out, and the cursor's.
    let most = ROWS - 5;
    for (index, processor) in new.processors.iter().take(most) {
        let before = old.and_then(|old| old.processors.get(index));
        lines.push(format!(
            "{index:>4} {}",
            processor_line(before, processor, time)
        ));
    }
    lines.push(format!(
        "{:NAME$} {:>4} {:8} {:>6} {:>10} {:>10} {:>10}",
        "VM", "VP", "STATE", "RUN%", "EXITS/S", "HCALLS/S", "VINTR/S"
    ));
    let room = (ROWS - 2).saturating_sub(lines.len());
    let shown = busiest(old, new, room);
    for id in &shown {
        let (Some(figures), (name, state)) = (new.vps.get(id), vm(id.0)) else {
            continue;
        };
        let before = old.and_then(|old| old.vps.get(id));
        lines.push(format!(
            "{:NAME$} {:>4} {state:8} {}",
            cut(name, NAME),
            id.1,
            vp_line(before, figures, time)
        ));
    }
    let left_out = new.vps.len().saturating_sub(shown.len());
    if left_out > 0 {
        lines.push(format!("and {left_out} VPs that ran less"));
    }
    lines
}

/// The VPs that ran most, as many as there is room for, in the order of VMs and VPs.
fn busiest(old: Option<&Look>, new: &Look, room: usize) -> Vec<(VmId, u32)> {
    let ran = |(id, vp): (&(VmId, u32), &Vp)| {
        let before = old.and_then(|old| old.vps.get(id));
        let ran = vp
            .run_time
            .saturating_sub(before.map_or(0, |vp| vp.run_time));
        (core::cmp::Reverse(ran), *id)
    };
    let mut vps: Vec<_> = new.vps.iter().map(ran).collect();
    vps.sort_unstable();
    let mut shown: Vec<_> = vps.into_iter().take(room).map(|(_, id)| id).collect();
    shown.sort_unstable();
    shown
}

fn processor_line(old: Option<&Processor>, new: &Processor, time: Option<u64>) -> String {
    let Some((old, time)) = old.zip(time) else {
        return format!("{:>7} {:>7} {:>7} {:>10}", "-", "-", "-", "-");
    };
    // Busy by its own clock, which stands still with the page while it sleeps.
    let own = new.time.saturating_sub(old.time);
    let busy = per_mille(new.busy.saturating_sub(old.busy), own).min(1000);
    let root = per_mille(new.root.saturating_sub(old.root), time).min(1000);
    format!(
        "{:>7} {:>7} {:>7} {:>10}",
        report::percent(busy),
        report::percent(root),
        report::percent(1000 - busy),
        number(
            per_second(new.interrupts.saturating_sub(old.interrupts), time),
            10
        )
    )
}

fn vp_line(old: Option<&Vp>, new: &Vp, time: Option<u64>) -> String {
    let Some((old, time)) = old.zip(time) else {
        return format!("{:>6} {:>10} {:>10} {:>10}", "-", "-", "-", "-");
    };
    let run: PerMille = per_mille(new.run_time.saturating_sub(old.run_time), time).min(1000);
    let rate = |new: u64, old: u64| number(per_second(new.saturating_sub(old), time), 10);
    format!(
        "{:>6} {:>10} {:>10} {:>10}",
        report::percent(run),
        rate(new.intercepts, old.intercepts),
        rate(new.hypercalls, old.hypercalls),
        rate(new.interrupts, old.interrupts)
    )
}

/// A name that fits a column of that width.
pub fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.into();
    }
    name.chars().take(width - 1).chain(['~']).collect()
}

/// A number in at most `width` columns: in thousands, millions and so on if it is longer.
pub fn number(value: u64, width: usize) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let mut value = value;
    for unit in units {
        let text = value.to_string() + unit;
        if text.len() <= width {
            return text;
        }
        value /= 1000;
    }
    value.to_string() + "E"
}
