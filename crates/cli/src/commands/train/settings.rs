//! Every value of a run, none left open: resolved once from the flags, written as the flags that reproduce it.

use super::defaults::{self, Defaults};
use crate::args::TrainArgs;
use longhand_gpt::config::{Arch, Config, Preset};
use longhand_gpt::error::{Error, Escaped, Result};
use longhand_gpt::optim::{OptimOptions, Schedule};
use longhand_gpt::tokenizer::{Kind, Tokenizer, default_bpe_vocab};
use std::path::{Path, PathBuf};

/// A run, completely described.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The user's texts; none for the embedded stories.
    pub texts: Vec<PathBuf>,
    /// The model whose weights and tokenizer the run begins with, and its configuration: sizes are its own then, and dropout
    /// where no other is asked for.
    pub init_from: Option<(PathBuf, Config)>,
    pub preset: Option<String>,
    pub arch: Arch,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_embd: usize,
    pub block_size: usize,
    /// None for that of `init_from`.
    pub dropout: Option<f32>,
    pub init_std: f32,
    pub tokenizer: Kind,
    /// For bpe.
    pub vocab_size: Option<usize>,
    pub batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub max_iters: u64,
    pub eval_interval: u64,
    pub eval_iters: u64,
    pub log_interval: u64,
    pub save_interval: u64,
    pub seed: u64,
    pub prompt: Option<String>,
    pub optim: OptimOptions,
}

/// The most rows of a batch and microbatches of a step; beyond, sizes could overflow.
const MOST_ROWS: usize = 1 << 20;

impl Settings {
    /// What `args` ask for; `train_bytes` is the size of the training text, which the vocabulary follows; `base` is the
    /// model of `--init-from`, where that is given.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn resolve(args: &TrainArgs, train_bytes: u64, base: Option<&Config>) -> Result<Settings> {
        let init_from = match (&args.init_from, base) {
            (Some(folder), Some(config)) => Some((folder.clone(), config.clone())),
            (Some(folder), None) => {
                return Err(Error::config("init_from", folder.display(), "must be given when a run begins"));
            }
            (None, _) => None,
        };
        let stories = args.texts.is_empty();
        let mut d: Defaults = if stories { defaults::STORIES } else { defaults::TEXT };
        if let Some(name) = &args.preset {
            d = d.with_preset(Preset::named(name)?);
        }
        if let Some((folder, config)) = &init_from {
            check_own(args, folder)?;
            d = d.with_model(config);
        }
        let named = |field: &str, name: &Option<String>| {
            let bad = move |n: &str| Error::config(field, n, "is not known");
            name.as_deref().map(|n| (n.to_string(), bad(n)))
        };
        let arch = match named("arch", &args.arch) {
            Some((name, bad)) => Arch::from_name(&name).ok_or(bad)?,
            None => d.arch,
        };
        let tokenizer = match named("tokenizer", &args.tokenizer) {
            Some((name, bad)) => Kind::from_name(&name).ok_or(bad)?,
            None => d.tokenizer,
        };
        let schedule = match named("schedule", &args.schedule) {
            Some((name, bad)) => Schedule::from_name(&name).ok_or(bad)?,
            None => d.schedule,
        };
        if args.vocab_size.is_some() && tokenizer != Kind::Bpe {
            let limit = format!("only bpe has a choice; {} follows the text", tokenizer.name());
            return Err(Error::config("vocab_size", args.vocab_size.unwrap_or(0), limit));
        }
        let usual = if stories { defaults::stories::VOCABULARY } else { default_bpe_vocab(train_bytes) };
        let vocab_size = (tokenizer == Kind::Bpe).then(|| args.vocab_size.unwrap_or(usual));
        let max_iters = args.max_iters.unwrap_or(d.max_iters);
        let learning_rate = args.learning_rate.unwrap_or(d.learning_rate);
        let eval_interval = args.eval_interval.unwrap_or((max_iters / defaults::EVALUATIONS).max(1));
        let trained = init_from.is_some();
        let settings = Settings {
            texts: args.texts.clone(),
            init_from,
            preset: args.preset.clone(),
            arch,
            n_layer: args.n_layer.unwrap_or(d.n_layer),
            n_head: args.n_head.unwrap_or(d.n_head),
            n_embd: args.n_embd.unwrap_or(d.n_embd),
            block_size: args.block_size.unwrap_or(d.block_size),
            dropout: args.dropout.or((!trained).then_some(d.dropout)),
            init_std: args.init_std.unwrap_or(d.init_std),
            tokenizer,
            vocab_size,
            batch_size: args.batch_size.unwrap_or(d.batch_size),
            gradient_accumulation_steps: args.gradient_accumulation_steps.unwrap_or(d.gradient_accumulation_steps),
            max_iters,
            eval_interval,
            eval_iters: args.eval_iters.unwrap_or(d.eval_iters),
            log_interval: args.log_interval.unwrap_or((max_iters / defaults::LINES).max(1)),
            save_interval: args.save_interval.unwrap_or(eval_interval),
            seed: args.seed.unwrap_or(1337),
            prompt: args.prompt.clone(),
            optim: OptimOptions {
                learning_rate,
                min_lr: args.min_lr.unwrap_or(learning_rate * d.min_lr_share),
                warmup_iters: args.warmup_iters.unwrap_or(d.warmup_iters.min(max_iters / 10)),
                lr_decay_iters: args.lr_decay_iters.unwrap_or(max_iters),
                schedule,
                weight_decay: args.weight_decay.unwrap_or(d.weight_decay),
                beta1: args.beta1.unwrap_or(d.beta1),
                beta2: args.beta2.unwrap_or(d.beta2),
                eps: 1e-8,
                grad_clip: args.grad_clip.unwrap_or(d.grad_clip),
            },
        };
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> Result<()> {
        for (field, n) in
            [("batch_size", self.batch_size), ("gradient_accumulation_steps", self.gradient_accumulation_steps)]
        {
            if n == 0 || n > MOST_ROWS {
                return Err(Error::config(field, n, format!("must be from 1 to {MOST_ROWS}")));
            }
        }
        for (field, n) in [
            ("max_iters", self.max_iters),
            ("eval_interval", self.eval_interval),
            ("eval_iters", self.eval_iters),
            ("log_interval", self.log_interval),
            ("save_interval", self.save_interval),
        ] {
            if n == 0 || n > u32::MAX as u64 {
                return Err(Error::config(field, n, format!("must be from 1 to {}", u32::MAX)));
            }
        }
        self.optim.validate()?;
        if let Some((_, config)) = &self.init_from
            && !(1..=config.n_positions).contains(&self.block_size)
        {
            let limit = format!("must be from 1 to {}, the model's context", config.n_positions);
            return Err(Error::config("block_size", self.block_size, limit));
        }
        self.config_for(self.vocab_size.unwrap_or(256))?.validate()
    }

