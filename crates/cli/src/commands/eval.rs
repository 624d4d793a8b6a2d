//! `longhand eval`: perplexity over a file, by windows of the context.

use crate::args::{EvalArgs, access};
use crate::commands::{MOST_TEXT, model_folder, note_skipped, read_text};
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::print_line;
use crate::signals::Interrupt;
use longhand_gpt::error::Error;
use longhand_gpt::likelihood::likelihood;
use longhand_gpt::snapshot::{self, Trained};
use longhand_gpt::tokenizer::Special;
use longhand_tensor::exec::{PackedParams, Weights};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Instant;

/// Evaluates; the exit status.
pub fn run(args: &EvalArgs) -> Result<u8, Failure> {
    let text = read_text(&args.file, MOST_TEXT)?;
    let trained = snapshot::open(model_folder(&args.run.model)?, access(args.run.no_mmap))?;
    note_skipped(&trained.skipped);
    let context = trained.model.config().n_positions;
    let stride = args.stride.unwrap_or(context.div_ceil(2));
    let at = |e: Error| Failure::new(format!("{}: {e}", args.file.display()));
    let ids = trained.tokenizer.encode(&text, Special::Text).map_err(at)?;
    let workers = Workers::new(args.run.threads)?;
    let Trained { model, params, tokenizer, .. } = trained;
    let packed = workers.run(|| PackedParams::pack(&workers.ctx, &params))?;
    drop(params);
    let interrupt = Interrupt::install()?;
    let began = Instant::now();
    let all = ids.len().saturating_sub(1);
    let sum = workers
        .run(|| {
            likelihood(&workers.ctx, &model, Weights::Packed(&packed), &ids, stride, |_| match interrupt.status() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            })
        })
        .map_err(at)?;
    // Of a part, nobody knows how many bytes it has; the first token's are predicted by nothing.
    let complete = sum.tokens == all as u64;
    let first = ids.first().and_then(|id| tokenizer.token_bytes(*id)).map_or(0, <[u8]>::len);
    let bytes = text.len().saturating_sub(first).max(1);
    let bits = complete.then(|| sum.nats / std::f64::consts::LN_2 / bytes as f64);
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        let line = json!({
            "tokens": sum.tokens, "nats_per_token": sum.nats / sum.tokens.max(1) as f64, "perplexity": sum.perplexity(),
            "bits_per_byte": bits, "context": context, "stride": stride, "seconds": seconds,
            "complete": complete,
        });
        print_line(&line.to_string());
    } else {
        print_line(&format!("perplexity      {:.4}", sum.perplexity()));
        print_line(&format!("nats a token    {:.4}", sum.nats / sum.tokens.max(1) as f64));
        if let Some(bits) = bits {
            print_line(&format!("bits a byte     {bits:.4}"));
        }
        print_line(&format!("tokens          {} of {all}", sum.tokens));
        print_line(&format!("windows         {context} tokens, {stride} apart"));
    }
    Ok(interrupt.status().unwrap_or(0))
}
