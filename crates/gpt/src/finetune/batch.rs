//! Items to batches: the rows that a head reads, what is right for each, and the weight of every loss.

use super::encode::{Gold, Item};
use super::examples::TaskKind;
use super::spec::{ScoreHead, TaskSpec};
use longhand_tensor::exec::{Batch, IGNORE};

/// What one forward pass over items reads.
#[derive(Clone, Debug, Default)]
pub struct TaskBatch {
    /// The sequences.
    pub batch: Batch,
    /// Their lengths.
    pub lens: Vec<usize>,
    /// The rows that the head reads: ⟨e⟩ of each sequence, the words' last tokens, the document's tokens.
    pub rows: Vec<usize>,
    /// The outputs of one softmax each: classes, a question's answers, a document's tokens.
    pub runs: Vec<usize>,
    /// What is right in each run.
    pub targets: Vec<u32>,
    /// The weight of each run's loss, or of each score's.
    pub weights: Vec<f32>,
    /// The end of a span, or the other class of a score, in each run.
    pub second_targets: Vec<u32>,
    /// Their weights.
    pub second_weights: Vec<f32>,
    /// Scores, between 0 and 1.
    pub scores: Vec<f32>,
    /// For each token the next; nothing where the language model's loss has no weight.
    pub model_targets: Vec<u32>,
    /// The weight of each.
    pub model_weights: Vec<f32>,
    /// The share of `model_weights` that is a sequence's own loss, not the auxiliary one.
    pub target_weights: Vec<f32>,
}

/// Over what the auxiliary loss is a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelMean {
    /// Of each sequence's targets, then of the sequences: the released code's.
    Row,
    /// Of all targets.
    Token,
}

impl ModelMean {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ModelMean::Row => "row",
            ModelMean::Token => "token",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<ModelMean> {
        [ModelMean::Row, ModelMean::Token].into_iter().find(|m| m.name() == name)
    }
}

/// The weights of an objective: L3 = L2 + λ·L1.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// λ.
    pub model_weight: f32,
    /// What L1 is a mean of.
    pub model_mean: ModelMean,
    /// The weight of each class's rows; none for all alike.
    pub class_weights: Vec<f32>,
}

/// Sums over an update, by which the losses of all its microbatches are divided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Weights of what the task's loss is a mean of: rows, words, or a sequence's tokens.
    task: f64,
    sequences: usize,
    targets: usize,
}

impl Totals {
    /// Whether nothing is known of any item.
    pub fn is_empty(&self) -> bool {
        self.task == 0.0
    }
}

impl Objective {
    /// GPT-1's: λ 0.5 over rows.
    pub fn released() -> Self {
        Objective { model_weight: 0.5, model_mean: ModelMean::Row, class_weights: Vec::new() }
    }

    fn class(&self, class: u32) -> f64 {
        if class == IGNORE { 0.0 } else { self.class_weights.get(class as usize).map_or(1.0, |w| f64::from(*w)) }
    }

    /// The sums over all items of an update.
    pub fn totals<'a>(&self, spec: &TaskSpec, items: impl IntoIterator<Item = &'a Item>) -> Totals {
        let mut t = Totals::default();
        for item in items {
            t.task += match &item.gold {
                Gold::Unknown => 0.0,
                Gold::Class(class) if spec.has_classes() => self.class(*class),
                Gold::Class(_) | Gold::Score(_) | Gold::Span(..) => 1.0,
                Gold::Tags(tags) => tags.iter().fold(0.0, |sum, tag| sum + self.class(*tag)),
                Gold::Target => (item.sequences.last[0].len() + 1) as f64,
            };
            t.sequences += item.sequences.lens.len();
            t.targets += item.tokens() - item.sequences.lens.len();
        }
        t
    }
}