    /// The model for a vocabulary of `vocab_size`.
    /// # Errors
    /// An unknown preset.
    fn config_for(&self, vocab_size: usize) -> Result<Config> {
        if let Some((_, config)) = &self.init_from {
            let mut config = config.clone();
            self.dropout.into_iter().for_each(|p| config.set_dropout(p));
            return Ok(config);
        }
        let mut config = Config::new(self.arch, vocab_size, self.block_size);
        (config.n_layer, config.n_head, config.n_embd) = (self.n_layer, self.n_head, self.n_embd);
        config.initializer_range = self.init_std;
        self.dropout.into_iter().for_each(|p| config.set_dropout(p));
        if let Some(name) = &self.preset {
            config.attention_window = Preset::named(name)?.attention_window;
        }
        Ok(config)
    }

    /// The model for a tokenizer.
    /// # Errors
    /// What `Config::validate` refuses.
    pub fn config(&self, tokenizer: &Tokenizer) -> Result<Config> {
        let mut config = self.config_for(tokenizer.vocab_size())?;
        if self.init_from.is_none() {
            (config.bos_token_id, config.eos_token_id) = (tokenizer.end_id(), tokenizer.end_id());
            config.pad_token_id = tokenizer.end_id();
        }
        config.validate()?;
        Ok(config)
    }

    /// Rows of an optimizer step.
    pub fn rows_per_step(&self) -> usize {
        self.batch_size * self.gradient_accumulation_steps
    }

    /// The command line that gives this run, the program's name and the folder left out.
    pub fn args(&self) -> Vec<String> {
        let mut all = vec!["train".to_string()];
        let o = &self.optim;
        let mut flag = |name: &str, value: String| all.extend([format!("--{name}"), value]);
        if let Some((folder, _)) = &self.init_from {
            flag("init-from", folder.to_string_lossy().into_owned());
        } else {
            if let Some(preset) = &self.preset {
                flag("preset", preset.clone());
            }
            flag("arch", self.arch.name().into());
            flag("n-layer", self.n_layer.to_string());
            flag("n-head", self.n_head.to_string());
            flag("n-embd", self.n_embd.to_string());
            flag("init-std", self.init_std.to_string());
            flag("tokenizer", self.tokenizer.name().into());
            if let Some(v) = self.vocab_size {
                flag("vocab-size", v.to_string());
            }
        }
        flag("block-size", self.block_size.to_string());
        if let Some(p) = self.dropout {
            flag("dropout", p.to_string());
        }
        flag("batch-size", self.batch_size.to_string());
        flag("gradient-accumulation-steps", self.gradient_accumulation_steps.to_string());
        flag("max-iters", self.max_iters.to_string());
        flag("learning-rate", o.learning_rate.to_string());
        flag("min-lr", o.min_lr.to_string());
        flag("warmup-iters", o.warmup_iters.to_string());
        flag("lr-decay-iters", o.lr_decay_iters.to_string());
        flag("schedule", o.schedule.name().into());
        flag("weight-decay", o.weight_decay.to_string());
        flag("beta1", o.beta1.to_string());
        flag("beta2", o.beta2.to_string());
        flag("grad-clip", o.grad_clip.to_string());
        flag("eval-interval", self.eval_interval.to_string());
        flag("eval-iters", self.eval_iters.to_string());
        flag("log-interval", self.log_interval.to_string());
        flag("save-interval", self.save_interval.to_string());
        flag("seed", self.seed.to_string());
        if let Some(prompt) = &self.prompt {
            flag("prompt", prompt.clone());
        }
        if !self.texts.is_empty() {
            all.push("--".to_string());
            all.extend(self.texts.iter().map(|p| p.to_string_lossy().into_owned()));
        }
        all
    }

