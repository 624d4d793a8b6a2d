//! The command line: nanoGPT's names for training, llama.cpp's for generation.
//!
//! Every option with a hyphen is also known with underscores, as nanoGPT spells it.

mod models;
mod tuning;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use longhand_gpt::mmap::Access;
pub use models::{BenchGenerateArgs, BenchLoadArgs, ConvertArgs, EvalArgs, InspectArgs, ModelArgs, ScoreArgs};
use std::num::ParseFloatError;
use std::path::PathBuf;
use std::str::FromStr;
pub use tuning::{DemoArgs, EvaluateArgs, FinetuneArgs, PredictArgs, RowArgs};

/// Train and run GPT models on the CPU, with kernels written by hand.
#[derive(Debug, Parser)]
#[command(name = "longhand", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pre-train on the embedded stories, fine-tune on every embedded task, with and without; a report to look at.
    Demo(DemoArgs),
    /// Train a model on your text, or on the embedded stories.
    Train(Box<TrainArgs>),
    /// Continue a prompt with a trained model.
    Generate(GenerateArgs),
    /// Tell how probable a model finds a text, token by token.
    Score(ScoreArgs),
    /// Measure a model's perplexity on a file of any length.
    Eval(EvalArgs),
    /// Show what a model's folder holds: sizes, tensors, tokenizer, memory.
    Inspect(InspectArgs),
    /// Write a model as a Hugging Face folder.
    Convert(ConvertArgs),
    /// Fine-tune a trained model on labelled rows: classes, pairs, choices, tags, spans, scores, sequences.
    Finetune(Box<FinetuneArgs>),
    /// Score a fine-tuned net on labelled rows, beside simple baselines.
    Evaluate(Box<EvaluateArgs>),
    /// Ask a fine-tuned net about a text, a file, or lines of JSON.
    Predict(Box<PredictArgs>),
    /// Show what this machine gives, and check that it computes what every other one does.
    Doctor(DoctorArgs),
    /// Check every gradient: differences against the reference, the reference against kernels and whole models.
    Gradcheck(GradcheckArgs),
    /// Measure what this CPU can do, and how near to it each kernel comes.
    Roofline(RooflineArgs),
    /// Measure how fast this machine trains and generates.
    Bench {
        /// What is measured.
        #[command(subcommand)]
        what: BenchCommand,
    },
}

/// What `longhand bench` measures.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// The training step of a preset, on random tokens.
    Train(BenchTrainArgs),
    /// Prompts read (pp) and tokens written (tg), in tokens a second.
    Generate(BenchGenerateArgs),
    /// From a folder to the first token, beside reading its files into fresh memory.
    Load(BenchLoadArgs),
}

/// `longhand train`: what is not given has a default that depends on the data, see `commands/train/defaults.rs`.
#[derive(Clone, Debug, Default, Args)]
pub struct TrainArgs {
    /// Text files or folders, or `-` for standard input; without any, the embedded stories.
    #[arg(value_name = "TEXT")]
    pub texts: Vec<PathBuf>,

    /// Folder of the run [default: runs/NAME, then runs/NAME-2, …].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out_dir: Option<PathBuf>,
    /// Go on with the run in --out-dir (or the newest run) from its last checkpoint.
    #[arg(long, conflicts_with = "overwrite", help_heading = "Run")]
    pub resume: bool,
    /// Remove the run in --out-dir first.
    #[arg(long, requires = "out_dir", help_heading = "Run")]
    pub overwrite: bool,
    /// Steps of training.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub max_iters: Option<u64>,
    /// Train for about so long: measures 20 steps, then fixes --max-iters.
    #[arg(long, value_name = "N", value_parser = float::<f64>, conflicts_with = "max_iters", help_heading = "Run")]
    pub minutes: Option<f64>,
    /// Evaluate, and save a checkpoint, every so many steps.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub eval_interval: Option<u64>,
    /// Batches of an evaluation during training (the last one reads everything).
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub eval_iters: Option<u64>,
    /// Steps between lines, when the output is no terminal.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub log_interval: Option<u64>,
    /// Steps between checkpoints [default: the evaluation interval].
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub save_interval: Option<u64>,
    /// Seed of weights, order and dropout.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub seed: Option<u64>,
    /// Threads [default: the cores granted to this process]. The result does not depend on them.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub threads: Option<usize>,
    /// Read files into memory rather than map them while they are copied.
    #[arg(long, help_heading = "Run")]
    pub no_mmap: bool,
    /// What the samples during training continue [default: the beginning of a validation text].
    #[arg(long, value_name = "TEXT", help_heading = "Run", allow_hyphen_values = true)]
    pub prompt: Option<String>,

