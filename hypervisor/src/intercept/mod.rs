//! Intercepts: what the parent wants to see of a partition, and how it gets to see it.
//!
//! What is registered is kept here, per partition, in values of a fixed size: registering needs no memory but for the
//! port map, which a partition has from its initialization (root sheet B.1: only CPUID intercepts may fail for memory;
//! the lists here have a limit instead).

pub mod deliver;
pub mod message;

use arrayvec::ArrayVec;
use tlfs::{HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvStatus};

use crate::arch::exit::Access;
use crate::mem::addr::Spa;
use crate::mem::page_box::Frame;
use crate::mem::phys::PhysMap;

/// Most MSRs, and most CPUID leaves, that are intercepted one by one.
pub const MAX_LIST: usize = 64;

/// Pages of the port map: a bit a port for reads, then one for writes.
pub const PORT_MAP_PAGES: usize = 4;

/// Which MSRs may be in a list, by the low six bits of their numbers: a word that needs no lock to be asked. The registers of a
/// running guest's timers and interrupts do not share them with what workers ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsrFilter(u64);

impl MsrFilter {
    const fn bit(msr: u32) -> u64 {
        1 << (msr % u64::BITS)
    }

    /// Whether an MSR may be in the list. One that is in it always may.
    #[inline]
    pub const fn may_have(self, msr: u32) -> bool {
        self.0 & Self::bit(msr) != 0
    }
}

/// What a VP remembers of the MSRs that its parent has asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamedMsrs {
    /// The partition's count of changes when this was so; 0 if it is not known.
    pub at: u64,
    /// Which they were.
    pub filter: MsrFilter,
}

/// A short list of numbers with an access mask each.
#[derive(Clone, Debug)]
struct List(ArrayVec<(u32, u8), MAX_LIST>);

impl List {
    const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mask(&self, number: u32) -> u8 {
        self.0
            .iter()
            .find(|entry| entry.0 == number)
            .map_or(0, |entry| entry.1)
    }

    /// Sets a number's mask; a mask of 0 removes it. False if the list is full.
    fn set(&mut self, number: u32, mask: u8) -> bool {
        let known = self.0.iter().position(|entry| entry.0 == number);
        if let Some(at) = known {
            self.0.swap_remove(at);
        }
        mask == 0 || self.0.try_push((number, mask)).is_ok()
    }
}

/// Which ports are intercepted: 65,536 bits for reads and as many for writes.
#[derive(Debug)]
pub struct PortMap([Frame; PORT_MAP_PAGES]);

impl PortMap {
    /// A map in which every port is intercepted: the state of an EXO partition, whose parent emulates its devices
    /// (root sheet B.1, G.3). It comes back if the direct map does not cover its frames.
    pub fn new(phys: PhysMap, frames: [Frame; PORT_MAP_PAGES]) -> Self {
        for frame in &frames {
            for word in 0..512 {
                // A frame outside the direct map is never handed out; its ports would just not be intercepted.
                let _ = phys.write_u64(Spa(frame.spfn().address().0 + word * 8), u64::MAX);
            }
        }
        Self(frames)
    }

    /// Ends the map.
    pub fn into_frames(self) -> [Frame; PORT_MAP_PAGES] {
        self.0
    }

    /// Address of the word of a port, for reads or for writes.
    fn word(&self, port: u16, write: bool) -> Spa {
        let byte = u64::from(port) / 64 * 8;
        let page = usize::from(write) * 2 + (byte >> 12) as usize;
        Spa(self.0[page % PORT_MAP_PAGES].spfn().address().0 + (byte & 0xFFF))
    }

    /// Whether an access that starts at a port is intercepted.
    pub fn intercepts(&self, phys: PhysMap, port: u16, write: bool) -> bool {
        phys.read_u64(self.word(port, write))
            .is_ok_and(|bits| bits >> (port % 64) & 1 != 0)
    }

    /// Sets the ports from `first` to `last`: all of them are a part of one call, so whole words are filled at once.
    fn set(&mut self, phys: PhysMap, first: u16, last: u16, write: bool, intercept: bool) {
        let mut start = first;
        loop {
            let page_end = start | 0x7FFF;
            let end = last.min(page_end);
            self.set_in_page(phys, start, end, write, intercept);
            match end.checked_add(1) {
                Some(next) if end < last => start = next,
                _ => return,
            }
        }
    }