    /// The command that reproduces the run, for a shell; what follows from the other flags is left out. `checkpoint` is
    /// the one that was read of `init_from`: the newest of that folder may be another by then.
    pub fn command(&self, train_bytes: u64, checkpoint: Option<&Path>) -> String {
        let pinned =
            |(folder, config): &(PathBuf, Config)| (checkpoint.unwrap_or(folder).to_path_buf(), config.clone());
        let pinned = Settings { init_from: self.init_from.as_ref().map(pinned), ..self.clone() };
        let own = pinned.args();
        let (flags, texts) = split_at_texts(&own);
        let base = self.init_from.as_ref().map(|(_, config)| config);
        let mut given = vec!["longhand".to_string(), "train".to_string()];
        for pair in flags[1..].chunks(2) {
            let known = given.iter().cloned().chain(["--".to_string()]).chain(texts.iter().cloned());
            let follows = match crate::args::parse(known.map(Into::into)) {
                Ok(crate::args::Cli { command: crate::args::Command::Train(args) }) => {
                    Settings::resolve(&args, train_bytes, base).is_ok_and(|s| s.has(pair))
                }
                _ => false,
            };
            if !follows {
                given.extend_from_slice(pair);
            }
        }
        let mut words: Vec<String> = given.iter().map(|word| quoted(word)).collect();
        words.splice(2..2, self.texts.iter().map(|path| quoted_path(path)));
        words.join(" ")
    }

    /// Whether a flag has this value.
    fn has(&self, pair: &[String]) -> bool {
        let own = self.args();
        split_at_texts(&own).0[1..].chunks(2).any(|p| p == pair)
    }

    /// The flags that differ from `other`'s, with both values; for a resume that was given other ones.
    pub fn difference(&self, other: &Settings) -> Option<String> {
        let (own, others) = (self.args(), other.args());
        let ((own, texts), (others, other_texts)) = (split_at_texts(&own), split_at_texts(&others));
        if texts != other_texts {
            return Some(format!("the text {:?}, not {:?}", texts.join(" "), other_texts.join(" ")));
        }
        own[1..].chunks(2).find_map(|pair| {
            let theirs = others[1..].chunks(2).find(|p| p[0] == pair[0]).map(|p| p[1].as_str());
            (theirs != Some(&pair[1])).then(|| format!("{} {}, not {}", pair[0], pair[1], theirs.unwrap_or("none")))
        })
    }
}

/// Refuses flags of what the model that a run begins with has already.
fn check_own(args: &TrainArgs, folder: &Path) -> Result<()> {
    let number = |n: Option<usize>| n.map(|n| n.to_string());
    let own = [
        ("arch", args.arch.clone()),
        ("preset", args.preset.clone()),
        ("n_layer", number(args.n_layer)),
        ("n_head", number(args.n_head)),
        ("n_embd", number(args.n_embd)),
        ("init_std", args.init_std.map(|x| x.to_string())),
        ("tokenizer", args.tokenizer.clone()),
        ("vocab_size", number(args.vocab_size)),
    ];
    match own.into_iter().find_map(|(field, value)| Some((field, value?))) {
        Some((field, value)) => {
            Err(Error::config(field, value, format!("is that of {}, which the run begins with", folder.display())))
        }
        None => Ok(()),
    }
}

/// The flags before `--`, and the texts behind it.
fn split_at_texts(args: &[String]) -> (&[String], &[String]) {
    match args.iter().position(|a| a == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[]),
    }
}

/// A word for a POSIX shell; one that holds what must not reach a terminal, for bash and zsh.
pub fn quoted(word: &str) -> String {
    quoted_bytes(word.as_bytes())
}

