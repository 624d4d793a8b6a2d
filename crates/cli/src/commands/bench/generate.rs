//! `longhand bench generate`: rows as llama-bench names them.

use crate::args::BenchGenerateArgs;
use crate::commands::roofline::rounded;
use crate::commands::weight_type;
use crate::failure::Failure;
use crate::machine::peak_memory;
use crate::pool::Workers;
use crate::progress::print_line;
use crate::report::text::{deviation, mean};
use longhand_gpt::config::Config;
use longhand_gpt::mmap::Access;
use longhand_gpt::model::Gpt;
use longhand_gpt::snapshot::{self, Body};
use longhand_measure::generation::{Generation, PROMPT};
use longhand_measure::streams::{Stream, Traffic};
use longhand_tensor::exec::PackedParams;
use longhand_tensor::parallel;
use longhand_tensor::params::Params;
use serde_json::json;

/// More of them are a mistake on any machine.
const MOST_REPETITIONS: usize = 10_000;

/// Measures and shows.
pub fn run(args: &BenchGenerateArgs) -> Result<u8, Failure> {
    if args.repetitions == 0 || args.repetitions > MOST_REPETITIONS {
        let limit = format!("must be from 1 to {MOST_REPETITIONS}");
        return Err(Failure::usage(format!("repetitions = {}: {limit}", args.repetitions)));
    }
    let workers = Workers::new(args.threads)?;
    let (name, model, params) = model(args)?;
    let context = model.config().n_positions;
    let refused = |name: &str, n: usize, most: usize| {
        let limit =
            format!("must be at most {most}: the context is {context}, and texts are written behind {PROMPT} tokens");
        Failure::usage(format!("{name} = {n}: {limit}"))
    };
    let written = context.saturating_sub(PROMPT);
    let or = |asked: &[usize], usual: usize| if asked.is_empty() { vec![usual] } else { asked.to_vec() };
    let (n_prompt, n_gen) = (or(&args.n_prompt, context.min(512)), or(&args.n_gen, written.min(128)));
    if let Some(n) = n_prompt.iter().find(|n| **n > context) {
        return Err(refused("n_prompt", *n, context));
    }
    if let Some(n) = n_gen.iter().find(|n| **n > written) {
        return Err(refused("n_gen", *n, written));
    }
    let (isa, threads) = (workers.ctx.isa(), workers.ctx.threads());
    if !args.json && !args.csv {
        let head = ["model", "size", "weights", "threads", "test", "t/s", "±", "of bandwidth"];
        print_line(&row(&head.map(String::from)));
    } else if args.csv {
        print_line("model,size_bytes,weights,threads,test,tokens_per_second,deviation,of_bandwidth");
    }
    for kind in &args.weights {
        let packed = workers.run(|| PackedParams::pack_as(&workers.ctx, &params, weight_type(kind)))?;
        let bytes = packed.bytes();
        // A token reads every weight once: what a stream of as many bytes takes.
        let bandwidth = workers.run(|| Stream::new(Traffic::Read, bytes).best(isa, 8));
        let mut generation = Generation::new(&workers.ctx, &model, &packed)?;
        // As in llama-bench, none of a kind is no row.
        let reads = n_prompt.iter().map(|n| (true, *n));
        for (prompt, tokens) in reads.chain(n_gen.iter().map(|n| (false, *n))).filter(|(_, n)| *n > 0) {
            let mut seconds = Vec::new();
            for i in 0..=args.repetitions {
                let once = workers.run(|| {
                    parallel::enter(&workers.ctx, || match prompt {
                        true => generation.prefill(tokens),
                        false => generation.generate(tokens),
                    })
                })?;
                if i > 0 {
                    seconds.push(once);
                }
            }
            let speeds: Vec<f64> = seconds.iter().map(|s| tokens as f64 / s).collect();
            let (mean, deviation) = (mean(&speeds).unwrap_or(0.0), deviation(&speeds).unwrap_or(0.0));
            let of_bandwidth = (!prompt).then(|| mean * bytes as f64 / bandwidth);
            let test = format!("{}{tokens}", if prompt { "pp" } else { "tg" });
            if args.json {
                seconds.sort_by(f64::total_cmp);
                let median = seconds[seconds.len() / 2];
                let long = if prompt { "prefill" } else { "generate" };
                let mut line = json!({
                    "name": format!("{long}/{test}/{kind}"), "ms": rounded(median * 1e3, 1e3),
                    "tok_s": rounded(tokens as f64 / median, 1e2), "mean_tok_s": rounded(mean, 1e2),
                    "deviation": rounded(deviation, 1e2), "threads": threads, "isa": isa.to_string(), "weight_bytes": bytes,
                });
                if let Some(share) = of_bandwidth {
                    line["of_bandwidth"] = json!(rounded(share, 1e4));
                }
                if let Some(bytes) = peak_memory() {
                    line["peak_rss_gb"] = json!(rounded(bytes as f64 / 1e9, 1e2));
                }
                print_line(&line.to_string());
            } else if args.csv {
                let share = of_bandwidth.map_or(String::new(), |x| format!("{x:.4}"));
                print_line(&format!("{name},{bytes},{kind},{threads},{test},{mean:.2},{deviation:.2},{share}"));
            } else {
                let share = of_bandwidth.map_or("–".to_string(), |x| format!("{x:.3}"));
                let size = format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
                let cells = [
                    name.clone(),
                    size,
                    kind.clone(),
                    threads.to_string(),
                    test,
                    format!("{mean:.2}"),
                    format!("{deviation:.2}"),
                    share,
                ];
                print_line(&row(&cells));
            }
        }
    }
    Ok(0)
}

/// The model that is asked for, and its weights.
fn model(args: &BenchGenerateArgs) -> Result<(String, Gpt, Params), Failure> {
    if let Some(folder) = &args.model {
        let Body { model, params, .. } = snapshot::open_body(folder, Access::Map)?;
        let name = folder.file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        return Ok((name, model, params));
    }
    let model = Gpt::new(&Config::preset(&args.preset)?)?;
    let params = model.init(0)?;
    Ok((args.preset.clone(), model, params))
}

fn row(cells: &[String; 8]) -> String {
    let [model, size, weights, threads, test, speed, deviation, share] = cells;
    format!("{model:<16}{size:>12}{weights:>9}{threads:>9}{test:>8}{speed:>11}{deviation:>8}{share:>14}")
}
