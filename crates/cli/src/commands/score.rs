//! `longhand score`: the log-probability of each token of a text.

use crate::args::{ScoreArgs, access};
use crate::commands::{MOST_TEXT, model_folder, note_skipped, quoted_token, read_text};
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::print_line;
use longhand_gpt::error::Error;
use longhand_gpt::likelihood::{Likelihood, log_probs};
use longhand_gpt::snapshot::{self, Body, Trained};
use longhand_gpt::tokenizer::Special;
use longhand_tensor::exec::Weights;
use serde_json::json;

/// Scores; the exit status.
pub fn run(args: &ScoreArgs) -> Result<u8, Failure> {
    let text = match (&args.text, &args.file) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) => Some(read_text(path, MOST_TEXT)?),
        (None, None) if args.ids.is_empty() => {
            return Err(Failure::usage("score: give a text, --file FILE or --ids N,…"));
        }
        (None, None) => None,
    };
    let told = |e: Error| match &args.file {
        Some(path) => Failure::new(format!("{}: {e}", path.display())),
        None => e.into(),
    };
    let (folder, access) = (model_folder(&args.run.model)?, access(args.run.no_mmap));
    let (model, params, tokenizer, ids, skipped) = match text {
        None => {
            let Body { model, params, skipped, .. } = snapshot::open_body(&folder, access)?;
            (model, params, None, args.ids.clone(), skipped)
        }
        Some(text) => {
            let Trained { model, params, tokenizer, skipped, .. } = snapshot::open(&folder, access)?;
            let special = if args.no_parse_special { Special::Text } else { Special::Parse };
            let ids = tokenizer.encode_prompt(&text, special).map_err(told)?;
            (model, params, Some(tokenizer), ids, skipped)
        }
    };
    note_skipped(&skipped);
    let workers = Workers::new(args.run.threads)?;
    let probs = workers.run(|| log_probs(&workers.ctx, &model, Weights::Plain(&params), &ids)).map_err(told)?;
    let nats = -probs.iter().map(|x| *x as f64).sum::<f64>();
    let sum = Likelihood { nats, tokens: probs.len() as u64 };
    if args.json {
        let line = json!({"ids": ids, "log_probs": probs, "total": -sum.nats, "perplexity": sum.perplexity()});
        print_line(&line.to_string());
        return Ok(0);
    }
    let shown = |id: u32| tokenizer.as_ref().map_or(String::new(), |t| quoted_token(t, id));
    print_line(&format!("{:>10}  {:>8}  token", "log P", "id"));
    print_line(&format!("{:>10}  {:>8}  {}", "", ids[0], shown(ids[0])));
    for (id, p) in ids[1..].iter().zip(&probs) {
        print_line(&format!("{p:>10.4}  {id:>8}  {}", shown(*id)));
    }
    print_line(&format!(
        "\n{} tokens after the first: total {:.4}, perplexity {:.4}",
        sum.tokens,
        -sum.nats,
        sum.perplexity()
    ));
    Ok(0)
}
