//! `longhand gradcheck`: the table, and what is said of an unknown instruction set.

mod common;

use common::Folder;

#[test]
fn the_table_of_one_instruction_set() {
    let text = Folder::new("gradcheck").run("gradcheck --isa scalar").good();
    for what in ["matmul a^T b^T", "attention causal, dropout", "adamw", "gpt1 model", "gpt2 model"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(!text.contains("avx2") && !text.contains("portable"), "{text}");
    assert!(text.trim_end().ends_with("checks, all within their bounds"), "{text}");
}

#[test]
fn an_unknown_instruction_set() {
    let line = Folder::new("gradcheck-isa").run("gradcheck --isa sse9").refused(2);
    assert!(line.starts_with("isa = sse9: must be one that this CPU has: scalar, portable"), "{line}");
}
