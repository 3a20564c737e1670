//! All counters as lines of JSON, for a program at the other end of the second serial line. The schema is described in
//! `docs/counters.md`; a change that a reader has to know of changes [`SCHEMA`].
//!
//! A look at everything is several lines, because a line must fit the buffer in front of the serial line whatever there is:
//! the machine is one, the root partition and each VM's one for every [`VPS_PER_LINE`] VPs. A line that does not fit now is
//! not sent, nor are those after it; the next look begins the VMs with the one that was left out. No more is sent than the
//! serial line can carry, however fast the UART says that it is: an emulated one takes the processor's time for each byte.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tlfs::stats::partition;

use crate::counters::{Object, Page, Whose, get};
use crate::host::{Host, MemoryReport, VmId};
use crate::life::SECOND;
use crate::manager::Manager;
use crate::memory::counters as memory;

/// Version of the lines' schema.
pub const SCHEMA: u32 = 1;
/// Most VPs in one line.
pub const VPS_PER_LINE: usize = 4;
/// No line is longer, bytes, its end included.
pub const MAX_LINE: usize = 64 << 10;

/// Bytes that 115200 baud, 8N1, carry in a second.
pub const RATE: u64 = 11_520;

/// What a stream remembers.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Looks so far.
    sample: u64,
    /// Lines left out since the last one that was sent.
    dropped: u64,
    /// The VM that was left out first.
    turn: Option<VmId>,
    /// Whose lines are still to come in this look.
    to_come: VecDeque<Whose>,
    /// A line did not fit: there will be no others in this look.
    full: bool,
    /// When all that was sent so far is through the line, at [`RATE`]: reference time, 100 ns.
    busy_until: u64,
}

#[derive(Default, Serialize)]
struct Line<'a> {
    schema: u32,
    /// When the counters were read: reference time, 100 ns.
    time: u64,
    sample: u64,
    dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervisor: Option<Counters>,
    processors: Vec<Indexed>,
    partitions: Vec<Partition<'a>>,
    /// Only in the line of the machine: whose its pages are, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Counters>,
    /// Only in the line of the machine, while there are some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    balancers: Vec<Balancer>,
}

#[derive(Serialize)]
struct Balancer {
    name: String,
    counters: Counters,
}

#[derive(Serialize)]
struct Indexed {
    index: u32,
    counters: Counters,
}

#[derive(Serialize)]
struct Partition<'a> {
    name: &'a str,
    root: bool,
    id: u64,
    counters: Counters,
    /// Only in the first line of a VM with Dynamic Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Counters>,
    vps: Vec<Indexed>,
}

impl Partition<'_> {
    /// The same partition in its next line.
    fn rest(&self) -> Self {
        Self {
            counters: Counters::default(),
            memory: None,
            vps: Vec::new(),
            ..*self
        }
    }
}

/// Counters by name, those that are zero left out.
#[derive(Default)]
struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    fn of(object: Object, page: &Page) -> Self {
        let values = object.values(page);
        Self(values.map(|value| (value.name(), value.value)).collect())
    }

    fn of_owners(report: &MemoryReport) -> Self {
        let total = core::iter::once(("Total", report.total));
        let all = total.chain(report.owners());
        Self(all.filter(|(_, pages)| *pages != 0).collect())
    }

    fn of_memory(values: &[memory::Value]) -> Self {
        let values = values.iter().filter(|(_, value)| *value != 0);
        Self(values.copied().collect())
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Manager {
    /// Makes the lines about one: the machine, the root, or a VM. The first call begins a look, and so does the one after a
    /// call that returned `false`, which says that the look is complete. `send` says whether it took the line: all of it, or
    /// nothing.
    pub fn stream(
        &self,
        host: &impl Host,
        stream: &mut Stream,
        send: &mut dyn FnMut(&str) -> bool,
    ) -> bool {
        let whose = stream.to_come.pop_front().unwrap_or_else(|| {
            stream.sample += 1;
            stream.full = false;
            stream.to_come = self.in_turn(stream.turn.take());
            Whose::Machine
        });
        let time = host.now();
        let mut lines = Lines { time, stream, send };
        match whose {
            Whose::Machine => lines.machine(host, self.balancers()),
            Whose::Root => lines.partition(host, whose, "root", None),
            Whose::Vm(id) => {
                // It may have ended since the look began.
                let Some(vm) = self.vm(id).filter(|vm| vm.life.has_worker()) else {
                    return !stream.to_come.is_empty();
                };
                if lines.stream.full {
                    // There is no use in looking at it.
                    let vps = vm
                        .definition()
                        .map_or(1, |definition| definition.processors);
                    let count = (vps as usize).div_ceil(VPS_PER_LINE);
                    lines.stream.dropped += count as u64;
                } else {
                    let memory = self.memory_counters(id);
                    let memory = memory.map(|values| Counters::of_memory(&values));
                    lines.partition(host, whose, &vm.name, memory);
                }
                if stream.full && stream.turn.is_none() {
                    stream.turn = Some(id);
                }
            }
        }
        !stream.to_come.is_empty()
    }

    /// The root, and the VMs that have a partition, from this one on.
    fn in_turn(&self, first: Option<VmId>) -> VecDeque<Whose> {
        let running = self.vms.iter().filter(|(_, vm)| vm.life.has_worker());
        let mut ids: Vec<VmId> = running.map(|(id, _)| *id).collect();
        let first = first.and_then(|first| ids.iter().position(|id| *id >= first));
        ids.rotate_left(first.unwrap_or(0));
        let vms = ids.into_iter().map(Whose::Vm);
        core::iter::once(Whose::Root).chain(vms).collect()
    }
}

struct Lines<'a> {
    time: u64,
    stream: &'a mut Stream,
    send: &'a mut dyn FnMut(&str) -> bool,
}

