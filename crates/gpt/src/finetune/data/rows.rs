//! A row's strings to an example: labels' names to classes, answers to indices, spans to bytes of the document.

use super::super::examples::{Example, Examples, Label, TaskKind};
use super::lines::{At, Cell, Problem, Row};
use super::{Labelled, Spec, file_problem};
use crate::error::{Result, shortened};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Classes at most: more of them are the sign of a text where a label belongs.
const MAX_CLASSES: usize = 4096;
/// Labels named in a message.
const NAMED: usize = 20;
/// The tag of a word that is not asked about.
pub(super) const NO_TAG: &str = "_";

/// What a file says of a row, before it is known which class a name is.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    pub id: Option<String>,
    pub text: Cell,
    pub text_b: Cell,
    pub choices: Vec<Cell>,
    /// None where the file has no label for the row.
    pub label: Option<RawLabel>,
    /// Where the label should stand.
    pub label_at: At,
}

/// What a file says is right.
#[derive(Clone, Debug)]
pub(super) enum RawLabel {
    /// A class, a score, an answer's number or text, a target; tags with spaces between them.
    Text(String),
    /// The number of a right answer from 1.
    FromOne(String),
    /// Tags, none for a word that is not asked about.
    Tags(Vec<Option<String>>),
    /// Right answers of a span, with the character of the document that they begin at, where it is said.
    Answers(Vec<(String, Option<u64>)>),
}

/// The names of the classes.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    index: HashMap<String, u32>,
    /// No name may be added.
    fixed: bool,
}

impl Names {
    fn fixed(names: impl Iterator<Item = String>) -> Names {
        let names: Vec<String> = names.collect();
        let index = names.iter().enumerate().map(|(i, n)| (n.clone(), i as u32)).collect();
        Names { names, index, fixed: true }
    }

    fn class(&mut self, name: &str, at: At) -> Row<u32> {
        if let Some(class) = self.index.get(name) {
            return Ok(*class);
        }
        if self.fixed {
            let known: Vec<&str> = self.names.iter().take(NAMED).map(String::as_str).collect();
            let more = if self.names.len() > NAMED { ", …" } else { "" };
            let known = known.join(", ");
            return Err(at.problem(format!("unknown label {:?}; the labels are {known}{more}", shortened(name))));
        }
        if name.chars().any(char::is_control) {
            return Err(at.problem(format!("label {:?}: has control characters", shortened(name))));
        }
        if self.names.len() == MAX_CLASSES {
            return Err(at.problem(format!("more than {MAX_CLASSES} different labels: is this the label's column?")));
        }
        let class = self.names.len() as u32;
        self.names.push(name.to_string());
        self.index.insert(name.to_string(), class);
        Ok(class)
    }

    /// Sorts the names, as numbers when all are integers; returns the new index of each old one.
    fn sort(&mut self) -> Vec<u32> {
        let numbers: Option<Vec<i64>> = self.names.iter().map(|n| n.parse().ok()).collect();
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        match numbers {
            Some(n) => order.sort_by(|a, b| n[*a].cmp(&n[*b]).then(self.names[*a].cmp(&self.names[*b]))),
            None => order.sort_by(|a, b| self.names[*a].cmp(&self.names[*b])),
        }
        let mut new = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| new[*from] = to as u32);
        self.names = order.iter().map(|i| self.names[*i].clone()).collect();
        new
    }
}

/// The rows read so far.
pub(super) struct Rows {
    path: PathBuf,
    kind: TaskKind,
    scores: bool,
    labelled: Labelled,
    skip_bad_rows: bool,
    /// The classes' names are to be learned from this file, or are the layout's.
    learns: bool,
    names: Names,
    rows: Vec<Example>,
    seen: u64,
    skipped: usize,
    /// The first of the rows left out.
    first_problem: Option<Problem>,
}

impl Rows {
    pub fn new(path: &Path, spec: &Spec<'_>) -> Rows {
        let scores = spec.has_scores();
        let names = match (spec.labels, spec.format.labels()) {
            _ if scores => Names::default(),
            (Some(names), _) => Names::fixed(names.iter().cloned()),
            (None, Some(names)) => Names::fixed(names.iter().map(|n| n.to_string())),
            (None, None) => Names::default(),
        };
        Rows {
            path: path.to_path_buf(),
            kind: spec.kind,
            scores,
            labelled: spec.labelled,
            skip_bad_rows: spec.skip_bad_rows,
            learns: spec.labels.is_none(),
            names,
            rows: Vec::new(),
            seen: 0,
            skipped: 0,
            first_problem: None,
        }
    }

