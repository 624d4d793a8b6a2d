//! The GPT: two orders of norm and sub-block, written once for every executor.
//!
//! ```text
//! GPT-1, post-norm    n = norm(x + attention(x));  x' = norm(n + mlp(n))
//! GPT-2, pre-norm     x = x + attention(norm(x));  x' = x + mlp(norm(x));  a final norm at the end
//! ```
//!
//! Parameter names and shapes are those of Hugging Face's `openai-gpt` and `gpt2`, so that a checkpoint's names
//! are the model's own. Shapes: R rows (the tokens of all sequences), C channels, V vocabulary.

use crate::config::{Arch, Config};
use crate::error::Result;
use longhand_tensor::attention::Mask;
use longhand_tensor::exec::{AttentionOp, Exec, LinearOp, NormOp};
use longhand_tensor::params::{ParamId, ParamLayout, Params, Role};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::sync::Arc;

type TensorResult<T> = longhand_tensor::Result<T>;

/// Multi-head self-attention: out = attention(x·W_qkv + b)·W_o + b.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    /// (C, 3C)
    c_attn: LinearOp,
    op: AttentionOp,
    /// (C, C)
    c_proj: LinearOp,
    dropout: f32,
    adapter: Option<Adapter>,
}

impl SelfAttention {
    /// (R, C) → (R, C), or (rows.len(), C) of `rows` alone.
    fn forward<E: Exec>(&self, e: &mut E, x: E::T, rows: Option<&[usize]>) -> TensorResult<E::T> {
        let [out] = e.scope([], |e, []| {
            let qkv = e.linear(x, &self.c_attn)?; // (R, 3C)
            let heads = e.attention(qkv, &self.op)?; // (R, C)
            let heads = gathered(e, heads, rows)?;
            Ok([e.linear(heads, &self.c_proj)?])
        })?;
        let out = e.dropout(out, self.dropout, self.op.layer, SiteKind::AttentionResidualDropout)?;
        Adapter::after(&self.adapter, e, out)
    }
}

/// The position-wise network: out = gelu(x·W_1 + b)·W_2 + b.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// (C, 4C)
    c_fc: LinearOp,
    /// (4C, C)
    c_proj: LinearOp,
    dropout: f32,
    layer: usize,
    adapter: Option<Adapter>,
}

impl Mlp {
    fn forward<E: Exec>(&self, e: &mut E, x: E::T) -> TensorResult<E::T> {
        let [out] = e.scope([], |e, []| {
            let h = e.linear(x, &self.c_fc)?; // (R, 4C), GELU on the way out
            Ok([e.linear(h, &self.c_proj)?]) // (R, C)
        })?;
        let out = e.dropout(out, self.dropout, self.layer, SiteKind::MlpResidualDropout)?;
        Adapter::after(&self.adapter, e, out)
    }
}

/// A bottleneck behind a sub-block: out = x + gelu(x·W_down + b)·W_up + b. W_up and its bias begin at 0, so that a net
/// with fresh adapters is the net without.
/// Source: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751, section 2.1.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// (C, A)
    down: LinearOp,
    /// (A, C)
    up: LinearOp,
}

