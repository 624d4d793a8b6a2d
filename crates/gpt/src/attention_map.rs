//! What a model looks at: the attention weights of one layer over one text.

use crate::error::{Error, Result};
use crate::model::Gpt;
use longhand_tensor::Ctx;
use longhand_tensor::attention::Mask;
use longhand_tensor::exec::{Batch, Exec, Infer, InferMemory, Weights};

/// softmax(q·kᵀ/√HS + mask) of block `layer` (from 0), one matrix a head.
///
/// Shapes: `tokens` (T); each matrix (T, T) row-major, row the token that looks, 0 where it may not.
/// Cost: a forward pass, and 2·T²·C flops in plain loops: for a picture of one text.
/// Numerics: the queries and keys of the model's own pass; products and softmax in f64, rounded once.
/// # Errors
/// `Config` for a layer that there is not; no tokens, or more than the context; ids beyond the vocabulary.
pub fn attention_map(ctx: &Ctx, model: &Gpt, weights: Weights, tokens: &[u32], layer: usize) -> Result<Vec<Vec<f32>>> {
    let config = model.config();
    if layer >= config.n_layer {
        return Err(Error::config("layer", layer, format!("must be below {}", config.n_layer)));
    }
    if tokens.is_empty() || tokens.len() > config.n_positions {
        return Err(Error::config("tokens", tokens.len(), format!("must be from 1 to {}", config.n_positions)));
    }
    let (mut batch, mut memory, mut qkv) = (Batch::default(), InferMemory::new()?, Vec::new());
    batch.push(tokens, 0, 0);
    let mut infer = Infer::new(ctx, weights, &batch, None, &mut memory);
    model.forward(&mut infer, |e, i, x| {
        if i == layer {
            let x = model.qkv(e, x, layer)?; // (T, 3C)
            e.read(x, &mut qkv);
        }
        Ok(())
    })?;
    let (t, c, head) = (tokens.len(), config.n_embd, config.head_size());
    let scale = 1.0 / (head as f64).sqrt();
    let seen = |query: usize| match config.layer_window(layer).map_or(Mask::Causal, Mask::Banded) {
        Mask::Banded(window) => (query + 1).saturating_sub(window)..query + 1,
        _ => 0..query + 1,
    };
    let dot = |query: usize, key: usize, h: usize| {
        let (q, k) = (&qkv[query * 3 * c + h * head..][..head], &qkv[key * 3 * c + c + h * head..][..head]);
        q.iter().zip(k).fold(0.0, |sum, (q, k)| sum + f64::from(*q) * f64::from(*k)) * scale
    };
    let map = |h: usize| {
        let mut map = vec![0.0f32; t * t];
        for query in 0..t {
            let scores: Vec<f64> = seen(query).map(|key| dot(query, key, h)).collect();
            let shift = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
            let powers: Vec<f64> = scores.iter().map(|s| libm::exp(s - shift)).collect();
            let sum = powers.iter().fold(0.0, |sum, p| sum + p);
            for (key, p) in seen(query).zip(powers) {
                map[query * t + key] = (p / sum) as f32;
            }
        }
        map
    };
    Ok((0..config.n_head).map(map).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arch, Config};

    #[test]
    fn rows_sum_to_one_and_look_back_only() {
        for (arch, window) in [(Arch::Gpt1, None), (Arch::Gpt2, Some(3))] {
            let mut config = Config::new(arch, 50, 16);
            (config.n_layer, config.n_embd, config.n_head, config.attention_window) = (2, 24, 3, window);
            let model = Gpt::new(&config).unwrap();
            let params = model.init(1).unwrap();
            let (ctx, tokens) = (Ctx::default(), [3, 1, 4, 1, 5, 9, 2, 6]);
            let maps = attention_map(&ctx, &model, Weights::Plain(&params), &tokens, 1).unwrap();
            assert_eq!(maps.len(), 3);
            for map in &maps {
                for (query, row) in map.chunks_exact(8).enumerate() {
                    let sum: f32 = row.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
                    let first = window.map_or(0, |w| (query + 1).saturating_sub(w));
                    for (key, p) in row.iter().enumerate() {
                        assert_eq!(*p > 0.0, (first..=query).contains(&key), "{query} sees {key}");
                    }
                }
            }
            let line = attention_map(&ctx, &model, Weights::Plain(&params), &tokens, 2).unwrap_err().to_string();
            assert_eq!(line, "layer = 2: must be below 2");
        }
    }
}
