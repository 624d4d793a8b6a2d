//! Rows as JSON objects, one a line.

use super::super::examples::TaskKind;
use super::columns::{ID, TEXT, TEXT_B, label_names, usual, usual_choices};
use super::lines::{At, Cell, Lines, Row};
use super::rows::{Raw, RawLabel, Rows};
use super::{Labelled, Spec, file_problem};
use crate::error::{Result, shortened};
use crate::json::{parse_line, shown};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// Usual names of an array of answers.
const CHOICES: &[&str] = &["choices", "endings", "options"];

/// Reads all rows; empty lines are passed over.
pub(super) fn read(input: impl Read, path: &Path, spec: &Spec<'_>, rows: &mut Rows) -> Result<()> {
    let mut lines = Lines::new(input, path);
    let mut any = false;
    while let Some(line) = lines.next()? {
        any = true;
        let row = match line {
            Err(problem) => Err(problem),
            Ok(line) if line.text.trim().is_empty() => continue,
            Ok(line) => Object::parse(&line.text, line.number).and_then(|o| o.raw(spec)),
        };
        rows.push(row)?;
    }
    if any { Ok(()) } else { Err(file_problem(path, "the file is empty")) }
}

/// The object of one line.
struct Object<'a> {
    map: Map<String, Value>,
    text: &'a str,
    line: u64,
}