    /// As [`Self::set`], for ports whose bits lie in one page.
    fn set_in_page(&mut self, phys: PhysMap, first: u16, last: u16, write: bool, intercept: bool) {
        let (first_word, last_word) = (first / 64, last / 64);
        // The words at the ends may have other ports as well.
        let edge = |word: u16| {
            let start = word * 64;
            let from = first.saturating_sub(start);
            let to = (last - start).min(63);
            let bits = u64::MAX >> (63 - (to - from)) << from;
            let at = self.word(start, write);
            let old = phys.read_u64(at).unwrap_or(0);
            let new = if intercept { old | bits } else { old & !bits };
            // As in `new`.
            let _ = phys.write_u64(at, new);
        };
        edge(first_word);
        edge(last_word);
        if last_word - first_word > 1 {
            let at = self.word((first_word + 1) * 64, write);
            let value = if intercept { u64::MAX } else { 0 };
            // As in `new`.
            let _ = phys.fill(at, u64::from(last_word - first_word - 1), value);
        }
    }
}

/// What the parent has registered for a partition.
#[derive(Debug)]
pub struct Intercepts {
    /// From InitializePartition on.
    pub ports: Option<PortMap>,
    /// MSRs that the hypervisor does not virtualize.
    all_msrs: u8,
    msrs: List,
    all_cpuid: bool,
    cpuid: List,
    /// Exceptions, bit = vector.
    pub exceptions: u32,
    /// Hypercalls that the hypervisor does not handle.
    pub hypercall: bool,
    /// PostMessage and SignalEvent to connections that do not exist.
    pub unknown_connection: bool,
}

const READ: u8 = HvInterceptAccessMask::READ.0 as u8;
const WRITE: u8 = HvInterceptAccessMask::WRITE.0 as u8;
const EXECUTE: u8 = HvInterceptAccessMask::EXECUTE.0 as u8;

impl Intercepts {
    /// Nothing is registered.
    pub const fn new() -> Self {
        Self {
            ports: None,
            all_msrs: 0,
            msrs: List::new(),
            all_cpuid: false,
            cpuid: List::new(),
            exceptions: 0,
            hypercall: false,
            unknown_connection: false,
        }
    }

    /// Whether an MSR access goes to the parent: `virtualized` MSRs only if they are named.
    pub fn wants_msr(&self, msr: u32, write: bool, virtualized: bool) -> bool {
        let wanted = if write { WRITE } else { READ };
        self.msrs.mask(msr) & wanted != 0 || (!virtualized && self.all_msrs & wanted != 0)
    }

    /// Whether an MSR access goes to the parent because this very MSR is registered.
    pub fn names_msr(&self, msr: u32, write: bool) -> bool {
        let wanted = if write { WRITE } else { READ };
        self.msrs.mask(msr) & wanted != 0
    }

