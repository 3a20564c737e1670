//! How much a Linux guest gives away (section 1.8, balloon up; section 1.9, its floor). Sizes in MiB.

use crate::linux_floor;

/// What a guest with `total`, of which so much is available, gives when it is asked for `request`.
pub(super) fn answer(total: u64, available: u64, request: u64) -> u64 {
    request.min(available.saturating_sub(linux_floor(total)))
}

#[test]
fn the_floor_at_its_breakpoints() {
    let rows = [
        (64, 40),
        (128, 72),
        (256, 104),
        (512, 168),
        (1024, 232),
        (2048, 360),
        (4096, 488),
        (8192, 744),
        (32768, 1512),
    ];
    for (total, expected) in rows {
        assert_eq!(linux_floor(total), expected, "{total}");
    }
}