impl Lines<'_> {
    fn machine(&mut self, host: &impl Host, balancers: Vec<(String, [memory::Value; 4])>) {
        let mut hypervisor = None;
        let mut processors = Vec::new();
        host.counters(Whose::Machine, &mut |object, page| {
            let counters = Counters::of(object, page);
            match object {
                Object::LogicalProcessor(index) => processors.push(Indexed { index, counters }),
                _ => hypervisor = Some(counters),
            }
        });
        let balancer = |(name, values): (String, [memory::Value; 4])| {
            let counters = Counters::of_memory(&values);
            Balancer { name, counters }
        };
        let balancers = balancers.into_iter().map(balancer).collect();
        self.line(Line {
            hypervisor,
            processors,
            owners: Some(Counters::of_owners(&host.memory())),
            balancers,
            ..Line::default()
        });
    }

    fn partition(&mut self, host: &impl Host, whose: Whose, name: &str, memory: Option<Counters>) {
        let mut part = Partition {
            name,
            root: whose == Whose::Root,
            id: 0,
            counters: Counters::default(),
            memory,
            vps: Vec::new(),
        };
        host.counters(whose, &mut |object, page| match object {
            Object::VirtualProcessor(index) => {
                if part.vps.len() >= VPS_PER_LINE {
                    let rest = part.rest();
                    self.part(core::mem::replace(&mut part, rest));
                }
                let counters = Counters::of(object, page);
                part.vps.push(Indexed { index, counters });
            }
            _ => {
                part.id = get(page, partition::PARTITION_ID);
                part.counters = Counters::of(object, page);
            }
        });
        self.part(part);
    }

    /// A line with what has been collected of a partition.
    fn part(&mut self, part: Partition<'_>) {
        self.line(Line {
            partitions: [part].into(),
            ..Line::default()
        });
    }

    fn line(&mut self, content: Line<'_>) {
        let line = Line {
            schema: SCHEMA,
            time: self.time,
            sample: self.stream.sample,
            dropped: self.stream.dropped,
            ..content
        };
        // As much may wait as the line carries in a second.
        let free = self.stream.busy_until <= self.time.saturating_add(SECOND);
        let sent = !self.stream.full && free && self.try_to_send(&line);
        if sent {
            self.stream.dropped = 0;
        } else {
            self.stream.full = true;
            self.stream.dropped += 1;
        }
    }

    fn try_to_send(&mut self, line: &Line<'_>) -> bool {
        let Some(text) = text(line).filter(|text| (self.send)(text)) else {
            return false;
        };
        let time = (text.len() as u64).saturating_mul(SECOND) / RATE;
        let begin = self.stream.busy_until.max(self.time);
        self.stream.busy_until = begin.saturating_add(time);
        true
    }
}

/// The line with its end; `None` if there is no memory for it, or if it is longer than lines can be.
fn text(line: &Line<'_>) -> Option<String> {
    let mut text = serde_json::to_string(line).ok()?;
    text.push('\n');
    (text.len() <= MAX_LINE).then_some(text)
}
