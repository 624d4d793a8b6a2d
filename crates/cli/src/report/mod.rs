//! `report.html`: what a demonstration did, on one page that needs nothing beside it.
//!
//! The caller fills a [`Report`] as results come and writes [`Report::html`] after each; what has not run is said to
//! have not. Nothing on the page is measured or decided here: a sentence with a number computes it from the data.

mod figures;
mod page;
mod tables;
#[cfg(test)]
mod tests;
pub mod text;

/// Points of a curve: x and y. What is not finite leaves a hole.
pub type Curve = Vec<(f64, f64)>;

/// Everything the page shows; the default is a page on which nothing has run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where, how and how long.
    pub head: Head,
    /// The first stage.
    pub pretraining: Option<Pretraining>,
    /// The second stage: every planned task in the order of the run, with or without results.
    pub tasks: Vec<Task>,
    /// Score against labels, one entry a task.
    pub efficiency: Vec<Efficiency>,
    /// Right and predicted classes of one task.
    pub confusion: Option<ConfusionMatrix>,
    /// Loss between the start and the trained weights of one task.
    pub line: Option<LossLine>,
    /// Attention weights over one story.
    pub attention: Option<Attention>,
    /// Generated stories.
    pub samples: Vec<Sample>,
}

/// Where, how and how long.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The CPU's name.
    pub machine: String,
    /// The instruction set of the kernels.
    pub isa: String,
    /// Threads that computed.
    pub threads: usize,
    /// The command that makes this report again.
    pub command: String,
    /// Seconds since the start of the command.
    pub seconds: f64,
    /// Hash of the pre-trained weights.
    pub weights_hash: Option<String>,
    /// Whether nothing is left to run: before, the page says that it will be rewritten.
    pub finished: bool,
}

/// The first stage: a language model of the stories.
#[derive(Clone, Debug, Default)]
pub struct Pretraining {
    /// Loss of the training batches: step, nats a token.
    pub train: Curve,
    /// Loss on validation stories: step, nats a token.
    pub validation: Curve,
    /// The world's own entropy, nats a token: what a perfect model reaches.
    pub floor: Option<f64>,
    /// The 5-gram model's loss on the same stories, nats a token.
    pub ngram: Option<f64>,
    /// The trained model's loss on the same stories, nats a token.
    pub loss: Option<f64>,
    /// Trained numbers.
    pub parameters: u64,
    /// Tokens seen, repetitions counted.
    pub tokens: u64,
    /// Seconds of this stage.
    pub seconds: f64,
}

impl Pretraining {
    /// The share of the way from the 5-gram model to the floor that the model went, 1 at the floor.
    pub fn gap_closed(&self) -> Option<f64> {
        let (floor, ngram, loss) = (self.floor?, self.ngram?, self.loss?);
        let closed = (ngram - loss) / (ngram - floor);
        (ngram > floor && closed.is_finite()).then_some(closed)
    }
}

/// How a score is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// A share of rows such as accuracy: 0.713 is printed 71.3.
    #[default]
    Percent,
    /// A coefficient such as Pearson's: 0.713 is printed 0.713.
    Coefficient,
}

/// A task of the second stage.
#[derive(Clone, Debug, Default)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// One sentence: what is asked.
    pub asks: String,
    /// The metric's name; higher is better.
    pub metric: String,
    /// How the metric is printed.
    pub scale: Scale,
    /// Rows the scores are measured on.
    pub test_rows: usize,
    /// Labelled rows that both nets, and the baselines, learn from.
    pub labels: usize,
    /// Score of the most frequent class.
    pub majority: Option<f64>,
    /// Score of regression on a bag of words.
    pub bag_of_words: Option<f64>,
    /// Score of regression on word overlap: tasks of pairs.
    pub word_overlap: Option<f64>,
    /// Loss of a net that knows the classes' number and nothing else, nats: a line in the figure of losses.
    pub chance_loss: Option<f64>,
    /// The pre-trained net, one entry a seed.
    pub pretrained: Vec<Outcome>,
    /// The same net from random weights, one entry a seed.
    pub scratch: Vec<Outcome>,
}

impl Task {
    /// Pre-trained minus scratch, seed by seed, for seeds that both have.
    pub fn differences(&self) -> Vec<f64> {
        let of = |seed| self.scratch.iter().find(|o| o.seed == seed).map(|o| o.score);
        let pairs = self.pretrained.iter().filter_map(|o| Some(o.score - of(o.seed)?));
        pairs.filter(|d| d.is_finite()).collect()
    }
}

/// One net trained on one task with one seed, at the best of its rates.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed of labels, order and new weights.
    pub seed: u64,
    /// The task's metric on the test rows.
    pub score: f64,
    /// Epochs until it stopped.
    pub epochs: f64,
    /// Peak learning rate.
    pub rate: f64,
    /// Seconds, the search for the rate included.
    pub seconds: f64,
    /// Task loss of training batches: epoch, nats.
    pub train: Curve,
    /// Task loss on held-out labels: epoch, nats.
    pub held_out: Curve,
}

/// Score against labels of one task.
#[derive(Clone, Debug, Default)]
pub struct Efficiency {
    /// The task's name.
    pub task: String,
    /// The metric's name.
    pub metric: String,
    /// How the metric is printed.
    pub scale: Scale,
    /// Score of the most frequent class: a line.
    pub majority: Option<f64>,
    /// The points, in any order.
    pub points: Vec<LabelPoint>,
}

/// Scores of both nets at one number of labels, one entry a seed.
#[derive(Clone, Debug, Default)]
pub struct LabelPoint {
    /// Labelled rows.
    pub labels: usize,
    /// Scores of the pre-trained net.
    pub pretrained: Vec<f64>,
    /// Scores of the net from random weights.
    pub scratch: Vec<f64>,
}

/// Right and predicted classes of one task.
#[derive(Clone, Debug, Default)]
pub struct ConfusionMatrix {
    /// The task's name.
    pub task: String,
    /// The net whose predictions these are, as in "the pre-trained net, seed 1".
    pub net: String,
    /// The classes' names.
    pub classes: Vec<String>,
    /// `counts[right][predicted]`.
    pub counts: Vec<Vec<u64>>,
}

/// Loss on held-out rows at start + x·(trained − start).
#[derive(Clone, Debug, Default)]
pub struct LossLine {
    /// The task's name.
    pub task: String,
    /// Rows the loss is measured on.
    pub rows: usize,
    /// The pre-trained net: x and nats.
    pub pretrained: Curve,
    /// The net from random weights: x and nats.
    pub scratch: Curve,
}

/// Attention weights of one layer over one story.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    /// The layer, the first is 1.
    pub layer: usize,
    /// Layers of the net.
    pub layers: usize,
    /// The story's tokens as text, T of them.
    pub tokens: Vec<String>,
    /// A head's weights, (T, T) row-major: row the token that looks, column the token looked at.
    pub heads: Vec<Vec<f32>>,
    /// The token whose view is shown in the text: its row predicts the token behind it.
    pub query: usize,
}

/// A generated story.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// What the model was given; empty for none.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
    /// Whether the parser found no fault.
    pub consistent: bool,
    /// The parser's words.
    pub verdict: String,
}

impl Report {
    /// The page: one HTML file with its style and pictures inside, no script, no address.
    pub fn html(&self) -> String {
        page::page(self)
    }
}
