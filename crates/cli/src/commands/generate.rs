//! `longhand generate`: the text alone goes to standard output, everything else to standard error.

use crate::args::{GenerateArgs, access};
use crate::commands::{
    check_sequences, model_folder, note_skipped, quoted_token, read_text, set_activations, weight_type,
};
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::note;
use longhand_gpt::beam::{BeamOptions, Hypothesis, beam_search};
use longhand_gpt::completion::{Completed, Finish, Options, complete};
use longhand_gpt::error::Error;
use longhand_gpt::generate::check_prompt;
use longhand_gpt::sampling::Sampling;
use longhand_gpt::snapshot::{self, Trained};
use longhand_gpt::tokenizer::{Special, Tokenizer};
use longhand_tensor::exec::{PackedParams, Weights};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens shown beside each other by `--explain`.
const ALTERNATIVES: usize = 5;

/// The largest prompt file: far beyond every context.
const MOST_PROMPT_BYTES: u64 = 64 << 20;

/// Generates; the exit status.
pub fn run(args: &GenerateArgs) -> Result<u8, Failure> {
    let sampling = sampling(args)?;
    let prompts = prompts(args)?;
    let mut workers = Workers::new(args.run.threads)?;
    set_activations(&mut workers, &args.activations, std::slice::from_ref(&args.weights))?;
    let (folder, access) = (model_folder(&args.run.model)?, access(args.run.no_mmap));
    let trained = workers.run(|| snapshot::open_packed(&workers.ctx, folder, access, weight_type(&args.weights)))?;
    note_skipped(&trained.skipped);
    let ids = prompts.iter().map(|p| encoded(&trained, p, args)).collect::<Result<Vec<_>, Failure>>()?;
    let beams = args.beams.map(|beams| beam_options(args, beams, &trained)).transpose()?;
    // Prompts are continued together, and searched on from one after the other.
    let config = trained.model.config();
    check_sequences(config, args.beams.unwrap_or(ids.len()), config.n_positions)?;
    for (i, ids) in ids.iter().enumerate().filter(|_| !args.context_shift) {
        let numbered =
            |e: Error| if prompts.len() > 1 { Failure::new(format!("prompt {}: {e}", i + 1)) } else { e.into() };
        check_prompt(config, ids).map_err(numbered)?;
    }
    let Trained { model, params: packed, tokenizer, .. } = trained;
    let prompts: Vec<&str> = prompts.iter().map(|p| tokenizer.shown_prompt(p)).collect();
    let (model, tokenizer, weights) = (&model, &tokenizer, Weights::Packed(&packed));
    if let Some(options) = beams {
        let find = |ids: &[u32]| workers.run(|| beam_search(&workers.ctx, model, weights, ids, &options));
        return search(tokenizer, &prompts, &ids, model.config().n_positions, find);
    }
    let options = Options {
        sampling,
        max_tokens: usize::try_from(args.n_predict).ok(),
        stop: args.stop.clone(),
        ignore_end: args.ignore_eos,
        context_shift: args.context_shift,
        alternatives: if args.explain { ALTERNATIVES } else { 0 },
        first_sequence: 0,
    };
    if options.max_tokens.is_none() && args.context_shift && args.ignore_eos && args.stop.is_empty() {
        note("nothing ends this text but you: press Ctrl-C");
    }
    if args.seed == -1 && args.temp > 0.0 {
        note(&format!("seed {}", options.sampling.seed));
    }
    let mut screen = Screen::new(&prompts);
    let each = |i: usize, piece: &str| screen.write(i, piece);
    let done = workers.run(|| complete(&workers.ctx, model, weights, tokenizer, &ids, &options, each))?;
    if !screen.finish()? {
        return Ok(0);
    }
    for (i, text) in done.iter().enumerate() {
        explain(tokenizer, text, (done.len() > 1).then_some(i + 1));
    }
    if done.iter().any(|d| d.finish == Finish::Context) {
        let context = model.config().n_positions;
        note(&format!("stopped at the end of the context of {context} tokens; --context-shift goes on"));
    }
    Ok(0)
}

/// Shows the best continuation that `find` has for each prompt; the exit status.
fn search(
    tokenizer: &Tokenizer,
    prompts: &[&str],
    ids: &[Vec<u32>],
    context: usize,
    find: impl Fn(&[u32]) -> Result<Vec<Hypothesis>, Error>,
) -> Result<u8, Failure> {
    let mut screen = Screen::new(prompts);
    let mut full = false;
    for (i, ids) in ids.iter().enumerate() {
        let Some(best) = find(ids)?.into_iter().next() else { continue };
        full |= best.finish == Finish::Context;
        let mut decoder = tokenizer.stream_after(ids);
        let pieces: Vec<String> = best.tokens.iter().map(|id| decoder.push(*id)).collect();
        if screen.write(i, &(pieces.concat() + &decoder.finish())).is_break() {
            break;
        }
    }
    if screen.finish()? && full {
        note(&format!("stopped at the end of the context of {context} tokens"));
    }
    Ok(0)
}

