//! Which fields of a TSV's or CSV's record are the text, the label, the answers: as named, or as a layout has them.

use super::super::examples::TaskKind;
use super::lines::{At, Cell, Row};
use super::rows::{Raw, RawLabel, Rows};
use super::table::{Record, Table, counted, ragged};
use super::{Columns, Format, Labelled, Spec, file_problem};
use crate::error::{Result, shortened};
use std::io::Read;
use std::path::Path;

/// Usual names of the text.
pub(super) const TEXT: &[&str] = &[
    "text",
    "text_a",
    "sentence",
    "sentence1",
    "sentence_a",
    "premise",
    "question1",
    "context",
    "document",
    "story",
    "tokens",
    "words",
];
/// Usual names of the second text.
pub(super) const TEXT_B: &[&str] = &["text_b", "sentence2", "sentence_b", "hypothesis", "question2", "question"];
/// What the names of answers begin with; a number or a letter follows.
const CHOICES: &[&str] = &["choice", "ending", "option", "answer"];
/// Usual names of a row's name.
pub(super) const ID: &[&str] = &["id", "index", "pair_id"];

/// Usual names of what is right.
pub(super) fn label_names(kind: TaskKind, scores: bool) -> &'static [&'static str] {
    match kind {
        TaskKind::Similarity if scores => &["score", "similarity", "relatedness_score", "label"],
        TaskKind::Classification | TaskKind::Entailment | TaskKind::Similarity => {
            &["label", "gold_label", "labels", "class", "category", "is_duplicate", "entailment_judgment"]
        }
        TaskKind::Choice => &["label", "answer", "gold", "right"],
        TaskKind::Tagging => &["tags", "labels", "label"],
        TaskKind::Span => &["answers", "answer", "label"],
        TaskKind::Sequence => &["target", "summary", "translation", "response", "label"],
    }
}

/// The names among `names` that are answers by the usual names, in the order of their numbers or letters.
pub(super) fn usual_choices(names: &[&str]) -> Vec<usize> {
    for prefix in CHOICES {
        let mut found: Vec<(u32, usize)> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            let rest = rest.trim_start_matches(['_', ' ', '-']);
            let letter = match rest.as_bytes() {
                [c @ b'a'..=b'z'] => Some(u32::from(*c)),
                _ => None,
            };
            found.extend(rest.parse().ok().or(letter).map(|order| (order, i)));
        }
        if found.len() > 1 {
            found.sort();
            return found.into_iter().map(|(_, i)| i).collect();
        }
    }
    Vec::new()
}

/// The first usual name that is among `names`.
pub(super) fn usual(names: &[&str], usual: &[&str]) -> Option<usize> {
    usual.iter().find_map(|u| names.iter().position(|n| n.eq_ignore_ascii_case(u)))
}

/// The fields of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    id: Option<usize>,
    /// More than one are joined by a space.
    text: Vec<usize>,
    text_b: Option<usize>,
    label: Option<usize>,
    choices: Vec<usize>,
    /// The right answer's number counts from 1.
    from_one: bool,
    width: usize,
}

impl Places {
    fn raw(&self, record: Record) -> Row<Raw> {
        if record.len() != self.width {
            return Err(ragged(&record, self.width));
        }
        let text = match self.text[..] {
            [one] => record[one].clone(),
            _ => {
                let text: Vec<&str> = self.text.iter().map(|i| record[*i].text.trim()).collect();
                Cell { text: text.join(" "), at: record[self.text[0]].at }
            }
        };
        let at_end = record.last().map_or(At::default(), |c| c.at);
        let label = self.label.map(|i| record[i].text.clone());
        Ok(Raw {
            id: self.id.map(|i| record[i].text.trim().to_string()),
            text,
            text_b: self.text_b.map(|i| record[i].clone()).unwrap_or_default(),
            choices: self.choices.iter().map(|i| record[*i].clone()).collect(),
            label: label.map(|l| if self.from_one { RawLabel::FromOne(l) } else { RawLabel::Text(l) }),
            label_at: self.label.map_or(at_end, |i| record[i].at),
        })
    }
}

