//! What a VM that runs takes of the manager's heap. It prints lines that `cargo xtask bench` reads.
//!
//! What a guest has written, at most 64 KiB of each, is not in it: here none writes.
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; the crate itself has no unsafe code"
)]

#[path = "../../vmbus/tests/counting/mod.rs"]
mod counting;

use counting::Held;
use manager::counters::{Object, Page, Whose};
use manager::{
    Counter, DebugFault, Definition, Event, Home, Host, Manager, MemoryReport, State, VmId,
    WorkerNews,
};
use root_abi::MemoryOrder;
use root_abi::news::{self, MemoryState};
use tlfs::{HvRegisterName, HvRegisterValue};

/// Units of time in a second.
const SECOND: u64 = 10_000_000;
/// Pages of a MiB.
const MIB: u64 = 256;
/// So long that each VM's history of pressures is full.
const SECONDS: u64 = 40;
/// VMs of the two managers that are compared: with each the list of events is full, which is the same whoever has VMs.
const COUNTS: [usize; 2] = [501, 1001];

/// A machine of 4 TiB where everything that is asked for happens, unseen.
struct Quiet {
    now: u64,
}

impl Host for Quiet {
    fn now(&self) -> u64 {
        self.now
    }
    fn console_write(&mut self, _: &[u8]) {}
    fn file_size(&self, _: &str) -> Option<u64> {
        Some(1)
    }
    fn free_memory(&self) -> u64 {
        self.memory().free << 12
    }
    fn start_worker(&mut self, _: VmId, _: &Definition, _: &str, _: Home) -> Result<(), String> {
        Ok(())
    }
    fn stop_worker(&mut self, _: VmId) {}
    fn shut_down_guest(&mut self, _: VmId) {}
    fn kill_worker(&mut self, _: VmId) {}
    fn order_memory(&mut self, _: VmId, _: MemoryOrder) {}
    fn send_input(&mut self, _: VmId, _: &[u8]) {}
    fn debug_worker(&mut self, _: VmId, _: DebugFault) {}
    fn memory(&self) -> MemoryReport {
        let total = 1 << 30;
        MemoryReport {
            total,
            free: total,
            ..MemoryReport::default()
        }
    }
    fn counters(&self, _: Whose, _: &mut dyn FnMut(Object, &Page)) {}
    fn registers(&self, _: VmId, _: &[HvRegisterName], _: &mut dyn FnMut(u32, &[HvRegisterValue])) {
    }
    fn own_counters(&self) -> Vec<Counter> {
        Vec::new()
    }
    fn events(&self) -> Vec<Event> {
        Vec::new()
    }
    fn power_off(&mut self) {}
    fn reboot(&mut self) {}
}

/// A guest that is well: it is 64 MiB, and needs half of that.
fn state() -> MemoryState {
    MemoryState {
        visible: 64 * MIB,
        assigned: 64 * MIB,
        maximum: 64 * MIB,
        settled: 32 * MIB,
        smoothed: 32 * MIB,
        newest: 32 * MIB,
        alignment: 128 * MIB,
        since_add: news::NEVER,
        since_refusal: news::NEVER,
        pressures: [50; 2],
        flags: news::MEMORY_LIVE | news::MEMORY_CAN_BALLOON,
        ..MemoryState::default()
    }
}

/// Definitions of so many VMs.
fn definitions(count: usize, memory: &str) -> Vec<(String, String)> {
    let one = |index: usize| {
        let text = format!(
            "name = \"vm{index:04}\"\n{memory}\nkernel = \"guest/vmlinuz\"\ncmdline = \"console=ttyS0\"\nautostart = true\n"
        );
        (format!("vm/vm{index:04}.toml"), text)
    };
    (0..count).map(one).collect()
}

/// Bytes that a manager holds whose VMs all run; with Dynamic Memory if their workers tell of it.
fn held(definitions: &[(String, String)], tells: bool) -> isize {
    let mut host = Quiet { now: SECOND };
    let mut held = Held::default();
    let manager = held.by(|| {
        let all = definitions.iter();
        let mut manager = Manager::new(all.map(|(file, text)| (&**file, text.as_bytes())));
        manager.begin(&mut host);
        for id in manager.ids() {
            manager.worker_running(&mut host, id);
        }
        for _ in 0..SECONDS {
            host.now += SECOND;
            for id in manager.ids().into_iter().filter(|_| tells) {
                manager.worker_news(&mut host, id, &WorkerNews::Memory(state()));
            }
            manager.tick(&mut host);
        }
        manager
    });
    let runs = |id: &VmId| manager.state(*id) == Some(&State::Running);
    assert!(manager.ids().iter().all(runs), "a VM does not run");
    assert!(held.most >= held.now);
    held.now
}

/// Bytes for each VM more.
fn per_vm(memory: &str, tells: bool) -> isize {
    let [few, many] = COUNTS.map(|count| held(&definitions(count, memory), tells));
    let [fewer, more] = COUNTS.map(usize::cast_signed);
    (many - few) / (more - fewer)
}

fn main() {
    let dynamic = per_vm("startup = 64\nminimum = 32\nmaximum = 64", true);
    let fixed = per_vm("memory = 64", false);
    println!("bench manager_bytes_per_vm {dynamic} bytes without_dynamic_memory={fixed}");
}
