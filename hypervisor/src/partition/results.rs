//! Answers that a parent has registered for its child: HvCallRegisterInterceptResult (root sheet A.3.4).
//!
//! The lists lie in the partition itself, so registering needs no memory; they have a limit instead.

use arrayvec::ArrayVec;
use tlfs::{
    HvInterceptAccessMask, HvRegisterX64CpuidResultParameters, HvRegisterX64MsrResultParameters,
    HvStatus, HvUnimplementedMsrAction,
};

use crate::arch::cpuid::CpuidResult;

/// Most CPUID results of a partition.
pub const MAX_CPUID: usize = 32;
/// Most MSR results of a partition.
pub const MAX_MSRS: usize = 32;

/// What is registered.
#[derive(Clone, Debug, Default)]
pub struct Results {
    cpuid: ArrayVec<HvRegisterX64CpuidResultParameters, MAX_CPUID>,
    msrs: ArrayVec<HvRegisterX64MsrResultParameters, MAX_MSRS>,
}

fn same_leaf(
    a: &HvRegisterX64CpuidResultParameters,
    b: &HvRegisterX64CpuidResultParameters,
) -> bool {
    a.eax == b.eax
        && (a.subleaf_specific != 0) == (b.subleaf_specific != 0)
        && (a.subleaf_specific == 0 || a.ecx == b.ecx)
}

fn same_access(a: &HvRegisterX64MsrResultParameters, b: &HvRegisterX64MsrResultParameters) -> bool {
    a.msr_index == b.msr_index && a.access_type == b.access_type
}

/// Puts a result in the place of the one that is the `same`, or adds it.
fn put<T: Copy, const N: usize>(
    list: &mut ArrayVec<T, N>,
    result: &T,
    same: impl Fn(&T) -> bool,
) -> Result<(), HvStatus> {
    match list.iter_mut().find(|known| same(known)) {
        Some(known) => *known = *result,
        None => list.try_push(*result).map_err(|_| HvStatus::NO_RESOURCES)?,
    }
    Ok(())
}

/// Forgets the one that is the `same`.
fn remove<T, const N: usize>(
    list: &mut ArrayVec<T, N>,
    same: impl Fn(&T) -> bool,
) -> Result<(), HvStatus> {
    let at = list.iter().position(same).ok_or(HvStatus::NOT_FOUND)?;
    list.swap_remove(at);
    Ok(())
}

impl Results {
    /// Nothing is registered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a CPUID result, in place of one for the same leaf.
    ///
    /// # Errors
    /// NO_RESOURCES when the list is full.
    pub fn register_cpuid(
        &mut self,
        result: &HvRegisterX64CpuidResultParameters,
    ) -> Result<(), HvStatus> {
        put(&mut self.cpuid, result, |known| same_leaf(known, result))
    }