    /// Which MSRs may be registered by name.
    pub fn msr_filter(&self) -> MsrFilter {
        let bits = self.msrs.0.iter().map(|entry| MsrFilter::bit(entry.0));
        MsrFilter(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether CPUID with this EAX goes to the parent.
    pub fn wants_cpuid(&self, leaf: u32) -> bool {
        self.all_cpuid || (!self.cpuid.is_empty() && self.cpuid.mask(leaf) != 0)
    }

    /// Whether an access to a port goes to the parent.
    pub fn wants_port(&self, phys: PhysMap, port: u16, write: bool) -> bool {
        self.ports
            .as_ref()
            .is_some_and(|ports| ports.intercepts(phys, port, write))
    }

    /// HvCallInstallIntercept; a mask of 0 removes.
    ///
    /// # Errors
    /// INVALID_PARAMETER for a type that is not known, a mask or a parameter that the type does not have;
    /// NO_RESOURCES when a list is full; INVALID_PARTITION_STATE for ports of a partition without a port map.
    pub fn install(
        &mut self,
        phys: PhysMap,
        kind: HvInterceptType,
        mask: HvInterceptAccessMask,
        parameter: HvInterceptParameters,
    ) -> Result<(), HvStatus> {
        let mask = allowed_mask(kind, mask)?;
        match kind {
            HvInterceptType::X64_IO_PORT => {
                let port = u16::try_from(parameter.0).map_err(|_| HvStatus::INVALID_PARAMETER)?;
                self.set_ports(phys, port, port, mask)
            }
            HvInterceptType::X64_IO_PORT_RANGE => {
                self.set_ports(phys, parameter.low16(), parameter.second16(), mask)
            }
            HvInterceptType::X64_MSR => {
                self.all_msrs = mask;
                Ok(())
            }
            HvInterceptType::X64_MSR_INDEX => full(self.msrs.set(parameter.low32(), mask)),
            HvInterceptType::X64_CPUID => full(self.cpuid.set(parameter.low32(), mask)),
            HvInterceptType::X64_GLOBAL_CPUID => {
                self.all_cpuid = mask != 0;
                Ok(())
            }
            HvInterceptType::EXCEPTION => self.set_exception(parameter.low16(), mask != 0),
            HvInterceptType::HYPERCALL => {
                self.hypercall = mask != 0;
                Ok(())
            }
            HvInterceptType::UNKNOWN_SYNIC_CONNECTION => {
                self.unknown_connection = mask != 0;
                Ok(())
            }
            // The end of a level interrupt is always reported: a parent that asserts one needs it (root sheet B.1).
            // Device ids are unknown in every partition: nothing is assigned, and nothing retargets.
            HvInterceptType::X64_APIC_EOI
            | HvInterceptType::RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID => Ok(()),
            _ => Err(HvStatus::INVALID_PARAMETER),
        }
    }

    fn set_ports(
        &mut self,
        phys: PhysMap,
        first: u16,
        last: u16,
        mask: u8,
    ) -> Result<(), HvStatus> {
        if first > last {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let ports = self
            .ports
            .as_mut()
            .ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        ports.set(phys, first, last, false, mask & READ != 0);
        ports.set(phys, first, last, true, mask & WRITE != 0);
        Ok(())
    }

    fn set_exception(&mut self, vector: u16, wanted: bool) -> Result<(), HvStatus> {
        // NMI is no exception, and a machine check is the machine's.
        if vector >= 32 || vector == 2 || vector == 18 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let bit = 1 << vector;
        self.exceptions = self.exceptions & !bit | if wanted { bit } else { 0 };
        Ok(())
    }
}

impl Default for Intercepts {
    fn default() -> Self {
        Self::new()
    }
}

fn full(stored: bool) -> Result<(), HvStatus> {
    if stored {
        Ok(())
    } else {
        Err(HvStatus::NO_RESOURCES)
    }
}

/// The masks that a type allows (root sheet B.1).
fn allowed_mask(kind: HvInterceptType, mask: HvInterceptAccessMask) -> Result<u8, HvStatus> {
    let allowed = match kind {
        HvInterceptType::X64_IO_PORT
        | HvInterceptType::X64_IO_PORT_RANGE
        | HvInterceptType::X64_MSR
        | HvInterceptType::X64_MSR_INDEX => READ | WRITE,
        // No source gives a mask for it.
        HvInterceptType::X64_APIC_EOI => READ | WRITE | EXECUTE,
        _ => EXECUTE,
    };
    match u8::try_from(mask.0) {
        Ok(mask) if mask & !allowed == 0 => Ok(mask),
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

/// The access mask bit of a memory access.
pub const fn access_bit(access: Access) -> u8 {
    match access {
        Access::Read => READ,
        Access::Write => WRITE,
        Access::Execute => EXECUTE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::addr::Spfn;
    use crate::mem::testing::TestMemory;
    use proptest::prelude::*;

    fn map(phys: PhysMap) -> Intercepts {
        // SAFETY: frames of the test's memory, each named once.
        let frames = [4, 9, 7, 1].map(|number| unsafe { Frame::from_spfn(Spfn(number)) });
        Intercepts {
            ports: Some(PortMap::new(phys, frames)),
            ..Intercepts::new()
        }
    }

    proptest! {
        #[test]
        fn the_filter_has_every_msr_that_is_named_and_none_when_none_is(
            named in proptest::collection::vec(any::<u32>(), 0..MAX_LIST),
            other: u32,
        ) {
            let memory = TestMemory::new(2);
            let mut intercepts = map(memory.phys());
            let mut set = |msr: u32, mask| {
                let parameter = HvInterceptParameters::msr_index(msr);
                let kind = HvInterceptType::X64_MSR_INDEX;
                intercepts.install(memory.phys(), kind, mask, parameter)
            };
            for msr in &named {
                prop_assert_eq!(set(*msr, HvInterceptAccessMask::WRITE), Ok(()));
            }
            let filter = intercepts.msr_filter();
            prop_assert!(named.iter().all(|msr| filter.may_have(*msr)));
            let alike = named.iter().any(|msr| msr % 64 == other % 64);
            prop_assert_eq!(filter.may_have(other), alike);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_range_of_ports_changes_the_ports_in_it(
            ranges in proptest::collection::vec((any::<u16>(), any::<u16>(), 0u8..4), 1..6),
        ) {
            let memory = TestMemory::new(2);
            let phys = memory.phys();
            let mut intercepts = map(phys);
            let mut model = vec![READ | WRITE; 1 << 16];
            for (first, last, mask) in ranges {
                let done = intercepts.install(
                    phys,
                    HvInterceptType::X64_IO_PORT_RANGE,
                    HvInterceptAccessMask(mask.into()),
                    HvInterceptParameters::io_port_range(first, last),
                );
                prop_assert_eq!(done.is_ok(), first <= last);
                if done.is_ok() {
                    model[first.into()..=last.into()].fill(mask);
                }
            }
            for (port, mask) in (0..=u16::MAX).zip(model) {
                prop_assert_eq!(intercepts.wants_port(phys, port, false), mask & READ != 0);
                prop_assert_eq!(intercepts.wants_port(phys, port, true), mask & WRITE != 0);
            }
        }
    }
}