    /// Begin with a trained model's weights, sizes and tokenizer: the folder of a run, a checkpoint or a Hugging Face model.
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub init_from: Option<PathBuf>,
    /// gpt1 (post-norm) or gpt2 (pre-norm).
    #[arg(long, value_name = "ARCH", value_parser = ["gpt1", "gpt2"], help_heading = "Model")]
    pub arch: Option<String>,
    /// Sizes of a known model: nano, tiny, mini, small, gpt1, gpt2, gpt2-medium, …
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub preset: Option<String>,
    /// Blocks.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub n_layer: Option<usize>,
    /// Attention heads.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub n_head: Option<usize>,
    /// Channels; a multiple of --n-head.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub n_embd: Option<usize>,
    /// Context, in tokens.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub block_size: Option<usize>,
    /// Dropout on embeddings, attention and residuals.
    #[arg(long, value_name = "P", value_parser = float::<f32>, help_heading = "Model")]
    pub dropout: Option<f32>,
    /// Standard deviation of the first weights [default: 0.02].
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Model")]
    pub init_std: Option<f32>,

    /// bytes, chars or bpe.
    #[arg(long, value_name = "KIND", value_parser = ["bytes", "chars", "bpe"], help_heading = "Data")]
    pub tokenizer: Option<String>,
    /// Tokens of a bpe vocabulary [default: the power of two nearest to bytes/1,000, from 512 to 8,192].
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub vocab_size: Option<usize>,
    /// Rows of a batch.
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub batch_size: Option<usize>,
    /// Batches of a step.
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub gradient_accumulation_steps: Option<usize>,

    /// Peak learning rate.
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub learning_rate: Option<f32>,
    /// Last learning rate [default: a tenth of the peak].
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub min_lr: Option<f32>,
    /// Step at which the last rate is reached [default: --max-iters].
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub lr_decay_iters: Option<u64>,
    /// Steps of linear warm-up.
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub warmup_iters: Option<u64>,
    /// cosine, linear or constant.
    #[arg(long, value_name = "CURVE", value_parser = ["cosine", "linear", "constant"], help_heading = "Optimizer")]
    pub schedule: Option<String>,
    /// Decay of tensors of two dimensions.
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub weight_decay: Option<f32>,
    /// Decay of the first moment.
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub beta1: Option<f32>,
    /// Decay of the second moment.
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub beta2: Option<f32>,
    /// Greatest gradient norm; 0 does not clip.
    #[arg(long, value_name = "X", value_parser = float::<f32>, help_heading = "Optimizer")]
    pub grad_clip: Option<f32>,

    /// Accepted for nanoGPT's sake; there is only the CPU.
    #[arg(long, value_name = "NAME", help_heading = "Without effect")]
    pub device: Option<String>,
    /// Accepted for nanoGPT's sake; nothing is compiled at run time.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "True",
          help_heading = "Without effect")]
    pub compile: Option<String>,
    /// Accepted for nanoGPT's sake; training is in float32.
    #[arg(long, value_name = "TYPE", help_heading = "Without effect")]
    pub dtype: Option<String>,
}

impl TrainArgs {
    /// These arguments where they say something, `stored`'s elsewhere.
    pub fn over(&self, stored: &TrainArgs) -> TrainArgs {
        let mut all = stored.clone();
        if !self.texts.is_empty() {
            all.texts = self.texts.clone();
        }
        macro_rules! given {
            ($($field:ident),*) => { $( if self.$field.is_some() { all.$field = self.$field.clone(); } )* };
        }
        given!(max_iters, eval_interval, eval_iters, log_interval, save_interval, seed, prompt);
        given!(init_from, arch, preset, n_layer, n_head, n_embd, block_size, dropout, init_std);
        given!(tokenizer, vocab_size, batch_size, gradient_accumulation_steps);
        given!(learning_rate, min_lr, lr_decay_iters, warmup_iters, schedule, weight_decay, beta1, beta2, grad_clip);
        all
    }
}