/// Reads all rows of a TSV, a CSV, or a layout made of one.
pub(super) fn read(input: impl Read, path: &Path, spec: &Spec<'_>, rows: &mut Rows) -> Result<()> {
    let csv = matches!(spec.format, Format::Csv | Format::RocStories);
    let mut table = Table::new(input, path, csv);
    let first = match table.next()? {
        None => return Err(file_problem(path, "the file is empty")),
        Some(first) => first.map_err(|p| p.in_file(path))?,
    };
    if first.iter().any(|cell| cell.text.contains('\r')) {
        return Err(file_problem(path, "the first line holds a carriage return: lines must end with \\n or \\r\\n"));
    }
    let (places, header) = match spec.format {
        Format::Tsv | Format::Csv => named(&first, spec),
        Format::Sick => sick(&first, spec),
        Format::RocStories => stories(&first),
        _ => glue(&first, spec.format),
    }
    .map_err(|p| p.in_file(path))?;
    if spec.labelled == Labelled::Required && places.label.is_none() {
        let at = first.first().map_or(At::default(), |c| c.at);
        return Err(at.problem(format!("no column of labels; {}", listed(&first))).in_file(path));
    }
    let mut next = if header { table.next()? } else { Some(Ok(first)) };
    if next.is_none() {
        return Err(file_problem(path, "a header and no rows"));
    }
    while let Some(record) = next {
        rows.push(record.and_then(|r| places.raw(r)))?;
        next = table.next()?;
    }
    Ok(())
}

/// The columns that a file has, in a few words.
fn listed(header: &Record) -> String {
    let names: Vec<String> = header.iter().take(20).map(|c| shortened(&c.text)).collect();
    let more = if header.len() > 20 { ", …" } else { "" };
    format!("the columns are {}{more}", names.join(", "))
}

/// The places of the columns that the user names, and whether the first record is a header.
fn named(first: &Record, spec: &Spec<'_>) -> Row<(Places, bool)> {
    let Columns { text, text_b, label, choices } = &spec.columns;
    let names: Vec<&str> = first.iter().map(|c| c.text.trim()).collect();
    let given: Vec<&String> = [text, text_b, label].into_iter().flatten().chain(choices).collect();
    let numbers = !given.is_empty() && given.iter().all(|g| g.parse::<usize>().is_ok());
    let header = spec.header.unwrap_or(!numbers || given.iter().all(|g| names.contains(&g.as_str())));
    let names: &[&str] = if header { &names } else { &[] };
    let at = first.first().map_or(At::default(), |c| c.at);
    let width = first.len();
    let place = |wanted: &String| -> Row<usize> {
        if let Some(i) = names.iter().position(|n| n == wanted) {
            return Ok(i);
        }
        match wanted.parse::<usize>() {
            Ok(i) if i < width => Ok(i),
            Ok(i) => Err(at.problem(format!("no column {i}: the first row has {}, from 0", counted(width, "column")))),
            Err(_) if header => {
                Err(at.problem(format!("no column is named {:?}; {}", shortened(wanted), listed(first))))
            }
            Err(_) => Err(
                at.problem(format!("no header, so no column is named {:?}: give its number from 0", shortened(wanted)))
            ),
        }
    };
    let find = |given: &Option<String>, known: &[&str]| match given {
        Some(name) => place(name).map(Some),
        None => Ok(usual(names, known)),
    };
    let missing = |what: &str| {
        let seen = if header { listed(first) } else { "the file has no header".to_string() };
        at.problem(format!("which column is {what}? {seen}"))
    };
    let known_label = label_names(spec.kind, spec.has_scores());
    let mut places = Places { id: usual(names, ID), width, ..Places::default() };
    places.label = match (spec.labelled, find(label, known_label)) {
        (Labelled::Required, found) => Some(found?.ok_or_else(|| missing("the label"))?),
        (Labelled::IfThere, found) => found.ok().flatten(),
        (Labelled::Ignored, _) => None,
    };
    places.text.push(find(text, TEXT)?.ok_or_else(|| missing("the text"))?);
    match spec.kind {
        TaskKind::Entailment | TaskKind::Similarity | TaskKind::Span => {
            let what = if spec.kind == TaskKind::Span { "the question" } else { "the second text" };
            places.text_b = Some(find(text_b, TEXT_B)?.ok_or_else(|| missing(what))?);
        }
        TaskKind::Choice => {
            places.text_b = find(text_b, TEXT_B)?.filter(|b| *b != places.text[0]);
            places.choices = match &choices[..] {
                [] => usual_choices(names),
                given => given.iter().map(place).collect::<Row<_>>()?,
            };
            if places.choices.is_empty() {
                return Err(missing("which answer"));
            }
        }
        _ => (),
    }
    Ok((places, header))
}