/// A path for a shell, whatever its bytes are: one that looks like a flag begins with `./`, but for `-`, standard input.
pub fn quoted_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.starts_with(b"-") && bytes != b"-" { quoted_bytes(&[b"./", bytes].concat()) } else { quoted_bytes(bytes) }
}

fn quoted_bytes(word: &[u8]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    let shown = |text: &str| Escaped(text).to_string() == text;
    match std::str::from_utf8(word) {
        Ok(word) if !word.is_empty() && word.chars().all(plain) => return word.to_string(),
        Ok(word) if shown(word) => return format!("'{}'", word.replace('\'', "'\\''")),
        _ => (),
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let mut out = String::from("$'");
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\'' | '\\' => out.extend(['\\', c]),
                c if shown(c.encode_utf8(&mut [0; 4])) => out.push(c),
                c => out.push_str(&hex(c.encode_utf8(&mut [0; 4]).as_bytes())),
            }
        }
        out.push_str(&hex(chunk.invalid()));
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};

    fn args(words: &[&str]) -> TrainArgs {
        let all = ["longhand", "train"].iter().chain(words).map(std::ffi::OsString::from);
        match parse(all).unwrap_or_else(|_| panic!("{words:?}")).command {
            Command::Train(a) => *a,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_written_as_flags_come_back() {
        for words in [
            &[][..],
            &[
                "a b.txt",
                "--tokenizer",
                "chars",
                "--beta2",
                "0.995",
                "--learning-rate",
                "3.3e-4",
                "--prompt",
                "--x 'y'",
            ],
            &["--preset", "gpt3-125m", "--n-layer", "3", "--schedule", "linear", "t.txt", "u.txt"],
        ] {
            let settings = Settings::resolve(&args(words), 1_000_000, None).unwrap();
            let written = settings.args();
            let again: Vec<&str> = written[1..].iter().map(String::as_str).collect();
            assert_eq!(Settings::resolve(&args(&again), 7, None).unwrap(), settings);
        }
    }

    #[test]
    fn the_command_says_only_what_differs() {
        let s = Settings::resolve(&args(&["it's.txt", "--max_iters", "100"]), 1_000_000, None).unwrap();
        let command = s.command(1_000_000, None);
        assert_eq!(command, "longhand train 'it'\\''s.txt' --max-iters 100");
        let s = Settings::resolve(&args(&["t.txt", "--n-head", "3", "--n-embd", "99", "--warmup-iters", "7"]), 0, None)
            .unwrap();
        assert_eq!(s.command(0, None), "longhand train t.txt --n-head 3 --n-embd 99 --warmup-iters 7");
        assert_eq!(Settings::resolve(&args(&[]), 0, None).unwrap().command(0, None), "longhand train");
    }

    #[test]
    fn words_for_a_shell_are_whole_and_move_no_cursor() {
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("a\u{1b}[2J\n'b\\' é\u{9b}"), "$'a\\x1b[2J\\n\\'b\\\\\\' é\\xc2\\x9b'");
        let path = |name: &str| quoted_path(Path::new(name));
        assert_eq!([path("-"), path("-a.txt"), path("-a b"), path("a-")], ["-", "./-a.txt", "'./-a b'", "a-"]);
        let s = Settings::resolve(&args(&["--max-iters", "9", "--", "-a.txt", "-"]), 0, None).unwrap();
        assert_eq!(s.command(0, None), "longhand train ./-a.txt - --max-iters 9");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(quoted_path(Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9's"))), "$'caf\\xe9\\'s'");
        }
    }

    #[test]
    fn wrong_values_name_their_flag() {
        let line = |words: &[&str]| Settings::resolve(&args(words), 1000, None).unwrap_err().to_string();
        assert_eq!(line(&["--n-embd", "100", "--n-head", "3"]), "n_embd = 100: must be divisible by n_head = 3");
        assert_eq!(line(&["--max-iters", "0"]), "max_iters = 0: must be from 1 to 4294967295");
        assert_eq!(line(&["--batch-size", "0"]), "batch_size = 0: must be from 1 to 1048576");
        assert_eq!(line(&["--dropout", "1"]), "embd_pdrop = 1: must be at least 0 and below 1");
        assert!(line(&["--preset", "gpt9"]).starts_with("preset = gpt9: must be one of nano"));
        assert!(line(&["--tokenizer", "chars", "--vocab-size", "9"]).starts_with("vocab_size = 9: only bpe"));
        assert!(line(&["--beta2", "1.5"]).starts_with("beta2 = 1.5"));
    }

    #[test]
    fn a_resume_with_other_flags_is_told_which() {
        let a = Settings::resolve(&args(&["--max-iters", "10"]), 0, None).unwrap();
        let b = Settings::resolve(&args(&["--max-iters", "20"]), 0, None).unwrap();
        assert_eq!(a.difference(&a), None);
        assert_eq!(a.difference(&b).unwrap(), "--max-iters 10, not 20");
    }
}
