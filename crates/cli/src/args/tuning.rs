//! The command lines of fine-tuning: rows, nets, and how they are tuned.

use clap::Args;
use std::path::PathBuf;

/// Where rows come from, and what their columns are called.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RowArgs {
    /// Rows of the embedded world in place of a file's: sentiment, entailment, paraphrase, ending, tagging or span.
    #[arg(long, value_name = "TASK", value_parser = ["sentiment", "entailment", "paraphrase", "ending", "tagging", "span"], help_heading = "Rows")]
    pub world: Option<String>,
    /// Layout of the file: tsv, csv, jsonl, or that of a known task: cola, sst2, mrpc, qqp, mnli, qnli, rte, wnli, stsb,
    /// sick, rocstories, squad [default: by the file's name].
    #[arg(long, value_name = "NAME", help_heading = "Rows")]
    pub format: Option<String>,
    /// Column (name, number from 0, or key) of the text, premise, first sentence, context or document.
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub text: Option<String>,
    /// Column of the hypothesis, second sentence or question.
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub text_b: Option<String>,
    /// Column of what is right.
    #[arg(long, value_name = "COLUMN", help_heading = "Rows")]
    pub label: Option<String>,
    /// Columns of the answers of a choice, or the one key that holds them all.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', help_heading = "Rows")]
    pub choices: Vec<String>,
    /// Leave out rows that are not understood, and count them.
    #[arg(long, help_heading = "Rows")]
    pub skip_bad_rows: bool,
}

/// `longhand finetune`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct FinetuneArgs {
    /// Labelled rows, or `-` for standard input.
    #[arg(value_name = "ROWS", conflicts_with = "world")]
    pub rows: Option<PathBuf>,
    /// classification, entailment, similarity, choice, tagging, span or sequence [default: the layout's].
    #[arg(long, value_name = "KIND", value_parser = ["classification", "entailment", "similarity", "choice", "tagging", "span", "sequence"])]
    pub task: Option<String>,
    /// The pre-trained model: a run, a checkpoint or a Hugging Face folder [default: the newest run in runs/].
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,

    /// How the rows are read.
    #[command(flatten)]
    pub data: RowArgs,
    /// Similarity is a score, not a class.
    #[arg(long, help_heading = "Rows")]
    pub scores: bool,
    /// Rows to look at after each epoch [default: a share of the rows is held out].
    #[arg(long, value_name = "FILE", help_heading = "Rows")]
    pub dev: Option<PathBuf>,
    /// The share that is held out where there is no --dev [default: 0.1].
    #[arg(long, value_name = "X", conflicts_with = "dev", help_heading = "Rows")]
    pub hold_out: Option<f64>,
    /// Train on so many rows, drawn by the seed [default: all of a file's, 5,000 of the world's].
    #[arg(long, value_name = "N", help_heading = "Rows")]
    pub max_rows: Option<usize>,

    /// What the head reads: extract (the activation at the last token), mean, or all (both, and the maximum).
    #[arg(long, value_name = "WHAT", value_parser = ["extract", "mean", "all"], help_heading = "Net")]
    pub pool: Option<String>,
    /// What trains: all, head, adapters, or features (the head on a learned mix of all layers).
    #[arg(long, value_name = "WHAT", value_parser = ["all", "head", "adapters", "features"], help_heading = "Net")]
    pub train: Option<String>,
    /// Channels of an adapter [default: 16].
    #[arg(long, value_name = "N", help_heading = "Net")]
    pub adapter_size: Option<usize>,
    /// Blocks taken from the pre-trained model; the others begin anew [default: all].
    #[arg(long, value_name = "N", conflicts_with = "from_scratch", help_heading = "Net")]
    pub transfer_layers: Option<usize>,
    /// Take nothing from the model but its sizes and its tokenizer.
    #[arg(long, help_heading = "Net")]
    pub from_scratch: bool,
    /// How a score is told: linear, or classes (its neighbours' expectation).
    #[arg(long, value_name = "HOW", value_parser = ["linear", "classes"], help_heading = "Net")]
    pub score_head: Option<String>,
    /// Dropout in the body [default: the model's].
    #[arg(long, value_name = "P", help_heading = "Net")]
    pub dropout: Option<f32>,
    /// Dropout on what the head reads [default: 0.1].
    #[arg(long, value_name = "P", help_heading = "Net")]
    pub head_dropout: Option<f32>,

    /// Passes over the rows [default: 3].
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub epochs: Option<u64>,
    /// Rows of an update [default: 32].
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub batch_size: Option<usize>,
    /// Peak learning rate [default: a quarter of the model's in pre-training].
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub learning_rate: Option<f32>,
    /// The share of all updates in which the rate climbs [default: 0.002].
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub warmup: Option<f64>,
    /// Decay of tensors of two dimensions [default: 0.01].
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub weight_decay: Option<f32>,
    /// Greatest gradient norm; 0 does not clip [default: 1].
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub grad_clip: Option<f32>,
    /// λ, the weight of the language model's loss beside the task's [default: 0.5].
    #[arg(long, value_name = "X", help_heading = "Optimizer")]
    pub lambda: Option<f32>,
    /// What that loss is a mean of: row (of each sequence, then of all) or token.
    #[arg(long, value_name = "WHAT", value_parser = ["row", "token"], help_heading = "Optimizer")]
    pub lm_loss_mean: Option<String>,
    /// The weight of each class's rows, in the order of the classes, or `balanced`.
    #[arg(long, value_name = "X,…", help_heading = "Optimizer")]
    pub class_weights: Option<String>,
    /// Stop when the held-out loss has not fallen for so many epochs, and keep the best one's weights.
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub early_stop: Option<u64>,

    /// Folder of the run [default: runs/NAME, then runs/NAME-2, …].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out_dir: Option<PathBuf>,
    /// Go on with the run in --out-dir from its last checkpoint.
    #[arg(long, conflicts_with = "overwrite", requires = "out_dir", help_heading = "Run")]
    pub resume: bool,
    /// Remove the run in --out-dir first.
    #[arg(long, requires = "out_dir", help_heading = "Run")]
    pub overwrite: bool,
    /// Seed of the head's first weights, order, dropout and what is held out [default: 1337].
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub seed: Option<u64>,
    /// Threads [default: the cores granted to this process]. The result does not depend on them.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub threads: Option<usize>,
    /// Read files into memory rather than map them while they are copied.
    #[arg(long, help_heading = "Run")]
    pub no_mmap: bool,
}

