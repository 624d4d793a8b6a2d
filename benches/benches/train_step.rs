//! One training step of GPT-2 124M.

mod harness;

fn main() {
    harness::run(&["train_step"]);
}
