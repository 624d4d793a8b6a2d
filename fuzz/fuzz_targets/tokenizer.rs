//! Any bytes as tokenizer.json, and a text for it: ids below the vocabulary's size, or an error of one line.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_gpt::tokenizer::{Special, Tokenizer};
use std::path::Path;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    file: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let loaded = Tokenizer::from_json(input.file, Path::new("tokenizer.json"));
    if let Err(e) = &loaded {
        assert!(!e.to_string().contains('\n'), "{e}");
    }
    for tokenizer in [Some(Tokenizer::bytes()), loaded.ok()].into_iter().flatten() {
        match tokenizer.encode(input.text, Special::Text) {
            Ok(ids) => {
                tokenizer.check_ids(&ids).expect("an id of its own");
                tokenizer.decode(&ids).expect("its own ids decode");
            }
            Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
        }
    }
    let bytes = Tokenizer::bytes();
    let ids = bytes.encode(input.text, Special::Text).expect("every text is bytes");
    assert_eq!(bytes.decode(&ids).expect("its own ids decode"), input.text);
});
