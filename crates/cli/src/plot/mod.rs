//! The pictures.

mod loss;
mod roofline;

pub use loss::{Curves, loss_svg};
pub use roofline::{Roof, roofline_svg};

use crate::failure::Failure;
use std::path::Path;

/// Whether a picture can be written there: asked before what it shows is measured.
///
/// # Errors
/// What the file system says.
pub fn writable(path: &Path) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(|_| ()).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}
