//! Figures and confusions of predictions, on the terminal.

use crate::progress::print_line;
use longhand_gpt::finetune::metrics::Confusion;
use longhand_gpt::finetune::score::Scored;

/// Figures on one line.
pub fn figures(scored: &Scored) -> String {
    scored.figures.iter().map(|(name, x)| format!("{name} {}", figure(*x))).collect::<Vec<_>>().join("  ")
}

/// A figure, or a dash where there is none.
pub fn figure(x: f64) -> String {
    if x.is_finite() { format!("{x:.4}") } else { "–".to_string() }
}

/// Figures of rows, a line each, and what was said where.
pub fn show(labels: &[String], scored: &Scored) {
    print_line(&format!("{} rows", scored.rows));
    for (name, x) in &scored.figures {
        print_line(&format!("{name:<12}{}", figure(*x)));
    }
    if let Some(confusion) = &scored.confusion {
        print_line(&format!("\n{}", confusion_table(labels, confusion)));
    }
}

/// The most classes whose confusion is shown.
const MOST: usize = 12;

/// A table: a line for what is right, a column for what was said.
fn confusion_table(labels: &[String], confusion: &Confusion) -> String {
    let n = confusion.classes();
    if n > MOST {
        return format!("{n} classes: too many for a table");
    }
    let name = |c: usize| labels[c].chars().take(14).collect::<String>();
    let width = (0..n).map(|c| name(c).chars().count()).max().unwrap_or(0).max(6) + 2;
    let mut out = format!("{:<width$}", "right\\said");
    let first = out.chars().count();
    for c in 0..n {
        out.push_str(&format!("{:>width$}", name(c)));
    }
    for right in 0..n {
        out.push_str(&format!("\n{:<first$}", name(right)));
        for said in 0..n {
            out.push_str(&format!("{:>width$}", confusion.count(right, said)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confusion_stands_in_columns() {
        let mut c = Confusion::new(2);
        c.add(0, 1);
        c.add(1, 1);
        let labels = ["no".to_string(), "a very long name of a class".to_string()];
        let table = confusion_table(&labels, &c);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|l| l.chars().count() == lines[0].chars().count()), "{table}");
        assert!(lines[1].starts_with("no ") && lines[1].ends_with(" 1"));
        assert_eq!(figure(f64::NAN), "–");
    }
}
