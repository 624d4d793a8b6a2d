//! `longhand bench load`: from a folder to the first token, in turn with reading its files into fresh memory, which is the
//! least that anybody can do who keeps the weights.

use super::generate::check_repetitions;
use crate::args::BenchLoadArgs;
use crate::commands::roofline::rounded;
use crate::commands::weight_type;
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::print_line;
use longhand_gpt::hugging_face::{self, Described};
use longhand_gpt::mmap::Access;
use longhand_gpt::tokenizer::Tokenizer;
use longhand_measure::loading::{first_token, read_into_fresh_memory};
use longhand_measure::sampling::median;
use serde_json::json;

/// Measures and shows.
pub fn run(args: &BenchLoadArgs) -> Result<u8, Failure> {
    check_repetitions(args.repetitions)?;
    let folder = args.model.as_path();
    let fault = |e: std::io::Error| Failure::new(format!("{}: {e}", folder.display()));
    std::fs::metadata(folder).map_err(fault)?;
    if !hugging_face::is_model(folder) {
        let problem = "is no Hugging Face folder: it has no config.json; longhand convert makes one of a run";
        return Err(Failure::new(format!("{}: {problem}", folder.display())));
    }
    let workers = Workers::new(args.threads)?;
    // The files that a load opens; others may lie beside them.
    let Described { config, files, .. } = hugging_face::describe(folder, Access::Map)?;
    let with_tokenizer = Tokenizer::of_folder_if_any(folder, config.arch)?.is_some();
    let ways: Vec<(String, &String, bool)> = args
        .weights
        .iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
        .filter(|(_, tokenizer)| with_tokenizer || !tokenizer)
        .map(|(kind, tokenizer)| {
            (format!("first_token{}/{kind}", if tokenizer { "_of_text" } else { "" }), kind, tokenizer)
        })
        .collect();
    let mut reading = Vec::new();
    let mut seconds = vec![Vec::new(); ways.len()];
    let mut bytes = 0;
    // The first round brings the files into the page cache.
    for i in 0..=args.repetitions {
        for ((_, kind, tokenizer), seconds) in ways.iter().zip(&mut seconds) {
            let (read, n) = workers.run(|| read_into_fresh_memory(&workers.ctx, &files)).map_err(fault)?;
            let first = workers.run(|| first_token(&workers.ctx, folder, weight_type(kind), *tokenizer))?;
            bytes = n;
            if i > 0 {
                reading.push(read);
                seconds.push(first);
            }
        }
    }
    let read = median(reading);
    let threads = workers.ctx.threads();
    let names = std::iter::once("read").chain(ways.iter().map(|(name, ..)| name.as_str()));
    let medians: Vec<f64> = std::iter::once(read).chain(seconds.into_iter().map(median)).collect();
    if !args.json {
        let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        let mib = bytes as f64 / (1 << 20) as f64;
        print_line(&format!("{}, {mib:.1} MiB, {}", count(files.len(), "file"), count(threads, "thread")));
    }
    for (name, seconds) in names.zip(medians) {
        if args.json {
            let line = json!({"name": format!("load/{name}"), "ms": rounded(seconds * 1e3, 1e3),
                              "of_reading": rounded(seconds / read, 1e3), "threads": threads, "bytes": bytes});
            print_line(&line.to_string());
        } else {
            print_line(&format!("{name:<24}{:>10.1} ms{:>8.2} of reading", seconds * 1e3, seconds / read));
        }
    }
    Ok(0)
}
