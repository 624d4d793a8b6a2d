//! Means, intervals and tables.

use longhand_tensor::random::{Philox, Site, SiteKind};

/// The mean.
pub fn mean(xs: &[f64]) -> f64 {
    xs.iter().fold(0.0, |sum, x| sum + x) / xs.len() as f64
}

/// The standard deviation of single values.
pub fn deviation(xs: &[f64]) -> f64 {
    let m = mean(xs);
    (xs.iter().fold(0.0, |sum, x| sum + (x - m) * (x - m)) / (xs.len() as f64 - 1.0).max(1.0)).sqrt()
}

/// The share of 1 among 0 and 1.
pub fn share(right: &str) -> f64 {
    right.bytes().filter(|b| *b == b'1').count() as f64 / right.len() as f64
}

/// Resamples of a bootstrap.
const RESAMPLES: u32 = 10_000;
/// The seed of their draws.
const SEED: u64 = 95;

/// How much more of `a` than of `b` is right, and the 95% interval of that over the rows: each pair is the same seed's
/// two nets on the same rows, a row's difference is the mean of all seeds', and rows are drawn with replacement.
/// Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
pub fn paired_bootstrap(pairs: &[(String, String)]) -> (f64, [f64; 2]) {
    let rows = pairs[0].0.len();
    let mut differences = vec![0i64; rows];
    for (a, b) in pairs {
        assert!(a.len() == rows && b.len() == rows, "the same rows");
        for (i, (a, b)) in a.bytes().zip(b.bytes()).enumerate() {
            differences[i] += i64::from(a) - i64::from(b);
        }
    }
    let all = (rows * pairs.len()) as f64;
    let whole = differences.iter().sum::<i64>() as f64 / all;
    let mut means: Vec<i64> = (0..RESAMPLES)
        .map(|resample| {
            let draws = Philox::new(SEED, Site::new(0, SiteKind::Sample), resample);
            (0..rows as u64).fold(0, |sum, i| sum + differences[draws.below(i, rows as u32) as usize])
        })
        .collect();
    means.sort_unstable();
    let at = |share: f64| means[(share * f64::from(RESAMPLES)) as usize] as f64 / all;
    (whole, [at(0.025), at(0.975)])
}

/// A table in Markdown: its head, and rows of as many cells.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    text += &line(&head.iter().map(|_| "---".to_string()).collect::<Vec<_>>());
    rows.iter().for_each(|row| text += &line(row));
    text
}

/// A share as percent, of one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}
