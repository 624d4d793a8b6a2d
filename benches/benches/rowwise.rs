//! Row kernels, and the output layer with its loss.

mod harness;

fn main() {
    harness::run(&["rowwise", "linear_cross_entropy"]);
}
