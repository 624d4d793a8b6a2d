//! Arguments of the commands that look at models: score, eval, inspect, convert, bench generate.

use clap::Args;
use std::path::PathBuf;

/// A model to be run.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// A run, a checkpoint or a Hugging Face folder [default: the newest run in runs/].
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Threads [default: the cores granted to this process].
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Read the model's files into memory rather than map them while they are copied.
    #[arg(long)]
    pub no_mmap: bool,
}

/// `longhand score`.
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// The text.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// The model, and how it is run.
    #[command(flatten)]
    pub run: ModelArgs,
    /// A file whose text is scored.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// Token ids instead of a text; no tokenizer is looked for.
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with_all = ["text", "file"])]
    pub ids: Vec<u32>,
    /// One JSON object: ids, log_probs (of all but the first), total, perplexity.
    #[arg(long)]
    pub json: bool,
    /// Take <|endoftext|> and the like in the text as plain characters.
    #[arg(long)]
    pub no_parse_special: bool,
}

/// `longhand eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// A text file of any length. All of it is text, as in training, also what spells a special token: <|endoftext|>.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The model, and how it is run.
    #[command(flatten)]
    pub run: ModelArgs,
    /// Tokens from one window of the context to the next: every token sees at least the context less these [default: half
    /// the context].
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// One JSON line.
    #[arg(long)]
    pub json: bool,
}

/// `longhand inspect`.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// A run, a checkpoint or a Hugging Face folder [default: the newest run in runs/].
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The same, as the other commands have it.
    #[arg(short = 'm', long, value_name = "FOLDER", conflicts_with = "folder")]
    pub model: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `longhand bench generate`.
#[derive(Clone, Debug, Args)]
pub struct BenchGenerateArgs {
    /// The model, with random weights: gpt2, gpt1, gpt2-medium, mini, …
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    pub preset: String,
    /// A run, a checkpoint or a Hugging Face folder instead of a preset.
    #[arg(short = 'm', long, value_name = "FOLDER", conflicts_with = "preset")]
    pub model: Option<PathBuf>,
    /// Tokens of a prompt to read; several give a row each [default: 512, or what the context holds].
    #[arg(short = 'p', long, value_name = "N,…", value_delimiter = ',')]
    pub n_prompt: Vec<usize>,
    /// Tokens to write, behind a prompt of 16 that is read in the same time; several give a row each [default: 128, or what
    /// the context holds].
    #[arg(short = 'n', long, value_name = "N,…", value_delimiter = ',')]
    pub n_gen: Vec<usize>,
    /// Texts that are written at once, each behind a prompt of its own; several give a row each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    pub batch_size: Vec<usize>,
    /// Repetitions of each row, behind one that does not count.
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5)]
    pub repetitions: usize,
    /// How weights are kept in memory: f32, bf16; several give rows each.
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', default_value = "f32", value_parser = ["f32", "bf16"])]
    pub weights: Vec<String>,
    /// How activations meet weights of bf16 where more than 32 rows are read together, as in prompts: f32, or bf16 for twice the
    /// arithmetic on CPUs that multiply bf16.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = ["f32", "bf16"])]
    pub activations: String,
    /// Threads [default: the cores granted to this process].
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// One JSON line a row.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// The table as CSV.
    #[arg(long)]
    pub csv: bool,
    /// Draw the rows below this machine's roofs: multiply-adds, and a stream of as many bytes as the weights have.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `longhand bench load`.
#[derive(Clone, Debug, Args)]
pub struct BenchLoadArgs {
    /// A Hugging Face folder.
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// Repetitions, in turn with reading the files.
    #[arg(short = 'r', long, value_name = "N", default_value_t = 9)]
    pub repetitions: usize,
    /// How weights are kept in memory: f32, bf16; several give rows each.
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', default_value = "f32", value_parser = ["f32", "bf16"])]
    pub weights: Vec<String>,
    /// Threads [default: the cores granted to this process].
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// One JSON line a row.
    #[arg(long)]
    pub json: bool,
}

/// `longhand convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// A folder that does not exist, or an empty one.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// A run, a checkpoint, a Hugging Face folder or OpenAI's GPT-1 [default: the newest run in runs/].
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Element type of the weights: f32, bf16 or f16.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = ["f32", "bf16", "f16"])]
    pub dtype: String,
    /// Read the model's files into memory rather than map them while they are copied.
    #[arg(long)]
    pub no_mmap: bool,
}
