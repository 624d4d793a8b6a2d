//! What decides a task's net: its kind, its classes or scores, what the head reads, what trains.

use super::examples::TaskKind;
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// What a head reads of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The activation at ⟨e⟩: GPT-1's.
    Extract,
    /// The mean of all activations.
    Mean,
    /// The one at ⟨e⟩, the mean and the maximum, side by side.
    All,
}

impl Pooling {
    /// Every one.
    pub const ALL: [Pooling; 3] = [Pooling::Extract, Pooling::Mean, Pooling::All];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Extract => "extract",
            Pooling::Mean => "mean",
            Pooling::All => "all",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Pooling> {
        Pooling::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// Which parameters train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trains {
    /// All of them.
    All,
    /// The head.
    Head,
    /// Bottlenecks of so many channels in both sub-blocks, norms, the head and the new tokens' embeddings.
    Adapters(usize),
    /// The head and the shares of all layers' activations in what it reads.
    Features,
}

impl Trains {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Trains::All => "all",
            Trains::Head => "head",
            Trains::Adapters(_) => "adapters",
            Trains::Features => "features",
        }
    }

    /// The one of that name; adapters of `size` channels.
    pub fn from_name(name: &str, size: usize) -> Option<Trains> {
        [Trains::All, Trains::Head, Trains::Adapters(size), Trains::Features].into_iter().find(|t| t.name() == name)
    }

    /// Whether the body's own weights stay as they are, so that a checkpoint need not hold them.
    pub fn freezes_the_body(self) -> bool {
        self != Trains::All
    }

    /// Whether the language model's loss teaches anything: not where everything below the head is frozen.
    pub fn reaches_the_body(self) -> bool {
        matches!(self, Trains::All | Trains::Adapters(_))
    }
}

/// How a score is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreHead {
    /// One number, by squared error.
    Linear,
    /// A class for each whole step between lowest and highest; a score is spread over its two neighbours, and the
    /// expectation is predicted. Source: Tai, Socher, Manning, arXiv:1503.00075, section 4.2.
    Classes,
}

impl ScoreHead {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ScoreHead::Linear => "linear",
            ScoreHead::Classes => "classes",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<ScoreHead> {
        [ScoreHead::Linear, ScoreHead::Classes].into_iter().find(|s| s.name() == name)
    }
}

/// The scores of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// The lowest that can be given.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// How they are told.
    pub head: ScoreHead,
}

impl Scores {
    /// Classes of `ScoreHead::Classes`.
    pub fn classes(&self) -> usize {
        libm::ceil(self.high - self.low) as usize + 1
    }

    /// A score between 0 and 1.
    pub fn normal(&self, score: f64) -> f64 {
        (score - self.low) / (self.high - self.low)
    }

    /// The two classes around a score, and how much of it is the second one's.
    pub fn spread(&self, score: f64) -> (u32, u32, f64) {
        let at = (score - self.low).clamp(0.0, (self.classes() - 1) as f64);
        let below = libm::floor(at);
        let above = (below + 1.0).min((self.classes() - 1) as f64);
        (below as u32, above as u32, at - below)
    }
}

/// Everything that decides a task's net beside its body.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// What is asked.
    pub kind: TaskKind,
    /// Names of the classes; none for scores, choices, spans and sequences.
    pub labels: Vec<String>,
    /// For similarity by scores.
    pub scores: Option<Scores>,
    /// What the head reads; tagging and spans read tokens in any case.
    pub pool: Pooling,
    /// What trains.
    pub trains: Trains,
    /// Dropout on what the head reads.
    pub head_dropout: f32,
}

/// The widest adapter.
const MAX_ADAPTER: usize = 1 << 16;

impl TaskSpec {
    /// A task as the paper has it: the activation at ⟨e⟩, everything trains, dropout 0.1 on the head.
    pub fn new(kind: TaskKind, labels: Vec<String>) -> Self {
        TaskSpec { kind, labels, scores: None, pool: Pooling::Extract, trains: Trains::All, head_dropout: 0.1 }
    }

    /// Whether the task has classes.
    pub fn has_classes(&self) -> bool {
        match self.kind {
            TaskKind::Classification | TaskKind::Entailment | TaskKind::Tagging => true,
            TaskKind::Similarity => self.scores.is_none(),
            TaskKind::Choice | TaskKind::Span | TaskKind::Sequence => false,
        }
    }

    /// Columns of the head.
    pub fn outputs(&self) -> usize {
        match self.scores {
            Some(scores) if scores.head == ScoreHead::Classes => scores.classes(),
            _ if self.has_classes() => self.labels.len(),
            _ => 1,
        }
    }

