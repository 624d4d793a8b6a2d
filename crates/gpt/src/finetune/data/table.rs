//! Records of TSV and CSV.
//!
//! A TSV has no quoting: a field is what stands between two tabs, quotes included, as GLUE's files have it. A CSV is that
//! of RFC 4180: commas; a field in quotes may hold commas, line ends and doubled quotes; a quote anywhere else is an
//! error. Empty lines at the end are passed over; elsewhere they are errors.

use super::lines::{At, Cell, Line, Lines, MAX_LINE, Problem, Row};
use crate::error::{Result, bytes};
use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;

/// The fields of one record.
pub(super) type Record = Vec<Cell>;

/// Reads a file record by record.
pub(super) struct Table<R> {
    lines: Lines<R>,
    csv: bool,
    /// Lines that were read and are to be read again.
    back: VecDeque<Row<Line>>,
    /// The first of the empty lines before the next record.
    empty: Option<u64>,
}

impl<R: Read> Table<R> {
    pub fn new(input: R, path: &Path, csv: bool) -> Table<R> {
        Table { lines: Lines::new(input, path), csv, back: VecDeque::new(), empty: None }
    }

    /// The next record; none at the end.
    ///
    /// # Errors
    /// As [`Lines::next`]. Behind a quote that is never closed, the next record begins in the next line.
    pub fn next(&mut self) -> Result<Option<Row<Record>>> {
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            match line {
                Ok(line) if line.text.is_empty() => self.empty = self.empty.or(Some(line.number)),
                line if self.empty.is_some() => {
                    self.back.push_front(line);
                    let at = At { line: self.empty.take().unwrap_or(0), column: 1 };
                    return Ok(Some(Err(at.problem("an empty line between the rows"))));
                }
                Err(problem) => return Ok(Some(Err(problem))),
                Ok(line) if self.csv => return self.csv_record(line).map(Some),
                Ok(line) => return Ok(Some(Ok(tab_separated(&line)))),
            }
        }
    }

    fn line(&mut self) -> Result<Option<Row<Line>>> {
        match self.back.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    /// The record that begins with `first`.
    fn csv_record(&mut self, first: Line) -> Result<Row<Record>> {
        let mut parser = Csv::default();
        let mut size = first.text.len();
        if let Err(problem) = parser.line(&first) {
            return Ok(Err(problem));
        }
        let mut read = Vec::new();
        while let Some(opened) = parser.open {
            let next = self.line()?;
            size += next.as_ref().map_or(0, |line| line.as_ref().map_or(0, |l| l.text.len() + 1));
            let problem = match &next {
                None => Some(opened.problem("this quote is never closed")),
                Some(Err(problem)) => Some(problem.clone()),
                Some(Ok(_)) if size > MAX_LINE => Some(opened.problem(format!(
                    "the field in quotes is longer than {}: is its quote closed?",
                    bytes(MAX_LINE as u64)
                ))),
                Some(Ok(line)) => parser.line(line).err(),
            };
            read.extend(next);
            if let Some(problem) = problem {
                read.into_iter().rev().for_each(|line| self.back.push_front(line));
                return Ok(Err(problem));
            }
        }
        Ok(Ok(parser.cells))
    }
}

fn tab_separated(line: &Line) -> Record {
    let mut column = 1;
    let cell = |text: &str| {
        let at = At { line: line.number, column };
        column += text.len() as u64 + 1;
        Cell { text: text.to_string(), at }
    };
    line.text.split('\t').map(cell).collect()
}

/// The record so far.
#[derive(Default)]
struct Csv {
    cells: Vec<Cell>,
    /// Where the quote stands whose field goes on in the next line.
    open: Option<At>,
}

impl Csv {
    fn line(&mut self, line: &Line) -> Row<()> {
        let text = line.text.as_str();
        let at = |byte: usize| At { line: line.number, column: byte as u64 + 1 };
        let mut from = 0;
        if let Some(opened) = self.open {
            if let Some(cell) = self.cells.last_mut() {
                cell.text.push('\n');
            }
            match self.quoted(text, 0, opened) {
                None => return Ok(()),
                Some(end) if end == text.len() => return Ok(()),
                Some(end) if text[end..].starts_with(',') => from = end + 1,
                Some(end) => return Err(at(end).problem("only a comma may follow the quote that closes a field")),
            }
        }
        loop {
            if text[from..].starts_with('"') {
                self.cells.push(Cell { text: String::new(), at: at(from) });
                match self.quoted(text, from + 1, at(from)) {
                    None => return Ok(()),
                    Some(end) if end == text.len() => return Ok(()),
                    Some(end) if text[end..].starts_with(',') => from = end + 1,
                    Some(end) => return Err(at(end).problem("only a comma may follow the quote that closes a field")),
                }
                continue;
            }
            let end = text[from..].find(',').map_or(text.len(), |n| from + n);
            if let Some(quote) = text[from..end].find('"') {
                return Err(at(from + quote).problem("a quote within a field that does not begin with one"));
            }
            self.cells.push(Cell { text: text[from..end].to_string(), at: at(from) });
            if end == text.len() {
                return Ok(());
            }
            from = end + 1;
        }
    }

