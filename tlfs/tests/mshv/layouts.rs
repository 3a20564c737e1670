//! Sizes and offsets.

use core::mem::{offset_of, size_of};

use mshv_bindings as m;
use tlfs::*;

/// Compares the sizes of two structures and the offsets of the fields listed as ours = theirs.
macro_rules! same {
    ($test:ident, $ours:ty, $theirs:ty { $($our:ident = $($their:ident).+),* $(,)? }) => {
        #[test]
        fn $test() {
            assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), "size");
            same!(@fields $ours, $theirs { $($our = $($their).+),* });
        }
    };
    (@fields $ours:ty, $theirs:ty { $($our:ident = $($their:ident).+),* }) => {
        $( assert_eq!(offset_of!($ours, $our), offset_of!($theirs, $($their).+), stringify!($our)); )*
    };
}

same!(message_header, HvMessageHeader, m::hv_message_header {
    message_type = message_type, payload_size = payload_size, flags = message_flags, reserved = reserved,
    sender = __bindgen_anon_1,
});
same!(message, HvMessage, m::hv_message { header = header, payload = u });
same!(segment, HvX64SegmentRegister, m::hv_x64_segment_register {
    base = base, limit = limit, selector = selector, attributes = __bindgen_anon_1,
});
same!(table, HvX64TableRegister, m::hv_x64_table_register { pad = pad, limit = limit, base = base });
same!(fp_control_status, HvX64FpControlStatusRegister, m::hv_x64_fp_control_status_register__bindgen_ty_1 {
    fp_control = fp_control, fp_status = fp_status, fp_tag = fp_tag, last_fp_op = last_fp_op,
    last_fp_rip = __bindgen_anon_1,
});
same!(xmm_control_status, HvX64XmmControlStatusRegister, m::hv_x64_xmm_control_status_register__bindgen_ty_1 {
    last_fp_rdp = __bindgen_anon_1, xmm_status_control = xmm_status_control,
    xmm_status_control_mask = xmm_status_control_mask,
});
same!(register_assoc, HvRegisterAssoc, m::hv_register_assoc { name = name, pad = reserved1, value = value });
same!(register_value, HvRegisterValue, m::hv_register_value {});

same!(intercept_header, HvX64InterceptMessageHeader, m::hv_x64_intercept_message_header {
    vp_index = vp_index, instruction_length_and_cr8 = _bitfield_1, intercept_access_type = intercept_access_type,
    execution_state = execution_state, cs_segment = cs_segment, rip = rip, rflags = rflags,
});
same!(memory_intercept, HvX64MemoryInterceptMessage, m::hv_x64_memory_intercept_message {
    header = header, cache_type = cache_type, instruction_byte_count = instruction_byte_count,
    memory_access_info = memory_access_info, tpr_priority = tpr_priority,
    guest_virtual_address = guest_virtual_address, guest_physical_address = guest_physical_address,
    instruction_bytes = instruction_bytes,
});
same!(io_port_intercept, HvX64IoPortInterceptMessage, m::hv_x64_io_port_intercept_message {
    header = header, port_number = port_number, access_info = access_info,
    instruction_byte_count = instruction_byte_count, rax = rax, instruction_bytes = instruction_bytes,
    ds_segment = ds_segment, es_segment = es_segment, rcx = rcx, rsi = rsi, rdi = rdi,
});
same!(msr_intercept, HvX64MsrInterceptMessage, m::hv_x64_msr_intercept_message {
    header = header, msr_number = msr_number, rdx = rdx, rax = rax,
});
same!(cpuid_intercept, HvX64CpuidInterceptMessage, m::hv_x64_cpuid_intercept_message {
    header = header, rax = rax, rcx = rcx, rdx = rdx, rbx = rbx, default_result_rax = default_result_rax,
    default_result_rcx = default_result_rcx, default_result_rdx = default_result_rdx,
    default_result_rbx = default_result_rbx,
});
same!(exception_intercept, HvX64ExceptionInterceptMessage, m::hv_x64_exception_intercept_message {
    header = header, exception_vector = exception_vector, exception_info = exception_info,
    instruction_byte_count = instruction_byte_count, error_code = error_code,
    exception_parameter = exception_parameter, instruction_bytes = instruction_bytes, ds_segment = ds_segment,
    ss_segment = ss_segment, gp_registers = rax,
});
same!(invalid_vp_register, HvX64InvalidVpRegisterMessage, m::hv_x64_invalid_vp_register_message {
    vp_index = vp_index, reserved = reserved,
});
same!(unrecoverable_exception, HvX64UnrecoverableExceptionMessage, m::hv_x64_unrecoverable_exception_message {
    header = header,
});
same!(unsupported_feature, HvX64UnsupportedFeatureMessage, m::hv_x64_unsupported_feature_message {
    vp_index = vp_index, feature_code = feature_code, feature_parameter = feature_parameter,
});
same!(halt, HvX64HaltMessage, m::hv_x64_halt_message { header = header });
same!(interruption_deliverable, HvX64InterruptionDeliverableMessage, m::hv_x64_interruption_deliverable_message {
    header = header, deliverable_type = deliverable_type,
});
same!(sint_deliverable, HvX64SynicSintDeliverableMessage, m::hv_x64_sint_deliverable_message {
    header = header, deliverable_sints = deliverable_sints,
});
same!(sipi, HvX64SipiInterceptMessage, m::hv_x64_sipi_intercept_message {
    header = header, target_vp_index = target_vp_index, interrupt_vector = interrupt_vector,
});
same!(apic_eoi, HvX64ApicEoiMessage, m::hv_x64_apic_eoi_message {
    vp_index = vp_index, interrupt_vector = interrupt_vector,
});
same!(opaque_intercept, HvOpaqueInterceptMessage, m::hv_opaque_intercept_message { vp_index = vp_index });

