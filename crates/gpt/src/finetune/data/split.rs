//! Rows held out of training, and few rows drawn of many.

use super::super::examples::{Example, Examples, Label};
use longhand_tensor::random::{Philox, Site, SiteKind};

/// The site of these draws, behind any that a training run uses.
const LAYER: usize = (1 << 26) - 1;

/// Two parts of the rows: those that stay, and round(share · rows) drawn at random that are held out, in the file's order.
///
/// Of two rows or more each part has at least one. The same seed holds out the same rows of the same file.
/// Panics unless 0 < share < 1.
pub fn split(examples: &Examples, share: f64, seed: u64) -> (Examples, Examples) {
    assert!(share > 0.0 && share < 1.0, "a share of {share}");
    let n = examples.rows.len();
    let held = ((n as f64 * share).round() as usize).max(1).min(n.saturating_sub(1));
    let mut is_held = vec![false; n];
    shuffled(n, seed, 0).into_iter().take(held).for_each(|i| is_held[i] = true);
    (part(examples, |i| !is_held[i]), part(examples, |i| is_held[i]))
}

/// `n` rows drawn at random, or all when there are no more, in the file's order.
///
/// Balanced: as many of each class, or of each number of a right answer, as long as there are rows of it; rows without a
/// class come last. The rows drawn with one seed are among those of every larger `n`.
pub fn sample(examples: &Examples, n: usize, seed: u64, balanced: bool) -> Examples {
    let mut order = shuffled(examples.rows.len(), seed, 1);
    if balanced {
        // Row k of each class comes before row k + 1 of any: the first n rows are balanced for every n.
        let class = |row: &Example| match row.label {
            Some(Label::Class(c) | Label::Choice(c)) => c as usize + 1,
            _ => 0,
        };
        let classes = examples.rows.iter().map(class).max().unwrap_or(0);
        let mut seen = vec![0usize; classes + 1];
        let mut keyed = Vec::with_capacity(order.len());
        for i in order {
            let c = class(&examples.rows[i]);
            let round = if c == 0 { usize::MAX } else { seen[c] };
            seen[c] += 1;
            keyed.push((round, i));
        }
        keyed.sort_by_key(|k| k.0);
        order = keyed.into_iter().map(|k| k.1).collect();
    }
    let mut drawn = vec![false; examples.rows.len()];
    order.into_iter().take(n).for_each(|i| drawn[i] = true);
    part(examples, |i| drawn[i])
}

/// The rows that `of` holds for; only the whole file has rows that were skipped.
fn part(examples: &Examples, of: impl Fn(usize) -> bool) -> Examples {
    let rows = examples.rows.iter().enumerate().filter(|(i, _)| of(*i)).map(|(_, row)| row.clone()).collect();
    Examples { path: examples.path.clone(), kind: examples.kind, rows, labels: examples.labels.clone(), skipped: 0 }
}

/// 0..n in an order drawn from the seed.
fn shuffled(n: usize, seed: u64, purpose: u32) -> Vec<usize> {
    let random = Philox::new(seed, Site::new(LAYER, SiteKind::Shuffle), purpose);
    let mut order = Vec::new();
    crate::data::shuffle(n, &random, &mut order);
    order.into_iter().map(|i| i as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::examples::TaskKind;
    use super::*;

    /// Class 1 for every third row.
    fn examples(n: usize) -> Examples {
        let row = |i: usize| Example {
            id: i.to_string(),
            label: Some(Label::Class(u32::from(i.is_multiple_of(3)))),
            ..Example::default()
        };
        let labels = vec!["a".to_string(), "b".to_string()];
        let rows = (0..n).map(row).collect();
        Examples { path: "f".into(), kind: TaskKind::Classification, rows, labels, skipped: 3 }
    }

    fn ids(e: &Examples) -> Vec<usize> {
        e.rows.iter().map(|r| r.id.parse().unwrap()).collect()
    }

    #[test]
    fn two_parts_make_the_whole() {
        for (n, held) in [(0, 0), (1, 0), (2, 1), (7, 1), (10, 2), (1000, 200)] {
            let (stay, out) = split(&examples(n), 0.2, 7);
            assert_eq!((ids(&out).len(), out.skipped), (held, 0), "{n}");
            let mut all = [ids(&stay), ids(&out)].concat();
            assert!(ids(&stay).is_sorted() && ids(&out).is_sorted());
            all.sort();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        let of = |seed| ids(&split(&examples(100), 0.1, seed).1);
        // Pinned: the same rows for good.
        assert_eq!(of(1), [3, 6, 37, 38, 45, 50, 56, 73, 75, 82]);
        assert_ne!(of(1), of(2));
        assert_eq!(ids(&split(&examples(10), 0.9, 3).1).len(), 9);
    }

    #[test]
    fn few_rows_are_among_more() {
        let all = examples(300);
        for balanced in [false, true] {
            let mut before: Vec<usize> = Vec::new();
            for n in [0, 1, 2, 10, 50, 200, 299, 300, 400] {
                let drawn = sample(&all, n, 5, balanced);
                let now = ids(&drawn);
                assert!(now.is_sorted() && now.len() == n.min(300));
                assert!(before.iter().all(|i| now.contains(i)));
                let ones = now.iter().filter(|i| *i % 3 == 0).count();
                if balanced && n <= 200 {
                    assert!(ones == n / 2 || ones == n.div_ceil(2), "{ones} of {n}");
                }
                before = now;
            }
        }
        assert_ne!(ids(&sample(&all, 20, 1, false)), ids(&sample(&all, 20, 2, false)));
    }
}
