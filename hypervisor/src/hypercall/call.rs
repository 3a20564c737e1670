//! A hypercall under way, as the code of a call sees it.

use core::ops::Range;

use tlfs::{HvPartitionId, HvStatus, HvVpIndex};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Request;
use crate::hv::Hypervisor;
use crate::partition::table::{PartitionGuard, VpPlace};
use crate::partition::{MAX_VPS, Vp, VpRef};
use crate::run::Cpu;

/// Copies of a call's parameters.
#[repr(C, align(4096))]
pub struct Buffers {
    pub(super) input: [u8; 4096],
    pub(super) output: [u8; 4096],
}

impl Buffers {
    /// Zeros.
    pub const fn new() -> Self {
        Self {
            input: [0; 4096],
            output: [0; 4096],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// The input list of a rep call.
#[derive(Clone, Copy, Debug)]
pub struct List<'a>(&'a [u8]);

impl List<'_> {
    /// Element `index`; zeros if there is none.
    pub fn element<T: FromBytes + Immutable>(&self, index: usize) -> T {
        let bytes = self.0.get(index * size_of::<T>()..).unwrap_or(&[]);
        T::read_from_prefix(bytes).map_or_else(|_| T::new_zeroed(), |(value, _)| value)
    }
}

/// Tells when an execution of a call ends that takes long.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: u64,
    ticks: u64,
}

impl Clock {
    /// Whether there is time for one part more: 20 microseconds have not passed. A part, which may be begun at the last
    /// moment, has to be a fraction of the bound on all.
    pub fn has_time(&self) -> bool {
        crate::cpu::tsc().wrapping_sub(self.started) < self.ticks
    }
}