    /// Forgets a CPUID result.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn unregister_cpuid(
        &mut self,
        result: &HvRegisterX64CpuidResultParameters,
    ) -> Result<(), HvStatus> {
        remove(&mut self.cpuid, |known| same_leaf(known, result))
    }

    /// What is registered for CPUID `eax`, `ecx`; a result for the subleaf goes before one for the whole leaf.
    fn cpuid_result(&self, eax: u32, ecx: u32) -> Option<&HvRegisterX64CpuidResultParameters> {
        let of_leaf = |known: &&HvRegisterX64CpuidResultParameters| known.eax == eax;
        let exact = self
            .cpuid
            .iter()
            .filter(of_leaf)
            .find(|known| known.subleaf_specific != 0 && known.ecx == ecx);
        let any = || {
            self.cpuid
                .iter()
                .filter(of_leaf)
                .find(|known| known.subleaf_specific == 0)
        };
        exact.or_else(any)
    }

    /// The answer to CPUID `eax`, `ecx`, given the hypervisor's own.
    pub fn apply_cpuid(&self, eax: u32, ecx: u32, own: CpuidResult) -> CpuidResult {
        self.cpuid_result(eax, ecx)
            .map_or(own, |known| CpuidResult {
                eax: known.result_eax.apply(own.eax),
                ebx: known.result_ebx.apply(own.ebx),
                ecx: known.result_ecx.apply(own.ecx),
                edx: known.result_edx.apply(own.edx),
            })
    }

    /// Whether the answer is given even if CPUID `eax` is intercepted.
    pub fn overrides_cpuid(&self, eax: u32, ecx: u32) -> bool {
        self.cpuid_result(eax, ecx)
            .is_some_and(|known| known.always_override != 0)
    }

    /// Registers what happens to accesses of an MSR that the hypervisor does not virtualize.
    ///
    /// # Errors
    /// INVALID_PARAMETER for an action or an access that is none; NO_RESOURCES when the list is full.
    pub fn register_msr(
        &mut self,
        result: &HvRegisterX64MsrResultParameters,
    ) -> Result<(), HvStatus> {
        let both = HvInterceptAccessMask::READ.0 | HvInterceptAccessMask::WRITE.0;
        let access = result.access_type.0;
        let known = [
            HvUnimplementedMsrAction::FAULT,
            HvUnimplementedMsrAction::IGNORE_WRITE_READ_ZERO,
        ];
        if access == 0 || access & !both != 0 || !known.contains(&result.action) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        put(&mut self.msrs, result, |known| same_access(known, result))
    }

    /// Forgets it.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn unregister_msr(
        &mut self,
        result: &HvRegisterX64MsrResultParameters,
    ) -> Result<(), HvStatus> {
        remove(&mut self.msrs, |known| same_access(known, result))
    }

    /// What is registered for an access to an MSR.
    pub fn msr(&self, msr: u32, write: bool) -> Option<HvUnimplementedMsrAction> {
        let access = if write {
            HvInterceptAccessMask::WRITE
        } else {
            HvInterceptAccessMask::READ
        };
        self.msrs
            .iter()
            .find(|known| known.msr_index == msr && known.access_type.0 & access.0 != 0)
            .map(|known| known.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tlfs::HvMaskedValue;

    fn leaf(eax: u32, ecx: Option<u32>, value: u32) -> HvRegisterX64CpuidResultParameters {
        HvRegisterX64CpuidResultParameters {
            eax,
            ecx: ecx.unwrap_or(0),
            subleaf_specific: ecx.is_some().into(),
            result_eax: HvMaskedValue {
                value,
                mask: 0xFFFF,
            },
            ..Default::default()
        }
    }

    #[test]
    fn a_result_changes_the_bits_of_its_mask_only() {
        let mut results = Results::new();
        results.register_cpuid(&leaf(7, None, 0x1234)).unwrap();
        let own = CpuidResult {
            eax: 0xAAAA_BBBB,
            ebx: 5,
            ..Default::default()
        };
        let answer = results.apply_cpuid(7, 9, own);
        assert_eq!((answer.eax, answer.ebx), (0xAAAA_1234, 5));
        assert_eq!(results.apply_cpuid(8, 9, own), own);
    }

    #[test]
    fn only_a_result_that_says_so_overrides_an_intercept() {
        let mut results = Results::new();
        results.register_cpuid(&leaf(7, None, 1)).unwrap();
        let special = HvRegisterX64CpuidResultParameters {
            always_override: 1,
            ..leaf(7, Some(3), 2)
        };
        results.register_cpuid(&special).unwrap();
        assert!(results.overrides_cpuid(7, 3));
        assert!(!results.overrides_cpuid(7, 4) && !results.overrides_cpuid(8, 3));
    }

    #[test]
    fn a_subleaf_goes_before_its_leaf_and_a_second_registration_replaces() {
        let mut results = Results::new();
        results.register_cpuid(&leaf(7, None, 1)).unwrap();
        results.register_cpuid(&leaf(7, Some(3), 2)).unwrap();
        results.register_cpuid(&leaf(7, Some(3), 4)).unwrap();
        let own = CpuidResult::default();
        assert_eq!(results.apply_cpuid(7, 3, own).eax, 4);
        assert_eq!(results.apply_cpuid(7, 2, own).eax, 1);
        results.unregister_cpuid(&leaf(7, Some(3), 0)).unwrap();
        assert_eq!(results.apply_cpuid(7, 3, own).eax, 1);
        assert_eq!(
            results.unregister_cpuid(&leaf(7, Some(3), 0)),
            Err(HvStatus::NOT_FOUND)
        );
    }

    #[test]
    fn the_lists_are_bounded() {
        let mut results = Results::new();
        for eax in 0..MAX_CPUID as u32 {
            results.register_cpuid(&leaf(eax, None, 1)).unwrap();
        }
        assert_eq!(
            results.register_cpuid(&leaf(999, None, 1)),
            Err(HvStatus::NO_RESOURCES)
        );
    }

    #[test]
    fn msr_results_are_kept_by_access() {
        let mut results = Results::new();
        let ignore = HvRegisterX64MsrResultParameters {
            msr_index: 0x123,
            access_type: HvInterceptAccessMask::WRITE,
            action: HvUnimplementedMsrAction::IGNORE_WRITE_READ_ZERO,
        };
        results.register_msr(&ignore).unwrap();
        assert_eq!(results.msr(0x123, true), Some(ignore.action));
        assert_eq!(results.msr(0x123, false), None);
        let bad = HvRegisterX64MsrResultParameters {
            action: HvUnimplementedMsrAction(7),
            ..ignore
        };
        assert_eq!(results.register_msr(&bad), Err(HvStatus::INVALID_PARAMETER));
        results.unregister_msr(&ignore).unwrap();
        assert_eq!(results.msr(0x123, true), None);
    }
}