impl FinetuneArgs {
    /// What decides the run, as flags with their values: what a resume must keep. The rows' file is `ROWS`.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.push((name.to_string(), value));
            }
        };
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned());
        fn text<T: ToString>(x: &Option<T>) -> Option<String> {
            x.as_ref().map(T::to_string)
        }
        let given = |set: bool| set.then(String::new);
        flag("ROWS", path(&self.rows));
        flag("--task", self.task.clone());
        flag("--model", path(&self.model));
        flag("--world", self.data.world.clone());
        flag("--format", self.data.format.clone());
        flag("--text", self.data.text.clone());
        flag("--text-b", self.data.text_b.clone());
        flag("--label", self.data.label.clone());
        flag("--choices", (!self.data.choices.is_empty()).then(|| self.data.choices.join(",")));
        flag("--skip-bad-rows", given(self.data.skip_bad_rows));
        flag("--scores", given(self.scores));
        flag("--dev", path(&self.dev));
        flag("--hold-out", text(&self.hold_out));
        flag("--max-rows", text(&self.max_rows));
        flag("--pool", self.pool.clone());
        flag("--train", self.train.clone());
        flag("--adapter-size", text(&self.adapter_size));
        flag("--transfer-layers", text(&self.transfer_layers));
        flag("--from-scratch", given(self.from_scratch));
        flag("--score-head", self.score_head.clone());
        flag("--dropout", text(&self.dropout));
        flag("--head-dropout", text(&self.head_dropout));
        flag("--epochs", text(&self.epochs));
        flag("--batch-size", text(&self.batch_size));
        flag("--learning-rate", text(&self.learning_rate));
        flag("--warmup", text(&self.warmup));
        flag("--weight-decay", text(&self.weight_decay));
        flag("--grad-clip", text(&self.grad_clip));
        flag("--lambda", text(&self.lambda));
        flag("--lm-loss-mean", self.lm_loss_mean.clone());
        flag("--class-weights", self.class_weights.clone());
        flag("--early-stop", text(&self.early_stop));
        flag("--seed", text(&self.seed));
        all
    }

    /// The words of a command line with these settings, the program's name left out.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["finetune".to_string()];
        let settings = self.settings();
        for (name, value) in settings.iter().filter(|(name, _)| name != "ROWS") {
            // A word that begins with - would be read as a flag of its own.
            if value.starts_with('-') {
                words.push(format!("{name}={value}"));
                continue;
            }
            words.push(name.clone());
            if !value.is_empty() {
                words.push(value.clone());
            }
        }
        if let Some((_, rows)) = settings.iter().find(|(name, _)| name == "ROWS") {
            words.extend(["--".to_string(), rows.clone()]);
        }
        words
    }
}