/// `longhand generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// The model, and how it is run.
    #[command(flatten)]
    pub run: ModelArgs,
    /// A text to continue; several are continued together. An empty one begins a new text.
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Vec<String>,
    /// A file whose text is continued.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Tokens to generate; −1: until the text or the context ends.
    #[arg(short = 'n', long, visible_alias = "predict", value_name = "N", default_value_t = -1)]
    pub n_predict: i64,
    /// Temperature; 0 takes the likeliest token.
    #[arg(long, value_name = "X", value_parser = float::<f32>, default_value_t = 0.8)]
    pub temp: f32,
    /// Draw among the k likeliest; 0: among all.
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub top_k: usize,
    /// Draw among the likeliest that together reach p; 1: among all.
    #[arg(long, value_name = "P", value_parser = float::<f32>, default_value_t = 0.95)]
    pub top_p: f32,
    /// Draw among those at least p times as likely as the likeliest; 0: among all.
    #[arg(long, value_name = "P", value_parser = float::<f32>, default_value_t = 0.05)]
    pub min_p: f32,
    /// Make tokens that stand among the last ones less likely by this factor; 1: do not.
    #[arg(long, value_name = "X", value_parser = float::<f32>, default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// Tokens that the penalty looks back to.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub repeat_last_n: usize,
    /// Instead of drawing, search for the likeliest text with N hypotheses beside each other; 1: greedy.
    #[arg(long, value_name = "N", conflicts_with_all = [
        "temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed", "stop", "context_shift", "explain",
    ])]
    pub beams: Option<usize>,
    /// Divide the log-probability of a text of n tokens by n^X; 0: do not; more favours long texts [default: 1].
    #[arg(long, value_name = "X", value_parser = float::<f64>, requires = "beams")]
    pub length_penalty: Option<f64>,
    /// Show, on standard error, the five likeliest tokens of each place, with their probabilities.
    #[arg(long)]
    pub explain: bool,
    /// Seed; −1 draws one and names it.
    #[arg(short = 's', long, value_name = "N", default_value_t = -1)]
    pub seed: i64,
    /// Stop before this text; may be repeated.
    #[arg(long, value_name = "TEXT", action = ArgAction::Append, allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Go on past the token that ends a text.
    #[arg(long)]
    pub ignore_eos: bool,
    /// How weights are kept in memory: f32, or bf16 for half the bytes and the same arithmetic on rounded weights.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = ["f32", "bf16"])]
    pub weights: String,
    /// How activations meet weights of bf16 where more than 32 rows are read together, as in prompts: f32, or bf16 for twice the
    /// arithmetic on CPUs that multiply bf16.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = ["f32", "bf16"])]
    pub activations: String,
    /// At the context's end, forget its first half and go on.
    #[arg(long)]
    pub context_shift: bool,
    /// Take <|endoftext|> and the like in a prompt as plain characters.
    #[arg(long)]
    pub no_parse_special: bool,
}

/// `longhand doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Threads of the 50-step run [default: the cores granted to this process].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `longhand gradcheck`.
#[derive(Clone, Debug, Args)]
pub struct GradcheckArgs {
    /// Check this instruction set alone: scalar, portable, avx2, avx512 [default: all that this CPU has].
    #[arg(long, value_name = "NAME")]
    pub isa: Option<String>,
}

/// `longhand roofline`.
#[derive(Clone, Debug, Args)]
pub struct RooflineArgs {
    /// Kernels whose names begin with one of these: matmul, attention, rowwise, adamw, … [default: all].
    #[arg(long, value_name = "NAME,…")]
    pub only: Option<String>,
    /// The instruction set of the kernels: scalar, portable, avx2, avx512 [default: the best].
    #[arg(long, value_name = "NAME")]
    pub isa: Option<String>,
    /// Threads [default: the cores granted to this process].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Seconds for a kernel; 5 repetitions are run in any case, and at most 50.
    #[arg(long, value_name = "S", default_value_t = 0.4)]
    pub seconds: f64,
    /// One JSON line a kernel.
    #[arg(long)]
    pub json: bool,
    /// Write the picture there.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Fail where a kernel does not reach its limit in FILE: TOML, tables [of_peak] and [of_bound], kernel = share.
    #[arg(long, value_name = "FILE")]
    pub assert: Option<PathBuf>,
}