    /// Checks that the parts fit each other.
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<()> {
        if self.has_classes() && self.labels.len() < 2 {
            let n = self.labels.len();
            return Err(Error::config("labels", n, "a task needs at least two classes to tell apart"));
        }
        if let Some(s) = self.scores {
            let fits = s.low.is_finite() && s.high.is_finite() && s.high > s.low && s.high - s.low <= 1e4;
            if self.kind != TaskKind::Similarity || !fits {
                let range = format!("{}..{}", s.low, s.high);
                return Err(Error::config(
                    "scores",
                    range,
                    "similarity's, from a lowest to a higher one, 10,000 apart at most",
                ));
            }
        }
        if !(self.head_dropout >= 0.0 && self.head_dropout < 1.0) {
            return Err(Error::config("head_dropout", self.head_dropout, "at least 0 and below 1"));
        }
        match self.trains {
            Trains::Adapters(size) if size == 0 || size > MAX_ADAPTER => {
                Err(Error::config("adapter_size", size, format!("from 1 to {MAX_ADAPTER}")))
            }
            Trains::Head | Trains::Features if self.kind == TaskKind::Sequence => {
                Err(Error::config("trains", self.trains.name(), "a sequence has no head: train all, or adapters"))
            }
            _ => Ok(()),
        }
    }

    /// As an object of JSON.
    pub fn to_json(&self) -> Value {
        let adapter = if let Trains::Adapters(size) = self.trains { Some(size) } else { None };
        json!({
            "kind": self.kind.name(),
            "labels": self.labels,
            "scores": self.scores.map(|s| json!({"low": s.low, "high": s.high, "head": s.head.name()})),
            "pool": self.pool.name(),
            "trains": self.trains.name(),
            "adapter_size": adapter,
            "head_dropout": f64::from(self.head_dropout),
        })
    }

    /// From `to_json`'s object.
    /// # Errors
    /// The field that is missing or wrong.
    pub fn from_json(value: &Value) -> Result<TaskSpec> {
        let bad = |field: &str| Error::config(field, crate::json::shown(&value[field]), "is not a task's");
        let text = |field: &str| value[field].as_str().ok_or_else(|| bad(field));
        let labels = value["labels"].as_array().ok_or_else(|| bad("labels"))?;
        let labels = labels.iter().map(|l| l.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
        let size = value["adapter_size"].as_u64().unwrap_or(0) as usize;
        let scores = match &value["scores"] {
            Value::Null => None,
            s => {
                let number = |field: &str| s[field].as_f64().ok_or_else(|| bad("scores"));
                let head = s["head"].as_str().and_then(ScoreHead::from_name).ok_or_else(|| bad("scores"))?;
                Some(Scores { low: number("low")?, high: number("high")?, head })
            }
        };
        let spec = TaskSpec {
            kind: TaskKind::from_name(text("kind")?).ok_or_else(|| bad("kind"))?,
            labels: labels.ok_or_else(|| bad("labels"))?,
            scores,
            pool: Pooling::from_name(text("pool")?).ok_or_else(|| bad("pool"))?,
            trains: Trains::from_name(text("trains")?, size).ok_or_else(|| bad("trains"))?,
            head_dropout: value["head_dropout"].as_f64().ok_or_else(|| bad("head_dropout"))? as f32,
        };
        spec.validate()?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_its_json() {
        let labels = vec!["no".to_string(), "ye\"s".to_string()];
        let plain = TaskSpec::new(TaskKind::Tagging, labels);
        let scores = Some(Scores { low: 1.0, high: 5.0, head: ScoreHead::Classes });
        let (pool, trains) = (Pooling::All, Trains::Adapters(16));
        let other = TaskSpec { scores, pool, trains, ..TaskSpec::new(TaskKind::Similarity, Vec::new()) };
        for spec in [plain, other] {
            assert_eq!(TaskSpec::from_json(&spec.to_json()).unwrap(), spec);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let line = |spec: TaskSpec| spec.validate().unwrap_err().to_string();
        let one = TaskSpec::new(TaskKind::Classification, vec!["x".to_string()]);
        assert_eq!(line(one), "labels = 1: a task needs at least two classes to tell apart");
        let sequence = TaskSpec { trains: Trains::Head, ..TaskSpec::new(TaskKind::Sequence, Vec::new()) };
        assert!(line(sequence).starts_with("trains = head: a sequence has no head"));
        let adapter = TaskSpec { trains: Trains::Adapters(0), ..TaskSpec::new(TaskKind::Choice, Vec::new()) };
        assert!(line(adapter).starts_with("adapter_size = 0"));
    }

    #[test]
    fn a_score_is_spread_over_its_neighbours() {
        let s = Scores { low: 1.0, high: 5.0, head: ScoreHead::Classes };
        assert_eq!((s.classes(), s.normal(3.0)), (5, 0.5));
        assert_eq!(s.spread(3.25), (2, 3, 0.25));
        assert_eq!(s.spread(5.0), (4, 4, 0.0));
        assert_eq!(s.spread(1.0), (0, 1, 0.0));
    }
}
