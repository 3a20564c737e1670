//! Interface types and the instances that Windows fixes (section 9).

use super::Guid;

/// Dynamic memory.
pub const BALLOON: Guid = Guid::new(0x525074dc_8985_46e2_8057_a307dc18a502);
/// Heartbeat.
pub const HEARTBEAT: Guid = Guid::new(0x57164f39_9115_4e78_ab55_382f3bd5422d);
/// Shutdown.
pub const SHUTDOWN: Guid = Guid::new(0x0e0b6031_5213_4934_818b_38d90ced39db);
/// Instance of [`SHUTDOWN`].
pub const SHUTDOWN_INSTANCE: Guid = Guid::new(0xb6650ff7_33bc_4840_8048_e0676786f393);
/// Time synchronisation.
pub const TIME_SYNC: Guid = Guid::new(0x9527e630_d0ae_497b_adce_e80ab0175caf);
/// Instance of [`TIME_SYNC`].
pub const TIME_SYNC_INSTANCE: Guid = Guid::new(0x2dd1ce17_079e_403c_b352_a1921ee207ee);
/// Key-value pairs.
pub const KVP: Guid = Guid::new(0xa9a0f4e7_5a45_4d96_b827_8a841e8c03e6);
/// Instance of [`KVP`].
pub const KVP_INSTANCE: Guid = Guid::new(0x242ff919_07db_4180_9c2e_b86cb68c8c55);
/// SCSI controller.
pub const SCSI: Guid = Guid::new(0xba6163d9_04a1_4d29_b605_72e2ffb1dc7f);
/// Network adapter.
pub const NETWORK: Guid = Guid::new(0xf8615163_df3e_46c5_913f_f2d2f965ed0e);