impl Adapter {
    fn after<E: Exec>(adapter: &Option<Adapter>, e: &mut E, x: E::T) -> TensorResult<E::T> {
        let Some(Adapter { down, up }) = adapter else { return Ok(x) };
        let [out] = e.scope([], |e, []| {
            let narrow = e.linear(x, down)?; // (R, A), GELU on the way out
            let wide = e.linear(narrow, up)?; // (R, C)
            Ok([e.add(x, wide)?])
        })?;
        Ok(out)
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Block {
    ln_1: NormOp,
    attn: SelfAttention,
    ln_2: NormOp,
    mlp: Mlp,
}

/// `rows` of x, or all of them.
fn gathered<E: Exec>(e: &mut E, x: E::T, rows: Option<&[usize]>) -> TensorResult<E::T> {
    rows.map_or(Ok(x), |rows| e.gather_rows(x, rows))
}

// Both orders go on with `rows` alone, if there are any: behind attention no row needs another.
impl Block {
    /// GPT-1's order. The stream is normed; there is nothing beside it.
    fn post_norm<E: Exec>(&self, e: &mut E, x: E::T, rows: Option<&[usize]>) -> TensorResult<E::T> {
        let a = self.attn.forward(e, x, rows)?;
        let x = gathered(e, x, rows)?;
        let (_, n) = e.residual_layer_norm(x, a, &self.ln_1)?;
        let m = self.mlp.forward(e, n)?;
        let (_, x) = e.residual_layer_norm(n, m, &self.ln_2)?;
        Ok(x)
    }

    /// GPT-2's order. `h` is norm(x), for the sum before a norm and the norm are one pass; `next` is the norm that
    /// follows this block.
    fn pre_norm<E: Exec>(
        &self,
        e: &mut E,
        [x, h]: [E::T; 2],
        next: &NormOp,
        rows: Option<&[usize]>,
    ) -> TensorResult<[E::T; 2]> {
        let a = self.attn.forward(e, h, rows)?;
        let x = gathered(e, x, rows)?;
        let (x, h) = e.residual_layer_norm(x, a, &self.ln_2)?;
        let m = self.mlp.forward(e, h)?;
        let (x, h) = e.residual_layer_norm(x, m, next)?;
        Ok([x, h])
    }
}

/// A GPT's structure: which parameters each op reads. The values live apart, in `Params`.
#[derive(Clone, Debug)]
pub struct Gpt {
    config: Config,
    layout: Arc<ParamLayout>,
    /// (V, C)
    wte: ParamId,
    /// (P, C)
    wpe: ParamId,
    blocks: Vec<Block>,
    /// Pre-norm only.
    ln_f: Option<NormOp>,
    /// (V, C): `wte`, unless the configuration unties it.
    head: ParamId,
}

impl Gpt {
    /// The structure that `config` describes.
    /// # Errors
    /// What `Config::validate` refuses; sizes beyond the address space.
    pub fn new(config: &Config) -> Result<Self> {
        Gpt::with_adapters(config, 0)
    }

    /// As `new`, with a bottleneck of `adapters` channels behind every sub-block, none at 0. Their parameters stand
    /// behind all others in the layout.
    /// # Errors
    /// As `new`.
    pub fn with_adapters(config: &Config, adapters: usize) -> Result<Self> {
        config.validate()?;
        let mut build = Builder { layout: ParamLayout::default(), config };
        let (c, gpt1) = (config.n_embd, config.arch == Arch::Gpt1);
        let (tokens, positions) =
            if gpt1 { ("tokens_embed.weight", "positions_embed.weight") } else { ("wte.weight", "wpe.weight") };
        let wte = build.layout.add(tokens.to_string(), &[config.vocab_size, c], Role::Embedding)?;
        let wpe = build.layout.add(positions.to_string(), &[config.n_positions, c], Role::Positions)?;
        let mut blocks = (0..config.n_layer).map(|l| build.block(l)).collect::<Result<Vec<_>>>()?;
        let ln_f = if gpt1 { None } else { Some(build.norm("ln_f")?) };
        let head = if config.tie_word_embeddings {
            wte
        } else {
            build.layout.add("lm_head.weight".to_string(), &[config.vocab_size, c], Role::Embedding)?
        };
        if adapters > 0 {
            for (l, block) in blocks.iter_mut().enumerate() {
                block.attn.adapter = Some(build.adapter(&format!("h.{l}.adapter_attn"), adapters)?);
                block.mlp.adapter = Some(build.adapter(&format!("h.{l}.adapter_mlp"), adapters)?);
            }
        }
        Ok(Gpt { config: config.clone(), layout: Arc::new(build.layout), wte, wpe, blocks, ln_f, head })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Names, shapes and places of the parameters.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }
    /// The token embedding, (V, C).
    pub fn wte(&self) -> ParamId {
        self.wte
    }
    /// The output layer, (V, C).
    pub fn head(&self) -> ParamId {
        self.head
    }

    /// Fresh weights: N(0, σ) for matrices, 0 for biases, 1 for gains; a pre-norm model's residual projections are
    /// scaled by 1/√(2L). Each value is Philox's at (parameter, element), whatever the order of drawing.
    /// Source: GPT-1 section 4.1, GPT-2 section 2.3 (positions take σ too, as Hugging Face has it).
    /// # Errors
    /// Out of memory.
    pub fn init(&self, seed: u64) -> Result<Params> {
        let mut params = Params::zeroed(self.layout.clone())?;
        let residual = 1.0 / ((2 * self.config.n_layer.max(1)) as f32).sqrt();
        for id in self.layout.ids() {
            let spec = self.layout.spec(id).clone();
            let out = params.get_mut(id);
            match spec.role {
                _ if spec.name.ends_with(".up.weight") => out.fill(0.0),
                Role::Vector if spec.name.ends_with("weight") => out.fill(1.0),
                Role::Vector => out.fill(0.0),
                _ => {
                    let scaled = self.config.arch == Arch::Gpt2 && spec.name.ends_with("c_proj.weight");
                    let std = self.config.initializer_range * if scaled { residual } else { 1.0 };
                    let rng = Philox::new(seed, Site::new(id.index(), SiteKind::Init), 0);
                    for (i, x) in out.iter_mut().enumerate() {
                        *x = rng.normal(i as u64) * std;
                    }
                }
            }
        }
        Ok(params)
    }

    /// The last layer's activations, (R, C), ready for the output layer. `each` sees the residual stream after
    /// the embedding (0) and after block i (i, from 1; after the final norm for the last of a pre-norm model).
    /// # Errors
    /// Tokens or positions out of range; out of memory; what `each` says.
    pub fn forward<E: Exec>(&self, e: &mut E, each: impl FnMut(&mut E, usize, E::T) -> Result<()>) -> Result<E::T> {
        self.forward_to(e, None, each)
    }

    /// The last layer's activations of `rows` alone, (rows.len(), C), in their order. All other rows end at the last block's
    /// attention, which saves three quarters of that block for them. The bits are those of `forward` where nothing is
    /// dropped: dropout would count rows anew.
    /// # Errors
    /// As `forward`.
    pub fn forward_rows<E: Exec>(&self, e: &mut E, rows: &[usize]) -> Result<E::T> {
        self.forward_to(e, Some(rows), |_, _, _| Ok(()))
    }

    fn forward_to<E: Exec>(
        &self,
        e: &mut E,
        rows: Option<&[usize]>,
        mut each: impl FnMut(&mut E, usize, E::T) -> Result<()>,
    ) -> Result<E::T> {
        let last = self.blocks.len();
        // Every block but the last one goes on with all rows.
        let rows = |i: usize| rows.filter(|_| i + 1 == last);
        let x = e.embed(self.wte, self.wpe)?;
        let x = e.dropout(x, self.config.embd_pdrop, 0, SiteKind::EmbeddingDropout)?;
        each(e, 0, x)?;
        let Some(ln_f) = &self.ln_f else {
            let mut x = x;
            for (i, block) in self.blocks.iter().enumerate() {
                [x] = e.scope([x], |e, [x]| Ok([block.post_norm(e, x, rows(i))?]))?;
                each(e, i + 1, x)?;
            }
            return Ok(x);
        };
        let norm_before = |i: usize| self.blocks.get(i).map_or(ln_f, |b| &b.ln_1);
        let mut state = [x, e.layer_norm(x, norm_before(0))?];
        for (i, block) in self.blocks.iter().enumerate() {
            state = e.scope(state, |e, state| block.pre_norm(e, state, norm_before(i + 1), rows(i)))?;
            let [x, h] = state;
            each(e, i + 1, if i + 1 == last { h } else { x })?;
        }
        Ok(state[1])
    }

    /// Queries, keys and values of block `layer` (from 0) from the residual stream before it, as `forward` shows it:
    /// (R, C) → (R, 3C). Panics where there is no such block.
    /// # Errors
    /// Out of memory.
    pub fn qkv<E: Exec>(&self, e: &mut E, x: E::T, layer: usize) -> Result<E::T> {
        let block = &self.blocks[layer];
        // A post-norm stream is normed already.
        let x = if self.ln_f.is_some() { e.layer_norm(x, &block.ln_1)? } else { x };
        Ok(e.linear(x, &block.attn.c_attn)?)
    }

    /// Logits of every row, (R, V).
    /// # Errors
    /// As `forward`.
    pub fn logits<E: Exec>(&self, e: &mut E) -> Result<E::T> {
        let x = self.forward(e, |_, _, _| Ok(()))?;
        Ok(e.logits(x, self.head)?)
    }

    /// losses[r] = −log P(target r | what row r sees), nats; a training executor also has the gradients of
    /// scale · Σ losses ready for its backward.
    /// # Errors
    /// As `forward`; a target out of range.
    pub fn losses<E: Exec>(&self, e: &mut E, targets: &[u32], scale: f32, losses: &mut [f32]) -> Result<()> {
        let x = self.forward(e, |_, _, _| Ok(()))?;
        Ok(e.linear_cross_entropy(x, self.head, targets, scale.into(), losses)?)
    }
}

/// Adds parameters in a checkpoint's order.
struct Builder<'a> {
    layout: ParamLayout,
    config: &'a Config,
}

impl Builder<'_> {
    fn norm(&mut self, name: &str) -> Result<NormOp> {
        let c = self.config.n_embd;
        let weight = self.layout.add(format!("{name}.weight"), &[c], Role::Vector)?;
        let bias = self.layout.add(format!("{name}.bias"), &[c], Role::Vector)?;
        Ok(NormOp { weight, bias, eps: self.config.layer_norm_epsilon })
    }

