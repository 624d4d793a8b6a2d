//! `longhand gradcheck`: whether every op and both kinds of block have the gradients that they should.

use crate::args::GradcheckArgs;
use crate::failure::Failure;
use crate::pool::{Workers, isa_named};
use crate::progress::print_line;
use longhand_gpt::gradcheck::{check_all, table};
use longhand_tensor::Isa;

/// What the columns say.
const LEGEND: &str = "\
1  backward of the reference, f64, against central differences of its forward
2  kernels, forward and backward, against the reference in f64, within the op's derived bound
3  a model on the tape, dropout on, against the same model on the reference in f64
worst: the element nearest to its bound. caught: the smallest relative error that would have failed, in any gradient.
";

/// Checks and shows; the exit status: 1 when something is beyond its bound.
pub fn run(args: &GradcheckArgs) -> Result<u8, Failure> {
    let isas = match &args.isa {
        None => Isa::available(),
        Some(name) => vec![isa_named(name)?],
    };
    let rows = Workers::new(None)?.run(|| check_all(&isas))?;
    print_line(LEGEND);
    print_line(table(&rows).trim_end());
    Ok(if rows.iter().all(|row| row.passed) { 0 } else { 1 })
}
