//! One step of AdamW.

mod harness;

fn main() {
    harness::run(&["adamw"]);
}
