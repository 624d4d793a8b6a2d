//! Byte-level byte-pair encoding: trained here, encoded by the tokenizers crate.
//!
//! Training is our own because it has to be the same on every machine and every run: the crate's trainer breaks
//! ties by the order of a randomly seeded hash table. Source: Sennrich, Haddow, Birch, arXiv:1508.07909;
//! GPT-2's bytes and word pattern.

use super::files::{Parsed, build};
use super::pieces::pieces;
use super::{END_OF_TEXT, Kind, Model, Tokenizer, bytelevel};
use crate::config::MAX_VOCAB;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// A pair seen only once is not worth a token.
const MIN_COUNT: i64 = 2;

/// The ids of two tokens.
pub(super) type Pair = (u32, u32);

/// The engine of a byte-level BPE tokenizer.
pub(super) struct Bpe {
    engine: tokenizers::Tokenizer,
    merges: Vec<Pair>,
    use_regex: bool,
}

impl Bpe {
    /// An engine of a checked vocabulary, of the same `tokens` by their ids, and of merges: every byte and every merge's
    /// tokens are in it.
    fn new(
        vocab: HashMap<String, u32>,
        tokens: &[(u32, String, bool)],
        merges: Vec<Pair>,
        use_regex: bool,
    ) -> Result<Bpe> {
        let mut engine = engine(BPE::builder(), vocab, tokens, &merges)?;
        engine.with_pre_tokenizer(Some(ByteLevel::new(false, true, use_regex)));
        Ok(Bpe { engine, merges, use_regex })
    }

    pub(super) fn merges(&self) -> &[Pair] {
        &self.merges
    }

    pub(super) fn use_regex(&self) -> bool {
        self.use_regex
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        encode_pieces(&self.engine, text, ids)
    }
}

/// The tokenizers crate's engine of a checked vocabulary and merges, and of what `builder` has beside them.
pub(super) fn engine(
    builder: BpeBuilder,
    vocab: HashMap<String, u32>,
    tokens: &[(u32, String, bool)],
    merges: &[Pair],
) -> Result<tokenizers::Tokenizer> {
    let token = |id: u32| tokens[id as usize].1.clone();
    let merges = merges.iter().map(|&(a, b)| (token(a), token(b))).collect();
    let model = builder.vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges).build();
    let model = model.map_err(|e| Error::tokenizer(format!("the vocabulary and merges do not fit: {e}")))?;
    Ok(tokenizers::Tokenizer::new(model))
}

/// Appends the ids that an engine of the tokenizers crate gives a text, piece by piece.
pub(super) fn encode_pieces(engine: &tokenizers::Tokenizer, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    for piece in pieces(text) {
        let encoding = engine.encode_fast(piece, false);
        let encoding = encoding.map_err(|e| Error::tokenizer(format!("the text cannot be encoded: {e}")))?;
        ids.extend_from_slice(encoding.get_ids());
    }
    Ok(())
}

/// Trains a tokenizer of at most `vocab_size` tokens (fewer when no pair is seen twice), the end of text included.
///
/// The most frequent pair of neighbours becomes a token, again and again; of equally frequent ones the pair with the
/// smaller ids. Ids: the 256 bytes, the merges in their order, the end of text.
/// Cost: time and memory grow with the number of different words.
pub(super) fn train(texts: &[&str], vocab_size: usize) -> Result<Tokenizer> {
    if !(257..=MAX_VOCAB).contains(&vocab_size) {
        let limit = format!("must be from 257 (256 bytes and the end of text) to {MAX_VOCAB}");
        return Err(Error::config("vocab_size", vocab_size, limit));
    }
    if texts.iter().all(|t| t.is_empty()) {
        return Err(Error::tokenizer("the training text is empty"));
    }
    let mut words = Words::new(count_words(texts)?);
    let mut tokens: Vec<String> = (0..=255).map(|b| bytelevel::char_of(b).to_string()).collect();
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut known: HashMap<Pair, u32> = HashMap::new();
    let mut merges = Vec::new();
    while tokens.len() + 1 < vocab_size {
        let Some(pair) = words.most_frequent() else { break };
        let new = match known.get(&pair) {
            Some(&id) => id,
            None => {
                let token = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
                // Two ways to the same text, as a·bc and ab·c, share its id.
                let id = *ids.entry(token.clone()).or_insert(tokens.len() as u32);
                if id as usize == tokens.len() {
                    tokens.push(token);
                }
                merges.push(pair);
                known.insert(pair, id);
                id
            }
        };
        words.merge(pair, new);
    }
    Tokenizer::from_merges(tokens, merges)
}

impl Tokenizer {
    /// A byte-level tokenizer of these tokens (in the order of their ids) and merges, and an end of text after them.
    fn from_merges(tokens: Vec<String>, merges: Vec<Pair>) -> Result<Tokenizer> {
        let end = tokens.len() as u32;
        let vocab = tokens.into_iter().zip(0..).collect();
        let added = vec![(END_OF_TEXT.to_string(), end)];
        build(Parsed { vocab, merges, added, byte_level: true, use_regex: true, fuse: false, words: None })
    }
}