impl<'a> Object<'a> {
    fn parse(text: &'a str, line: u64) -> Row<Object<'a>> {
        match parse_line(text) {
            Ok(Value::Object(map)) => Ok(Object { map, text, line }),
            Ok(other) => Err(At { line, column: 1 }.problem(format!("{} is not an object", shown(&other)))),
            Err((column, message)) => Err(At { line, column }.problem(message)),
        }
    }

    /// Where a key stands in the line; its start when the key is written with escapes.
    fn at(&self, key: &str) -> At {
        let quoted = Value::from(key).to_string();
        let is_key = |(i, _): &(usize, &str)| self.text[i + quoted.len()..].trim_start().starts_with(':');
        let column = self.text.match_indices(&quoted).find(is_key).map_or(1, |(i, _)| i as u64 + 1);
        At { line: self.line, column }
    }

    /// The key of that name, or the first of the usual ones that is here.
    fn key(&self, given: &Option<String>, known: &[&str]) -> Option<String> {
        match given {
            Some(key) => self.map.contains_key(key).then(|| key.clone()),
            None => {
                let keys: Vec<&str> = self.map.keys().map(String::as_str).collect();
                usual(&keys, known).map(|i| keys[i].to_string())
            }
        }
    }

    /// As `key`, and an error where there is none.
    fn needed(&self, given: &Option<String>, known: &[&str], what: &str) -> Row<String> {
        self.key(given, known).ok_or_else(|| {
            let at = At { line: self.line, column: 1 };
            match given {
                Some(key) => at.problem(format!("no key {:?}", shortened(key))),
                None => at.problem(format!("no key for {what}: name one, or call it {:?}", known[0])),
            }
        })
    }

    /// The text of a key; numbers and truth values as they are written.
    fn string(&self, key: &str) -> Row<Cell> {
        let at = self.at(key);
        let text = scalar(&self.map[key]);
        let problem = || at.problem(format!("{key:?} is {}, not a text", shown(&self.map[key])));
        Ok(Cell { text: text.ok_or_else(problem)?, at })
    }

    fn raw(&self, spec: &Spec<'_>) -> Row<Raw> {
        let columns = &spec.columns;
        let mut raw = Raw::default();
        if let Some(id) = self.key(&None, ID) {
            raw.id = scalar(&self.map[&id]);
        }
        let key = self.needed(&columns.text, TEXT, "the text")?;
        raw.text = match &self.map[&key] {
            Value::Array(words) if spec.kind == TaskKind::Tagging => {
                Cell { text: self.words(&key, words)?, at: self.at(&key) }
            }
            _ => self.string(&key)?,
        };
        match spec.kind {
            TaskKind::Entailment | TaskKind::Similarity | TaskKind::Span => {
                raw.text_b = self.string(&self.needed(&columns.text_b, TEXT_B, "the second text")?)?;
            }
            TaskKind::Choice => {
                if let Some(question) = self.key(&columns.text_b, TEXT_B).filter(|b| *b != key) {
                    raw.text_b = self.string(&question)?;
                }
                raw.choices = self.choices(&columns.choices)?;
            }
            _ => (),
        }
        raw.label_at = At { line: self.line, column: 1 };
        let known = label_names(spec.kind, spec.has_scores());
        let key = match spec.labelled {
            Labelled::Required => Some(self.needed(&columns.label, known, "the label")?),
            Labelled::IfThere => self.key(&columns.label, known),
            Labelled::Ignored => None,
        };
        if let Some(key) = key {
            raw.label_at = self.at(&key);
            raw.label = self.label(&key, spec.kind)?;
        }
        Ok(raw)
    }

    fn words(&self, key: &str, words: &[Value]) -> Row<String> {
        let mut text = String::new();
        for word in words {
            match word.as_str() {
                Some(w) if !w.is_empty() && !w.contains(char::is_whitespace) => {
                    if !text.is_empty() {
                        text.push(' ');
                    }
                    text.push_str(w);
                }
                _ => return Err(self.at(key).problem(format!("{} is not a word", shown(word)))),
            }
        }
        Ok(text)
    }

    /// The answers: one key that holds an array, or several keys.
    fn choices(&self, given: &[String]) -> Row<Vec<Cell>> {
        let keys: Vec<String> = match given {
            [] => match self.key(&None, CHOICES) {
                Some(key) => vec![key],
                None => {
                    let keys: Vec<&str> = self.map.keys().map(String::as_str).collect();
                    usual_choices(&keys).into_iter().map(|i| keys[i].to_string()).collect()
                }
            },
            given => given.iter().map(|g| self.needed(&Some(g.clone()), CHOICES, "")).collect::<Row<_>>()?,
        };
        if let [key] = &keys[..]
            && let Value::Array(items) = &self.map[key]
        {
            let at = self.at(key);
            let cell = |item: &Value| match scalar(item) {
                Some(text) => Ok(Cell { text, at }),
                None => Err(at.problem(format!("{} is not a text", shown(item)))),
            };
            return items.iter().map(cell).collect();
        }
        if keys.is_empty() {
            return self.needed(&None, CHOICES, "the answers").map(|_| Vec::new());
        }
        keys.iter().map(|key| self.string(key)).collect()
    }

    fn label(&self, key: &str, kind: TaskKind) -> Row<Option<RawLabel>> {
        let (value, at) = (&self.map[key], self.at(key));
        if value.is_null() {
            return Ok(None);
        }
        let strange = || at.problem(format!("{key:?} is {}, not a label", shown(value)));
        match (kind, value) {
            (TaskKind::Tagging, Value::Array(tags)) => {
                let tag = |tag: &Value| match tag {
                    Value::Null => Ok(None),
                    tag => scalar(tag).map(Some).ok_or_else(strange),
                };
                tags.iter().map(tag).collect::<Row<_>>().map(|tags| Some(RawLabel::Tags(tags)))
            }
            (TaskKind::Span, Value::Array(_) | Value::Object(_)) => {
                answers(value).map(|a| Some(RawLabel::Answers(a))).ok_or_else(strange)
            }
            _ => scalar(value).map(|text| Some(RawLabel::Text(text))).ok_or_else(strange),
        }
    }
}

/// A string, or a number or truth value as it is written.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// Answers of a span: `{"text", "answer_start"}`, a string, an array of these, or one object of two arrays.
pub(super) fn answers(value: &Value) -> Option<Vec<(String, Option<u64>)>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some((text.clone(), None)),
        Value::Object(map) => {
            let start = match map.get("answer_start") {
                None | Some(Value::Null) => None,
                Some(start) => Some(start.as_u64()?),
            };
            Some((map.get("text")?.as_str()?.to_string(), start))
        }
        _ => None,
    };
    match value {
        Value::Array(answers) => answers.iter().map(one).collect(),
        Value::Object(map) => match (map.get("text"), map.get("answer_start")) {
            (Some(Value::Array(texts)), Some(Value::Array(starts))) if texts.len() == starts.len() => {
                texts.iter().zip(starts).map(|(t, s)| Some((t.as_str()?.to_string(), Some(s.as_u64()?)))).collect()
            }
            _ => one(value).map(|a| vec![a]),
        },
        _ => None,
    }
}
