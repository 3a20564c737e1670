//! A host that remembers.

use std::collections::HashMap;

use root_abi::{ExitReason, MemoryOrder};
use tlfs::{HvRegisterName, HvRegisterValue};

use crate::counters::{Object, Page, Whose};
use crate::life::SECOND;
use crate::{
    Counter, DebugFault, Definition, Event, Home, Host, Manager, MemoryReport, VmId, WorkerEnd,
};

/// What the manager asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Start(VmId, String),
    Stop(VmId),
    ShutDown(VmId),
    Kill(VmId),
    Memory(VmId, MemoryOrder),
    Input(VmId, Vec<u8>),
    Debug(VmId, DebugFault),
    PowerOff,
    Reboot,
}

pub struct Fake {
    pub now: u64,
    pub screen: Vec<u8>,
    pub files: HashMap<String, u64>,
    pub free: u64,
    pub nodes: u32,
    pub refuse: Option<String>,
    pub effects: Vec<Effect>,
    pub report: MemoryReport,
    /// Number of the last order of each VM: those among the effects have none, so that tests can compare them.
    pub ordered: HashMap<VmId, u32>,
    /// Where the memory of each VM that was started comes from.
    pub homes: HashMap<VmId, Home>,
    /// Stats pages of everybody, in their order.
    pub pages: Vec<(Whose, Object, Box<Page>)>,
    /// Registers of VPs, which are numbered in this order; the others are zero.
    pub registers: Vec<(VmId, Vec<(HvRegisterName, HvRegisterValue)>)>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            now: 5 * SECOND,
            screen: Vec::new(),
            files: HashMap::from([("guest/k".to_string(), 1)]),
            free: 16 << 30,
            nodes: 1,
            refuse: None,
            effects: Vec::new(),
            report: MemoryReport::default(),
            ordered: HashMap::new(),
            homes: HashMap::new(),
            pages: Vec::new(),
            registers: Vec::new(),
        }
    }
}

impl Fake {
    /// What was written since the last call.
    pub fn seen(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.screen)).into_owned()
    }

    /// Sets counters of an object, which gets a page if it has none.
    pub fn set(&mut self, whose: Whose, object: Object, counters: &[(u32, u64)]) {
        let known = |(of, what, _): &(Whose, Object, Box<Page>)| (*of, *what) == (whose, object);
        let at = self.pages.iter().position(known).unwrap_or_else(|| {
            self.pages.push((whose, object, Box::new([0; 512])));
            self.pages.len() - 1
        });
        for (counter, value) in counters {
            self.pages[at].2[*counter as usize] = *value;
        }
    }

    /// What was asked for since the last call.
    pub fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

impl Host for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn console_write(&mut self, bytes: &[u8]) {
        self.screen.extend_from_slice(bytes);
    }
    fn file_size(&self, name: &str) -> Option<u64> {
        self.files.get(name).copied()
    }
    fn free_memory(&self) -> u64 {
        self.free
    }
    fn nodes(&self) -> u32 {
        self.nodes
    }
    fn start_worker(
        &mut self,
        vm: VmId,
        definition: &Definition,
        text: &str,
        home: Home,
    ) -> Result<(), String> {
        assert!(
            text.contains(&definition.name),
            "the worker gets the text of its definition"
        );
        if let Some(problem) = &self.refuse {
            return Err(problem.clone());
        }
        self.ordered.remove(&vm);
        self.homes.insert(vm, home);
        self.effects
            .push(Effect::Start(vm, definition.name.clone()));
        Ok(())
    }
    fn stop_worker(&mut self, vm: VmId) {
        self.effects.push(Effect::Stop(vm));
    }
    fn shut_down_guest(&mut self, vm: VmId) {
        self.effects.push(Effect::ShutDown(vm));
    }
    fn kill_worker(&mut self, vm: VmId) {
        self.effects.push(Effect::Kill(vm));
    }
    fn order_memory(&mut self, vm: VmId, order: MemoryOrder) {
        let before = self.ordered.insert(vm, order.number).unwrap_or(0);
        assert_eq!(order.number, before + 1, "orders count");
        let order = MemoryOrder { number: 0, ..order };
        self.effects.push(Effect::Memory(vm, order));
    }
    fn send_input(&mut self, vm: VmId, bytes: &[u8]) {
        self.effects.push(Effect::Input(vm, bytes.to_vec()));
    }
    fn debug_worker(&mut self, vm: VmId, fault: DebugFault) {
        self.effects.push(Effect::Debug(vm, fault));
    }
    fn memory(&self) -> MemoryReport {
        self.report.clone()
    }
    fn counters(&self, whose: Whose, look: &mut dyn FnMut(Object, &Page)) {
        for (_, object, page) in self.pages.iter().filter(|(of, ..)| *of == whose) {
            look(*object, page);
        }
    }
    fn registers(
        &self,
        vm: VmId,
        names: &[HvRegisterName],
        look: &mut dyn FnMut(u32, &[HvRegisterValue]),
    ) {
        let vps = self.registers.iter().filter(|(of, _)| *of == vm);
        for (index, (_, known)) in (0..).zip(vps) {
            let value = |name: &HvRegisterName| {
                let found = known.iter().find(|(of, _)| of == name);
                found.map_or(HvRegisterValue::default(), |(_, value)| *value)
            };
            look(index, &names.iter().map(value).collect::<Vec<_>>());
        }
    }
    fn own_counters(&self) -> Vec<Counter> {
        let name = "process turns".into();
        vec![Counter { name, value: 7 }]
    }
    fn events(&self) -> Vec<Event> {
        vec![Event {
            time: SECOND,
            source: "root".into(),
            text: "ready".into(),
        }]
    }
    fn power_off(&mut self) {
        self.effects.push(Effect::PowerOff);
    }
    fn reboot(&mut self) {
        self.effects.push(Effect::Reboot);
    }
}

/// A definition with its file name.
pub fn vm(name: &str, more: &str) -> (String, String) {
    let text = format!("name = \"{name}\"\nmemory = 64\nkernel = \"guest/k\"\n{more}\n");
    (format!("vm/{name}.toml"), text)
}

/// A manager of these definitions that has begun, its first words discarded.
pub fn begun(definitions: &[(String, String)]) -> (Manager, Fake) {
    let mut manager = Manager::new(
        definitions
            .iter()
            .map(|(file, text)| (file.as_str(), text.as_bytes())),
    );
    let mut host = Fake::default();
    manager.begin(&mut host);
    host.seen();
    (manager, host)
}

/// Types a line and returns what was written.
pub fn typed(manager: &mut Manager, host: &mut Fake, line: &str) -> String {
    manager.console_input(host, format!("{line}\r").as_bytes());
    host.seen().replace("\r\n", "\n")
}

pub fn exited(reason: ExitReason) -> WorkerEnd {
    WorkerEnd::Exited(reason, "because".into())
}