/// The tokenizer of a checked file with merges.
pub(super) fn byte_level_bpe(
    parsed: Parsed,
    tokens: Vec<(u32, String, bool)>,
    special: Vec<(String, u32)>,
    end: Option<u32>,
) -> Result<Tokenizer> {
    for byte in 0..=255 {
        let c = bytelevel::char_of(byte);
        if !parsed.vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str) {
            return Err(Error::config("model.vocab", "", format!("must have every byte; {c:?} is missing")));
        }
    }
    let bpe = Bpe::new(parsed.vocab, &tokens, parsed.merges, parsed.use_regex)?;
    let is_special: HashSet<u32> = special.iter().map(|(_, id)| *id).collect();
    let bytes = tokens
        .iter()
        .map(
            |(id, t, _)| {
                if is_special.contains(id) { t.as_bytes().into() } else { bytelevel::bytes_of(t).into_boxed_slice() }
            },
        )
        .collect();
    let tokens = tokens.into_iter().map(|(_, t, _)| t).collect();
    Ok(Tokenizer { kind: Kind::Bpe, tokens, bytes, special, end, adds_bos: false, model: Model::Bpe(Box::new(bpe)) })
}

/// How often each word of the pattern stands in the texts, as bytes.
fn count_words(texts: &[&str]) -> Result<BTreeMap<Vec<u8>, i64>> {
    let pattern = ByteLevel::new(false, true, true);
    let mut counts = BTreeMap::new();
    for piece in texts.iter().flat_map(|t| pieces(t)) {
        let mut split = PreTokenizedString::from(piece);
        pattern
            .pre_tokenize(&mut split)
            .map_err(|e| Error::tokenizer(format!("the text cannot be cut into words: {e}")))?;
        for (word, ..) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
            *counts.entry(bytelevel::bytes_of(word)).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

/// The different words as tokens, and for every pair of neighbours how often and where it stands.
struct Words {
    words: Vec<(Vec<u32>, i64)>,
    counts: HashMap<Pair, i64>,
    /// The words that may hold a pair; some no longer do.
    places: HashMap<Pair, Vec<u32>>,
    /// Pairs by a count that was right once; checked against `counts` when taken.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Words {
    fn new(counted: BTreeMap<Vec<u8>, i64>) -> Words {
        let words: Vec<(Vec<u32>, i64)> =
            counted.into_iter().map(|(word, n)| (word.into_iter().map(u32::from).collect(), n)).collect();
        let mut all =
            Words { words: Vec::new(), counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
        for (index, (word, n)) in words.iter().enumerate() {
            for pair in word.windows(2) {
                let pair = (pair[0], pair[1]);
                *all.counts.entry(pair).or_insert(0) += n;
                let places = all.places.entry(pair).or_default();
                if places.last() != Some(&(index as u32)) {
                    places.push(index as u32);
                }
            }
        }
        all.queue = all.counts.iter().map(|(&pair, &n)| (n, Reverse(pair))).collect();
        all.words = words;
        all
    }

    /// The pair that stands most often, if any stands often enough. A total order, so no table's order shows.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count && now >= MIN_COUNT {
                return Some(pair);
            }
            if now < count && now >= MIN_COUNT {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    /// Replaces a pair by a token, from left to right, in every word.
    fn merge(&mut self, pair: Pair, new: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut raised = Vec::new();
        for index in places {
            let (word, n) = &mut self.words[index as usize];
            if !word.windows(2).any(|w| (w[0], w[1]) == pair) {
                continue;
            }
            for w in word.windows(2) {
                if let Some(count) = self.counts.get_mut(&(w[0], w[1])) {
                    *count -= *n;
                }
            }
            let mut merged = Vec::with_capacity(word.len());
            let mut at = 0;
            while at < word.len() {
                let here = at + 1 < word.len() && (word[at], word[at + 1]) == pair;
                merged.push(if here { new } else { word[at] });
                at += if here { 2 } else { 1 };
            }
            for w in merged.windows(2) {
                let neighbours = (w[0], w[1]);
                *self.counts.entry(neighbours).or_insert(0) += *n;
                if w[0] == new || w[1] == new {
                    self.places.entry(neighbours).or_default().push(index);
                    raised.push(neighbours);
                }
            }
            *word = merged;
        }
        self.counts.remove(&pair).filter(|&left| left > 0).map(|left| self.counts.insert(pair, left));
        raised.sort_unstable();
        raised.dedup();
        for pair in raised {
            if let Some(&count) = self.counts.get(&pair) {
                self.queue.push((count, Reverse(pair)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Special;
    use super::*;

    fn sample() -> String {
        let words = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "other", "cats", "that", "hat's", "42", "—"];
        (0..4000u32)
            .map(|i| format!("{}{}", words[(i * i + i / 7) as usize % words.len()], [" ", "\n", ", "][i as usize % 3]))
            .collect()
    }

    /// A dozen lines that train by counting everything anew for each merge.
    fn naive(words: &[(Vec<u32>, i64)], n: usize) -> Vec<Pair> {
        let mut words = words.to_vec();
        let mut merges = Vec::new();
        let mut texts: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        while merges.len() < n {
            let mut counts: BTreeMap<Pair, i64> = BTreeMap::new();
            for (word, n) in &words {
                word.windows(2).for_each(|w| *counts.entry((w[0], w[1])).or_insert(0) += n);
            }
            let Some((&pair, _)) =
                counts.iter().filter(|(_, n)| **n >= MIN_COUNT).max_by_key(|(p, n)| (**n, Reverse(**p)))
            else {
                break;
            };
            let text = [&texts[pair.0 as usize][..], &texts[pair.1 as usize][..]].concat();
            let new = texts.iter().position(|t| *t == text).unwrap_or(texts.len());
            if new == texts.len() {
                texts.push(text);
            }
            if !merges.contains(&pair) {
                merges.push(pair);
            }
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == pair {
                        word.splice(at..at + 2, [new as u32]);
                    }
                    at += 1;
                }
            }
        }
        merges
    }

    #[test]
    fn training_equals_counting_anew() {
        let text = sample();
        let words = Words::new(count_words(&[&text]).unwrap()).words;
        let t = train(&[&text], 320).unwrap();
        let Model::Bpe(bpe) = &t.model else { panic!("a bpe") };
        assert!(bpe.merges().len() >= 30);
        assert_eq!(bpe.merges(), naive(&words, bpe.merges().len()));
    }

    #[test]
    fn the_same_text_gives_the_same_file_and_every_text_comes_back() {
        let text = sample();
        let t = Tokenizer::train(Kind::Bpe, &[&text], Some(300)).unwrap();
        assert_eq!(t.to_json(), Tokenizer::train(Kind::Bpe, &[&text], Some(300)).unwrap().to_json());
        assert!(t.vocab_size() <= 300 && t.vocab_size() > 257);
        assert_eq!(t.end_id(), Some(t.vocab_size() as u32 - 1));
        for text in [&text, "", "Ünïcode 👩‍👩‍👧 \u{0}\u{301}   x\t\n\n <|endoftext|>"] {
            t.check_round_trip(text).unwrap();
        }
        assert!(t.encode("the cat", Special::Text).unwrap().len() < 7);
        assert_eq!(t.encode("<|endoftext|>", Special::Parse).unwrap(), [t.end_id().unwrap()]);
        assert!(t.encode("<|endoftext|>", Special::Text).unwrap().len() > 1);
    }

    #[test]
    fn pieces_do_not_change_the_tokens() {
        let text = sample().repeat(8);
        assert!(pieces(&text).count() > 2);
        assert_eq!(pieces(&text).collect::<String>(), text);
        let t = train(&[&text], 400).unwrap();
        let Model::Bpe(bpe) = &t.model else { panic!("a bpe") };
        let whole = bpe.engine.encode_fast(&text[..], false).unwrap().get_ids().to_vec();
        assert_eq!(t.encode(&text, Special::Text).unwrap(), whole);
        let long = "é".repeat(700_000) + &" ".repeat(700_000);
        assert_eq!(pieces(&long).collect::<String>(), long);
        t.check_round_trip(&long).unwrap();
    }

    #[test]
    fn files_come_back_and_wrong_sizes_are_refused() {
        let dir = crate::fs::TestDir::new("bpe");
        let text = sample();
        let t = train(&[&text], 300).unwrap();
        t.save(dir.path(), 64).unwrap();
        let again = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((again.kind(), again.to_json()), (Kind::Bpe, t.to_json()));
        let theirs = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
        let ids = t.encode(&text, Special::Text).unwrap();
        assert_eq!(theirs.encode(&text[..], true).unwrap().get_ids(), ids);
        assert_eq!(theirs.decode(&ids, false).unwrap(), text);
        let line = train(&[&text], 256).unwrap_err().to_string();
        assert!(line.starts_with("vocab_size = 256: must be from 257"), "{line}");
        assert!(train(&["", ""], 300).is_err());
        let mut file = t.to_json();
        file["model"]["vocab"].as_object_mut().unwrap().remove("!");
        let line = Tokenizer::from_json(file.to_string().as_bytes(), "t".as_ref()).unwrap_err().to_string();
        assert!(line.contains("id = 33: no token has it"), "{line}");
    }

    #[test]
    fn bytes_and_chars_mean_the_same_to_the_tokenizers_crate() {
        let text = sample() + "ä\u{1F600}\u{301}";
        for t in [Tokenizer::bytes(), Tokenizer::chars([&text[..]]).unwrap()] {
            let file = t.to_json().to_string();
            let theirs = tokenizers::Tokenizer::from_bytes(file.as_bytes()).unwrap();
            let ids = t.encode(&text, Special::Text).unwrap();
            assert_eq!(theirs.encode(&text[..], true).unwrap().get_ids(), ids);
            assert_eq!(theirs.decode(&ids, false).unwrap(), text);
            assert_eq!(theirs.token_to_id("<|endoftext|>"), t.end_id());
        }
    }
}
