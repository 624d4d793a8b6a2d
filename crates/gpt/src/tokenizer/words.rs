//! GPT-1's tokenizer as transformers has it: text is cleaned, lower-cased and stripped of accents, cut at white space and at
//! every punctuation mark, and each word is encoded by byte-pair merges over characters, its last one marked `</w>`.
//!
//! What it writes is not what it read: capitals, accents, kinds of white space and what is not in the vocabulary are
//! lost. OpenAI's own cleaning (ftfy, spaCy's words, `\n</w>`) is not reproduced.

use super::bpe::{Pair, encode_pieces, engine};
use super::files::{END_OF_WORD, Parsed};
use super::{Kind, Model, Tokenizer};
use crate::error::{Error, Result};
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

/// The engine of a tokenizer of words.
pub(super) struct Words {
    engine: tokenizers::Tokenizer,
    merges: Vec<Pair>,
    unknown: String,
}

impl Words {
    fn new(
        vocab: HashMap<String, u32>,
        tokens: &[(u32, String, bool)],
        merges: Vec<Pair>,
        unknown: &str,
    ) -> Result<Words> {
        let builder = BPE::builder().unk_token(unknown.to_string()).end_of_word_suffix(END_OF_WORD.to_string());
        let mut engine = engine(builder, vocab, tokens, &merges)?;
        // Cleaned, Chinese characters apart, accents stripped as lower-casing has it, lower case.
        engine.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
        engine.with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Words { engine, merges, unknown: unknown.to_string() })
    }

    pub(super) fn merges(&self) -> &[Pair] {
        &self.merges
    }

    pub(super) fn unknown(&self) -> &str {
        &self.unknown
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        encode_pieces(&self.engine, text, ids)
    }
}

/// The tokenizer of a checked file of words; its unknown token is special.
pub(super) fn words(
    parsed: Parsed,
    unknown: &str,
    tokens: Vec<(u32, String, bool)>,
    special: Vec<(String, u32)>,
    end: Option<u32>,
) -> Result<Tokenizer> {
    if !parsed.vocab.contains_key(unknown) {
        return Err(Error::config("model.vocab", "", format!("must have the unknown token, {unknown:?}")));
    }
    let engine = Words::new(parsed.vocab, &tokens, parsed.merges, unknown)?;
    // A word's end reads as a space; the last one of a text is dropped by whoever joins them.
    let bytes = tokens
        .iter()
        .map(|(_, t, _)| match t.strip_suffix(END_OF_WORD) {
            Some(word) => format!("{word} ").into_bytes().into_boxed_slice(),
            None => t.as_bytes().into(),
        })
        .collect();
    let tokens = tokens.into_iter().map(|(_, t, _)| t).collect();
    Ok(Tokenizer {
        kind: Kind::Words,
        tokens,
        bytes,
        special,
        end,
        adds_bos: false,
        model: Model::Words(Box::new(engine)),
    })
}
