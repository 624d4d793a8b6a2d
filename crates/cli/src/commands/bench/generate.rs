//! `longhand bench generate`: rows as llama-bench names them.

use crate::args::BenchGenerateArgs;
use crate::commands::roofline::{cpu_name, rounded, threads_of};
use crate::commands::{check_memory, check_sequences, set_activations, weight_type};
use crate::failure::Failure;
use crate::machine::peak_memory;
use crate::plot::{self, Point, Roof};
use crate::pool::Workers;
use crate::progress::print_line;
use crate::report::text::{deviation, mean};
use longhand_gpt::config::Config;
use longhand_gpt::mmap::Access;
use longhand_gpt::model::Gpt;
use longhand_gpt::snapshot::{self, Body};
use longhand_measure::generation::{Generation, PROMPT, Task};
use longhand_measure::peak::best_fma_window;
use longhand_measure::roofline::{Level, Peak};
use longhand_measure::sampling::median;
use longhand_measure::streams::{Stream, Traffic, beyond_caches};
use longhand_tensor::exec::PackedParams;
use longhand_tensor::matmul::FEW_BF16;
use longhand_tensor::parallel;
use longhand_tensor::params::Params;
use serde_json::json;

/// More of them are a mistake on any machine.
const MOST_REPETITIONS: usize = 10_000;
/// More of them are a mistake too.
const MOST_TEXTS: usize = 4096;

/// Measures and shows.
pub fn run(args: &BenchGenerateArgs) -> Result<u8, Failure> {
    check_repetitions(args.repetitions)?;
    if let Some(wrong) = args.batch_size.iter().find(|n| !(1..=MOST_TEXTS).contains(*n)) {
        return Err(Failure::usage(format!("batch_size = {wrong}: must be from 1 to {MOST_TEXTS}")));
    }
    if let Some(path) = &args.svg {
        plot::writable(path)?;
    }
    let mut workers = Workers::new(args.threads)?;
    set_activations(&mut workers, &args.activations, &args.weights)?;
    if args.svg.is_some() && workers.ctx.bf16_activations() {
        return Err(Failure::usage("svg: draws the roof of f32, which is not that of --activations bf16"));
    }
    let (name, model, params) = model(args)?;
    let context = model.config().n_positions;
    let written = context.saturating_sub(PROMPT);
    let or = |asked: &[usize], usual: usize| if asked.is_empty() { vec![usual] } else { asked.to_vec() };
    let (n_prompt, n_gen) = (or(&args.n_prompt, context.min(512)), or(&args.n_gen, written.min(128)));
    if let Some(n) = n_prompt.iter().find(|n| **n > context) {
        return Err(Failure::usage(format!("n_prompt = {n}: must be at most {context}, the context")));
    }
    if let Some(n) = n_gen.iter().find(|n| **n > written) {
        let why = format!("the context is {context}, and texts are written behind {PROMPT} tokens");
        return Err(Failure::usage(format!("n_gen = {n}: must be at most {written}: {why}")));
    }
    let (isa, threads) = (workers.ctx.isa(), workers.ctx.threads());
    let reads = n_prompt.iter().map(|n| Task::Read(*n));
    let write = |texts: &usize| n_gen.iter().map(|n| Task::Write { tokens: *n, texts: *texts }).collect::<Vec<_>>();
    let writes = args.batch_size.iter().flat_map(write);
    // As in llama-bench, none of a kind is no row.
    let tasks: Vec<Task> = reads.chain(writes).filter(|task| task.tokens() > 0).collect();
    if tasks.is_empty() {
        return Err(Failure::usage("nothing to measure: n_prompt and n_gen are 0"));
    }
    let most = tasks.iter().map(|task| task.texts()).max().unwrap_or(1);
    let longest = n_prompt.iter().copied().chain(n_gen.iter().map(|n| PROMPT + n)).max().unwrap_or(0);
    check_sequences(model.config(), most, longest)?;
    let width = name.chars().count().max(15);
    if !args.json && !args.csv {
        let head = ["model", "size", "weights", "threads", "test", "t/s", "±", "of bandwidth"];
        print_line(&row(width, &head.map(String::from)));
    } else if args.csv {
        print_line("model,size_bytes,weights,threads,test,tokens_per_second,deviation,of_bandwidth");
    }
    let (mut roofs, mut points, mut peak) = (Vec::new(), Vec::new(), 0.0f64);
    for kind in &args.weights {
        let packed = workers.run(|| PackedParams::pack_as(&workers.ctx, &params, weight_type(kind)))?;
        let bytes = packed.bytes();
        // A token reads every weight once: what a stream of as many bytes takes.
        let bandwidth = workers.run(|| Stream::new(Traffic::Read, bytes.min(beyond_caches())).best(isa, 8));
        let size = format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
        roofs.push(Level { name: format!("{kind}, {size}"), bytes, read: bandwidth, write: 0.0 });
        let mut generation = Generation::new(&workers.ctx, &model, &packed, most)?;
        for task in &tasks {
            let mut seconds = Vec::new();
            for i in 0..=args.repetitions {
                let once = workers.run(|| parallel::enter(&workers.ctx, || generation.seconds(*task)))?;
                if i > 0 {
                    seconds.push(once);
                }
                if args.svg.is_some() {
                    peak = peak.max(workers.run(|| best_fma_window(isa, 4)));
                }
            }
            let tokens = task.tokens();
            let speeds: Vec<f64> = seconds.iter().map(|s| tokens as f64 / s).collect();
            // One repetition deviates from nothing.
            let (mean, deviation) = (mean(&speeds).unwrap_or(0.0), deviation(&speeds).filter(|_| speeds.len() > 1));
            let reads = matches!(task, Task::Read(_));
            let of_bandwidth = (!reads).then(|| mean * bytes as f64 / bandwidth / task.texts() as f64);
            let test = task.test();
            // As it is shown: what is multiplied where not all of it is f32.
            let multiplied = kind == "bf16" && workers.ctx.bf16_activations() && task.most_rows() > FEW_BF16;
            let shown = if multiplied { "bf16·bf16" } else { kind };
            let median = median(seconds);
            let point = Point {
                name: format!("{}/{test}/{shown}", if reads { "prefill" } else { "generate" }),
                flops: task.flops(model.config()),
                bytes: task.bytes(model.config(), bytes),
                seconds: median,
            };
            if args.json {
                let mut line = json!({
                    "name": point.name, "model": name, "ms": rounded(median * 1e3, 1e3),
                    "tok_s": rounded(tokens as f64 / median, 1e2), "mean_tok_s": rounded(mean, 1e2),
                    "deviation": deviation.map(|x| rounded(x, 1e2)), "threads": threads, "isa": isa.to_string(), "weight_bytes": bytes,
                });
                if multiplied {
                    line["activations"] = "bf16".into();
                }
                if let Some(share) = of_bandwidth {
                    line["of_bandwidth"] = json!(rounded(share, 1e4));
                }
                if let Some(bytes) = peak_memory() {
                    line["peak_rss_gb"] = json!(rounded(bytes as f64 / 1e9, 1e2));
                }
                print_line(&line.to_string());
            } else if args.csv {
                let share = of_bandwidth.map_or(String::new(), |x| format!("{x:.4}"));
                let (name, deviation) = (csv_cell(&name), deviation.map_or(String::new(), |x| format!("{x:.2}")));
                print_line(&format!("{name},{bytes},{shown},{threads},{test},{mean:.2},{deviation},{share}"));
            } else {
                let share = of_bandwidth.map_or("–".to_string(), |x| format!("{x:.3}"));
                let cells = [
                    name.clone(),
                    size.clone(),
                    shown.to_string(),
                    threads.to_string(),
                    test,
                    format!("{mean:.2}"),
                    deviation.map_or("–".into(), |x| format!("{x:.2}")),
                    share,
                ];
                print_line(&row(width, &cells));
            }
            points.push(point);
        }
    }
    if let Some(path) = &args.svg {
        let title = format!("{name} on {}, {}", cpu_name(), threads_of(isa, threads));
        let peaks = [Peak { isa, flops: peak, ratio: 0.0, alone: 0.0 }];
        plot::roofline_svg(path, &Roof { title, peaks: &peaks, levels: &roofs, points: &points })
            .map_err(Failure::new)?;
    }
    Ok(0)
}

