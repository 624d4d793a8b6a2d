//! Any changes to a folder of Hugging Face's: a model whose tokenizer has no ids but its own, or an error of one line, the
//! same for weights as they are and for packed ones, within 64 MiB.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_fuzz::{Changes, Folder, MODEL_FOLDERS, bounded, exercise, model_folder};
use longhand_gpt::mmap::Access;
use longhand_gpt::{hugging_face, snapshot};
use longhand_tensor::Ctx;
use longhand_tensor::matmul::WeightType;
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    folder: u8,
    mapped: bool,
    described: bool,
    halves: bool,
    changes: Changes<'a>,
    text: &'a str,
}

static FOLDERS: LazyLock<Vec<Folder>> = LazyLock::new(|| {
    let folders: Vec<Folder> = (0..MODEL_FOLDERS).map(model_folder).collect();
    for folder in &folders {
        snapshot::open(folder.path(), Access::Map).expect("a folder without changes opens");
    }
    folders
});

fuzz_target!(|input: Input<'_>| {
    let access = if input.mapped { Access::Map } else { Access::Read };
    FOLDERS[input.folder as usize % MODEL_FOLDERS].changed(&input.changes, |path| {
        let described = input.described.then(|| bounded(|| hugging_face::describe(path, access)));
        let mut lines = [None, None];
        let opened = bounded(|| snapshot::open(path, access).inspect_err(|e| lines[0] = Some(e.to_string())));
        let kind = if input.halves { WeightType::Bf16 } else { WeightType::F32 };
        let packed = || snapshot::open_packed(&Ctx::default(), path, access, kind);
        bounded(|| packed().inspect_err(|e| lines[1] = Some(e.to_string())));
        assert_eq!(lines[0], lines[1], "weights as they are, and packed");
        if let Some(opened) = opened {
            if let Some(described) = described {
                assert_eq!(described.expect("what opens has headers").config, *opened.model.config());
            }
            assert!(opened.tokenizer.vocab_size() <= opened.model.config().vocab_size);
            exercise(&opened.tokenizer, input.text);
        }
    });
});
