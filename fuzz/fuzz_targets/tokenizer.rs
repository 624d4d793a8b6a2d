//! Any bytes as tokenizer.json, any changes to one, or to a vocabulary and merges in two files, and a text for it: ids
//! below the vocabulary's size, or an error of one line, within 64 MiB.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_fuzz::{Changes, Folder, TOKENIZERS, bounded, exercise, tokenizer_folder};
use longhand_gpt::config::Arch;
use longhand_gpt::tokenizer::{Special, Tokenizer};
use std::path::Path;
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    folder: Option<u8>,
    changes: Changes<'a>,
    text: &'a str,
    file: &'a [u8],
}

static FOLDERS: LazyLock<Vec<(Folder, Arch)>> = LazyLock::new(|| {
    let folders: Vec<(Folder, Arch)> = (0..TOKENIZERS + 2).map(tokenizer_folder).collect();
    for (folder, arch) in &folders {
        Tokenizer::of_folder(folder.path(), *arch).expect("a folder without changes opens");
    }
    folders
});

fuzz_target!(|input: Input<'_>| {
    let Some(which) = input.folder else {
        if let Some(tokenizer) = bounded(|| Tokenizer::from_json(input.file, Path::new("tokenizer.json"))) {
            exercise(&tokenizer, input.text);
        }
        let bytes = Tokenizer::bytes();
        let ids = bytes.encode(input.text, Special::Text).expect("every text is bytes");
        assert_eq!(bytes.decode(&ids).expect("its own ids decode"), input.text);
        return;
    };
    let (folder, arch) = &FOLDERS[which as usize % FOLDERS.len()];
    folder.changed(&input.changes, |path| {
        if let Some(tokenizer) = bounded(|| Tokenizer::of_folder(path, *arch)) {
            exercise(&tokenizer, input.text);
        }
    });
});
