//! Predictions in the layout that the task's judges take, or as JSONL.

use super::super::examples::{Example, Label, TaskKind};
use super::Format;
use serde_json::Value;
use std::io::{self, Write};

/// What a model, or a baseline, says of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Its answer, in the kind of the row's label. A span's is one range.
    pub label: Label,
    /// How likely: of each class or answer; of each word's tag for tagging; of the span. Empty for scores and texts,
    /// and where nothing is known.
    pub probabilities: Vec<f32>,
}

/// Writes the predictions of `rows`, in their order.
///
/// | layout | what is written |
/// |---|---|
/// | GLUE | a header `index prediction` and a line a row, tab-separated; classes by name, scores as numbers |
/// | SICK | a header `pair_ID entailment_judgment relatedness_score`, tab-separated; NA for the one that was not asked |
/// | ROCStories | a header `InputStoryid,AnswerRightEnding`; answers count from 1 |
/// | SQuAD | one JSON object from each question's name to its answer's text |
/// | others | JSONL of `id`, `label`, `probabilities` |
///
/// In the JSONL a class is its name and its probabilities an object by name; a choice is its number from 0; tags are an
/// array; a span has its text as `label` and `answer_start` in characters.
///
/// # Errors
/// What the writer says. Panics unless there are as many predictions as rows, with classes that have names.
pub fn write_predictions(
    out: &mut impl Write,
    format: Format,
    kind: TaskKind,
    rows: &[Example],
    predictions: &[Prediction],
    labels: &[String],
) -> io::Result<()> {
    assert_eq!(rows.len(), predictions.len(), "as many predictions as rows");
    let all = rows.iter().zip(predictions);
    match format {
        Format::Squad => {
            writeln!(out, "{{")?;
            for (i, (row, prediction)) in all.enumerate() {
                let comma = if i + 1 < rows.len() { "," } else { "" };
                writeln!(out, "{}: {}{comma}", quoted(&row.id), quoted(&plain(row, prediction, labels)))?;
            }
            return writeln!(out, "}}");
        }
        Format::Sick => writeln!(out, "pair_ID\tentailment_judgment\trelatedness_score")?,
        Format::RocStories => writeln!(out, "InputStoryid,AnswerRightEnding")?,
        f if f.is_glue() => writeln!(out, "index\tprediction")?,
        _ => (),
    }
    for (row, prediction) in all {
        match format {
            Format::Sick if kind == TaskKind::Similarity => {
                writeln!(out, "{}\tNA\t{}", row.id, plain(row, prediction, labels))?;
            }
            Format::Sick => writeln!(out, "{}\t{}\tNA", row.id, plain(row, prediction, labels))?,
            Format::RocStories => {
                let answer = if let Label::Choice(c) = prediction.label { c + 1 } else { 0 };
                writeln!(out, "{},{answer}", row.id)?;
            }
            f if f.is_glue() => writeln!(out, "{}\t{}", row.id, plain(row, prediction, labels))?,
            _ => writeln!(out, "{}", prediction.to_json(row, labels))?,
        }
    }
    Ok(())
}

impl Prediction {
    /// The object of one line of JSONL: see [`write_predictions`]. `labels` are the classes' names.
    ///
    /// Panics when a class has no name.
    pub fn to_json(&self, row: &Example, labels: &[String]) -> String {
        let join = |items: Vec<String>| items.join(",");
        let numbers = || join(self.probabilities.iter().map(|p| number(f64::from(*p), p.to_string())).collect());
        let name = |class: u32| quoted(&labels[class as usize]);
        let mut out = format!("{{\"id\":{},\"label\":", quoted(&row.id));
        match &self.label {
            Label::Class(class) => {
                out.push_str(&name(*class));
                if !self.probabilities.is_empty() {
                    let of =
                        |(i, p): (usize, &f32)| format!("{}:{}", name(i as u32), number(f64::from(*p), p.to_string()));
                    let all = join(self.probabilities.iter().enumerate().map(of).collect());
                    out.push_str(&format!(",\"probabilities\":{{{all}}}"));
                }
                out.push('}');
                return out;
            }
            Label::Score(score) => out.push_str(&number(*score, score.to_string())),
            Label::Choice(choice) => out.push_str(&choice.to_string()),
            Label::Tags(tags) => {
                let tags = tags.iter().map(|tag| tag.map_or("null".to_string(), name)).collect();
                out.push_str(&format!("[{}]", join(tags)));
            }
            Label::Spans(spans) => {
                let span = spans.first().cloned().unwrap_or(0..0);
                let start = row.text[..span.start].chars().count();
                out.push_str(&format!("{},\"answer_start\":{start}", quoted(&row.text[span])));
            }
            Label::Text(text) => out.push_str(&quoted(text)),
        }
        if !self.probabilities.is_empty() {
            out.push_str(&format!(",\"probabilities\":[{}]", numbers()));
        }
        out.push('}');
        out
    }
}