/// `longhand bench train`.
#[derive(Clone, Debug, Args)]
pub struct BenchTrainArgs {
    /// The model: gpt2, gpt1, gpt2-medium, mini, …
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    pub preset: String,
    /// Sequences of a step.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch_size: usize,
    /// Tokens of a sequence.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub block_size: usize,
    /// Steps that count; two more come first.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub steps: usize,
    /// Threads [default: the cores granted to this process].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Show how a step splits between kernels: the mean of the steps in the middle.
    #[arg(long)]
    pub split: bool,
    /// Write a picture of the split there.
    #[arg(long, value_name = "FILE", requires = "split")]
    pub svg: Option<PathBuf>,
    /// One JSON line, and one for each kernel of the split.
    #[arg(long)]
    pub json: bool,
}

/// A number as it was typed; one that is written in digits and too large for its type is not taken for infinity.
fn float<T: FromStr<Err = ParseFloatError> + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    let x: T = text.parse().map_err(|e: ParseFloatError| e.to_string())?;
    let infinite = x.into().is_infinite() && text.contains(|c: char| c.is_ascii_digit());
    if infinite { Err("too large a number".into()) } else { Ok(x) }
}

/// How files come into memory, by `--no-mmap`.
pub fn access(no_mmap: bool) -> Access {
    if no_mmap { Access::Read } else { Access::Map }
}

/// A command line that is not run: text for standard output, or one line for standard error.
pub enum Refused {
    /// Help or version.
    Shown(String),
    /// One line that says what is wrong.
    Usage(String),
}

/// The command with nanoGPT's spellings added, and numbers below 0 read as values.
fn command() -> clap::Command {
    let adapted = |arg: clap::Arg| {
        let Some(long) = arg.get_long().map(str::to_string) else { return arg };
        // `--max-iters -5` is a wrong value, not a flag -5.
        let takes_value = arg.get_action().takes_values() && !arg.is_allow_hyphen_values_set();
        let arg = if takes_value { arg.allow_negative_numbers(true) } else { arg };
        if long.contains('-') { arg.alias(long.replace('-', "_")) } else { arg }
    };
    // A flag that stands twice has its last value, as in llama.cpp and nanoGPT.
    Cli::command().mut_subcommands(|sub| {
        sub.args_override_self(true).mut_args(adapted).mut_subcommands(|sub| sub.mut_args(adapted))
    })
}

/// Reads a command line, the program's name first.
pub fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, Refused> {
    let parsed = command().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m));
    parsed.map_err(|e| match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Refused::Shown(e.render().to_string())
        }
        _ => Refused::Usage(one_line(&e)),
    })
}

