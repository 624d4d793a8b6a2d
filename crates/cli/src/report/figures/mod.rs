//! The pictures, each an SVG of its own: drawn by attributes, recoloured by the page's style for dark screens.

mod attention;
mod axis;
mod chart;
mod efficiency;
mod finetuning;
mod ink;
mod line;
mod pretraining;
mod scores;

pub use attention::{glance, heads, shaded, wide};
pub use efficiency::{efficiency, efficiency_keys};
pub use finetuning::{finetuning, finetuning_keys};
pub use ink::key_list;
pub use line::{line, top};
pub use pretraining::{pretraining, pretraining_top};
pub use scores::scores;
