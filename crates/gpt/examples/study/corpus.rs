//! Texts as a net reads them: lower case, punctuation marks as words of their own, a space before every word.

use super::Outcome;
use longhand_gpt::finetune::examples::Examples;
use longhand_gpt::tokenizer::{Special, Tokenizer};
use std::path::Path;

/// A text as the treebank writes it: words and marks between single spaces, and one before the first: a word is the
/// same token wherever it stands.
pub fn plain(text: &str) -> String {
    let lower = text.to_lowercase().replace('’', "'");
    let mut spaced = String::with_capacity(lower.len() + 16);
    for c in lower.chars() {
        match c {
            '\'' => spaced.push_str(" '"),
            '-' => spaced.push('-'),
            c if c.is_alphanumeric() || c.is_whitespace() => spaced.push(c),
            c => spaced.extend([' ', c, ' ']),
        }
    }
    spaced.replace("n 't", " n't").split_whitespace().fold(String::new(), |text, word| text + " " + word)
}

/// Puts every text of `examples` into that form; those of the treebank have it but for the first space.
pub fn plain_rows(examples: &mut Examples, tokenized: bool) {
    let form = |text: &str| if tokenized { format!(" {text}") } else { plain(text) };
    for row in &mut examples.rows {
        row.text = form(&row.text);
        if !row.text_b.is_empty() {
            row.text_b = form(&row.text_b);
        }
    }
}

/// The speeches of a play, each in that form.
pub fn speeches(path: &Path) -> Outcome<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.split("\n\n").map(plain).filter(|speech| !speech.is_empty()).collect())
}

/// Each text as ⟨end⟩ text ⟨end⟩; what does not fit into `context` is a document of its own.
pub fn documents(texts: &[String], tokenizer: &Tokenizer, context: usize) -> Outcome<Vec<Vec<u32>>> {
    let end = tokenizer.end_id().ok_or("the tokenizer has no end of text")?;
    let (mut documents, mut ids) = (Vec::new(), Vec::new());
    for text in texts {
        ids.clear();
        tokenizer.encode_into(text, Special::Text, &mut ids)?;
        for part in ids.chunks(context - 1) {
            documents.push([&[end], part, &[end]].concat());
        }
    }
    Ok(documents)
}
