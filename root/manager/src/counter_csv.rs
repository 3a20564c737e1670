//! `counters … --csv` and `counters … --watch`: counters as comma-separated values (RFC 4180), and every second.
//!
//! The first line names the columns: time, set, instance, and each counter by its exact name, those that are zero as well. Then
//! there is a line for each instance in each sample. Instances of several sets share the columns: a counter that an instance
//! does not have is empty there. The columns are those of the first sample.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::console::{CountersOf, seconds};
use crate::counter_table::{Row, Section, table};
use crate::host::Host;
use crate::input::{Mode, write_text};
use crate::life::SECOND;
use crate::manager::Manager;
use crate::top::{ROWS, frame};

/// What is before the counters in each line.
const FIRST: [&str; 3] = ["Time", "Set", "Instance"];

/// The names of the counters, each once, in the order in which they come.
fn columns(sections: &[Section]) -> Vec<String> {
    let mut known = BTreeSet::new();
    let rows = sections.iter().flat_map(|section| &section.rows);
    let new = rows.map(Row::name).filter(|name| known.insert(*name));
    new.map(ToString::to_string).collect()
}

/// A line. What has a comma, a quote or a line's end in it is quoted.
fn line<'f>(fields: impl Iterator<Item = &'f str>) -> String {
    let quoted = |field: &str| {
        if field.contains([',', '"', '\r', '\n']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.into()
        }
    };
    fields.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

fn header(columns: &[String]) -> String {
    line(FIRST.into_iter().chain(columns.iter().map(String::as_str)))
}

/// A sample: a line for each instance.
fn sample(time: u64, columns: &[String], sections: &[Section]) -> String {
    let time = seconds(time);
    let one = |section: &Section| {
        // Of two with one name the first counts.
        let rows = section.rows.iter().rev();
        let values: BTreeMap<&str, String> = rows
            .map(|row| (row.name(), row.value.to_string()))
            .collect();
        let value = |column: &String| values.get(column.as_str()).map_or("", String::as_str);
        let first = [&*time, section.set, &section.instance];
        line(first.into_iter().chain(columns.iter().map(value)))
    };
    sections.iter().map(one).collect()
}

/// Header and one sample.
pub fn text(time: u64, sections: &[Section]) -> String {
    let columns = columns(sections);
    header(&columns) + &sample(time, &columns, sections)
}

/// Counters that are shown every second.
#[derive(Clone, Debug)]
pub struct CounterWatch {
    what: Option<String>,
    /// Columns, if they are shown as CSV.
    csv: Option<Vec<String>>,
    /// When they were shown.
    shown: u64,
}

impl CounterWatch {
    /// When they are to be shown again.
    pub fn deadline(&self) -> u64 {
        self.shown.saturating_add(SECOND)
    }
}

impl Manager {
    /// `counters … --watch`.
    ///
    /// # Errors
    /// As without.
    pub(crate) fn enter_counters(
        &mut self,
        host: &mut impl Host,
        wanted: &CountersOf<'_>,
    ) -> Result<(), String> {
        let sections = self.sections(host, wanted.what, wanted.csv)?;
        let csv = wanted.csv.then(|| columns(&sections));
        match &csv {
            Some(columns) => write_text(host, &header(columns)),
            None => host.console_write(b"\x1b[2J"),
        }
        let watch = CounterWatch {
            what: wanted.what.map(ToString::to_string),
            csv,
            shown: 0,
        };
        self.show_counters(host, watch, &sections);
        Ok(())
    }

    /// Shows them as they are now.
    pub(crate) fn refresh_counters(&mut self, host: &mut impl Host, watch: CounterWatch) {
        // They may be gone, and come again.
        let sections = self.sections(host, watch.what.as_deref(), watch.csv.is_some());
        self.show_counters(host, watch, &sections.unwrap_or_default());
    }

    fn show_counters(
        &mut self,
        host: &mut impl Host,
        mut watch: CounterWatch,
        sections: &[Section],
    ) {
        watch.shown = host.now();
        match &watch.csv {
            Some(columns) => write_text(host, &sample(watch.shown, columns, sections)),
            None => host.console_write(screen(sections).as_bytes()),
        }
        self.mode = Mode::Counters(watch);
    }
}

/// A screen of them.
fn screen(sections: &[Section]) -> String {
    let table = table(sections);
    let all: Vec<&str> = table.lines().collect();
    // With the title, a line for those that are left out, and the cursor's.
    let room = ROWS - 3;
    let shown = all.iter().take(room).map(ToString::to_string);
    let mut lines = Vec::from(["counters; any key ends this".to_string()]);
    lines.extend(shown);
    let left_out = all.len().saturating_sub(room);
    if left_out > 0 {
        lines.push(format!("and {left_out} lines more; a pattern shows fewer"));
    }
    frame(lines)
}
