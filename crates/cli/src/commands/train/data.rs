//! The data of a run: the user's text as token files in the run's folder, or the embedded stories.

use super::defaults::stories as usual;
use super::settings::Settings;
use crate::failure::Failure;
use crate::progress::note;
use longhand_gpt::data::{Documents, Rows, TRAIN, Texts, Tokens, VALIDATION, Windows};
use longhand_gpt::error::Error;
use longhand_gpt::mmap::Access;
use longhand_gpt::tokenizer::{Kind, Special, Tokenizer};
use longhand_gpt::world::{Split, World};
use longhand_gpt::world_report::{Stories, stories};
use std::path::{Path, PathBuf};

/// Rows to train and to validate on, and what is told about them.
pub struct Data {
    pub train: Box<dyn Rows>,
    pub validation: Box<dyn Rows>,
    /// Predicted tokens of one pass over the training part.
    pub train_tokens: u64,
    pub validation_tokens: u64,
    /// Bytes of the training part.
    pub train_bytes: u64,
    /// Tokens a byte of the training and of the validation part: what turns nats a token into bits a byte.
    pub train_rate: f64,
    pub validation_rate: f64,
    /// A story, or the first lines of the text.
    pub opening: String,
    /// What samples continue.
    pub prompt: String,
    /// For the embedded stories.
    pub stories: Option<StoryData>,
}

/// The embedded world's stories.
pub struct StoryData {
    pub world: World,
    pub train: Stories,
    pub validation: Stories,
}

/// Characters of a prompt taken from the text, at most.
const PROMPT_CHARS: usize = 48;
/// Characters of the text shown at the start, at most.
const OPENING_CHARS: usize = 320;

/// Nats a token as bits a byte.
pub fn bits_per_byte(nats_per_token: f64, tokens_per_byte: f64) -> f64 {
    nats_per_token * tokens_per_byte / std::f64::consts::LN_2
}