/// The bindings end the message at the flags; OpenVMM pads it to 208 bytes.
#[test]
fn hypercall_intercept() {
    type Theirs = m::hv_x64_hypercall_intercept_message;
    same!(@fields HvX64HypercallInterceptMessage, Theirs {
        header = header, rax = rax, rbx = rbx, rcx = rcx, rdx = rdx, r8 = r8, rsi = rsi, rdi = rdi,
        xmm_registers = xmmregisters, flags = __bindgen_anon_1
    });
    assert!(size_of::<HvX64HypercallInterceptMessage>() >= size_of::<Theirs>());
}

/// The bindings end the page at the vectors.
#[test]
fn register_page() {
    type Theirs = m::hv_vp_register_page;
    same!(@fields HvX64RegisterPage, Theirs {
        version = version, is_valid = isvalid, dirty = dirty,
        gp_registers = __bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_1.rax,
        rip = __bindgen_anon_1.__bindgen_anon_1.rip, rflags = __bindgen_anon_1.__bindgen_anon_1.rflags,
        reserved_152 = reserved, xmm = __bindgen_anon_2, segment = __bindgen_anon_3, cr0 = cr0, cr3 = cr3, cr4 = cr4,
        cr8 = cr8, efer = efer, dr7 = dr7, pending_interruption = pending_interruption,
        interrupt_state = interrupt_state, instruction_emulation_hints = instruction_emulation_hints, xfem = xfem,
        reserved_432 = reserved1, interrupt_vectors = interrupt_vectors
    });
    assert_eq!(offset_of!(HvX64RegisterPage, unused), size_of::<Theirs>());
    assert_eq!(size_of::<HvX64RegisterPage>(), m::HV_PAGE_SIZE);
}

