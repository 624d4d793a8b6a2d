//! One file a command.

pub mod bench;
pub mod doctor;
pub mod generate;
pub mod gradcheck;
pub mod roofline;
pub mod train;
