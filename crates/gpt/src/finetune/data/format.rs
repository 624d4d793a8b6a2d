//! The layouts of data files: three general ones and those of well-known tasks by name.

use super::super::examples::TaskKind;
use std::path::Path;

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Tab-separated, without quoting; columns are named.
    Tsv,
    /// Comma-separated with the quoting of RFC 4180; columns are named.
    Csv,
    /// An object a line; keys are named.
    Jsonl,
    /// GLUE: the Corpus of Linguistic Acceptability.
    Cola,
    /// GLUE: the Stanford Sentiment Treebank in two classes.
    Sst2,
    /// GLUE: Microsoft's Research Paraphrase Corpus.
    Mrpc,
    /// GLUE: Quora's Question Pairs.
    Qqp,
    /// GLUE: Multi-Genre Natural Language Inference.
    Mnli,
    /// GLUE: SQuAD's questions as entailment.
    Qnli,
    /// GLUE: Recognising Textual Entailment.
    Rte,
    /// GLUE: Winograd's schemas as entailment.
    Wnli,
    /// GLUE: the Semantic Textual Similarity Benchmark.
    StsB,
    /// Sentences Involving Compositional Knowledge.
    Sick,
    /// The Story Cloze Test.
    RocStories,
    /// The Stanford Question Answering Dataset, version 1.
    Squad,
}

impl Format {
    /// Every layout.
    pub const ALL: [Format; 15] = [
        Format::Tsv,
        Format::Csv,
        Format::Jsonl,
        Format::Cola,
        Format::Sst2,
        Format::Mrpc,
        Format::Qqp,
        Format::Mnli,
        Format::Qnli,
        Format::Rte,
        Format::Wnli,
        Format::StsB,
        Format::Sick,
        Format::RocStories,
        Format::Squad,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Tsv => "tsv",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Cola => "cola",
            Format::Sst2 => "sst2",
            Format::Mrpc => "mrpc",
            Format::Qqp => "qqp",
            Format::Mnli => "mnli",
            Format::Qnli => "qnli",
            Format::Rte => "rte",
            Format::Wnli => "wnli",
            Format::StsB => "stsb",
            Format::Sick => "sick",
            Format::RocStories => "rocstories",
            Format::Squad => "squad",
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.name() == name)
    }

    /// The general layout that a file's extension names: tsv, csv, jsonl or ndjson.
    pub fn from_path(path: impl AsRef<Path>) -> Option<Format> {
        let extension = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "tsv" => Some(Format::Tsv),
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            _ => None,
        }
    }

    /// What its rows can be asked, the usual first.
    pub fn kinds(self) -> &'static [TaskKind] {
        match self {
            Format::Tsv | Format::Csv | Format::Jsonl => &TaskKind::ALL,
            Format::Cola | Format::Sst2 => &[TaskKind::Classification],
            Format::Mrpc | Format::Qqp | Format::StsB => &[TaskKind::Similarity],
            Format::Mnli | Format::Qnli | Format::Rte | Format::Wnli => &[TaskKind::Entailment],
            Format::Sick => &[TaskKind::Entailment, TaskKind::Similarity],
            Format::RocStories => &[TaskKind::Choice],
            Format::Squad => &[TaskKind::Span],
        }
    }

    /// What is usually asked.
    pub fn kind(self) -> TaskKind {
        self.kinds()[0]
    }

    /// Whether similarity is a score in this layout; none where the user says.
    pub fn scores(self) -> Option<bool> {
        match self {
            Format::Tsv | Format::Csv | Format::Jsonl => None,
            Format::StsB | Format::Sick => Some(true),
            _ => Some(false),
        }
    }

    /// The names of its classes in the order of their indices; none where the file decides.
    pub fn labels(self) -> Option<&'static [&'static str]> {
        match self {
            Format::Cola | Format::Sst2 | Format::Mrpc | Format::Qqp | Format::Wnli => Some(&["0", "1"]),
            Format::Mnli => Some(&["contradiction", "entailment", "neutral"]),
            Format::Qnli | Format::Rte => Some(&["entailment", "not_entailment"]),
            Format::Sick => Some(&["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]),
            _ => None,
        }
    }

    /// One of GLUE's tasks.
    pub fn is_glue(self) -> bool {
        !matches!(self, Format::Tsv | Format::Csv | Format::Jsonl | Format::Sick | Format::RocStories | Format::Squad)
    }
}
