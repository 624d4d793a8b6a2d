//! `longhand eval`: perplexity over a file, by windows of the context.

use crate::args::{EvalArgs, access};
use crate::commands::{MOST_TEXT, model_folder, read_text};
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::{note, print_line};
use crate::signals::Interrupt;
use longhand_gpt::likelihood::likelihood;
use longhand_gpt::snapshot;
use longhand_gpt::tokenizer::Special;
use longhand_tensor::exec::{PackedParams, Weights};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Instant;

/// Evaluates; the exit status.
pub fn run(args: &EvalArgs) -> Result<u8, Failure> {
    let text = read_text(&args.file, MOST_TEXT)?;
    let trained = snapshot::open(model_folder(&args.model)?, access(args.no_mmap))?;
    for skipped in &trained.skipped {
        note(&format!("not used: {skipped}"));
    }
    let context = trained.model.config().n_positions;
    let stride = args.stride.unwrap_or(context.div_ceil(2));
    let ids = trained.tokenizer.encode(&text, Special::Text)?;
    let workers = Workers::new(args.threads)?;
    let packed = PackedParams::pack(&workers.ctx, &trained.params)?;
    let interrupt = Interrupt::install().map_err(|e| Failure::new(format!("signals: {e}")))?;
    let began = Instant::now();
    let all = ids.len().saturating_sub(1);
    let sum = workers.run(|| {
        likelihood(&workers.ctx, &trained.model, Weights::Packed(&packed), &ids, stride, |_| match interrupt.status() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    })?;
    let bits = sum.nats / std::f64::consts::LN_2;
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        let line = json!({
            "tokens": sum.tokens, "nats_per_token": sum.nats / sum.tokens.max(1) as f64, "perplexity": sum.perplexity(),
            "bits_per_byte": bits / text.len() as f64, "context": context, "stride": stride, "seconds": seconds,
            "complete": sum.tokens == all as u64,
        });
        print_line(&line.to_string());
    } else {
        print_line(&format!("perplexity      {:.4}", sum.perplexity()));
        print_line(&format!("nats a token    {:.4}", sum.nats / sum.tokens.max(1) as f64));
        if sum.tokens == all as u64 {
            print_line(&format!("bits a byte     {:.4}", bits / text.len() as f64));
        }
        print_line(&format!("tokens          {} of {all}", sum.tokens));
        print_line(&format!("windows         {context} tokens, {stride} apart"));
    }
    Ok(interrupt.status().unwrap_or(0))
}