impl TaskBatch {
    /// Fills with items, of which an update has the sums `totals`; without an objective no loss has a weight.
    pub fn fill<'a>(
        &mut self,
        spec: &TaskSpec,
        items: impl IntoIterator<Item = &'a Item>,
        objective: Option<(&Objective, &Totals)>,
    ) {
        self.clear();
        for item in items {
            self.push(spec, item, objective);
        }
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.lens.clear();
        self.rows.clear();
        self.runs.clear();
        self.targets.clear();
        self.weights.clear();
        self.second_targets.clear();
        self.second_weights.clear();
        self.scores.clear();
        self.model_targets.clear();
        self.model_weights.clear();
        self.target_weights.clear();
    }

    fn push(&mut self, spec: &TaskSpec, item: &Item, objective: Option<(&Objective, &Totals)>) {
        let (first, s) = (self.batch.rows(), &item.sequences);
        let mut start = 0;
        for &len in &s.lens {
            self.batch.push(&s.tokens[start..start + len], 0, self.lens.len());
            self.lens.push(len);
            start += len;
            if !matches!(spec.kind, TaskKind::Tagging | TaskKind::Span | TaskKind::Sequence) {
                self.rows.push(first + start - 1);
            }
        }
        match spec.kind {
            TaskKind::Tagging => self.rows.extend(item.marks.iter().map(|mark| first + mark)),
            TaskKind::Span => self.rows.extend(s.last[0].clone().map(|token| first + token)),
            _ => (),
        }
        let Some((objective, totals)) = objective else { return };
        let weight = |w: f64| if totals.task > 0.0 { (w / totals.task) as f32 } else { 0.0 };
        self.push_task(spec, item, objective, weight);
        self.push_model(spec, item, objective, totals, weight);
    }

    /// What is right in each of an item's runs.
    fn push_task(&mut self, spec: &TaskSpec, item: &Item, objective: &Objective, weight: impl Fn(f64) -> f32) {
        match (&item.gold, spec.kind) {
            (_, TaskKind::Sequence) => (),
            (gold, TaskKind::Span) => {
                self.runs.push(item.sequences.last[0].len());
                let (start, end) = if let Gold::Span(start, end) = gold { (*start, *end) } else { (IGNORE, IGNORE) };
                self.targets.push(start);
                self.second_targets.push(end);
                self.weights.push(weight(0.5));
                self.second_weights.push(weight(0.5));
            }
            (gold, TaskKind::Tagging) => {
                for (i, _) in item.marks.iter().enumerate() {
                    let tag = if let Gold::Tags(tags) = gold { tags[i] } else { IGNORE };
                    self.runs.push(spec.outputs());
                    self.targets.push(tag);
                    self.weights.push(weight(objective.class(tag)));
                }
            }
            (gold, TaskKind::Similarity) if spec.scores.is_some() => {
                let Some(scores) = spec.scores else { return };
                let (score, known) = if let Gold::Score(score) = gold { (*score, 1.0) } else { (scores.low, 0.0) };
                if scores.head == ScoreHead::Linear {
                    self.scores.push(scores.normal(score) as f32);
                    self.weights.push(weight(known));
                    return;
                }
                let (below, above, share) = scores.spread(score);
                self.runs.push(spec.outputs());
                self.targets.push(below);
                self.second_targets.push(above);
                self.weights.push(weight(known * (1.0 - share)));
                self.second_weights.push(weight(known * share));
            }
            (gold, kind) => {
                let class = if let Gold::Class(class) = gold { *class } else { IGNORE };
                let choice = kind == TaskKind::Choice;
                self.runs.push(if choice { item.sequences.lens.len() } else { spec.outputs() });
                self.targets.push(class);
                self.weights.push(weight(if choice { 1.0 } else { objective.class(class) }));
            }
        }
    }

    /// The next token of each token, and the weight of its loss: the auxiliary one's, and a sequence's own.
    fn push_model(
        &mut self,
        spec: &TaskSpec,
        item: &Item,
        objective: &Objective,
        totals: &Totals,
        weight: impl Fn(f64) -> f32,
    ) {
        // A sequence without a target has no loss of its own, and its tokens their places among those of the others.
        let own = item.gold == Gold::Target;
        if objective.model_weight == 0.0 && spec.kind != TaskKind::Sequence {
            return;
        }
        let (lambda, mut start) = (f64::from(objective.model_weight), 0);
        for (len, last) in item.sequences.lens.iter().zip(&item.sequences.last) {
            let tokens = &item.sequences.tokens[start..start + len];
            start += len;
            let auxiliary = lambda
                / match objective.model_mean {
                    ModelMean::Row => ((len - 1) * totals.sequences) as f64,
                    ModelMean::Token => totals.targets as f64,
                };
            for next in 1..*len {
                // The target's tokens and ⟨e⟩ behind them.
                let of_target = if own && (last.start..=last.end).contains(&next) { weight(1.0) } else { 0.0 };
                self.model_targets.push(tokens[next]);
                self.model_weights.push(auxiliary as f32 + of_target);
                self.target_weights.push(of_target);
            }
            self.model_targets.push(IGNORE);
            self.model_weights.push(0.0);
            self.target_weights.push(0.0);
        }
    }
}