/// `longhand demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Folder of the demonstration; what is finished in it is not run again [default: runs/demo].
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Seeds: each draws labels of its own, shared by both nets.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seeds: u64,
    /// Labelled rows that nets are tuned on; several numbers give a curve [default: from 50 to 500, as a task needs].
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub labels: Vec<usize>,
    /// The tasks [default: all].
    #[arg(long, value_name = "TASK,…", value_delimiter = ',', value_parser = ["sentiment", "entailment", "paraphrase", "ending", "tagging", "span"])]
    pub tasks: Vec<String>,
    /// The seed of the tasks' rows, those to learn from and those of the test: another one asks the same of other stories.
    #[arg(long, value_name = "N", default_value_t = crate::rows::WORLD_SEED)]
    pub world_seed: u64,
    /// Test rows of each task.
    #[arg(long, value_name = "N", default_value_t = crate::rows::WORLD_TEST)]
    pub test_rows: u64,
    /// Epochs of the pre-trained net, at most; the one from scratch has four times as many.
    #[arg(long, value_name = "N", default_value_t = DemoArgs::EPOCHS)]
    pub epochs: u64,
    /// Steps of pre-training [default: train's].
    #[arg(long, value_name = "N")]
    pub max_iters: Option<u64>,
    /// Threads [default: the cores granted to this process].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DemoArgs {
    /// Epochs where none are asked for.
    pub const EPOCHS: u64 = 8;
}

/// `longhand evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// Labelled rows, or `-` for standard input.
    #[arg(value_name = "ROWS", conflicts_with = "world")]
    pub rows: Option<PathBuf>,
    /// The fine-tuned net: a run or a checkpoint [default: the newest run in runs/].
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// The folder of a frozen body, where it is not where it was.
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// How the rows are read.
    #[command(flatten)]
    pub data: RowArgs,
    /// Fit bags of words, and for pairs the words they share, to the rows that the net was tuned on, and compare.
    #[arg(long)]
    pub baseline: bool,
    /// Write what the net says of each row there, in the layout that the task is judged in, or as JSONL.
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// One JSON line.
    #[arg(long)]
    pub json: bool,
    /// Threads [default: the cores granted to this process].
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Read files into memory rather than map them while they are copied.
    #[arg(long)]
    pub no_mmap: bool,
}

/// `longhand predict`.
#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// A text (premise, first sentence, context, document); without one, rows are read.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// The hypothesis, second sentence or question.
    #[arg(value_name = "TEXT B", allow_hyphen_values = true)]
    pub text_b: Option<String>,
    /// An answer of a choice; give each.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub answer: Vec<String>,
    /// Rows to tell of [default: standard input, as JSONL].
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// The fine-tuned net: a run or a checkpoint [default: the newest run in runs/].
    #[arg(short = 'm', long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// The folder of a frozen body, where it is not where it was.
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// Layout of the file [default: by its name].
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Column of the text [default: as for finetune].
    #[arg(long = "text", value_name = "COLUMN")]
    pub text_column: Option<String>,
    /// Column of the second text.
    #[arg(long = "text-b", value_name = "COLUMN")]
    pub text_b_column: Option<String>,
    /// Columns of the answers.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub choices: Vec<String>,
    /// Answer as JSON also for one text.
    #[arg(long)]
    pub json: bool,
    /// Threads [default: the cores granted to this process].
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Read files into memory rather than map them while they are copied.
    #[arg(long)]
    pub no_mmap: bool,
}
