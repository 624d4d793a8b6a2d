//! Files of a task's rows: readers of every layout, predictions written back, rows held out and drawn.
//!
//! ```text
//! format      the layouts and what they hold
//! lines       lines of bounded length, each with its place
//! table       records of TSV and CSV
//! columns     which fields of a record are the text, the label, the answers
//! jsonl       objects, one a line
//! squad       SQuAD's file
//! rows        a row's strings to an example; labels' names to classes
//! predictions what a model says, in the task's submission layout
//! split       rows held out, rows drawn
//! ```
//!
//! Reading is strict. A row that is not understood is an error with `path:line:column`, all counted from 1; the column is
//! that of the first byte of the field, or of the byte that is wrong. With [`Spec::skip_bad_rows`] such rows are left out
//! and counted. White space at both ends of a text is dropped, of a span's document never.

mod columns;
mod format;
mod jsonl;
mod lines;
mod predictions;
mod rows;
mod split;
mod squad;
mod table;

pub use format::Format;
pub use lines::MAX_LINE;
pub use predictions::{Prediction, write_predictions};
pub use split::{sample, split};

use super::examples::{Examples, TaskKind};
use crate::data::STDIN;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Which columns of a TSV or CSV, or which keys of a JSONL, hold what.
///
/// A column is its name in the header, or its number from 0 where the header has no such name. What is not given is
/// looked for under the usual names, in upper or lower case:
///
/// | what | names, the first found |
/// |---|---|
/// | text | text, text_a, sentence, sentence1, sentence_a, premise, question1, context, document, story, tokens, words |
/// | text_b | text_b, sentence2, sentence_b, hypothesis, question2, question |
/// | choices | two or more of choice…, ending…, option…, answer… with a number or a letter; a JSONL's `choices`, `endings` or `options` |
/// | label | label, gold_label, labels, class, category, … (a score: score, similarity, …; tags: tags, …; an answer: answers, …; a sequence: target, summary, …) |
///
/// The first of `id`, `index` and `pair_ID` names the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The text, the premise, the context of a choice, a span's document.
    pub text: Option<String>,
    /// The hypothesis, the second sentence, the question of a span. For a choice, a question that follows the text.
    pub text_b: Option<String>,
    /// What is right.
    pub label: Option<String>,
    /// The answers of a choice: several columns, or one key of a JSONL that holds an array.
    pub choices: Vec<String>,
}

/// Whether rows must say what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// Every row must: training and evaluation.
    Required,
    /// Labels are read where the file has them.
    IfThere,
    /// Labels are not looked at: prediction.
    Ignored,
}

/// How a file is read.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// What is asked.
    pub kind: TaskKind,
    /// The layout.
    pub format: Format,
    /// The columns of TSV, CSV and JSONL; layouts by name have theirs.
    pub columns: Columns,
    /// Whether a TSV's or CSV's first line names the columns. When not given: it does, unless all columns that are
    /// given are numbers and the line does not hold these numbers.
    pub header: Option<bool>,
    /// The names of the classes, in the order of their indices. When not given they are the layout's, or all that the
    /// file holds, sorted: as numbers when all are integers, else by their bytes.
    pub labels: Option<&'a [String]>,
    /// Whether rows must say what is right.
    pub labelled: Labelled,
    /// Similarity is a score, not a class; STS-B's and SICK's always is, MRPC's and QQP's never.
    pub scores: bool,
    /// Rows that are not understood are left out and counted.
    pub skip_bad_rows: bool,
}

impl Spec<'_> {
    /// Labels required, columns and header found by their names, classes as the file has them, no bad row skipped.
    pub fn new(kind: TaskKind, format: Format) -> Self {
        Spec {
            kind,
            format,
            columns: Columns::default(),
            header: None,
            labels: None,
            labelled: Labelled::Required,
            scores: false,
            skip_bad_rows: false,
        }
    }

    /// Whether the labels are scores.
    pub fn has_scores(&self) -> bool {
        self.kind == TaskKind::Similarity && self.format.scores().unwrap_or(self.scores)
    }
}

/// Reads a file, or standard input for `-`.
///
/// Labels of a choice: the number of the right answer from 0 (ROCStories' from 1), its letter from A, or its text. Tags:
/// as many as there are words, `_` (in JSON also null) for a word that is not asked about. A span's answers: texts found
/// in the document, in JSON also objects of `text` and `answer_start`, which counts characters.
///
/// # Errors
/// `Io` for what is missing or unreadable; `Data` for a folder, for what is no text, is empty, has no row that can be
/// used, or, where the classes are to be learned from it, has one class only; `Config` where the layout does not hold
/// what is asked; `Row` with line and column for all that is wrong in a row or in the header.
pub fn read(path: impl AsRef<Path>, spec: &Spec<'_>) -> Result<Examples> {
    let path = path.as_ref();
    if path == Path::new(STDIN) {
        return read_from(io::stdin().lock(), Path::new("<stdin>"), spec);
    }
    if fs::metadata(path).map_err(Error::io(path))?.is_dir() {
        return Err(file_problem(path, "a folder; name a file in it"));
    }
    read_from(File::open(path).map_err(Error::io(path))?, path, spec)
}

/// Reads rows from anywhere; `path` is their name in errors and in the result.
///
/// # Errors
/// As [`read`].
pub fn read_from(input: impl Read, path: &Path, spec: &Spec<'_>) -> Result<Examples> {
    if !spec.format.kinds().contains(&spec.kind) {
        let kinds: Vec<&str> = spec.format.kinds().iter().map(|k| k.name()).collect();
        let limit = format!("holds rows of {}, not of {}", kinds.join(" and "), spec.kind.name());
        return Err(Error::config("format", spec.format.name(), limit));
    }
    let mut rows = rows::Rows::new(path, spec);
    match spec.format {
        Format::Jsonl => jsonl::read(input, path, spec, &mut rows)?,
        Format::Squad => squad::read(input, path, spec, &mut rows)?,
        _ => columns::read(input, path, spec, &mut rows)?,
    }
    rows.finish()
}

fn file_problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::Data { path: path.to_path_buf(), byte: None, problem: problem.into() }
}

#[cfg(test)]
mod tests;