/// A tokenizer for the embedded stories.
///
/// # Errors
/// What training one says.
pub fn story_tokenizer(settings: &Settings) -> Result<Tokenizer, Failure> {
    let texts: Vec<String> =
        World::full().stories(usual::SEED, Split::Train, usual::FOR_TOKENIZER).map(|s| s.text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // A story is told from its beginning, never from its middle.
    Ok(Tokenizer::train(settings.tokenizer, &texts, settings.vocab_size)?.with_bos())
}

/// A tokenizer for the user's texts.
///
/// # Errors
/// Texts so short that nothing of them trains; what training a tokenizer says.
pub fn text_tokenizer(texts: &Texts, settings: &Settings) -> Result<Tokenizer, Failure> {
    if texts.train().iter().all(|t| t.is_empty()) {
        let problem = "too short: the first nine tenths, which train, hold no character".into();
        return Err(Error::Data { path: named(texts), byte: None, problem }.into());
    }
    Ok(texts.tokenizer(settings.tokenizer, settings.vocab_size)?)
}

/// The embedded stories as rows.
///
/// # Errors
/// A tokenizer that lacks a character of a story.
pub fn story_data(settings: &Settings, tokenizer: &Tokenizer) -> Result<Data, Failure> {
    let world = World::full();
    let wanted = settings.max_iters.saturating_mul(settings.rows_per_step() as u64);
    let train = stories(&world, tokenizer, usual::SEED, Split::Train, wanted.clamp(usual::LEAST, usual::MOST))?;
    let validation = stories(&world, tokenizer, usual::SEED, Split::Validation, usual::VALIDATION)?;
    let first = world.story(usual::SEED, Split::Validation.range().start);
    let block = settings.block_size;
    let longest = train.longest().max(validation.longest());
    let prompt = match &settings.prompt {
        Some(prompt) => prompt.clone(),
        None => shortened(&first.text[first.sentences[0].range.clone()], tokenizer, block)?,
    };
    if longest > block {
        note(&format!("stories have up to {longest} tokens: a context of {block} cuts the long ones in two"));
    }
    Ok(Data {
        train: Box::new(Documents::new(train.rows(block), block, settings.seed)?),
        validation: Box::new(Documents::new(validation.rows(block), block, settings.seed)?),
        train_tokens: train.tokens(),
        train_bytes: train.bytes,
        validation_tokens: validation.tokens(),
        train_rate: train.tokens() as f64 / train.bytes as f64,
        validation_rate: validation.tokens() as f64 / validation.bytes as f64,
        prompt,
        opening: first.text,
        stories: Some(StoryData { world, train, validation }),
    })
}

/// The beginning of a text with at most half of a context's tokens: whole words where one fits, characters elsewhere.
///
/// # Errors
/// A character that the tokenizer does not know.
fn shortened(text: &str, tokenizer: &Tokenizer, block: usize) -> Result<String, Failure> {
    let most = (block / 2).max(1);
    let words = text.match_indices(char::is_whitespace).map(|(at, _)| at).rev();
    let characters = text.char_indices().map(|(at, _)| at).rev();
    for end in std::iter::once(text.len()).chain(words).chain(characters) {
        let beginning = text[..end].trim_end();
        if !beginning.is_empty() && tokenizer.encode_prompt(beginning, Special::Parse)?.len() <= most {
            return Ok(beginning.to_string());
        }
    }
    // A prompt of the end of text alone, where there is one, is a single token.
    Ok(if tokenizer.end_id().is_some() { String::new() } else { text.chars().take(1).collect() })
}

/// Whether a tokenizer that was made for other texts knows every character, before anything is written.
///
/// # Errors
/// The first character that it does not know.
pub fn check_characters(texts: Option<&Texts>, settings: &Settings, tokenizer: &Tokenizer) -> Result<(), Failure> {
    if tokenizer.kind() != Kind::Chars {
        return Ok(());
    }
    let Some(texts) = texts else { return story_data(settings, tokenizer).map(drop) };
    let mut ids = Vec::new();
    for text in texts.texts() {
        ids.clear();
        let known = tokenizer.encode_into(&text.contents, Special::Text, &mut ids);
        known.map_err(|e| Failure::new(format!("{}: {e}", text.path.display())))?;
    }
    Ok(())
}

/// Whether a tokenizer that was made for other texts can tell the end of a story, before anything is written.
///
/// # Errors
/// It has no end-of-text token.
pub fn check_end(tokenizer: &Tokenizer) -> Result<(), Failure> {
    match tokenizer.end_id() {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            "the tokenizer has no end-of-text token, which ends each of the embedded stories: give a text",
        )),
    }
}

/// Whether the text is long enough, before anything is written.
///
/// # Errors
/// How many tokens there are and how many are needed.
pub fn check_length(texts: &Texts, tokenizer: &Tokenizer, block: usize) -> Result<(), Failure> {
    let train = count(&texts.train(), tokenizer, block.saturating_add(1))?;
    let validation = count(&texts.validation(), tokenizer, 2)?;
    if train > block && validation >= 2 {
        return Ok(());
    }
    // Told as they are, not as far as the one that suffices was counted.
    let train = count(&texts.train(), tokenizer, usize::MAX)?;
    let validation = count(&texts.validation(), tokenizer, usize::MAX)?;
    let problem = format!(
        "too short: {train} tokens to train on and {validation} to validate on; a block size of {block} needs at \
         least {} and 2",
        block.saturating_add(1)
    );
    Err(Error::Data { path: named(texts), byte: None, problem }.into())
}

/// What a line about texts begins with.
fn named(texts: &Texts) -> PathBuf {
    match texts.texts() {
        [one] => one.path.clone(),
        all => format!("the {} texts together", all.len()).into(),
    }
}

