//! Gradient checking: three links from the definition of a derivative to a whole model's gradients in f32.
//!
//! ```text
//! 1  the reference's backward in f64        against   central differences of its forward, within 1e-6
//! 2  each kernel, on each instruction set   against   the reference in f64, within the op's derived bound
//! 3  a model on the tape                    against   the same model on the reference in f64
//! ```
//!
//! Here are the ops (links 1 and 2) and the parts that a check of a model (links 1 and 3) is made of.

use longhand_tensor::bounded::Bounded;
use longhand_tensor::cases::{self, Case};
use longhand_tensor::{Ctx, Isa, Result};
use std::fmt::{self, Write};

/// Which claim a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The reference's backward is the derivative of its forward.
    Differences,
    /// A kernel computes what the reference does.
    Kernel,
    /// A model on the tape has the gradients of the model on the reference.
    Model,
}

impl Link {
    /// 1, 2 or 3.
    pub fn number(self) -> u32 {
        self as u32 + 1
    }
}

/// A tensor to be checked: what was computed, what is right, and how far apart they may be.
#[derive(Clone, Debug)]
pub struct Part {
    /// The tensor.
    pub name: String,
    /// Whether errors are seeded into it; a forward's outputs are checked, but a seeded error is a gradient's.
    pub seed: bool,
    /// What was computed.
    pub got: Vec<f64>,
    /// What is right.
    pub want: Vec<f64>,
    /// How far apart they may be, element by element.
    pub bound: Vec<f64>,
    /// The number of each element within its tensor, where only some were computed.
    pub elements: Option<Vec<usize>>,
}

impl Part {
    /// f32 results against `expected`, f64's values each with its bound.
    pub fn new(
        name: impl Into<String>,
        seed: bool,
        got: &[f32],
        expected: impl IntoIterator<Item = (f64, f64)>,
    ) -> Part {
        let (want, bound) = expected.into_iter().unzip();
        Part { name: name.into(), seed, got: got.iter().map(|&x| x as f64).collect(), want, bound, elements: None }
    }

    /// Gradients against slopes at some elements: within 1e-6 of each, and 1e-10 of the tensor's largest, since
    /// a difference quotient has an error of its own.
    pub fn slopes(name: impl Into<String>, gradient: &[f64], elements: Vec<usize>, slopes: Vec<f64>) -> Part {
        let largest = slopes.iter().fold(0.0, |m, s| f64::max(m, s.abs()));
        Part {
            name: name.into(),
            seed: true,
            got: elements.iter().map(|&i| gradient[i]).collect(),
            bound: slopes.iter().map(|s| 1e-6 * s.abs() + 1e-10 * largest).collect(),
            want: slopes,
            elements: Some(elements),
        }
    }

    /// Error over bound at an element: at most 1 where it is right.
    fn strain(&self, i: usize) -> f64 {
        let (got, want) = (self.got[i], self.want[i]);
        if got == want {
            return 0.0;
        }
        let strain = (got - want).abs() / self.bound[i];
        if strain.is_nan() { f64::INFINITY } else { strain }
    }

    /// The check: every element is within its bound; a NaN never is.
    pub fn passes(&self) -> bool {
        self.got.len() == self.want.len() && (0..self.got.len()).all(|i| self.strain(i) <= 1.0)
    }