    /// One more row, or what is wrong with it.
    ///
    /// # Errors
    /// What is wrong, unless bad rows are skipped.
    pub fn push(&mut self, row: Row<Raw>) -> Result<()> {
        let number = self.seen;
        self.seen += 1;
        match row.and_then(|raw| self.example(raw, number)) {
            Ok(example) => self.rows.push(example),
            Err(problem) if self.skip_bad_rows => {
                self.skipped += 1;
                self.first_problem.get_or_insert(problem);
            }
            Err(problem) => return Err(problem.in_file(&self.path)),
        }
        Ok(())
    }

    /// All rows.
    ///
    /// # Errors
    /// `Data` when there is none, or one class only where the classes are learned.
    pub fn finish(mut self) -> Result<Examples> {
        if self.rows.is_empty() {
            return Err(match self.first_problem {
                None => file_problem(&self.path, "no rows"),
                Some(Problem { at, message }) => {
                    // A file that is one object has no lines.
                    let place = if at.line > 0 { format!(", {}:{}", at.line, at.column) } else { String::new() };
                    let problem = format!("none of {} rows can be used; the first{place}: {message}", self.skipped);
                    file_problem(&self.path, problem)
                }
            });
        }
        if !self.names.fixed {
            let new = self.names.sort();
            for row in &mut self.rows {
                match &mut row.label {
                    Some(Label::Class(c)) => *c = new[*c as usize],
                    Some(Label::Tags(tags)) => tags.iter_mut().flatten().for_each(|t| *t = new[*t as usize]),
                    _ => (),
                }
            }
        }
        let classes = matches!(
            self.kind,
            TaskKind::Classification | TaskKind::Entailment | TaskKind::Similarity | TaskKind::Tagging
        ) && !self.scores;
        if classes && self.learns && self.labelled == Labelled::Required {
            self.check_two_classes()?;
        }
        let labels = if classes { self.names.names } else { Vec::new() };
        Ok(Examples { path: self.path, kind: self.kind, rows: self.rows, labels, skipped: self.skipped })
    }

    fn check_two_classes(&self) -> Result<()> {
        let mut first = None;
        for row in &self.rows {
            let classes: &mut dyn Iterator<Item = u32> = match &row.label {
                Some(Label::Class(c)) => &mut std::iter::once(*c),
                Some(Label::Tags(tags)) => &mut tags.iter().flatten().copied(),
                _ => continue,
            };
            for class in classes {
                if *first.get_or_insert(class) != class {
                    return Ok(());
                }
            }
        }
        let problem = match first {
            Some(c) => format!(
                "every row has the label {:?}: at least two different ones are needed",
                shortened(&self.names.names[c as usize])
            ),
            None => "no word has a tag".to_string(),
        };
        Err(file_problem(&self.path, problem))
    }

    fn example(&mut self, raw: Raw, number: u64) -> Row<Example> {
        let mut example = Example { id: raw.id.unwrap_or_else(|| number.to_string()), ..Example::default() };
        let trimmed = |text: &str| text.trim().to_string();
        example.text = match self.kind {
            TaskKind::Span => raw.text.text,
            TaskKind::Tagging => raw.text.text.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => trimmed(&raw.text.text),
        };
        match self.kind {
            TaskKind::Entailment | TaskKind::Similarity | TaskKind::Span => example.text_b = trimmed(&raw.text_b.text),
            TaskKind::Choice => {
                let question = raw.text_b.text.trim();
                if !question.is_empty() && !example.text.is_empty() {
                    example.text.push(' ');
                }
                example.text.push_str(question);
                example.choices = raw.choices.iter().map(|c| trimmed(&c.text)).collect();
                if example.choices.len() < 2 {
                    let n = example.choices.len();
                    return Err(raw.text.at.problem(format!("a choice among {n}: at least two answers are needed")));
                }
            }
            _ => (),
        }
        let empty = |label: &RawLabel| matches!(label, RawLabel::Text(t) | RawLabel::FromOne(t) if t.trim().is_empty());
        let label = raw.label.filter(|label| !empty(label));
        example.label = match (self.labelled, label) {
            (Labelled::Ignored, _) | (Labelled::IfThere, None) => None,
            (Labelled::Required, None) => return Err(raw.label_at.problem("no label")),
            (_, Some(label)) => Some(self.label(label, raw.label_at, &example)?),
        };
        Ok(example)
    }

