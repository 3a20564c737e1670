//! Registers of children's VPs, for whoever asks at the console.

use alloc::vec;
use alloc::vec::Vec;

use manager::VmId;
use root_kernel::hv::list;
use tlfs::{
    HvCallCode, HvInputVpRegisters, HvPartitionId, HvRegisterName, HvRegisterValue, HvVpIndex,
};
use zerocopy::IntoBytes;

use super::hypervisor::Metal;
use super::process::TABLE;

/// Shows the VPs of a VM, each with the values of `names`. One that refuses is left out.
pub fn show(vm: VmId, names: &[HvRegisterName], look: &mut dyn FnMut(u32, &[HvRegisterValue])) {
    let Some((partition, vps)) = child(vm) else {
        return;
    };
    for vp in vps {
        if let Some(values) = read(partition, vp, names) {
            look(vp, &values);
        }
    }
}

/// The partition of a VM, and its VPs.
fn child(vm: VmId) -> Option<(HvPartitionId, Vec<u32>)> {
    TABLE.with(|table| {
        let partition = table.partition_of(vm.0)?;
        let vps = partition.vps().map(|(index, _)| index).collect();
        Some((partition.id(), vps))
    })
}

/// HvCallGetVpRegisters. A page holds so many names and values (a list longer than that is refused).
fn read(
    partition: HvPartitionId,
    vp: u32,
    names: &[HvRegisterName],
) -> Option<Vec<HvRegisterValue>> {
    let header = HvInputVpRegisters {
        partition_id: partition,
        vp_index: HvVpIndex(vp),
        ..Default::default()
    };
    let mut input = Vec::from(header.as_bytes());
    input.extend_from_slice(names.as_bytes());
    let mut values = vec![HvRegisterValue::default(); names.len()];
    let (code, count) = (HvCallCode::GET_VP_REGISTERS, names.len());
    list(&mut Metal, code, count, &input, values.as_mut_bytes()).ok()?;
    Some(values)
}
