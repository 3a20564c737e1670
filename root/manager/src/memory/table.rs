//! What `mem` shows.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use root_abi::news::MemoryState;

use crate::console::Table;
use crate::definition::DynamicMemory;
use crate::host::{Host, MemoryReport};
use crate::manager::Manager;
use crate::memory::told::Condition;
use crate::memory::watch::History;
use crate::memory::{mib, pages};
use crate::report;

/// A VM with Dynamic Memory that runs.
pub struct Row<'m> {
    pub name: &'m str,
    /// What machine memory is behind, by the kernel's books; pages.
    pub assigned: u64,
    pub settings: DynamicMemory,
    pub told: Option<&'m MemoryState>,
    pub condition: Condition,
    pub history: &'m History,
}

impl Manager {
    /// `mem`: who owns the machine's memory, then the VMs with Dynamic Memory, if there are some.
    pub(crate) fn memory_report(&self, host: &impl Host) -> String {
        let report = host.memory();
        let name = |id| self.name(id).unwrap_or("?").to_string();
        let mut text = report::memory(&report, name);
        let headings = [
            "VM",
            ">ASSIGNED",
            ">VISIBLE",
            ">BALLOONED",
            ">DEMAND",
            ">PRESS%",
            ">AVG%",
            ">MINIMUM",
            ">MAXIMUM",
            "STATE",
        ];
        let mut table = Table::new(headings);
        for row in self.rows_of(&report, host.now()) {
            let unknown = || core::array::from_fn(|_| "-".into());
            let told = row.told.map(|state| {
                let [current, average] = state.pressures.map(|pressure| pressure.to_string());
                let sizes = [state.visible, state.ballooned, state.newest];
                let [visible, ballooned, demand] = sizes.map(|pages| mib(pages).to_string());
                [visible, ballooned, demand, current, average]
            });
            let [visible, ballooned, demand, current, average] = told.unwrap_or_else(unknown);
            table.row([
                row.name.into(),
                mib(row.assigned).to_string(),
                visible,
                ballooned,
                demand,
                current,
                average,
                mib(pages(row.settings.minimum)).to_string(),
                mib(pages(row.settings.maximum)).to_string(),
                row.condition.word().into(),
            ]);
        }
        if !table.is_empty() {
            text += &format!("Dynamic Memory, in MiB\n{}", table.text());
        }
        text
    }

    /// The VMs with Dynamic Memory that run, in the order of starting.
    pub(super) fn memory_rows(&self, host: &impl Host) -> Vec<Row<'_>> {
        self.rows_of(&host.memory(), host.now())
    }

    fn rows_of(&self, report: &MemoryReport, now: u64) -> Vec<Row<'_>> {
        let row = |id| {
            let vm = self.vm(id).filter(|vm| vm.life.has_worker())?;
            let settings = vm.definition()?.dynamic?;
            Some(Row {
                name: &vm.name,
                assigned: report.ram_of(id),
                settings,
                told: vm.memory.state(),
                condition: vm.memory.condition(id, &settings, now),
                history: &vm.memory.history,
            })
        };
        self.ids().into_iter().filter_map(row).collect()
    }
}