    /// Takes what stands in quotes from `from` into the last cell; the byte behind the closing quote, or none when
    /// the line ends before.
    fn quoted(&mut self, text: &str, mut from: usize, opened: At) -> Option<usize> {
        let cell = self.cells.last_mut()?;
        loop {
            let Some(quote) = text[from..].find('"').map(|n| from + n) else {
                cell.text.push_str(&text[from..]);
                self.open = Some(opened);
                return None;
            };
            cell.text.push_str(&text[from..quote]);
            if text[quote + 1..].starts_with('"') {
                cell.text.push('"');
                from = quote + 2;
            } else {
                self.open = None;
                return Some(quote + 1);
            }
        }
    }
}

/// One line for a record that has not as many fields as the others.
pub(super) fn ragged(record: &Record, width: usize) -> Problem {
    let at = record.first().map_or(At::default(), |cell| cell.at);
    // The first field too many, or the record's start.
    let at = record.get(width).map_or(at, |cell| cell.at);
    at.problem(format!("{} where there should be {width}", counted(record.len(), "field")))
}

/// `1 field`, `2 fields`.
pub(super) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, csv: bool) -> Vec<std::result::Result<Vec<String>, String>> {
        let mut table = Table::new(text.as_bytes(), Path::new("f"), csv);
        let mut out = Vec::new();
        while let Some(record) = table.next().unwrap() {
            let cell = |c: Cell| format!("{}:{} {}", c.at.line, c.at.column, c.text);
            out.push(
                record.map(|r| r.into_iter().map(cell).collect()).map_err(|p| p.in_file(Path::new("f")).to_string()),
            );
        }
        out
    }

    #[test]
    fn a_tsv_knows_no_quotes() {
        assert_eq!(
            records("a\t\"b\tc\r\né\tb\t\n\n\n", false),
            [
                Ok(vec!["1:1 a".to_string(), "1:3 \"b".into(), "1:6 c".into()]),
                Ok(vec!["2:1 é".into(), "2:4 b".into(), "2:6 ".into()]),
            ]
        );
        let empty = "f:2:1: an empty line between the rows";
        assert_eq!(records("a\n\n\nb", false), [Ok(vec!["1:1 a".into()]), Err(empty.into()), Ok(vec!["4:1 b".into()])]);
    }

    #[test]
    fn a_csv_is_that_of_rfc_4180() {
        assert_eq!(
            records("a,\"b,\"\"c\"\"\",\r\n\"x\r\n\r\ny\",z\n\"\",,\"\"\"\"\n", true),
            [
                Ok(vec!["1:1 a".to_string(), "1:3 b,\"c\"".into(), "1:13 ".into()]),
                Ok(vec!["2:1 x\n\ny".into(), "4:4 z".into()]),
                Ok(vec!["5:1 ".into(), "5:4 ".into(), "5:5 \"".into()]),
            ]
        );
    }

    #[test]
    fn quotes_out_of_place() {
        let a = || Ok(vec!["2:1 a".to_string(), "2:3 b".to_string()]);
        let within = "f:1:2: a quote within a field that does not begin with one";
        assert_eq!(records("x\"y\",z\na,b", true), [Err(within.into()), a()]);
        let behind = "f:1:4: only a comma may follow the quote that closes a field";
        assert_eq!(records("\"x\"y,z\na,b", true), [Err(behind.into()), a()]);
        let open = "f:1:3: this quote is never closed";
        assert_eq!(records("x,\"y\na,b", true), [Err(open.into()), a()]);
        let later = "f:2:4: only a comma may follow the quote that closes a field";
        assert_eq!(records("x,\"y\na,\"b\n", true)[0], Err(later.into()));
        let long = format!("x,\"y\n{}a,b\n", "a,b\n".repeat(MAX_LINE / 4));
        let all = records(&long, true);
        let problem = "f:1:3: the field in quotes is longer than 1.0 MiB (1048576 bytes): is its quote closed?";
        assert_eq!((&all[0], &all[1], all.len()), (&Err(problem.into()), &a(), MAX_LINE / 4 + 2));
    }
}
