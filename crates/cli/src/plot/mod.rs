//! The pictures.

mod loss;
mod roofline;
mod split;

pub use loss::{Curves, loss_svg};
pub use roofline::{Point, Roof, roofline_svg};
pub use split::{Bars, split_svg};

use crate::failure::Failure;
use plotters::style::RGBColor;
use std::path::Path;

/// Kinds of kernels have one colour in every picture.
const MATMUL: RGBColor = RGBColor(200, 60, 40);
const ATTENTION_FORWARD: RGBColor = RGBColor(40, 110, 200);
const ATTENTION_BACKWARD: RGBColor = RGBColor(110, 60, 170);
const LINEAR_CROSS_ENTROPY: RGBColor = RGBColor(20, 20, 20);
const ROWS: RGBColor = RGBColor(60, 150, 80);
const ADAMW: RGBColor = RGBColor(170, 130, 20);

/// Whether a picture can be written there: asked before what it shows is measured.
///
/// # Errors
/// What the file system says.
pub fn writable(path: &Path) -> Result<(), Failure> {
    let fault = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let is_new = !path.exists();
    std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(fault)?;
    // Whatever ends the command before it draws, leaves no empty file; what a link points to is removed, not the link.
    if is_new { path.canonicalize().and_then(std::fs::remove_file).map_err(fault) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
        let folder = std::env::temp_dir().join(format!("longhand-plot-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (link, target) = (folder.join("link.svg"), folder.join("target.svg"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        super::writable(&link).unwrap();
        assert!(link.is_symlink() && !target.exists());
        super::writable(&target).unwrap();
        assert!(!target.exists());
        std::fs::write(&link, "a picture").unwrap();
        super::writable(&link).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "a picture");
        assert!(super::writable(&folder.join("none/x.svg")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
