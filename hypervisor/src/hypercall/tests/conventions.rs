//! The calling convention: registers, parameters, privileges.

use tlfs::*;

use crate::hv::ROOT_ID;
use crate::run::testing::Bench;

#[test]
fn the_root_is_told_its_id() {
    let mut bench = Bench::new();
    let answer: HvOutputPartitionId = bench.ask(HvCallCode::GET_PARTITION_ID, &[0_u8; 0]).unwrap();
    assert_eq!(answer.partition_id, ROOT_ID);
}
