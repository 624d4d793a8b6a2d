//! `longhand inspect`: what a model's folder holds, without loading it; a checkpoint is whole, as for every other command.

use crate::args::InspectArgs;
use crate::commands::{model_folder, note_skipped};
use crate::failure::Failure;
use crate::machine::human_bytes;
use crate::progress::{print_line, thousands};
use longhand_gpt::checkpoint::{self, Part};
use longhand_gpt::config::{Arch, Config};
use longhand_gpt::finetune::tuned::is_tuned;
use longhand_gpt::hugging_face::{self, Described};
use longhand_gpt::mmap::Access;
use longhand_gpt::run_dir;
use longhand_gpt::snapshot;
use longhand_gpt::tokenizer::{Kind, Tokenizer};
use serde_json::json;

/// Shows; the exit status.
pub fn run(args: &InspectArgs) -> Result<u8, Failure> {
    let named = model_folder(&args.folder.clone().or(args.model.clone()))?;
    let folder = if run_dir::is_run(&named) {
        let (newest, skipped) = checkpoint::find_newest(run_dir::checkpoints_of(&named), Part::Model)?;
        note_skipped(&skipped);
        newest
    } else {
        if checkpoint::is_checkpoint(&named) {
            checkpoint::check(&named, Part::Model)?;
        }
        named
    };
    if is_tuned(&folder) {
        return Err(Failure::new(format!("{}: is a net tuned for a task: longhand predict asks it", folder.display())));
    }
    if !hugging_face::is_model(&folder) {
        // The line of every command that opens a model.
        snapshot::open_body(&folder, Access::Map)?;
    }
    let Described { config, tensors, ignored, .. } = hugging_face::describe(&folder, Access::Map)?;
    let tokenizer = Tokenizer::of_folder_if_any(&folder, config.arch)?;
    let problem = tokenizer.as_ref().and_then(|t| snapshot::check_tokenizer(&folder, &config, t).err());
    let numbers = config.param_count();
    // Keys and values of every layer, for a whole context.
    let cache = 2 * 4 * [config.n_layer, config.n_embd, config.n_positions].iter().map(|x| *x as u64).product::<u64>();
    let stored: u64 = tensors.iter().map(|t| t.bytes).sum();
    if args.json {
        let list: Vec<_> = tensors
            .iter()
            .map(|t| json!({"name": t.name, "dtype": t.dtype, "shape": t.shape, "bytes": t.bytes}))
            .collect();
        let line = json!({
            "folder": folder, "config": config.to_hf_json(), "parameters": numbers, "stored_bytes": stored,
            "f32_bytes": 4 * numbers, "cache_bytes_per_sequence": cache, "tensors": list, "ignored": ignored,
            "problem": problem.map(|e| e.to_string()),
            "tokenizer": tokenizer.as_ref().map(|t| json!({"kind": t.kind().name(), "vocab_size": t.vocab_size()})),
        });
        print_line(&line.to_string());
        return Ok(0);
    }
    let show = |name: &str, value: String| print_line(&format!("{name:<14}{value}"));
    show("folder", folder.display().to_string());
    show("model", model_line(&config));
    show("parameters", thousands(numbers));
    let words = match &tokenizer {
        None => "none".to_string(),
        Some(t) if t.kind() == Kind::Words => {
            format!(
                "words, {} tokens; cleaned as transformers does, not as OpenAI did with spaCy",
                thousands(t.vocab_size() as u64)
            )
        }
        Some(t) => format!("{}, {} tokens", t.kind().name(), thousands(t.vocab_size() as u64)),
    };
    show("tokenizer", words);
    if let Some(problem) = &problem {
        show("does not fit", problem.to_string());
    }
    show("on disk", human_bytes(stored));
    show(
        "in memory",
        format!(
            "{} of weights (f32), {} for each sequence of a whole context",
            human_bytes(4 * numbers),
            human_bytes(cache)
        ),
    );
    for name in &ignored {
        show("not used", name.clone());
    }
    let width = tensors.iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
    print_line(&format!("\n{:<width$}  type  shape", "tensor"));
    for t in &tensors {
        let dims: Vec<String> = t.shape.iter().map(usize::to_string).collect();
        print_line(&format!("{:<width$}  {:<4}  ({})", t.name, t.dtype, dims.join(", ")));
    }
    Ok(0)
}

/// Sizes in one line.
fn model_line(c: &Config) -> String {
    let norm = match c.arch {
        Arch::Gpt1 => "post-norm",
        Arch::Gpt2 => "pre-norm",
    };
    let head = if c.tie_word_embeddings { "tied" } else { "separate" };
    let [l, n, e, p, v] = [c.n_layer, c.n_head, c.n_embd, c.n_positions, c.vocab_size];
    format!(
        "{} ({norm}), {l} blocks, {n} heads, {e} channels, context {p}, vocabulary {v}, output layer {head}",
        c.arch.name()
    )
}
