//! Any changes to a run's checkpoint, its sums right or wrong: a model, or an error of one line, within 64 MiB.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use longhand_fuzz::{CHECKPOINT, Changes, Folder, bounded, exercise, run_folder};
use longhand_gpt::checkpoint::{self, Part};
use longhand_gpt::mmap::Access;
use longhand_gpt::snapshot;
use std::sync::LazyLock;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    way: u8,
    mapped: bool,
    changes: Changes<'a>,
}

static RUN: LazyLock<Folder> = LazyLock::new(|| {
    let run = run_folder();
    snapshot::open(run.path(), Access::Map).expect("a run without changes opens");
    run
});

fuzz_target!(|input: Input<'_>| {
    let access = if input.mapped { Access::Map } else { Access::Read };
    RUN.changed(&input.changes, |path| {
        let saved = path.join(CHECKPOINT);
        let from = match input.way % 3 {
            0 => path,
            1 => &saved,
            _ => {
                bounded(|| checkpoint::load(&saved, Part::Whole, access));
                return;
            }
        };
        if let Some(opened) = bounded(|| snapshot::open(from, access)) {
            // A run that began with a padded table has a wider one than its tokenizer.
            assert!(opened.tokenizer.vocab_size() <= opened.model.config().vocab_size);
            exercise(&opened.tokenizer, "to be");
        }
    });
});
