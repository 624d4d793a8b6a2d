//! Linear models on sparse rows: multinomial logistic regression, a softmax over the answers of each row, and ridge
//! regression, fitted in f64 by L-BFGS, one row after the other.
//!
//! The objective is (Σ losses + l2/2 · |weights|²) / rows; the intercepts have no penalty, answers have no intercept.
//! Source: Nocedal and Wright, "Numerical optimization", 2nd edition, algorithms 7.4 and 3.1.

/// Pairs of steps and changes that L-BFGS remembers.
const MEMORY: usize = 5;
/// Steps at most.
const MAX_STEPS: usize = 400;
/// A gradient of this length is none: a row's loss is of the order of 1, and what is left to gain is below 0.001 of it.
const TOLERANCE: f64 = 1e-4;

/// Rows of (feature, value).
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    ends: Vec<usize>,
    index: Vec<u32>,
    value: Vec<f64>,
}

impl Sparse {
    pub fn push(&mut self, feature: u32, value: f64) {
        if value != 0.0 {
            self.index.push(feature);
            self.value.push(value);
        }
    }

    pub fn end_row(&mut self) {
        self.ends.push(self.index.len());
    }

    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    fn row(&self, r: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = if r == 0 { 0 } else { self.ends[r - 1] }..self.ends[r];
        self.index[range.clone()].iter().zip(&self.value[range]).map(|(i, v)| (*i as usize, *v))
    }
}

/// What is right for each row.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    Classes {
        classes: usize,
        right: Vec<u32>,
    },
    Scores(Vec<f64>),
    /// Rows starts[i]..starts[i + 1] are the answers of example i.
    Choices {
        starts: Vec<usize>,
        right: Vec<u32>,
    },
}

impl Targets {
    fn examples(&self) -> usize {
        match self {
            Targets::Classes { right, .. } | Targets::Choices { right, .. } => right.len(),
            Targets::Scores(scores) => scores.len(),
        }
    }
}

/// Weights of a fitted model.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// 0 for scores and answers.
    classes: usize,
    /// One for two classes, whose first has the score 0; one for scores and answers.
    outputs: usize,
    /// (features, outputs), and behind them the intercepts.
    weights: Vec<f64>,
}

/// The index of the largest, the first among equals.
pub(super) fn largest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// softmax in place; returns the logarithm of the sum that it divides by.
fn softmax(z: &mut [f64]) -> f64 {
    let most = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
    let mut sum = 0.0;
    for z in z.iter_mut() {
        *z = libm::exp(*z - most);
        sum += *z;
    }
    z.iter_mut().for_each(|z| *z /= sum);
    most + libm::log(sum)
}