/// What clap says, on one line.
fn one_line(e: &clap::Error) -> String {
    let context = |kind| match e.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        // Those of a subcommand come with the nearest one last.
        Some(ContextValue::Strings(all)) => all.last().cloned(),
        _ => None,
    };
    let nearest = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(context);
    // nanoGPT's spelling of a flag is its second name.
    let hint = nearest.map_or(String::new(), |s| format!("; did you mean {}?", s.replace('_', "-")));
    match (e.kind(), context(ContextKind::InvalidArg), context(ContextKind::InvalidSubcommand)) {
        (ErrorKind::UnknownArgument, Some(arg), _) if arg.starts_with('-') => format!("unknown flag {arg}{hint}"),
        (ErrorKind::InvalidSubcommand, _, Some(name)) => {
            let hint = if hint.is_empty() { "; see longhand --help".to_string() } else { hint };
            format!("unknown command {name}{hint}")
        }
        _ => {
            let rendered = e.render().to_string();
            let end = rendered.find("\n\nUsage").or_else(|| rendered.find("\n\nFor more")).unwrap_or(rendered.len());
            let words: Vec<&str> = rendered[..end].split_whitespace().collect();
            words.join(" ").trim_start_matches("error: ").to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, String> {
        let words = line.split(' ').map(std::ffi::OsString::from);
        parse(words).map_err(|e| match e {
            Refused::Shown(text) | Refused::Usage(text) => text,
        })
    }

    fn train(line: &str) -> TrainArgs {
        match read(line).unwrap().command {
            Command::Train(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn nanogpts_line_for_a_cpu_is_read() {
        let a = train(
            "longhand train --device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 \
             --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0",
        );
        assert_eq!((a.device.as_deref(), a.compile.as_deref()), (Some("cpu"), Some("False")));
        assert_eq!((a.eval_iters, a.block_size, a.max_iters, a.dropout), (Some(20), Some(64), Some(2000), Some(0.0)));
        let b = train("longhand train x.txt --compile --max-iters 7 --gradient_accumulation_steps 2");
        assert_eq!(
            (b.compile.as_deref(), b.max_iters, b.gradient_accumulation_steps),
            (Some("True"), Some(7), Some(2))
        );
    }

    #[test]
    fn generation_has_llama_cpps_defaults() {
        let Command::Generate(a) = read("longhand generate -p a -p --b -n 5 -s -1").unwrap().command else { panic!() };
        assert_eq!((a.temp, a.top_k, a.top_p, a.min_p, a.n_predict), (0.8, 40, 0.95, 0.05, 5));
        assert_eq!(a.prompt, ["a", "--b"]);
    }

    #[test]
    fn a_search_draws_nothing() {
        let Command::Generate(a) = read("longhand generate --beams 4 --length_penalty -0.5").unwrap().command else {
            panic!()
        };
        assert_eq!((a.beams, a.length_penalty), (Some(4), Some(-0.5)));
        for (flag, named) in [
            ("--temp 0", "--temp <X>"),
            ("--top-k 1", "--top-k <K>"),
            ("--top-p 1", "--top-p <P>"),
            ("--min-p 0", "--min-p <P>"),
            ("--repeat-penalty 1", "--repeat-penalty <X>"),
            ("--repeat-last-n 1", "--repeat-last-n <N>"),
            ("-s 1", "--seed <N>"),
            ("--stop a", "--stop <TEXT>"),
            ("--context-shift", "--context-shift"),
            ("--explain", "--explain"),
        ] {
            let line = read(&format!("longhand generate --beams 4 {flag}")).unwrap_err();
            assert_eq!(line, format!("the argument '--beams <N>' cannot be used with '{named}'"));
        }
        let alone = read("longhand generate --length-penalty 1").unwrap_err();
        assert_eq!(alone, "the following required arguments were not provided: --beams <N>");
    }

    #[test]
    fn wrong_use_is_one_line_with_the_nearest_name() {
        let line = |words: &str| read(words).unwrap_err();
        assert_eq!(line("longhand train --n-lyer 4"), "unknown flag --n-lyer; did you mean --n-layer?");
        assert_eq!(line("longhand trian"), "unknown command trian; did you mean train?");
        assert_eq!(line("longhand fly"), "unknown command fly; see longhand --help");
        let bad = line("longhand train --max-iters many");
        assert_eq!(bad, "invalid value 'many' for '--max-iters <N>': invalid digit found in string");
        let below = line("longhand train --max-iters -5");
        assert_eq!(below, "invalid value '-5' for '--max-iters <N>': invalid digit found in string");
        let large = line("longhand train --learning-rate 1e40");
        assert_eq!(large, "invalid value '1e40' for '--learning-rate <X>': too large a number");
        let large = line("longhand generate --temp -1e39");
        assert_eq!(large, "invalid value '-1e39' for '--temp <X>': too large a number");
        assert_eq!(train("longhand train --grad-clip inf --min-lr 1e-60").grad_clip, Some(f32::INFINITY));
        let two = line("longhand train --resume --overwrite");
        assert_eq!(two, "the argument '--resume' cannot be used with '--overwrite'");
        assert!(line("longhand train --arch gpt3").starts_with("invalid value 'gpt3' for '--arch <ARCH>'"));
        assert!(!line("longhand train --arch gpt3").contains('\n'));
    }
}
