//! A program that holds a model and its tokenizer: text in, text out as it is known.
//!
//! `cargo run --release -p longhand-gpt --no-default-features --features threads,text --example embed_text -- FOLDER TEXT`

use longhand_gpt::completion::{Options, complete};
use longhand_gpt::mmap::Access;
use longhand_gpt::sampling::Sampling;
use longhand_gpt::snapshot::open_packed;
use longhand_gpt::tokenizer::Special;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use longhand_tensor::matmul::WeightType;
use std::error::Error;
use std::io::{Write, stdout};
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(prompt)) = (args.next(), args.next()) else {
        return Err("embed_text FOLDER PROMPT: a model's folder, and a text to continue".into());
    };
    let ctx = Ctx::default();
    let trained = open_packed(&ctx, &folder, Access::Map, WeightType::Bf16)?;
    let ids = trained.tokenizer.encode_prompt(&prompt, Special::Text)?;
    let sampling = Sampling { seed: 1, ..Sampling::default() };
    let options = Options { sampling, max_tokens: Some(64), ..Options::default() };
    print!("{prompt}");
    complete(
        &ctx,
        &trained.model,
        Weights::Packed(&trained.params),
        &trained.tokenizer,
        &[ids],
        &options,
        |_, piece| {
            print!("{piece}");
            if stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
    )?;
    println!();
    Ok(())
}
