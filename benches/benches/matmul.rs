//! Matrix products of GPT shapes.

mod harness;

fn main() {
    harness::run(&["matmul"]);
}