    /// The smallest f for which the check fails when the most sensitive element becomes 1 + f and when it becomes
    /// 1 − f times what it is; found by bisection, the check being asked each time. ∞ for a tensor of zeros.
    pub fn smallest_seeded(&self) -> f64 {
        let need = |i: usize| (self.bound[i] + (self.got[i] - self.want[i]).abs()) / self.got[i].abs();
        let Some(most) =
            (0..self.got.len()).filter(|&i| self.got[i] != 0.0).min_by(|&a, &b| need(a).total_cmp(&need(b)))
        else {
            return f64::INFINITY;
        };
        let (mut seeded, right) = (self.clone(), self.got[most]);
        let mut caught = |f: f64| {
            [1.0 + f, 1.0 - f].into_iter().all(|factor| {
                seeded.got[most] = right * factor;
                !seeded.passes()
            })
        };
        // Caught at `high` and not at `low`, a factor of 2 apart; then halving the logarithm.
        let mut high = f64::EPSILON;
        while !caught(high) {
            high *= 2.0;
            if high > 1e30 {
                return f64::INFINITY;
            }
        }
        let mut low = high / 2.0;
        for _ in 0..12 {
            let middle = (low * high).sqrt();
            if caught(middle) { high = middle } else { low = middle }
        }
        high
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The op or the model.
    pub what: String,
    /// The claim.
    pub link: Link,
    /// The instruction set; none where everything is f64.
    pub isa: Option<Isa>,
    /// The element that came closest to its bound, or went beyond: tensor and number.
    pub worst: (String, usize),
    /// Its error.
    pub error: f64,
    /// Its bound.
    pub bound: f64,
    /// The smallest relative error that would have been caught, in whichever gradient it stood: the largest over the
    /// gradients of `Part::smallest_seeded`.
    pub seeded: f64,
    /// Whether all tensors are within their bounds.
    pub passed: bool,
}

/// Checks all parts of one op or model.
pub fn compare(what: impl Into<String>, link: Link, isa: Option<Isa>, parts: &[Part]) -> Row {
    let mut row = Row {
        what: what.into(),
        link,
        isa,
        worst: (String::new(), 0),
        error: 0.0,
        bound: 0.0,
        seeded: 0.0,
        passed: parts.iter().all(Part::passes),
    };
    let mut greatest = -1.0;
    for part in parts {
        for i in 0..part.got.len().min(part.want.len()) {
            if part.strain(i) > greatest {
                greatest = part.strain(i);
                row.worst = (part.name.clone(), part.elements.as_ref().map_or(i, |e| e[i]));
                (row.error, row.bound) = ((part.got[i] - part.want[i]).abs(), part.bound[i]);
            }
        }
        if part.seed {
            row.seeded = row.seeded.max(part.smallest_seeded());
        }
    }
    row
}

/// The derivative at 0 of Σ weights·outputs(h), by central differences of two widths from which the error of order h²
/// is extrapolated away (Richardson). Outputs are subtracted one by one, so that those that do not move add no
/// rounding.
pub fn slope(weights: &[f64], mut outputs: impl FnMut(f64) -> Vec<f64>) -> f64 {
    let mut quotient = |h: f64| {
        let (up, down) = (outputs(h), outputs(-h));
        let changes = up.iter().zip(&down).map(|(u, d)| u - d);
        weights.iter().zip(changes).fold(0.0, |sum, (w, change)| sum + w * change) / (2.0 * h)
    };
    let (coarse, fine) = (quotient(2e-3), quotient(1e-3));
    fine + (fine - coarse) / 3.0
}

/// Some `most` of `n` elements, spread evenly; all of them where they are fewer.
pub fn spread(n: usize, most: usize) -> Vec<usize> {
    if n <= most { (0..n).collect() } else { (0..most).map(|i| i * n / most).collect() }
}

/// Elements of an input whose slopes are taken.
const SLOPES: usize = 200;

/// Link 1 of one op.
pub fn check_reference(case: &Case) -> Row {
    let mut inputs: Vec<Vec<f64>> = case.inputs().iter().map(|x| x.iter().map(|&x| x as f64).collect()).collect();
    let weights: Vec<f64> = case.upstream().iter().flatten().map(|&w| w as f64).collect();
    let mut parts = Vec::new();
    for (t, gradient) in case.reference_backward().iter().enumerate() {
        let elements = spread(gradient.len(), SLOPES);
        let at = |&i: &usize| {
            let x = inputs[t][i];
            let slope = slope(&weights, |h| {
                inputs[t][i] = x + h;
                // Those with a gradient from above come first; `slope` stops where the weights do.
                case.reference_forward(&inputs).into_iter().take(case.upstream().len()).flatten().collect()
            });
            inputs[t][i] = x;
            slope
        };
        let slopes = elements.iter().map(at).collect();
        parts.push(Part::slopes(format!("d{}", case.input_names()[t]), gradient, elements, slopes));
    }
    compare(case.name(), Link::Differences, None, &parts)
}

/// Link 2 of one op: forward and backward on one instruction set.
/// # Errors
/// The kernels'.
pub fn check_kernel(case: &Case, ctx: &Ctx) -> Result<Row> {
    check_kernel_against(case, ctx, &case.expected())
}

fn bounds(expected: &[Bounded]) -> impl Iterator<Item = (f64, f64)> {
    expected.iter().map(|x| (x.value(), x.bound()))
}

fn check_kernel_against(case: &Case, ctx: &Ctx, expected: &cases::Results<Bounded>) -> Result<Row> {
    let got = case.run(ctx)?;
    let mut parts = Vec::new();
    for (i, name) in case.outputs().iter().enumerate() {
        parts.push(Part::new(*name, !case.differentiable(), &got.outputs[i], bounds(&expected.outputs[i])));
    }
    for (i, gradient) in got.gradients.iter().enumerate() {
        parts.push(Part::new(format!("d{}", case.input_names()[i]), true, gradient, bounds(&expected.gradients[i])));
    }
    Ok(compare(case.name(), Link::Kernel, Some(ctx.isa()), &parts))
}

/// Links 1 and 2 of every op, on each of `isas`.
/// # Errors
/// The kernels'.
pub fn check_ops(isas: &[Isa]) -> Result<Vec<Row>> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for case in cases::all() {
        if case.differentiable() {
            first.push(check_reference(&case));
        }
        let expected = case.expected();
        for isa in isas {
            second.push(check_kernel_against(&case, &Ctx::new(*isa), &expected)?);
        }
    }
    first.append(&mut second);
    Ok(first)
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isa = self.isa.map_or("f64", Isa::name);
        let (link, worst) = (self.link.number(), format!("{}[{}]", self.worst.0, self.worst.1));
        let numbers = [self.error, self.bound, self.seeded].map(|x| format!("{x:.1e}"));
        let verdict = if self.passed { "ok" } else { "FAILED" };
        write!(f, "{link}  {:<26}{isa:<10}{worst:<32}", self.what)?;
        write!(f, "{:>10}{:>10}{:>10}  {verdict}", numbers[0], numbers[1], numbers[2])
    }
}

/// The rows under a head, and a last line that counts them.
pub fn table(rows: &[Row]) -> String {
    let mut out =
        format!("link {:<24}{:<10}{:<32}{:>10}{:>10}{:>10}\n", "what", "on", "worst", "error", "bound", "caught");
    for row in rows {
        let _ = writeln!(out, "{row}");
    }
    let failed = rows.iter().filter(|row| !row.passed).count();
    let _ = match failed {
        0 => writeln!(out, "{} checks, all within their bounds", rows.len()),
        n => writeln!(out, "{} checks, {n} FAILED", rows.len()),
    };
    out
}
