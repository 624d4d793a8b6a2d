//! `longhand predict`: what a fine-tuned net says of a text, a file, or lines of JSON.

use super::evaluate::{Asked, model_folder};
use super::finetune::row_args;
use crate::args::{PredictArgs, RowArgs, access};
use crate::commands::note_skipped;
use crate::failure::Failure;
use crate::pool::Workers;
use crate::rows;
use longhand_gpt::finetune::data::{Labelled, Prediction, write_predictions};
use longhand_gpt::finetune::examples::{Example, Examples, Label, TaskKind};
use longhand_gpt::finetune::spec::TaskSpec;
use longhand_gpt::finetune::tuned;
use longhand_gpt::run_dir;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Predicts; the exit status.
pub fn run(args: &PredictArgs) -> Result<u8, Failure> {
    let folder = model_folder(args.model.as_deref())?;
    let tuned = tuned::open(&folder, args.base.as_deref(), access(args.no_mmap))?;
    note_skipped(&tuned.skipped);
    let spec = tuned.net.spec().clone();
    let (examples, format) = match &args.text {
        Some(text) => (one(text, args, &spec)?, None),
        None => {
            let (usual, trained_on) = if run_dir::is_run(&folder) { row_args(&folder)? } else { Default::default() };
            let given = RowArgs {
                format: args.format.clone(),
                text: args.text_column.clone(),
                text_b: args.text_b_column.clone(),
                choices: args.choices.clone(),
                ..RowArgs::default()
            };
            let path = args.file.clone().unwrap_or_else(|| PathBuf::from("-"));
            let mut row_args = rows::over(&given, Some(&path), &usual, trained_on.as_deref());
            // What is right is not looked for.
            row_args.label = None;
            let examples = rows::for_net(Some(&path), &row_args, &spec, Labelled::Ignored)?;
            (examples, Some(rows::format(&row_args, &path)?))
        }
    };
    let workers = Workers::new(args.threads)?;
    let (_, said) = Asked::new(tuned, &workers)?.judge(&workers, &examples)?;
    let mut out = io::stdout().lock();
    let written = match format {
        Some(format) => write_predictions(&mut out, format, spec.kind, &examples.rows, &said, &spec.labels),
        None if args.json => writeln!(out, "{}", said[0].to_json(&examples.rows[0], &spec.labels)),
        None => write!(out, "{}", in_words(&spec, &examples.rows[0], &said[0])),
    };
    match written.and_then(|()| out.flush()) {
        // The reader has gone: not an error of ours.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(e) => Err(Failure::new(format!("standard output: {e}"))),
        Ok(()) => Ok(0),
    }
}

/// The row of a command line.
fn one(text: &str, args: &PredictArgs, spec: &TaskSpec) -> Result<Examples, Failure> {
    let pair = matches!(spec.kind, TaskKind::Entailment | TaskKind::Similarity | TaskKind::Span);
    let kind = spec.kind.name();
    match (pair, &args.text_b) {
        (true, None) => return Err(Failure::usage(format!("{kind}: give a second text behind the first"))),
        (false, Some(_)) => return Err(Failure::usage(format!("{kind}: takes one text"))),
        _ => (),
    }
    match (spec.kind == TaskKind::Choice, args.answer.len()) {
        (true, n) if n < 2 => return Err(Failure::usage("choice: give two answers or more, each with --answer")),
        (false, n) if n > 0 => return Err(Failure::usage(format!("--answer: {kind} has no answers"))),
        _ => (),
    }
    // Words of tagging have one space between them.
    let text = match spec.kind {
        TaskKind::Tagging => text.split_whitespace().collect::<Vec<_>>().join(" "),
        _ => text.to_string(),
    };
    let text_b = args.text_b.clone().unwrap_or_default();
    let row = Example { id: "0".into(), text, text_b, choices: args.answer.clone(), label: None };
    let path = Path::new("<text>").into();
    Ok(Examples { path, kind: spec.kind, rows: vec![row], labels: spec.labels.clone(), skipped: 0 })
}

/// A prediction for a person: the likeliest first.
fn in_words(spec: &TaskSpec, row: &Example, said: &Prediction) -> String {
    let ranked = |names: Vec<String>| {
        let mut all: Vec<(String, f32)> = names.into_iter().zip(said.probabilities.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.iter().map(|(name, p)| format!("{p:.4}  {name}\n")).collect::<String>()
    };
    match &said.label {
        Label::Class(_) => ranked(spec.labels.clone()),
        Label::Choice(_) => ranked(row.choices.clone()),
        Label::Score(score) => format!("{score:.4}\n"),
        Label::Tags(tags) => {
            let name = |tag: &Option<u32>| tag.map_or("–", |t| &spec.labels[t as usize]);
            row.text.split_whitespace().zip(tags).map(|(word, tag)| format!("{word}\t{}\n", name(tag))).collect()
        }
        Label::Spans(spans) => {
            let text = spans.first().map_or("", |s| &row.text[s.clone()]);
            format!("{:.4}  {text}\n", said.probabilities.first().copied().unwrap_or(f32::NAN))
        }
        Label::Text(text) => format!("{text}\n"),
    }
}