/// # Errors
/// A number out of range.
pub(super) fn check_repetitions(repetitions: usize) -> Result<(), Failure> {
    if (1..=MOST_REPETITIONS).contains(&repetitions) {
        return Ok(());
    }
    Err(Failure::usage(format!("repetitions = {repetitions}: must be from 1 to {MOST_REPETITIONS}")))
}

/// The model that is asked for, and its weights.
fn model(args: &BenchGenerateArgs) -> Result<(String, Gpt, Params), Failure> {
    if let Some(folder) = &args.model {
        let Body { model, params, .. } = snapshot::open_body(folder, Access::Map)?;
        let name = folder.file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        return Ok((name, model, params));
    }
    let config = Config::preset(&args.preset)?;
    // The weights, packed beside them, and the stream that they are held against.
    let packed = if args.weights.iter().any(|kind| kind == "f32") { 4 } else { 2 };
    let needed = config.param_count().saturating_mul(4 + packed).saturating_add(beyond_caches() as u64);
    check_memory(format!("generating with {}", args.preset), needed)?;
    let model = Gpt::new(&config)?;
    let params = model.init(0)?;
    Ok((args.preset.clone(), model, params))
}

fn row(width: usize, cells: &[String; 8]) -> String {
    let [model, size, weights, threads, test, speed, deviation, share] = cells;
    format!("{model:<width$} {size:>11} {weights:>9} {threads:>8} {test:>9} {speed:>10} {deviation:>8} {share:>13}")
}

/// A cell of a CSV file: quoted where it has to be.
fn csv_cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_apart() {
        let cells = ["a model of a long name", "1.4 MiB", "f32", "2", "pp64", "1763698.53", "17632.30", "–"];
        let line = row(22, &cells.map(String::from));
        assert_eq!(line.split_whitespace().count(), 6 + cells.len());
        assert_eq!(csv_cell("a&b <c>, \"d\""), "\"a&b <c>, \"\"d\"\"\"");
        assert_eq!(csv_cell("gpt2"), "gpt2");
    }
}