same!(install_intercept, HvInputInstallIntercept, m::hv_input_install_intercept {
    partition_id = partition_id, access_type = access_type, intercept_type = intercept_type,
    intercept_parameter = intercept_parameter,
});
same!(get_vp_registers, HvInputVpRegisters, m::hv_input_get_vp_registers {
    partition_id = partition_id, vp_index = vp_index, input_vtl = input_vtl, reserved = rsvd_z8,
});
same!(set_vp_registers, HvInputVpRegisters, m::hv_input_set_vp_registers {
    partition_id = partition_id, vp_index = vp_index, input_vtl = input_vtl,
});
same!(get_partition_property, HvInputGetPartitionProperty, m::hv_input_get_partition_property {
    partition_id = partition_id, property_code = property_code, padding = padding,
});
same!(get_partition_property_output, HvOutputGetPartitionProperty, m::hv_output_get_partition_property {
    property_value = property_value,
});
same!(set_partition_property, HvInputSetPartitionProperty, m::hv_input_set_partition_property {
    partition_id = partition_id, property_code = property_code, property_value = property_value,
});
same!(property_arg, HvPartitionPropertyArg, m::hv_partition_property_arg__bindgen_ty_1 {
    arg = __bindgen_anon_1, object_type = object_type,
});
same!(get_partition_property_ex, HvInputGetPartitionPropertyEx, m::hv_input_get_partition_property_ex {
    partition_id = partition_id, property_code = property_code, arg = __bindgen_anon_1,
});
same!(vmm_capabilities, HvPartitionPropertyVmmCapabilities, m::hv_partition_property_vmm_capabilities {
    bank_count = bank_count, reserved = reserved, bits = __bindgen_anon_1,
});
same!(get_vp_cpuid_values, HvInputGetVpCpuidValues, m::hv_input_get_vp_cpuid_values {
    partition_id = partition_id, vp_index = vp_index, flags = flags, reserved = reserved,
});
same!(cpuid_leaf_info, HvCpuidLeafInfo, m::hv_cpuid_leaf_info { eax = eax, ecx = ecx, xfem = xfem, xss = xss });
same!(cpuid_result, HvCpuidResult, m::hv_output_get_vp_cpuid_values__bindgen_ty_1 {
    eax = eax, ebx = ebx, ecx = ecx, edx = edx,
});
same!(register_intercept_result, HvInputRegisterInterceptResult, m::hv_input_register_intercept_result {
    partition_id_bytes = partition_id, vp_index = vp_index, intercept_type = intercept_type, parameters = parameters,
});
same!(cpuid_result_parameters, HvRegisterX64CpuidResultParameters, m::hv_register_x64_cpuid_result_parameters {
    eax = input.eax, ecx = input.ecx, subleaf_specific = input.subleaf_specific,
    always_override = input.always_override, result_eax = result.eax, result_ebx = result.ebx,
    result_ecx = result.ecx, result_edx = result.edx,
});
same!(msr_result_parameters, HvRegisterX64MsrResultParameters, m::hv_register_x64_msr_result_parameters {
    msr_index = msr_index, access_type = access_type, action = action,
});
same!(translate, HvInputTranslateVirtualAddress, m::hv_input_translate_virtual_address {
    partition_id = partition_id, vp_index = vp_index, control_flags = control_flags, gva_page = gva_page,
});
same!(translate_output, HvOutputTranslateVirtualAddress, m::hv_output_translate_virtual_address {
    result_code = translation_result, gpa_page = gpa_page,
});
same!(assert_virtual_interrupt, HvInputAssertVirtualInterrupt, m::hv_input_assert_virtual_interrupt {
    partition_id = partition_id, control = control, dest_addr = dest_addr, vector = vector, target_vtl = target_vtl,
});
same!(signal_event_direct, HvInputSignalEventDirect, m::hv_input_signal_event_direct {
    target_partition = target_partition, target_vp = target_vp, target_vtl = target_vtl, target_sint = target_sint,
    flag_number = flag_number,
});
same!(signal_event_direct_output, HvOutputSignalEventDirect, m::hv_output_signal_event_direct {
    newly_signaled = newly_signaled,
});
same!(post_message_direct, HvInputPostMessageDirect, m::hv_input_post_message_direct {
    partition_id = partition_id, vp_index = vp_index, vtl = vtl, sint_index = sint_index, message_bytes = message,
    padding = padding2,
});
same!(read_gpa, HvInputReadGpa, m::hv_input_read_gpa {
    partition_id = partition_id, vp_index = vp_index, byte_count = byte_count, base_gpa = base_gpa,
    control_flags = control_flags,
});
same!(read_gpa_output, HvOutputReadGpa, m::hv_output_read_gpa { result_code = access_result, data = data });
same!(write_gpa, HvInputWriteGpa, m::hv_input_write_gpa {
    partition_id = partition_id, vp_index = vp_index, byte_count = byte_count, base_gpa = base_gpa,
    control_flags = control_flags, data = data,
});
same!(write_gpa_output, HvOutputWriteGpa, m::hv_output_write_gpa { result_code = access_result });
same!(port_info_message, HvPortInfo, m::hv_port_info {
    port_type = port_type, target_sint = __bindgen_anon_1.message_port_info.target_sint,
    target_vp = __bindgen_anon_1.message_port_info.target_vp,
});
same!(port_info_event, HvPortInfo, m::hv_port_info {
    target_sint = __bindgen_anon_1.event_port_info.target_sint,
    target_vp = __bindgen_anon_1.event_port_info.target_vp,
    base_flag_number = __bindgen_anon_1.event_port_info.base_flag_number,
    flag_count = __bindgen_anon_1.event_port_info.flag_count,
});
same!(lapic_state, HvLocalInterruptControllerState, m::hv_local_interrupt_controller_state {
    apic_id = apic_id, apic_version = apic_version, apic_ldr = apic_ldr, apic_dfr = apic_dfr,
    apic_spurious = apic_spurious, apic_isr = apic_isr, apic_tmr = apic_tmr, apic_irr = apic_irr, apic_esr = apic_esr,
    apic_icr_high = apic_icr_high, apic_icr_low = apic_icr_low, apic_lvt_timer = apic_lvt_timer,
    apic_lvt_thermal = apic_lvt_thermal, apic_lvt_perfmon = apic_lvt_perfmon, apic_lvt_lint0 = apic_lvt_lint0,
    apic_lvt_lint1 = apic_lvt_lint1, apic_lvt_error = apic_lvt_error, apic_lvt_cmci = apic_lvt_cmci,
    apic_error_status = apic_error_status, apic_initial_count = apic_initial_count,
    apic_counter_value = apic_counter_value, apic_divide_configuration = apic_divide_configuration,
    apic_remote_read = apic_remote_read,
});
same!(stimer_state, HvStimerState, m::hv_stimer_state {
    flags = flags, config = config, count = count, adjustment = adjustment,
    undelivered_expiration_time = undelivered_exp_time,
});
same!(synthetic_timers_state, HvSyntheticTimersState, m::hv_synthetic_timers_state {
    timers = timers, reserved = reserved,
});
