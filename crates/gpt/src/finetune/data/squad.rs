//! SQuAD's file: one JSON object of articles, paragraphs, questions and answers.
//!
//! A problem is told by its path in the object, `data[3].paragraphs[0].qas[2].answers`, where other layouts have a line
//! and a column. Version 2's questions without an answer are such problems.

use super::jsonl::answers;
use super::lines::{At, Cell, Problem};
use super::rows::{Raw, RawLabel, Rows};
use super::{Labelled, Spec, file_problem};
use crate::error::{Error, Result, bytes};
use crate::json::{get, parse};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Bytes of a file at most: eight times SQuAD's training file.
const MAX_FILE: u64 = 256 << 20;

/// Reads all questions.
pub(super) fn read(input: impl Read, path: &Path, spec: &Spec<'_>, rows: &mut Rows) -> Result<()> {
    let mut text = Vec::new();
    input.take(MAX_FILE + 1).read_to_end(&mut text).map_err(Error::io(path))?;
    if text.len() as u64 > MAX_FILE {
        return Err(file_problem(path, format!("the file is larger than {}", bytes(MAX_FILE))));
    }
    if text.is_empty() {
        return Err(file_problem(path, "the file is empty"));
    }
    let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&text);
    let file = parse(text, path)?;
    for (a, article) in array(get(&file, "data"), "data".into(), path)?.iter().enumerate() {
        let field = format!("data[{a}].paragraphs");
        for (p, paragraph) in array(get(article, "paragraphs"), field.clone(), path)?.iter().enumerate() {
            let field = format!("{field}[{p}]");
            let Some(document) = get(paragraph, "context").as_str() else {
                return Err(Error::bad_file(path, format!("{field}.context"), "", "must be a text"));
            };
            let field = format!("{field}.qas");
            for (q, qa) in array(get(paragraph, "qas"), field.clone(), path)?.iter().enumerate() {
                let row = question(document, qa, spec.labelled);
                let row =
                    row.map_err(|(at, message)| Problem { at: At::default(), message: format!("{at}: {message}") });
                rows.push(row).map_err(|e| placed(e, path, &format!("{field}[{q}]")))?;
            }
        }
    }
    Ok(())
}

fn array<'a>(value: &'a Value, field: String, path: &Path) -> Result<&'a Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Error::bad_file(path, field, "", "must be an array")),
    }
}

/// A row's problem under its path in the object.
fn placed(e: Error, path: &Path, field: &str) -> Error {
    match e {
        Error::Row { problem, .. } => Error::bad_file(path, field, "", problem),
        other => other,
    }
}

fn question(document: &str, qa: &Value, labelled: Labelled) -> std::result::Result<Raw, (&'static str, &'static str)> {
    let cell = |text: &str| Cell { text: text.to_string(), at: At::default() };
    let asked = get(qa, "question").as_str().ok_or(("question", "must be a text"))?;
    let id = get(qa, "id").as_str().ok_or(("id", "must be a text"))?;
    let mut raw = Raw { id: Some(id.to_string()), text: cell(document), text_b: cell(asked), ..Raw::default() };
    if labelled == Labelled::Ignored {
        return Ok(raw);
    }
    if get(qa, "is_impossible").as_bool() == Some(true) {
        return Err(("is_impossible", "a question without an answer, as in version 2, has no span"));
    }
    let said = get(qa, "answers");
    if !said.is_null() {
        let said = answers(said).ok_or(("answers", "must be an array of objects with text and answer_start"))?;
        raw.label = (!said.is_empty()).then_some(RawLabel::Answers(said));
    }
    Ok(raw)
}
