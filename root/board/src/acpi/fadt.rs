//! The fixed description: what of the fixed ACPI hardware exists (next to nothing).

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout::{RESET_PORT, RESET_VALUE, SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT};

/// No VGA to probe for.
const BOOT_ARCH_NO_VGA: u16 = 1 << 2;
/// No RTC driver wanted: the clock at port 0x70 answers when it is read at boot, but has no interrupt.
const BOOT_ARCH_NO_RTC: u16 = 1 << 5;
/// Index of the century in CMOS memory.
const CENTURY: u8 = 0x32;

/// FADT of revision 6 that points at the DSDT.
pub fn table(dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi)
        .dsdt_64(dsdt);
    fadt.iapc_boot_arch = (BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_RTC).into();
    fadt.century = CENTURY;
    fadt.reset_reg = byte_port(RESET_PORT);
    fadt.reset_value = RESET_VALUE;
    fadt.sleep_control_reg = byte_port(SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = byte_port(SLEEP_STATUS_PORT);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"Partita\0").into();
    fadt.finalize()
}

fn byte_port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}