/// A column of a layout: its number and its name in the header.
type Col = (usize, &'static str);

/// One of GLUE's layouts.
struct Glue {
    /// The texts of train.tsv and dev.tsv.
    text: Col,
    text_b: Option<Col>,
    /// A column's number; none for the last one.
    label: (Option<usize>, &'static str),
    id: Option<Col>,
    /// The texts of test.tsv, whose first column is the row's number.
    test: (Col, Option<Col>),
}

fn glue_layout(format: Format) -> Glue {
    let pair = |a: Col, b: Col, label, id| Glue { text: a, text_b: Some(b), label, id, test: (a, Some(b)) };
    let last = |name| (None, name);
    let index = Some((0, "index"));
    match format {
        Format::Sst2 => Glue {
            text: (0, "sentence"),
            text_b: None,
            label: (Some(1), "label"),
            id: None,
            test: ((1, "sentence"), None),
        },
        Format::Mrpc => pair((3, "#1 String"), (4, "#2 String"), (Some(0), "Quality"), None),
        Format::Qqp => Glue {
            test: ((1, "question1"), Some((2, "question2"))),
            ..pair((3, "question1"), (4, "question2"), (Some(5), "is_duplicate"), Some((0, "id")))
        },
        Format::Mnli => pair((8, "sentence1"), (9, "sentence2"), last("gold_label"), index),
        Format::Qnli => pair((1, "question"), (2, "sentence"), last("label"), index),
        Format::StsB => pair((7, "sentence1"), (8, "sentence2"), last("score"), index),
        // RTE and WNLI.
        _ => pair((1, "sentence1"), (2, "sentence2"), last("label"), index),
    }
}

/// The places of a GLUE layout: those of train.tsv and dev.tsv, or, where the header has no label, those of test.tsv.
fn glue(first: &Record, format: Format) -> Row<(Places, bool)> {
    let width = first.len();
    let is = |(i, name): Col| first.get(i).is_some_and(|c| c.text.trim().eq_ignore_ascii_case(name));
    let both = |a: Col, b: Option<Col>| is(a) && b.is_none_or(is);
    let index = Some(0).filter(|_| is((0, "index")) || is((0, "id")));
    if format == Format::Cola {
        // train.tsv and dev.tsv have no header.
        if is((0, "index")) && is((1, "sentence")) {
            return Ok((Places { id: Some(0), text: vec![1], width, ..Places::default() }, true));
        }
        if width != 4 {
            let problem = format!("not the layout of cola: {} where there should be 4", counted(width, "column"));
            return Err(first[0].at.problem(problem));
        }
        return Ok((Places { text: vec![3], label: Some(1), width, ..Places::default() }, false));
    }
    let layout = glue_layout(format);
    let label = layout.label.0.unwrap_or(width - 1);
    if is((label, layout.label.1)) && both(layout.text, layout.text_b) {
        let (a, b) = (layout.text.0, layout.text_b.map(|b| b.0));
        let id = layout.id.filter(|id| is(*id)).map(|id| id.0);
        return Ok((Places { id, text: vec![a], text_b: b, label: Some(label), width, ..Places::default() }, true));
    }
    let (a, b) = layout.test;
    if index.is_some() && both(a, b) {
        let b = b.map(|b| b.0);
        return Ok((Places { id: index, text: vec![a.0], text_b: b, width, ..Places::default() }, true));
    }
    let mut wanted = vec![(Some(layout.text.0), layout.text.1)];
    wanted.extend(layout.text_b.map(|b| (Some(b.0), b.1)));
    wanted.push(layout.label);
    let wanted: Vec<String> = wanted
        .iter()
        .map(|(i, name)| format!("{name} in {}", i.map_or("the last".to_string(), |i| format!("column {i}"))))
        .collect();
    let problem = format!("not the layout of {}: the header should have {}", format.name(), wanted.join(", "));
    Err(first[0].at.problem(problem))
}

/// SICK's columns by their names: those of the task's files, and of the whole corpus.
fn sick(first: &Record, spec: &Spec<'_>) -> Row<(Places, bool)> {
    let names: Vec<&str> = first.iter().map(|c| c.text.trim()).collect();
    let find = |name: &str| {
        let problem = || first[0].at.problem(format!("not the layout of sick: no column is named {name}"));
        usual(&names, &[name]).ok_or_else(problem)
    };
    let label = match spec.kind {
        TaskKind::Entailment => usual(&names, &["entailment_judgment", "entailment_label"]),
        _ => usual(&names, &["relatedness_score"]),
    };
    let places = Places {
        id: Some(find("pair_ID")?),
        text: vec![find("sentence_A")?],
        text_b: Some(find("sentence_B")?),
        label,
        width: first.len(),
        ..Places::default()
    };
    Ok((places, true))
}

/// The Story Cloze Test: a name, four sentences, two endings, and the right one's number from 1 where it is known.
fn stories(first: &Record) -> Row<(Places, bool)> {
    let width = first.len();
    if !(width == 7 || width == 8) || !first[0].text.trim().eq_ignore_ascii_case("InputStoryid") {
        let problem = "not the layout of rocstories: the header should be InputStoryid, four sentences, two endings and \
                       AnswerRightEnding";
        return Err(first[0].at.problem(problem));
    }
    let places = Places {
        id: Some(0),
        text: vec![1, 2, 3, 4],
        choices: vec![5, 6],
        label: (width == 8).then_some(7),
        from_one: true,
        width,
        ..Places::default()
    };
    Ok((places, true))
}
