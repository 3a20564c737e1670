//! What `counters` shows: counters in sections, one for each instance of a set, as a table.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tlfs::HV_STATS_COUNTERS_PER_PAGE;

use crate::console::{CountersOf, Table};
use crate::counters::{Object, Page, Whose};
use crate::host::{Counter, Host, VmId};
use crate::manager::Manager;
use crate::memory::counters::{BALANCER_SET, VM_SET, Value};

/// The set of the root's own counters, which has one instance without a name.
const OWN_SET: &str = "Root kernel";

/// A counter of an instance.
#[derive(Clone, Debug)]
pub struct Row {
    /// The hypervisor's name, or the root's; empty if there is none.
    own: String,
    /// The performance counter's name; empty if there is none.
    performance: &'static str,
    /// Its value.
    pub value: u64,
}

impl Row {
    /// The performance counter's name, else the other.
    pub fn name(&self) -> &str {
        if self.performance.is_empty() {
            &self.own
        } else {
            self.performance
        }
    }
}

/// An instance of a set.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name of the set.
    pub set: &'static str,
    /// Name of the instance; empty if it has none.
    pub instance: String,
    /// Its counters.
    pub rows: Vec<Row>,
}

impl Section {
    fn heading(&self) -> String {
        match &*self.instance {
            "" => self.set.into(),
            instance => format!("{} ({instance})", self.set),
        }
    }
}

/// All sections that were looked for.
struct Sections {
    /// What is looked for, in lower case; everything has an empty text in it.
    pattern: String,
    /// Whether counters of the hypervisor that are zero are wanted.
    zeros: bool,
    found: Vec<Section>,
}

impl Sections {
    fn new(pattern: &str, zeros: bool) -> Self {
        Self {
            pattern: pattern.to_lowercase(),
            zeros,
            found: Vec::new(),
        }
    }

    /// A section: what is looked for may be in its heading, or in a counter's names.
    fn section(
        &mut self,
        set: &'static str,
        instance: String,
        rows: impl IntoIterator<Item = Row>,
    ) {
        let found = |text: &str| text.to_lowercase().contains(&self.pattern);
        let mut section = Section {
            set,
            instance,
            rows: Vec::new(),
        };
        let all = found(&section.heading());
        let rows = rows.into_iter();
        let wanted = rows.filter(|row| all || found(&row.own) || found(row.performance));
        section.rows.extend(wanted);
        if !section.rows.is_empty() {
            self.found.push(section);
        }
    }

    fn page(&mut self, object: Object, root: bool, instance: String, page: &Page) {
        let zeros = self.zeros;
        let values = object.all(page).filter(|value| zeros || value.value != 0);
        let rows: Vec<Row> = values
            .map(|value| Row {
                own: value.counter.into(),
                performance: value.performance,
                value: value.value,
            })
            .collect();
        self.section(object.set(root), instance, rows);
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
            self.page(object, root, instance, page);
        });
        if vps > 1 {
            self.page(Object::VirtualProcessor(0), root, "_Total".into(), &sums);
        }
    }

    /// Counters of Dynamic Memory.
    fn memory(&mut self, set: &'static str, instance: &str, values: &[Value]) {
        let rows = values.iter().map(|(name, value)| Row {
            own: String::new(),
            performance: name,
            value: *value,
        });
        self.section(set, instance.into(), rows);
    }

    fn own(&mut self, counters: Vec<Counter>) {
        let rows = counters.into_iter().map(|counter| Row {
            own: counter.name,
            performance: "",
            value: counter.value,
        });
        self.section(OWN_SET, String::new(), rows);
    }
}

/// Sections as a table.
pub fn table(sections: &[Section]) -> String {
    let mut table = Table::new(["COUNTER", ">VALUE", "PERFORMANCE COUNTER"]);
    for section in sections {
        table.line(section.heading());
        for row in &section.rows {
            let own = if row.own.is_empty() { "-" } else { &row.own };
            table.row([own.into(), row.value.to_string(), row.performance.into()]);
        }
    }
    table.text()
}

impl Manager {
    /// `counters`, `counters NAME` and `counters PATTERN`, with their options.
    pub(crate) fn command_counters(
        &mut self,
        host: &mut impl Host,
        wanted: &CountersOf<'_>,
    ) -> Result<String, String> {
        if wanted.watch {
            return self.enter_counters(host, wanted).map(|()| String::new());
        }
        let sections = self.sections(host, wanted.what, wanted.csv)?;
        if wanted.csv {
            return Ok(crate::counter_csv::text(host.now(), &sections));
        }
        Ok(match &*sections {
            [] => "no counters\n".into(),
            sections => table(sections),
        })
    }

    /// The machine's counters; those of the VM of that name; or all, of the machine and of VMs, that have the pattern in their
    /// name or their set's.
    ///
    /// # Errors
    /// If it is a pattern, and nothing has it.
    pub(crate) fn sections(
        &self,
        host: &impl Host,
        what: Option<&str>,
        zeros: bool,
    ) -> Result<Vec<Section>, String> {
        let named = what.map(|what| self.find(what));
        let pattern = what.filter(|_| matches!(named, Some(Err(_))));
        let mut sections = Sections::new(pattern.unwrap_or_default(), zeros);
        match named {
            None => self.machine_counters(host, &mut sections),
            Some(Ok(id)) => self.vm_counters(host, &mut sections, id),
            Some(Err(problem)) => {
                self.machine_counters(host, &mut sections);
                for id in self.ids() {
                    self.vm_counters(host, &mut sections, id);
                }
                if sections.found.is_empty() {
                    return Err(format!(
                        "{problem}; and no counter that is not zero has that in its name"
                    ));
                }
            }
        }
        Ok(sections.found)
    }

    fn machine_counters(&self, host: &impl Host, sections: &mut Sections) {
        sections.pages(host, Whose::Machine, "");
        sections.pages(host, Whose::Root, "");
        for (instance, values) in self.balancers() {
            sections.memory(BALANCER_SET, &instance, &values);
        }
        sections.own(host.own_counters());
    }

    fn vm_counters(&self, host: &impl Host, sections: &mut Sections, id: VmId) {
        let name = self.name(id).unwrap_or_default();
        sections.pages(host, Whose::Vm(id), name);
        if let Some(values) = self.memory_counters(id) {
            sections.memory(VM_SET, name, &values);
        }
    }
}