    fn label(&mut self, label: RawLabel, at: At, example: &Example) -> Row<Label> {
        match (self.kind, label) {
            (TaskKind::Choice, RawLabel::Text(label)) => choice(label.trim(), 0, at, &example.choices),
            (TaskKind::Choice, RawLabel::FromOne(label)) => choice(label.trim(), 1, at, &example.choices),
            (TaskKind::Tagging, RawLabel::Text(tags)) => {
                let tags = tags.split_whitespace().map(|t| Some(t.to_string())).collect();
                self.tags(tags, at, &example.text)
            }
            (TaskKind::Tagging, RawLabel::Tags(tags)) => self.tags(tags, at, &example.text),
            (TaskKind::Span, RawLabel::Text(answer)) => spans(&[(answer.trim().to_string(), None)], at, &example.text),
            (TaskKind::Span, RawLabel::Answers(answers)) => spans(&answers, at, &example.text),
            (TaskKind::Sequence, RawLabel::Text(target)) => Ok(Label::Text(target.trim().to_string())),
            (TaskKind::Similarity, RawLabel::Text(score)) if self.scores => match score.trim().parse::<f64>() {
                Ok(score) if score.is_finite() => Ok(Label::Score(score)),
                _ => Err(at.problem(format!("{:?} is not a number", shortened(score.trim())))),
            },
            (_, RawLabel::Text(name)) => self.names.class(name.trim(), at).map(Label::Class),
            (kind, _) => Err(at.problem(format!("not a label of {}", kind.name()))),
        }
    }

    fn tags(&mut self, tags: Vec<Option<String>>, at: At, text: &str) -> Row<Label> {
        let words = text.split(' ').filter(|w| !w.is_empty()).count();
        if tags.len() != words {
            return Err(at.problem(format!("{} tags for {words} words", tags.len())));
        }
        let tag = |tag: Option<String>| match tag {
            Some(name) if name != NO_TAG => self.names.class(&name, at).map(Some),
            _ => Ok(None),
        };
        tags.into_iter().map(tag).collect::<Row<_>>().map(Label::Tags)
    }
}

/// The right answer: its number from `base`, its letter from A, or its text.
fn choice(label: &str, base: u32, at: At, choices: &[String]) -> Row<Label> {
    let n = choices.len() as u32;
    if let Ok(number) = label.parse::<u32>() {
        return match number.checked_sub(base).filter(|c| *c < n) {
            Some(c) => Ok(Label::Choice(c)),
            None => Err(at.problem(format!("answer {number} of {n}, which count from {base}"))),
        };
    }
    if let [letter @ b'A'..=b'Z'] = label.as_bytes() {
        let c = u32::from(letter - b'A');
        if c < n {
            return Ok(Label::Choice(c));
        }
    }
    let same: Vec<usize> = (0..choices.len()).filter(|c| choices[*c] == label).collect();
    match same[..] {
        [c] => Ok(Label::Choice(c as u32)),
        [] => Err(at.problem(format!("{:?} is neither an answer's number nor its text", shortened(label)))),
        _ => Err(at.problem(format!("{:?} is the text of several answers", shortened(label)))),
    }
}

/// The bytes of the document that the answers are.
fn spans(answers: &[(String, Option<u64>)], at: At, document: &str) -> Row<Label> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (answer, start) in answers {
        let shown = || format!("the answer {:?}", shortened(answer));
        if answer.is_empty() {
            return Err(at.problem("an empty answer"));
        }
        let from = match start {
            None => document.find(answer).ok_or_else(|| at.problem(format!("{} is not in the document", shown())))?,
            Some(start) => {
                let from = usize::try_from(*start).ok().and_then(|n| document.char_indices().nth(n));
                match from {
                    Some((from, _)) if document[from..].starts_with(answer.as_str()) => from,
                    _ => {
                        let problem = format!("{} does not begin at character {start} of the document", shown());
                        return Err(at.problem(problem));
                    }
                }
            }
        };
        let span = from..from + answer.len();
        if !spans.contains(&span) {
            spans.push(span);
        }
    }
    if spans.is_empty() { Err(at.problem("no answer")) } else { Ok(Label::Spans(spans)) }
}
