//! What the report shows of the first stage: its curve, what the net looks at, what it writes.

use crate::report::{Attention, Pretraining, Sample};
use longhand_gpt::attention_map::attention_map;
use longhand_gpt::error::Result;
use longhand_gpt::snapshot::Trained;
use longhand_gpt::tokenizer::Special;
use longhand_gpt::world::{Split, Verdict, World};
use longhand_gpt::world_report::write_stories;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use serde_json::Value;
use std::path::Path;

/// The seed of the stories that the net was trained on; another range of them is shown.
const SEED: u64 = 1;
/// Stories that are shown.
const SAMPLES: usize = 4;

/// The first stage as its run tells it.
pub fn pretraining(run: &Path, base: &Trained) -> Pretraining {
    let mut p = Pretraining { parameters: base.model.layout().count() as u64, ..Pretraining::default() };
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    for line in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
        let step = line["step"].as_f64();
        match (step, line["loss"].as_f64(), line["val_loss"].as_f64()) {
            (Some(step), Some(loss), _) => p.train.push((step, loss)),
            (Some(step), _, Some(loss)) => p.validation.push((step, loss)),
            _ => (),
        }
        let stories = &line["stories"];
        if stories.is_object() {
            (p.floor, p.ngram, p.loss) =
                (stories["floor"].as_f64(), stories["five_gram"].as_f64(), stories["model"].as_f64());
        }
        if let Some(seconds) = line["final"]["seconds"].as_f64() {
            p.seconds = seconds;
            p.tokens = line["final"]["tokens"].as_u64().unwrap_or(0);
        }
    }
    p
}

/// What the heads of the third block look at in a story that the net has not seen.
///
/// # Errors
/// A tokenizer that lacks a character.
pub fn attention(ctx: &Ctx, base: &Trained) -> Result<Attention> {
    let story = World::full().story(SEED, Split::Test.range().start);
    let mut ids = base.tokenizer.encode_prompt("", Special::Text)?;
    base.tokenizer.encode_into(&story.text, Special::Text, &mut ids)?;
    ids.truncate(base.model.config().n_positions);
    let layers = base.model.config().n_layer;
    let layer = layers.min(3) - 1;
    let heads = attention_map(ctx, &base.model, Weights::Plain(&base.params), &ids, layer)?;
    let tokens: Vec<String> = ids
        .iter()
        .map(|id| String::from_utf8_lossy(base.tokenizer.token_bytes(*id).unwrap_or_default()).into_owned())
        .collect();
    // The token before the last word that the state determines: the net has to look for what comes.
    let mut end = 0;
    let wanted = story.determined.last().map_or(story.text.len(), |r| r.start);
    let mut query = tokens.len().saturating_sub(2);
    for (i, token) in tokens.iter().enumerate().skip(1) {
        end += token.len();
        if end > wanted {
            query = i - 1;
            break;
        }
    }
    Ok(Attention { layer: layer + 1, layers, tokens, heads, query })
}

/// Stories that the net writes from nothing.
///
/// # Errors
/// As the net.
pub fn samples(ctx: &Ctx, base: &Trained) -> Result<Vec<Sample>> {
    let world = World::full();
    let weights = Weights::Plain(&base.params);
    let longest = 2 * base.model.config().n_positions;
    let written = write_stories(ctx, &base.model, weights, &base.tokenizer, &world, SAMPLES, longest, SEED)?;
    let sample = |text: String| {
        let (consistent, verdict) = match world.parse(&text) {
            Verdict::Story(_) => (true, "a story of the world, consistent to its end".to_string()),
            Verdict::Inconsistent(fault) => (false, format!("in the world's language, but: {}", fault.why)),
            Verdict::Ungrammatical(fault) => (false, format!("not in the world's language: {}", fault.why)),
        };
        Sample { prompt: String::new(), text, consistent, verdict }
    };
    Ok(written.texts.into_iter().map(sample).collect())
}