    fn linear(&mut self, name: &str, inner: usize, outer: usize) -> Result<LinearOp> {
        let weight = self.layout.add(format!("{name}.weight"), &[inner, outer], Role::Linear)?;
        let bias = self.layout.add(format!("{name}.bias"), &[outer], Role::Vector)?;
        Ok(LinearOp { weight, bias: Some(bias), gelu: None })
    }

    fn block(&mut self, layer: usize) -> Result<Block> {
        let (config, name) = (self.config, format!("h.{layer}"));
        let c = config.n_embd;
        let ln_1 = self.norm(&format!("{name}.ln_1"))?;
        let attn = SelfAttention {
            c_attn: self.linear(&format!("{name}.attn.c_attn"), c, 3 * c)?,
            op: AttentionOp {
                layer,
                heads: config.n_head,
                mask: config.layer_window(layer).map_or(Mask::Causal, Mask::Banded),
                dropout: config.attn_pdrop,
                context: config.n_positions,
            },
            c_proj: self.linear(&format!("{name}.attn.c_proj"), c, c)?,
            dropout: config.resid_pdrop,
            adapter: None,
        };
        let ln_2 = self.norm(&format!("{name}.ln_2"))?;
        let mut c_fc = self.linear(&format!("{name}.mlp.c_fc"), c, 4 * c)?;
        c_fc.gelu = Some(config.gelu);
        let c_proj = self.linear(&format!("{name}.mlp.c_proj"), 4 * c, c)?;
        Ok(Block { ln_1, attn, ln_2, mlp: Mlp { c_fc, c_proj, dropout: config.resid_pdrop, layer, adapter: None } })
    }

    fn adapter(&mut self, name: &str, size: usize) -> Result<Adapter> {
        let c = self.config.n_embd;
        let mut down = self.linear(&format!("{name}.down"), c, size)?;
        down.gelu = Some(self.config.gelu);
        Ok(Adapter { down, up: self.linear(&format!("{name}.up"), size, c)? })
    }
}