/// A prediction as one text.
fn plain(row: &Example, prediction: &Prediction, labels: &[String]) -> String {
    let name = |class: u32| labels[class as usize].clone();
    match &prediction.label {
        Label::Class(class) => name(*class),
        Label::Score(score) => score.to_string(),
        Label::Choice(choice) => choice.to_string(),
        Label::Tags(tags) => {
            let tag = |t: &Option<u32>| t.map_or(super::rows::NO_TAG.to_string(), name);
            tags.iter().map(tag).collect::<Vec<_>>().join(" ")
        }
        Label::Spans(spans) => spans.first().map_or("", |span| &row.text[span.clone()]).to_string(),
        Label::Text(text) => text.clone(),
    }
}

/// A number as JSON has it, null where it has none.
fn number(value: f64, text: String) -> String {
    if value.is_finite() { text } else { "null".to_string() }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    fn row(id: &str, text: &str) -> Example {
        Example { id: id.into(), text: text.into(), ..Example::default() }
    }

    fn written(format: Format, kind: TaskKind, predictions: &[(Example, Label, &[f32])], labels: &[&str]) -> String {
        let rows: Vec<Example> = predictions.iter().map(|p| p.0.clone()).collect();
        let said: Vec<Prediction> =
            predictions.iter().map(|p| Prediction { label: p.1.clone(), probabilities: p.2.to_vec() }).collect();
        let mut out = Vec::new();
        write_predictions(&mut out, format, kind, &rows, &said, &names(labels)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_task_has_its_layout() {
        let two = [(row("7", "x"), Label::Class(1), &[0.25, 0.75][..]), (row("8", "y"), Label::Class(0), &[])];
        let of = |format, kind, labels: &[&str]| written(format, kind, &two, labels);
        let glue = "index\tprediction\n7\tnot_entailment\n8\tentailment\n";
        assert_eq!(of(Format::Rte, TaskKind::Entailment, &["entailment", "not_entailment"]), glue);
        assert_eq!(of(Format::Sst2, TaskKind::Classification, &["0", "1"]), "index\tprediction\n7\t1\n8\t0\n");
        let sick = "pair_ID\tentailment_judgment\trelatedness_score\n7\tENTAILMENT\tNA\n8\tCONTRADICTION\tNA\n";
        assert_eq!(of(Format::Sick, TaskKind::Entailment, Format::Sick.labels().unwrap()), sick);
        let jsonl = "{\"id\":\"7\",\"label\":\"b\\\"\",\"probabilities\":{\"a\":0.25,\"b\\\"\":0.75}}\n\
                     {\"id\":\"8\",\"label\":\"a\"}\n";
        assert_eq!(of(Format::Csv, TaskKind::Classification, &["a", "b\""]), jsonl);
    }

    #[test]
    fn scores_choices_spans_tags_and_texts() {
        let score = [(row("4", "x"), Label::Score(3.6), &[][..])];
        assert_eq!(written(Format::StsB, TaskKind::Similarity, &score, &[]), "index\tprediction\n4\t3.6\n");
        let sick = "pair_ID\tentailment_judgment\trelatedness_score\n4\tNA\t3.6\n";
        assert_eq!(written(Format::Sick, TaskKind::Similarity, &score, &[]), sick);
        assert_eq!(written(Format::Tsv, TaskKind::Similarity, &score, &[]), "{\"id\":\"4\",\"label\":3.6}\n");
        let choice = [(row("s", "x"), Label::Choice(1), &[0.5, 0.5][..])];
        let roc = "InputStoryid,AnswerRightEnding\ns,2\n";
        assert_eq!(written(Format::RocStories, TaskKind::Choice, &choice, &[]), roc);
        let json = "{\"id\":\"s\",\"label\":1,\"probabilities\":[0.5,0.5]}\n";
        assert_eq!(written(Format::Jsonl, TaskKind::Choice, &choice, &[]), json);
        let span = |start, end| Label::Spans(std::iter::once(start..end).collect());
        let span = [(row("q", "né \"x\""), span(4, 7), &[0.5f32][..]), (row("r", "the end of it"), span(6, 10), &[])];
        let squad = "{\n\"q\": \"\\\"x\\\"\",\n\"r\": \"d of\"\n}\n";
        assert_eq!(written(Format::Squad, TaskKind::Span, &span, &[]), squad);
        let json = "{\"id\":\"q\",\"label\":\"\\\"x\\\"\",\"answer_start\":3,\"probabilities\":[0.5]}\n";
        assert_eq!(written(Format::Jsonl, TaskKind::Span, &span[..1], &[]), json);
        let tags = [(row("0", "a b"), Label::Tags(vec![Some(1), None]), &[0.5, f32::NAN][..])];
        let json = "{\"id\":\"0\",\"label\":[\"N\",null],\"probabilities\":[0.5,null]}\n";
        assert_eq!(written(Format::Jsonl, TaskKind::Tagging, &tags, &["D", "N"]), json);
        let text = [(row("0", "a"), Label::Text("b\nc".into()), &[][..])];
        assert_eq!(written(Format::Jsonl, TaskKind::Sequence, &text, &[]), "{\"id\":\"0\",\"label\":\"b\\nc\"}\n");
    }
}
