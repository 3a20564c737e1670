//! Bit fields: each of theirs set alone must be ours set alone.

use mshv_bindings as m;
use tlfs::*;

/// Sets each field to all ones through the bindings and compares the integer with ours.
macro_rules! same_bits {
    ($test:ident, $theirs:ident . $int:ident, $ours:ident { $($field:ident => $expect:expr),* $(,)? }) => {
        #[test]
        fn $test() {
            $(
                let mut theirs = m::$theirs::default();
                // SAFETY: all fields of the union are plain integers, any bits are valid.
                let bits = unsafe {
                    theirs.__bindgen_anon_1.$field(!0);
                    theirs.$int
                };
                assert_eq!($ours::from($expect).into_bits(), bits, stringify!($field));
            )*
        }
    };
}

same_bits!(execution_state, hv_x64_vp_execution_state.as_uint16, HvX64VpExecutionState {
    set_cpl => HvX64VpExecutionState::new().with_cpl(3),
    set_cr0_pe => HvX64VpExecutionState::new().with_cr0_pe(true),
    set_cr0_am => HvX64VpExecutionState::new().with_cr0_am(true),
    set_efer_lma => HvX64VpExecutionState::new().with_efer_lma(true),
    set_debug_active => HvX64VpExecutionState::new().with_debug_active(true),
    set_interruption_pending => HvX64VpExecutionState::new().with_interruption_pending(true),
    set_vtl => HvX64VpExecutionState::new().with_vtl(15),
    set_enclave_mode => HvX64VpExecutionState::new().with_enclave_mode(true),
    set_interrupt_shadow => HvX64VpExecutionState::new().with_interrupt_shadow(true),
    set_virtualization_fault_active => HvX64VpExecutionState::new().with_virtualization_fault_active(true),
});

same_bits!(io_port_access, hv_x64_io_port_access_info.as_uint8, HvX64IoPortAccessInfo {
    set_access_size => HvX64IoPortAccessInfo::new().with_access_size(7),
    set_string_op => HvX64IoPortAccessInfo::new().with_string_op(true),
    set_rep_prefix => HvX64IoPortAccessInfo::new().with_rep_prefix(true),
});

same_bits!(memory_access, hv_x64_memory_access_info.as_uint8, HvX64MemoryAccessInfo {
    set_gva_valid => HvX64MemoryAccessInfo::new().with_gva_valid(true),
    set_gva_gpa_valid => HvX64MemoryAccessInfo::new().with_gva_gpa_valid(true),
    set_hypercall_output_pending => HvX64MemoryAccessInfo::new().with_hypercall_output_pending(true),
    set_tlb_locked_no_overlay => HvX64MemoryAccessInfo::new().with_tlb_locked(true),
});

same_bits!(exception_info, hv_x64_exception_info.as_uint8, HvX64ExceptionInfo {
    set_error_code_valid => HvX64ExceptionInfo::new().with_error_code_valid(true),
    set_software_exception => HvX64ExceptionInfo::new().with_software_exception(true),
});

same_bits!(pending_interruption, hv_x64_pending_interruption_register.as_uint64, HvX64PendingInterruptionRegister {
    set_interruption_pending => HvX64PendingInterruptionRegister::new().with_interruption_pending(true),
    set_interruption_type => HvX64PendingInterruptionRegister::new().with_interruption_type(7),
    set_deliver_error_code => HvX64PendingInterruptionRegister::new().with_deliver_error_code(true),
    set_instruction_length => HvX64PendingInterruptionRegister::new().with_instruction_length(15),
    set_nested_event => HvX64PendingInterruptionRegister::new().with_nested_event(true),
    set_interruption_vector => HvX64PendingInterruptionRegister::new().with_interruption_vector(!0),
});

same_bits!(interrupt_state, hv_x64_interrupt_state_register.as_uint64, HvX64InterruptStateRegister {
    set_interrupt_shadow => HvX64InterruptStateRegister::new().with_interrupt_shadow(true),
    set_nmi_masked => HvX64InterruptStateRegister::new().with_nmi_masked(true),
});

same_bits!(explicit_suspend, hv_explicit_suspend_register.as_uint64, HvExplicitSuspendRegister {
    set_suspended => HvExplicitSuspendRegister::new().with_suspended(true),
});

same_bits!(intercept_suspend, hv_intercept_suspend_register.as_uint64, HvInterceptSuspendRegister {
    set_suspended => HvInterceptSuspendRegister::new().with_suspended(true),
});

same_bits!(internal_activity, hv_internal_activity_register.as_uint64, HvInternalActivityRegister {
    set_startup_suspend => HvInternalActivityRegister::new().with_startup_suspend(true),
    set_halt_suspend => HvInternalActivityRegister::new().with_halt_suspend(true),
    set_idle_suspend => HvInternalActivityRegister::new().with_idle_suspend(true),
});

same_bits!(stimer_config, hv_stimer_config.as_uint64, HvStimerConfig {
    set_enable => HvStimerConfig::new().with_enable(true),
    set_periodic => HvStimerConfig::new().with_periodic(true),
    set_lazy => HvStimerConfig::new().with_lazy(true),
    set_auto_enable => HvStimerConfig::new().with_auto_enable(true),
    set_apic_vector => HvStimerConfig::new().with_apic_vector(!0),
    set_direct_mode => HvStimerConfig::new().with_direct_mode(true),
    set_sintx => HvStimerConfig::new().with_sintx(15),
});
