//! What a task's data is, before it becomes tokens: rows of texts with what is right for each.

use std::ops::Range;
use std::path::PathBuf;

/// What is asked of a row; decides its transformation, its head and its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// A class for a text.
    Classification,
    /// A class for an ordered pair: premise and hypothesis.
    Entailment,
    /// A class, or a score, for a pair whose order means nothing.
    Similarity,
    /// Which of some answers fits a context.
    Choice,
    /// A class for each word of a text.
    Tagging,
    /// The words of a document that answer a question.
    Span,
    /// A text after a text: a summary, a translation.
    Sequence,
}

impl TaskKind {
    /// Every kind.
    pub const ALL: [TaskKind; 7] = [
        TaskKind::Classification,
        TaskKind::Entailment,
        TaskKind::Similarity,
        TaskKind::Choice,
        TaskKind::Tagging,
        TaskKind::Span,
        TaskKind::Sequence,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Classification => "classification",
            TaskKind::Entailment => "entailment",
            TaskKind::Similarity => "similarity",
            TaskKind::Choice => "choice",
            TaskKind::Tagging => "tagging",
            TaskKind::Span => "span",
            TaskKind::Sequence => "sequence",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<TaskKind> {
        TaskKind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Its name in the file, where that has names; else its number among the rows, from 0.
    pub id: String,
    /// The text; the premise; the first sentence; what is asked about (a story; a document followed by its question);
    /// for tagging, words with one space between them; for a span, the document.
    pub text: String,
    /// The hypothesis; the second sentence; for a span, the question. Empty elsewhere.
    pub text_b: String,
    /// The answers of a choice, at least two.
    pub choices: Vec<String>,
    /// What is right; none in a file that has no labels.
    pub label: Option<Label>,
}

/// What is right for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// Index into the labels' names.
    Class(u32),
    /// A score.
    Score(f64),
    /// The index of the right answer of a choice.
    Choice(u32),
    /// For each word of the text, split at white space, the index into the labels' names; none for a word that is not
    /// asked about.
    Tags(Vec<Option<u32>>),
    /// Right answers of a span, as bytes of the document; the first is trained on.
    Spans(Vec<Range<usize>>),
    /// The text that should follow.
    Text(String),
}

/// The rows of a file, all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// Where they come from.
    pub path: PathBuf,
    /// What is asked.
    pub kind: TaskKind,
    /// The rows in the file's order.
    pub rows: Vec<Example>,
    /// Names of the classes of classification, entailment, tagging, and of similarity without scores, in the order of
    /// their indices; empty elsewhere.
    pub labels: Vec<String>,
    /// Rows that were not understood and left out, when that was allowed.
    pub skipped: usize,
}
