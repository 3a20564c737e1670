//! What `mem` shows.

use alloc::format;
use alloc::string::{String, ToString};

use crate::console::Table;
use crate::host::Host;
use crate::manager::Manager;
use crate::memory::{mib, pages};
use crate::report;

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
        for id in self.ids() {
            let Some(vm) = self.vm(id).filter(|vm| vm.life.has_worker()) else {
                continue;
            };
            let definition = vm.definition();
            let dynamic = definition.and_then(|definition| definition.dynamic);
            let Some(dynamic) = dynamic else { continue };
            let of_vm = report.partitions.iter().filter(|part| part.vm == id);
            let assigned = of_vm.fold(0u64, |sum, part| sum.saturating_add(part.ram));
            let unknown = || core::array::from_fn(|_| "-".into());
            let told = vm.memory.state().map(|state| {
                let [current, average] = state.pressures.map(|pressure| pressure.to_string());
                let sizes = [state.visible, state.ballooned, state.newest];
                let [visible, ballooned, demand] = sizes.map(|pages| mib(pages).to_string());
                [visible, ballooned, demand, current, average]
            });
            let [visible, ballooned, demand, current, average] = told.unwrap_or_else(unknown);
            table.row([
                vm.name.clone(),
                mib(assigned).to_string(),
                visible,
                ballooned,
                demand,
                current,
                average,
                mib(pages(dynamic.minimum)).to_string(),
                mib(pages(dynamic.maximum)).to_string(),
                vm.memory.condition(id, &dynamic, host.now()).word().into(),
            ]);
        }
        if !table.is_empty() {
            text += &format!("Dynamic Memory, in MiB\n{}", table.text());
        }
        text
    }
}
