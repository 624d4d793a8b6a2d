//! The pictures, each an SVG of its own: drawn by attributes, recoloured by the page's style for dark screens.

mod attention;
mod axis;
mod chart;
mod efficiency;
mod finetuning;
mod line;
mod pretraining;
mod scores;

pub use attention::{glance, heads, shaded, wide};
pub use efficiency::efficiency;
pub use finetuning::finetuning;
pub use line::{line, top};
pub use pretraining::pretraining;
pub use scores::scores;