/// A call: who calls, with what, and what comes of it.
pub struct Call<'a> {
    /// The processor.
    pub cpu: &'a mut Cpu,
    /// The VP that calls; it is in hand.
    pub vp: &'a mut Vp,
    /// Its partition.
    pub caller: HvPartitionId,
    request: &'a Request,
    input: &'a [u8],
    output: &'a mut [u8],
    written: Range<usize>,
    /// Elements done, counted from the start of the list.
    pub done: usize,
    /// A simple call that is not finished: it is executed again.
    pub again: bool,
    /// Another processor has something that the call needs: it is executed again.
    pub busy: bool,
    /// The call is the caller's parent's: that is shown it, instead of the result.
    pub for_parent: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        cpu: &'a mut Cpu,
        vp: &'a mut Vp,
        request: &'a Request,
        caller: HvPartitionId,
        buffers: &'a mut Buffers,
    ) -> Self {
        let Buffers { input, output } = buffers;
        Self {
            cpu,
            vp,
            caller,
            request,
            input: input.get(..request.input_bytes).unwrap_or(&[]),
            output: output.get_mut(..request.output_bytes).unwrap_or(&mut []),
            written: 0..0,
            done: request.reps.start,
            again: false,
            busy: false,
            for_parent: false,
        }
    }

    /// What all processors share.
    pub fn hv(&self) -> &'static Hypervisor {
        self.cpu.hv
    }

    /// A clock for an execution of a call that takes long, from now on.
    pub fn clock(&self) -> Clock {
        const EXECUTIONS_PER_SECOND: u64 = 50_000;
        Clock {
            started: crate::cpu::tsc(),
            ticks: self.cpu.hv.tsc_hz / EXECUTIONS_PER_SECOND,
        }
    }

    /// The fixed header. Zeros if `T` is larger than the call's input, which it is not.
    pub fn input<T: FromBytes + Immutable>(&self) -> T {
        T::read_from_prefix(self.input).map_or_else(|_| T::new_zeroed(), |(value, _)| value)
    }

    /// The variable header.
    pub fn variable(&self) -> &[u8] {
        let start = self.request.header_bytes;
        let end = start + self.request.variable_bytes;
        self.input.get(start..end).unwrap_or(&[])
    }

    /// Elements that are still to do.
    pub fn reps(&self) -> Range<usize> {
        self.done..self.request.reps.end
    }

    /// Element `index` of the input list.
    pub fn element<T: FromBytes + Immutable>(&self, index: usize) -> T {
        self.list().element(index)
    }

    /// The input list, to be read while the call is in use otherwise.
    pub fn list(&self) -> List<'a> {
        let start = self.request.header_bytes;
        List(self.input.get(start..).unwrap_or(&[]))
    }

    /// Sets the output of a simple call.
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.write(0, value.as_bytes());
    }

    /// Sets the first bytes of the output of a simple call.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.write(0, bytes);
    }

    /// Sets element `index` of the output list.
    pub fn put_element<T: IntoBytes + Immutable>(&mut self, index: usize, value: &T) {
        self.write(index * size_of::<T>(), value.as_bytes());
    }

    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if let Some(target) = self.output.get_mut(start..end) {
            target.copy_from_slice(bytes);
            self.written = if self.written.is_empty() {
                start..end
            } else {
                self.written.start.min(start)..self.written.end.max(end)
            };
        }
    }

    /// What was written of the output, and where it belongs.
    pub(super) fn output(&self) -> (Range<usize>, &[u8]) {
        let bytes = self.output.get(self.written.clone()).unwrap_or(&[]);
        (self.written.clone(), bytes)
    }

    /// Whether the caller is the root.
    pub fn is_root(&self) -> bool {
        self.vp.is_root()
    }

    /// SELF, or the id itself.
    pub fn resolve(&self, id: HvPartitionId) -> HvPartitionId {
        if id == HvPartitionId::SELF {
            self.caller
        } else {
            id
        }
    }

    /// The partition that a call is about: the caller's own, or a child of it.
    ///
    /// # Errors
    /// INVALID_PARTITION_ID; ACCESS_DENIED for a partition whose parent the caller is not.
    pub fn target(&self, id: HvPartitionId) -> Result<PartitionGuard<'static>, HvStatus> {
        let id = self.resolve(id);
        let found = self.hv().partitions.lookup(id)?;
        if id != self.caller && !self.is_root() {
            return Err(HvStatus::ACCESS_DENIED);
        }
        Ok(found)
    }

    /// Keeps a child locked for as long as a call works on something of its: no other processor ends the partition then, or
    /// does the same. The root does not end, and what changes its address space locks it.
    pub fn hold(target: PartitionGuard<'static>) -> Option<PartitionGuard<'static>> {
        (!target.is_root()).then_some(target)
    }

    /// A child of the caller.
    ///
    /// # Errors
    /// As [`target`](Self::target), and ACCESS_DENIED for the caller itself.
    pub fn child(&self, id: HvPartitionId) -> Result<PartitionGuard<'static>, HvStatus> {
        if self.resolve(id) == self.caller {
            return Err(HvStatus::ACCESS_DENIED);
        }
        self.target(id)
    }

    /// Names a VP of a partition that exists, for [`with_vp`](Self::with_vp) to find out whether it does.
    ///
    /// # Errors
    /// INVALID_VP_INDEX for an index that no VP has.
    pub fn vp_named(
        &self,
        partition: &crate::partition::Partition,
        index: HvVpIndex,
    ) -> Result<VpRef, HvStatus> {
        let own = partition.id == self.caller;
        let index = match index {
            HvVpIndex::SELF if own => self.vp.who.index,
            HvVpIndex(index) => u16::try_from(index).map_err(|_| HvStatus::INVALID_VP_INDEX)?,
        };
        let who = VpRef {
            slot: partition.slot,
            index,
        };
        if usize::from(index) < MAX_VPS {
            Ok(who)
        } else {
            Err(HvStatus::INVALID_VP_INDEX)
        }
    }

    /// Names a VP that exists.
    ///
    /// # Errors
    /// INVALID_VP_INDEX.
    pub fn vp_of(
        &self,
        partition: &crate::partition::Partition,
        index: HvVpIndex,
    ) -> Result<VpRef, HvStatus> {
        let who = self.vp_named(partition, index)?;
        if who == self.vp.who {
            return Ok(who);
        }
        match &*self.hv().partitions.vp(who).lock() {
            VpPlace::Absent => Err(HvStatus::INVALID_VP_INDEX),
            VpPlace::Home(_) | VpPlace::Running { .. } => Ok(who),
        }
    }

    /// Calls `f` with a VP that exists.
    ///
    /// # Errors
    /// INVALID_VP_INDEX if it does not.
    ///
    /// One of which only its own processor knows everything is asked for, and the call is executed again: `f` is not called,
    /// and whatever the error says, nobody hears it.
    pub fn with_vp<R>(&mut self, who: VpRef, f: impl FnOnce(&mut Vp) -> R) -> Result<R, HvStatus> {
        if who == self.vp.who {
            return Ok(f(self.vp));
        }
        let hv = self.hv();
        let mut place = hv.partitions.vp(who).lock();
        match &mut *place {
            VpPlace::Absent => return Err(HvStatus::INVALID_VP_INDEX),
            VpPlace::Home(vp) => {
                let turns = vp.turns();
                if turns.processor == self.cpu.index() || vp.hw.is_settled() {
                    return Ok(f(vp));
                }
                drop(place);
                self.cpu.tell(turns);
            }
            VpPlace::Running { on, wanted } => {
                *wanted = true;
                let on = *on;
                drop(place);
                hv.kick(on);
            }
        }
        self.busy = true;
        Err(HvStatus::INVALID_VP_STATE)
    }
}
