//! One file a command.

pub mod bench;
pub mod doctor;
pub mod evaluate;
pub mod finetune;
pub mod generate;
pub mod gradcheck;
pub mod predict;
pub mod roofline;
pub mod train;