/// How many tokens texts have, counted no further than the beginning where that has twice as many as are `needed`.
fn count(texts: &[&str], tokenizer: &Tokenizer, needed: usize) -> Result<usize, Failure> {
    // Nearly every token is shorter than 64 bytes; where they are not, the whole is counted.
    const LONG: usize = 64;
    let mut ids = Vec::new();
    let mut room = needed.saturating_mul(2 * LONG);
    for text in texts {
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let beginning = &text[..end];
        tokenizer.encode_into(beginning, Special::Text, &mut ids)?;
        room -= beginning.len();
    }
    if ids.len() < needed.saturating_mul(2) {
        ids.clear();
        texts.iter().try_for_each(|text| tokenizer.encode_into(text, Special::Text, &mut ids))?;
    }
    // An end of text stands between two texts, where the tokenizer has one.
    let ends = if tokenizer.end_id().is_some() { texts.len() - 1 } else { 0 };
    Ok(ids.len() + ends)
}

/// The text in a run's folder as rows.
///
/// # Errors
/// Token files that are missing, damaged or of another tokenizer.
pub fn text_data(folder: &Path, settings: &Settings, tokenizer: &Tokenizer, access: Access) -> Result<Data, Failure> {
    let open = |name: &str| Tokens::open(folder.join(name), tokenizer.vocab_size(), access);
    let (train, validation) = (open(TRAIN)?, open(VALIDATION)?);
    let beginning = |tokens: &Tokens, chars: usize| -> Result<String, Failure> {
        let mut ids = vec![0; tokens.len().min(chars)];
        tokens.copy_to(0, &mut ids);
        Ok(tokenizer.decode(&ids)?.chars().take(chars).collect())
    };
    let opening = beginning(&train, OPENING_CHARS)?;
    let prompt = match &settings.prompt {
        Some(prompt) => prompt.clone(),
        None => shortened(&first_words(&beginning(&validation, 4 * PROMPT_CHARS)?), tokenizer, settings.block_size)?,
    };
    let rate = |tokens: &Tokens| tokens.len() as f64 / tokens.text_bytes().max(1) as f64;
    Ok(Data {
        train_tokens: train.len() as u64 - 1,
        train_bytes: train.text_bytes(),
        validation_tokens: validation.len() as u64 - 1,
        train_rate: rate(&train),
        validation_rate: rate(&validation),
        train: Box::new(Windows::new(train, settings.block_size, settings.seed)?),
        validation: Box::new(Windows::for_evaluation(validation, settings.block_size)?),
        opening,
        prompt,
        stories: None,
    })
}

/// The first line with a few words, else the first with letters, else the first with anything; cut after a word.
fn first_words(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty());
    let lettered = || lines().filter(|l| l.chars().any(char::is_alphanumeric));
    let wordy = lettered().find(|l| l.split_whitespace().count() > 2);
    let line = wordy.or_else(|| lettered().next()).or_else(|| lines().next()).unwrap_or("");
    if line.chars().count() <= PROMPT_CHARS {
        return line.to_string();
    }
    let cut: String = line.chars().take(PROMPT_CHARS).collect();
    match cut.rfind(' ') {
        Some(at) if at > 0 => cut[..at].to_string(),
        _ => cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_end_with_a_word() {
        assert_eq!(first_words("\n  \n---\nHAMLET:\nTo be, or not.\nThat"), "To be, or not.");
        assert_eq!(first_words("---\nHAMLET:\nNo."), "HAMLET:");
        let long = "Now is the winter of our discontent made glorious summer by this";
        assert_eq!(first_words(long), "Now is the winter of our discontent made");
        assert_eq!(first_words(&"x".repeat(99)).len(), PROMPT_CHARS);
        let within = |text: &str, block: usize| shortened(text, &Tokenizer::bytes(), block).unwrap();
        assert_eq!([17, 16, 8, 7].map(|block| within("To be, é", block)), ["To be,", "To be,", "To", "To"]);
        assert_eq!([18, 3, 1].map(|block| within("To be, é", block)), ["To be, é", "T", "T"]);
        assert_eq!((within("é", 2).as_str(), within("é", 4).as_str()), ("", "é"));
        let texts = Tokenizer::bytes().with_bos();
        assert_eq!([1, 4, 8].map(|block| shortened("To be", &texts, block).unwrap()), ["", "T", "To"]);
        // A tokenizer without an end of text cannot begin with nothing.
        assert_eq!((first_words("\n * * *\n"), first_words("")), ("* * *".to_string(), String::new()));
    }
}
