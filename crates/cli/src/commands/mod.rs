//! One file a command.

pub mod doctor;
pub mod generate;
pub mod gradcheck;
pub mod train;
