//! Causal attention, fused and naive, forward and forward + backward.

mod harness;

fn main() {
    harness::run(&["attention"]);
}
