//! What `counters` prints.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tlfs::HV_STATS_COUNTERS_PER_PAGE;

use crate::console::Table;
use crate::counters::{Object, Page, Whose};
use crate::host::{Counter, Host, VmId};
use crate::manager::Manager;
use crate::memory::counters::{BALANCER_INSTANCE, BALANCER_SET, VM_SET, Value};

/// Counters in sections, one for each instance of a set.
struct CounterTable {
    table: Table<3>,
    /// What is looked for, in lower case; everything has an empty text in it.
    pattern: String,
}

impl CounterTable {
    fn new(pattern: &str) -> Self {
        Self {
            table: Table::new(["COUNTER", ">VALUE", "PERFORMANCE COUNTER"]),
            pattern: pattern.to_lowercase(),
        }
    }

    /// A section: what is looked for may be in its heading, or in a counter's names. Rows are the hypervisor's name, the value,
    /// and the performance counter's name.
    fn section(&mut self, heading: String, rows: impl Iterator<Item = [String; 3]>) {
        let found = |text: &String| text.to_lowercase().contains(&self.pattern);
        let all = found(&heading);
        let rows = rows.filter(|[own, _, performance]| all || found(own) || found(performance));
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return;
        }
        self.table.line(heading);
        for row in rows {
            self.table.row(row);
        }
    }

    fn page(&mut self, object: Object, root: bool, instance: &str, page: &Page) {
        let rows = object.values(page).map(|value| {
            let counter = if value.counter.is_empty() {
                "-"
            } else {
                value.counter
            };
            let value_text = value.value.to_string();
            [counter.into(), value_text, value.performance.into()]
        });
        self.section(format!("{} ({instance})", object.set(root)), rows);
    }

    /// The pages of the machine, of the root, or of the VM called `vm`, whose VPs are followed by their sums if there are several.
    fn pages(&mut self, host: &impl Host, whose: Whose, vm: &str) {
        let root = !matches!(whose, Whose::Vm(_));
        let owner = if root { "Root" } else { vm };
        let mut vps = 0;
        let mut sums: Box<Page> = Box::new([0; HV_STATS_COUNTERS_PER_PAGE]);
        host.counters(whose, &mut |object, page| {
            let instance = match object {
                Object::Hypervisor => "Hv".into(),
                Object::LogicalProcessor(index) => format!("Hv LP {index}"),
                Object::Partition => owner.into(),
                Object::VirtualProcessor(index) if root => format!("Root VP {index}"),
                Object::VirtualProcessor(index) => format!("{vm}:Hv VP {index}"),
            };
            if let Object::VirtualProcessor(_) = object {
                vps += 1;
                crate::counters::add(&mut sums, page);
            }
            self.page(object, root, &instance, page);
        });
        if vps > 1 {
            self.page(Object::VirtualProcessor(0), root, "_Total", &sums);
        }
    }

    /// Counters of Dynamic Memory.
    fn memory(&mut self, set: &str, instance: &str, values: &[Value]) {
        let rows = values.iter();
        let rows = rows.map(|(name, value)| ["-".into(), value.to_string(), (*name).into()]);
        self.section(format!("{set} ({instance})"), rows);
    }

    fn own(&mut self, counters: &[Counter]) {
        let rows = counters.iter();
        let rows = rows.map(|counter| {
            [
                counter.name.clone(),
                counter.value.to_string(),
                String::new(),
            ]
        });
        self.section("Root kernel".into(), rows);
    }

    /// The text, `None` if there is nothing.
    fn text(&self) -> Option<String> {
        (!self.table.is_empty()).then(|| self.table.text())
    }
}

impl Manager {
    /// `counters`, `counters NAME` and `counters PATTERN`: the machine's; those of the VM of that name; or all, of the machine and
    /// of VMs, that have it in their name or their set's.
    pub(crate) fn command_counters(
        &self,
        host: &impl Host,
        what: Option<&str>,
    ) -> Result<String, String> {
        let Some(what) = what else {
            let mut table = CounterTable::new("");
            self.machine_counters(host, &mut table);
            return Ok(table.text().unwrap_or_else(nothing));
        };
        let named = self.find(what);
        if let Ok(id) = named {
            let mut table = CounterTable::new("");
            self.vm_counters(host, &mut table, id);
            return Ok(table.text().unwrap_or_else(nothing));
        }
        let mut table = CounterTable::new(what);
        self.machine_counters(host, &mut table);
        for id in self.ids() {
            self.vm_counters(host, &mut table, id);
        }
        table.text().ok_or_else(|| {
            let problem = named.err().unwrap_or_default();
            format!("{problem}; and no counter that is not zero has that in its name")
        })
    }

    fn machine_counters(&self, host: &impl Host, table: &mut CounterTable) {
        table.pages(host, Whose::Machine, "");
        table.pages(host, Whose::Root, "");
        if let Some(values) = self.balancer_counters() {
            table.memory(BALANCER_SET, BALANCER_INSTANCE, &values);
        }
        table.own(&host.own_counters());
    }

    fn vm_counters(&self, host: &impl Host, table: &mut CounterTable, id: VmId) {
        let name = self.name(id).unwrap_or_default();
        table.pages(host, Whose::Vm(id), name);
        if let Some(values) = self.memory_counters(id) {
            table.memory(VM_SET, name, &values);
        }
    }
}

fn nothing() -> String {
    "no counters\n".into()
}
