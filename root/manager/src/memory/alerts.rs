//! What an administrator should know without asking: memory runs low (DM-32), or a guest has been short for long (DM-33).

use alloc::format;
use alloc::string::String;

use balancer::{Alert, Round, pressure};

use crate::host::{Host, VmId};
use crate::life::SECOND;
use crate::manager::Manager;
use crate::memory::look::Look;
use crate::memory::mib;
use crate::memory::scope::Scope;

/// Who says so, in the event list.
const SOURCE: &str = "memory";
/// From one event to the next, 100 ns: what is available may go up and down with every round.
const PAUSE: u64 = 60 * SECOND;
/// Per cent of average pressure from which on a guest is short.
pub const HIGH_PRESSURE: u64 = 95;
/// How long it has to be, 100 ns.
pub const HIGH_TIME: u64 = 300 * SECOND;

/// What has been told.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    /// The last level, and whether minimums did not fit.
    told: Option<(Alert, bool)>,
    /// When.
    at: u64,
}

impl Manager {
    /// Tells what is new in a round.
    pub(super) fn alert(&mut self, host: &mut impl Host, look: &Look, round: &Round) {
        self.alert_of_scope(host, look, round);
        let now = host.now();
        for vm in look.vms.iter().filter(|vm| vm.reporting) {
            let high = pressure(vm.smoothed, vm.assigned) >= HIGH_PRESSURE;
            let Ok(id) = VmId::try_from(vm.id) else {
                continue;
            };
            let Some(memory) = self.vm_mut(id).map(|vm| &mut vm.memory) else {
                continue;
            };
            if !high {
                (memory.high_since, memory.high_told) = (None, false);
                continue;
            }
            let since = *memory.high_since.get_or_insert(now);
            if now.saturating_sub(since) < HIGH_TIME || memory.high_told {
                continue;
            }
            memory.high_told = true;
            let minutes = HIGH_TIME / SECOND / 60;
            let text = format!(
                "its average memory pressure has been {HIGH_PRESSURE} % or more for {minutes} minutes"
            );
            self.event(host, id, &text);
        }
    }

    fn alert_of_scope(&mut self, host: &impl Host, look: &Look, round: &Round) {
        let now = host.now();
        // Nobody has what is set aside for starts.
        let available = round.available.saturating_add(look.held);
        let alert = Alert::of(available, look.size());
        let level = (alert, round.target.over_commit);
        let alerts = self.memory.alerts.entry(look.scope).or_default();
        let told = alerts.told.unwrap_or((Alert::None, false));
        let soon = alerts.told.is_some() && now < alerts.at.saturating_add(PAUSE);
        if level == told || soon {
            return;
        }
        (alerts.told, alerts.at) = (Some(level), now);
        let (available, total) = (mib(available), mib(look.size()));
        let word = match level {
            (_, true) => "the minimums of the VMs are more than there is; critical",
            (Alert::Critical, _) => "critical",
            (Alert::Warning, _) => "warning",
            (Alert::None, _) => "enough again",
        };
        let place = match look.scope {
            Scope::Machine => String::new(),
            Scope::Node(node) => format!(" in node {node}"),
        };
        let text = format!("{available} of {total} MiB are available{place}: {word}");
        self.events.push(now, SOURCE, &text);
    }
}