/// The search that was asked for, checked before anything large is made for it.
fn beam_options(args: &GenerateArgs, beams: usize, trained: &Trained<PackedParams>) -> Result<BeamOptions, Failure> {
    let options = BeamOptions {
        beams,
        max_tokens: usize::try_from(args.n_predict).ok(),
        length_penalty: args.length_penalty.unwrap_or(BeamOptions::default().length_penalty),
        end: trained.tokenizer.end_id().filter(|_| !args.ignore_eos),
        vocab: Some(trained.tokenizer.vocab_size()),
    };
    options.validate(trained.model.config().vocab_size)?;
    Ok(options)
}

/// Shows what stood beside each token that was drawn.
fn explain(tokenizer: &Tokenizer, text: &Completed, number: Option<usize>) {
    let quoted = |id| quoted_token(tokenizer, id);
    if !text.alternatives.is_empty() {
        eprintln!("{}", number.map_or(String::new(), |n| format!("\n=== {n} ===")));
    }
    for (place, likeliest) in text.alternatives.iter().enumerate() {
        let drawn = text.tokens.get(place).map_or("(end)".to_string(), |id| quoted(*id));
        let others: Vec<String> =
            likeliest.iter().map(|(id, p)| format!("{} {:.1}%", quoted(*id), 100.0 * p)).collect();
        eprintln!("{:>4}  {drawn:<16} of {}", place + 1, others.join(", "));
    }
}

fn sampling(args: &GenerateArgs) -> Result<Sampling, Failure> {
    if args.n_predict < -1 {
        return Err(Failure::usage(format!("--n-predict {}: must be -1 or more", args.n_predict)));
    }
    let seed = match args.seed {
        -1 => {
            let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            nanos.map_or(0, |d| d.as_nanos() as u64 & 0xFFFF_FFFF)
        }
        seed => u64::try_from(seed).map_err(|_| Failure::usage(format!("--seed {seed}: must be -1, or 0 and more")))?,
    };
    let (repeat_penalty, repeat_last_n) = (args.repeat_penalty, args.repeat_last_n);
    let (temperature, top_k, top_p, min_p) = (args.temp, args.top_k, args.top_p, args.min_p);
    let sampling = Sampling { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, seed };
    sampling.validate().map_err(|e| Failure::usage(e.to_string()))?;
    Ok(sampling)
}

/// The texts to continue; without any, an empty one.
fn prompts(args: &GenerateArgs) -> Result<Vec<String>, Failure> {
    match &args.file {
        Some(path) => Ok(vec![read_prompt(path)?]),
        None if args.prompt.is_empty() => Ok(vec![String::new()]),
        None => Ok(args.prompt.clone()),
    }
}

fn read_prompt(path: &Path) -> Result<String, Failure> {
    let mut text = read_text(path, MOST_PROMPT_BYTES)?;
    // An editor ends a file with a newline that no prompt means; llama.cpp drops it too.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn encoded(trained: &Trained<PackedParams>, prompt: &str, args: &GenerateArgs) -> Result<Vec<u32>, Failure> {
    let special = if args.no_parse_special { Special::Text } else { Special::Parse };
    let whence = args.file.as_ref().map_or("prompt".to_string(), |path| path.display().to_string());
    trained.tokenizer.encode_prompt(prompt, special).map_err(|e| Failure::new(format!("{whence}: {e}")))
}

/// Shows texts in the order of their prompts: the first unfinished one as it grows, the others when it is their turn.
struct Screen {
    /// A header for each prompt, if there are several.
    headers: Vec<String>,
    waiting: Vec<String>,
    shown: usize,
    failed: Option<io::Error>,
}

impl Screen {
    fn new(prompts: &[&str]) -> Screen {
        let header = |(i, p): (usize, &&str)| match prompts.len() {
            1 => p.to_string(),
            _ => format!("{}=== {} ===\n{p}", if i == 0 { "" } else { "\n" }, i + 1),
        };
        let headers: Vec<String> = prompts.iter().enumerate().map(header).collect();
        let mut screen = Screen { waiting: vec![String::new(); prompts.len()], headers, shown: 0, failed: None };
        let first = screen.headers[0].clone();
        screen.put(&first);
        screen
    }

    fn write(&mut self, i: usize, piece: &str) -> ControlFlow<()> {
        if i == 0 {
            self.put(piece)
        } else {
            self.waiting[i].push_str(piece)
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Shows what waits; false if the reader has gone, which is no error of ours.
    fn finish(&mut self) -> Result<bool, Failure> {
        for i in 1..self.waiting.len() {
            self.shown = i;
            let text = format!("\n{}{}", self.headers[i], self.waiting[i]);
            self.put(&text);
        }
        self.put("\n");
        match self.failed.take() {
            None => Ok(true),
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Some(e) => Err(Failure::new(format!("standard output: {e}"))),
        }
    }

    fn put(&mut self, text: &str) {
        if self.failed.is_none() {
            let mut out = io::stdout().lock();
            self.failed = out.write_all(text.as_bytes()).and_then(|()| out.flush()).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_prompt_file_loses_its_last_newline_and_must_be_text() {
        let path = std::env::temp_dir().join(format!("longhand-prompt-{}", std::process::id()));
        fs::write(&path, "two\nlines\n").unwrap();
        assert_eq!(read_prompt(&path).unwrap(), "two\nlines");
        fs::write(&path, b"ab\xff").unwrap();
        assert!(read_prompt(&path).unwrap_err().line.ends_with("is not UTF-8: byte 2"));
        fs::remove_file(&path).unwrap();
        assert!(read_prompt(&path).is_err());
    }
}
