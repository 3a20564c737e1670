//! DR0 to DR3, which no control block holds.

/// Puts the guest's breakpoint addresses into the processor. They act in the guest only: entries and exits switch DR7,
/// and the host's has all of them off.
pub(in crate::arch) fn load(dr: &[u64; 4]) {
    // SAFETY: ring 0; the host's DR7 enables no breakpoint, so the addresses change nothing here.
    unsafe {
        core::arch::asm!(
            "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) dr[0], in(reg) dr[1], in(reg) dr[2], in(reg) dr[3],
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Reads them back.
pub(in crate::arch) fn save() -> [u64; 4] {
    let (a, b, c, d): (u64, u64, u64, u64);
    // SAFETY: ring 0, which every caller of `Vcpu::run` is in; reading has no effect while DR7.GD is off.
    unsafe {
        core::arch::asm!(
            "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d,
            options(nomem, nostack, preserves_flags)
        );
    }
    [a, b, c, d]
}