impl Linear {
    /// The weights that minimise the objective, from `start` or from 0.
    pub fn fit(x: &Sparse, features: usize, y: &Targets, l2: f64, start: Option<&Linear>) -> Linear {
        let classes = if let Targets::Classes { classes, .. } = y { *classes } else { 0 };
        let outputs = if classes > 2 { classes } else { 1 };
        let weights = match start {
            Some(start) => start.weights.clone(),
            None => vec![0.0; (features + 1) * outputs],
        };
        let mut linear = Linear { classes, outputs, weights: Vec::new() };
        linear.weights = minimise(weights, |weights, gradient| {
            linear.weights.clear();
            linear.weights.extend_from_slice(weights);
            linear.objective(x, y, l2, gradient)
        });
        linear
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The mean loss, without a penalty.
    pub fn loss(&self, x: &Sparse, y: &Targets) -> f64 {
        self.pass(x, y, |_, _| ()) / y.examples().max(1) as f64
    }

    /// The chance of each class for a row.
    pub fn probabilities(&self, x: &Sparse, row: usize) -> Vec<f64> {
        let mut z = Vec::new();
        self.logits(x, row, &mut z);
        softmax(&mut z);
        z
    }

    /// The chance of each row to be the right answer.
    pub fn choices(&self, x: &Sparse) -> Vec<f64> {
        let mut z: Vec<f64> = (0..x.rows()).map(|r| self.dot(x, r, 0)).collect();
        softmax(&mut z);
        z
    }

    /// The score of a row.
    pub fn score(&self, x: &Sparse, row: usize) -> f64 {
        self.dot(x, row, 0) + self.intercept(0)
    }

    fn intercept(&self, output: usize) -> f64 {
        self.weights[self.weights.len() - self.outputs + output]
    }

    fn dot(&self, x: &Sparse, row: usize, output: usize) -> f64 {
        x.row(row).fold(0.0, |sum, (i, v)| sum + self.weights[i * self.outputs + output] * v)
    }

    /// The scores of all classes.
    fn logits(&self, x: &Sparse, row: usize, z: &mut Vec<f64>) {
        z.clear();
        if self.classes == 2 {
            z.push(0.0);
        }
        let first = z.len();
        z.extend((0..self.outputs).map(|k| self.intercept(k)));
        for (i, v) in x.row(row) {
            let weights = &self.weights[i * self.outputs..][..self.outputs];
            z[first..].iter_mut().zip(weights).for_each(|(z, w)| *z += w * v);
        }
        // A file may have one class alone.
        z.truncate(self.classes.max(1));
    }

    /// The sum of the losses; gives `each` the derivative by the outputs of every row.
    fn pass(&self, x: &Sparse, y: &Targets, mut each: impl FnMut(usize, &[f64])) -> f64 {
        let mut total = 0.0;
        let mut z = Vec::new();
        match y {
            Targets::Classes { right, .. } => {
                for (r, right) in right.iter().enumerate() {
                    self.logits(x, r, &mut z);
                    let score = z[*right as usize];
                    total += softmax(&mut z) - score;
                    z[*right as usize] -= 1.0;
                    each(r, &z[z.len() - self.outputs..]);
                }
            }
            Targets::Scores(scores) => {
                for (r, score) in scores.iter().enumerate() {
                    let off = self.score(x, r) - score;
                    total += 0.5 * off * off;
                    each(r, &[off]);
                }
            }
            Targets::Choices { starts, right } => {
                for (g, right) in right.iter().enumerate() {
                    let rows = starts[g]..starts[g + 1];
                    z.clear();
                    z.extend(rows.clone().map(|r| self.dot(x, r, 0)));
                    let score = z[*right as usize];
                    total += softmax(&mut z) - score;
                    z[*right as usize] -= 1.0;
                    rows.zip(&z).for_each(|(r, d)| each(r, &[*d]));
                }
            }
        }
        total
    }

    fn objective(&self, x: &Sparse, y: &Targets, l2: f64, gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let last = gradient.len() - self.outputs;
        let intercepts = !matches!(y, Targets::Choices { .. });
        let mut total = self.pass(x, y, |r, d| {
            for (i, v) in x.row(r) {
                let weights = &mut gradient[i * self.outputs..][..self.outputs];
                weights.iter_mut().zip(d).for_each(|(g, d)| *g += d * v);
            }
            if intercepts {
                gradient[last..].iter_mut().zip(d).for_each(|(g, d)| *g += d);
            }
        });
        for (g, w) in gradient[..last].iter_mut().zip(&self.weights) {
            *g += l2 * w;
            total += 0.5 * l2 * w * w;
        }
        let n = y.examples().max(1) as f64;
        gradient.iter_mut().for_each(|g| *g /= n);
        total / n
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// Minimises a convex function from `x`; `f` returns its value and writes its gradient.
fn minimise(mut x: Vec<f64>, mut f: impl FnMut(&[f64], &mut [f64]) -> f64) -> Vec<f64> {
    let mut gradient = vec![0.0; x.len()];
    let (mut next, mut next_gradient) = (x.clone(), gradient.clone());
    let mut value = f(&x, &mut gradient);
    // (step, change of the gradient, their product), the oldest first.
    let mut memory: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    let mut alphas = [0.0; MEMORY];
    for _ in 0..MAX_STEPS {
        let length = dot(&gradient, &gradient).sqrt();
        if length <= TOLERANCE {
            break;
        }
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        for (i, (s, y, sy)) in memory.iter().enumerate().rev() {
            alphas[i] = dot(s, &direction) / sy;
            direction.iter_mut().zip(y).for_each(|(d, y)| *d -= alphas[i] * y);
        }
        let scale = memory.last().map_or(1.0 / length.max(1.0), |(_, y, sy)| sy / dot(y, y));
        direction.iter_mut().for_each(|d| *d *= scale);
        for (i, (s, y, sy)) in memory.iter().enumerate() {
            let beta = alphas[i] - dot(y, &direction) / sy;
            direction.iter_mut().zip(s).for_each(|(d, s)| *d += beta * s);
        }
        let slope = dot(&direction, &gradient);
        let mut step = 1.0;
        let reached = loop {
            next.iter_mut().zip(x.iter().zip(&direction)).for_each(|(n, (x, d))| *n = x + step * d);
            let reached = f(&next, &mut next_gradient);
            if reached <= value + 1e-4 * step * slope {
                break Some(reached);
            }
            step *= 0.5;
            if step < 1e-10 {
                break None;
            }
        };
        // No step makes it smaller: what is left is rounding.
        let Some(reached) = reached else { break };
        let (mut s, mut y) = if memory.len() == MEMORY {
            let (s, y, _) = memory.remove(0);
            (s, y)
        } else {
            (vec![0.0; x.len()], vec![0.0; x.len()])
        };
        for i in 0..x.len() {
            s[i] = next[i] - x[i];
            y[i] = next_gradient[i] - gradient[i];
        }
        let sy = dot(&s, &y);
        if sy > 0.0 {
            memory.push((s, y, sy));
        }
        value = reached;
        std::mem::swap(&mut x, &mut next);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(rows: &[&[f64]]) -> Sparse {
        let mut x = Sparse::default();
        for row in rows {
            row.iter().enumerate().for_each(|(i, v)| x.push(i as u32, *v));
            x.end_row();
        }
        x
    }

    #[test]
    fn a_quadratic_is_minimised() {
        let diagonal = [1.0, 10.0, 100.0, 1e4];
        let x = minimise(vec![5.0; 4], |x, g| {
            (0..4).for_each(|i| g[i] = diagonal[i] * (x[i] - i as f64));
            (0..4).fold(0.0, |sum, i| sum + 0.5 * diagonal[i] * (x[i] - i as f64) * (x[i] - i as f64))
        });
        assert!(x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-3), "{x:?}");
    }

    #[test]
    fn ridge_regression_is_the_closed_form() {
        // One feature: the slope is Σ (x − x̄)(y − ȳ) / (Σ (x − x̄)² + l2).
        let x = sparse(&[&[1.0], &[2.0], &[4.0], &[5.0]]);
        let y = Targets::Scores(vec![1.0, 3.0, 4.0, 8.0]);
        let linear = Linear::fit(&x, 1, &y, 0.5, None);
        let slope = (2.0 * 3.0 + 1.0 + 0.0 + 2.0 * 4.0) / (10.0 + 0.5);
        assert!((linear.weights[0] - slope).abs() < 1e-3, "{:?}", linear.weights);
        assert!((linear.score(&x, 0) - (4.0 - 2.0 * slope)).abs() < 1e-3);
    }

    #[test]
    fn gradients_are_those_of_the_objective() {
        let x = sparse(&[&[1.0, -0.5, 0.0], &[0.0, 2.0, 1.0], &[0.3, 0.0, -1.0], &[1.0, 1.0, 1.0]]);
        let choices = Targets::Choices { starts: vec![0, 1, 4], right: vec![0, 2] };
        let cases = [
            (Targets::Classes { classes: 2, right: vec![0, 1, 1, 0] }, 2, 1),
            (Targets::Classes { classes: 3, right: vec![0, 2, 1, 0] }, 3, 3),
            (Targets::Scores(vec![0.5, -1.0, 2.0, 3.0]), 0, 1),
            (choices, 0, 1),
        ];
        for (y, classes, outputs) in cases {
            let weights: Vec<f64> = (0..4 * outputs).map(|i| (i % 5) as f64 * 0.3 - 0.5).collect();
            let linear = Linear { classes, outputs, weights };
            let mut gradient = vec![0.0; 4 * outputs];
            linear.objective(&x, &y, 0.7, &mut gradient);
            let mut unused = gradient.clone();
            for i in 0..gradient.len() {
                let mut at = |by: f64| {
                    let mut moved = linear.clone();
                    moved.weights[i] += by;
                    moved.objective(&x, &y, 0.7, &mut unused)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - gradient[i]).abs() < 1e-8, "{y:?} {i}: {slope}, not {}", gradient[i]);
            }
        }
    }

    #[test]
    fn two_classes_and_three_are_learned() {
        let x = sparse(&[&[1.0, 0.0], &[0.9, 0.1], &[0.0, 1.0], &[0.1, 1.0], &[1.0, 1.0], &[0.9, 1.1]]);
        for (classes, right) in [(2, vec![0, 0, 1, 1, 1, 1]), (3, vec![0, 0, 1, 1, 2, 2])] {
            let y = Targets::Classes { classes, right: right.clone() };
            let linear = Linear::fit(&x, 2, &y, 0.01, None);
            for (r, right) in right.iter().enumerate() {
                let p = linear.probabilities(&x, r);
                assert_eq!((p.len(), largest(&p)), (classes, *right as usize));
                assert!((p.iter().fold(0.0, |s, p| s + p) - 1.0).abs() < 1e-12);
            }
        }
    }
}
