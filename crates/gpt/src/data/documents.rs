//! Whole documents as rows: a row starts where its document starts and never crosses into another.

use super::{Batch, Rows, shuffle};
use crate::error::{Error, Result};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::ops::Range;

/// Documents of different lengths, each one row; epochs take all of them in an order of their own.
#[derive(Debug)]
pub struct Documents {
    ids: Vec<u32>,
    /// Where each document starts in `ids`, and the end of the last.
    starts: Vec<usize>,
    seed: u64,
    longest: usize,
    /// The order of `epoch`.
    order: Vec<u32>,
    epoch: Option<u32>,
}

impl Documents {
    /// Documents as token ids, ⟨end⟩ text ⟨end⟩ already around each. Epoch e has the order that `seed` and e give.
    ///
    /// # Errors
    /// `Data` without documents, and naming the first of fewer than 2 or more than `block_size` + 1 tokens.
    pub fn new<S: AsRef<[u32]>>(
        documents: impl IntoIterator<Item = S>,
        block_size: usize,
        seed: u64,
    ) -> Result<Documents> {
        let (mut ids, mut starts, mut longest) = (Vec::new(), vec![0], 0);
        let wrong = |problem: String| Error::Data { path: "<documents>".into(), byte: None, problem };
        for (index, document) in documents.into_iter().enumerate() {
            let document = document.as_ref();
            if document.len() < 2 || document.len() - 1 > block_size {
                let n = document.len();
                let most = block_size.saturating_add(1);
                return Err(wrong(format!(
                    "document {index} has {n} tokens: must have from 2 to block size + 1 = {most}"
                )));
            }
            longest = longest.max(document.len() - 1);
            ids.extend_from_slice(document);
            starts.push(ids.len());
        }
        let count = u32::try_from(starts.len() - 1).unwrap_or(0);
        if count == 0 {
            return Err(wrong(format!("{} documents: must be from 1 to {}", starts.len() - 1, u32::MAX)));
        }
        Ok(Documents { ids, starts, seed, longest, order: (0..count).collect(), epoch: None })
    }

    /// The tokens of a document.
    pub fn document(&self, index: usize) -> &[u32] {
        &self.ids[self.starts[index]..self.starts[index + 1]]
    }

    /// Puts the documents in the order of an epoch. Cost: a walk over all, once an epoch.
    fn shuffle(&mut self, epoch: u32) {
        if self.epoch == Some(epoch) {
            return;
        }
        let draws = Philox::new(self.seed, Site::new(1, SiteKind::Shuffle), epoch);
        shuffle(self.starts.len() - 1, &draws, &mut self.order);
        self.epoch = Some(epoch);
    }
}

impl Rows for Documents {
    fn draw(&mut self, step: u64, rows_per_step: usize, rows: Range<usize>, batch: &mut Batch) {
        batch.clear();
        let count = self.order.len() as u64;
        for row in rows {
            let position = step.wrapping_mul(rows_per_step as u64).wrapping_add(row as u64);
            self.shuffle((position / count) as u32);
            let index = self.order[(position % count) as usize] as usize;
            batch.push_sequence(&self.ids[self.starts[index]..self.starts[index + 1]]);
        }
    }

    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    fn in_order(&mut self, rows: Range<usize>, batch: &mut Batch) {
        batch.clear();
        for row in rows.start..rows.end.min(self.rows()) {
            batch.push_sequence(&self.ids[self.starts[row]..self.starts[row + 1]]);
        }
    }

    fn longest_row(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Document i is i, 100+i, 100+i … of length 2 + i % 4.
    fn documents(n: u32) -> Documents {
        let all = (0..n).map(|i| std::iter::once(i).chain((0..1 + i % 4).map(|_| 100 + i)).collect::<Vec<_>>());
        Documents::new(all, 8, 3).unwrap()
    }

    fn firsts(batch: &Batch) -> Vec<u32> {
        let mut at = 0;
        let starts = batch.lens.iter().map(|n| {
            at += n;
            at - n
        });
        starts.map(|s| batch.tokens[s]).collect()
    }

    #[test]
    fn an_epoch_has_every_document_once_in_an_order_of_its_own() {
        let mut d = documents(10);
        let mut batch = Batch::new();
        let mut seen = Vec::new();
        for step in 0..8 {
            d.draw(step, 5, 0..5, &mut batch);
            seen.extend(firsts(&batch));
        }
        let epochs: Vec<_> = seen.chunks(10).map(<[u32]>::to_vec).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[0], (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_run_sees_the_same_rows() {
        let (mut a, mut b) = (documents(10), documents(10));
        let (mut x, mut y) = (Batch::new(), Batch::new());
        for step in 0..9 {
            a.draw(step, 7, 0..7, &mut x);
        }
        // Straight to the last step, in two microbatches across the end of an epoch.
        b.draw(8, 7, 4..7, &mut y);
        assert_eq!(firsts(&x)[4..], firsts(&y));
        b.draw(8, 7, 0..4, &mut y);
        assert_eq!(firsts(&x)[..4], firsts(&y));
        assert_eq!(y.lens.iter().sum::<usize>(), y.targets.len());
    }

    #[test]
    fn rows_are_whole_documents() {
        let mut d = documents(6);
        let mut batch = Batch::new();
        d.in_order(2..99, &mut batch);
        assert_eq!(batch.lens, [3, 4, 1, 2]);
        assert_eq!(batch.tokens, [2, 102, 102, 3, 103, 103, 103, 4, 5, 105]);
        assert_eq!(batch.targets, [102, 102, 102, 103, 103, 103, 103, 104, 105, 105]);
        assert_eq!((d.rows(), d.longest_row(), d.document(4)), (6, 4, &[4, 104][..]));
    }

    #[test]
    fn lengths_are_checked() {
        let line = Documents::new([vec![1, 2], vec![1]], 4, 0).unwrap_err().to_string();
        assert_eq!(line, "<documents>: document 1 has 1 tokens: must have from 2 to block size + 1 = 5");
        assert!(Documents::new([vec![0; 6]], 4, 0).is_err());
        assert!(Documents::new([vec![0; 5]], 4, 0).is_ok());
        let line = Documents::new(Vec::<Vec<u32>>::new(), 4, 0).unwrap_err().to_string();
        assert_eq!(line, "<documents>: 0 documents: must be from 1 to 4294967295");
    }
}
