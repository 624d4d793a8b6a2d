//! Gradients, link by link; and wrong ones, which must not pass.

use longhand_autograd::gradcheck::{Link, Part, Row, check_kernel, check_ops, check_reference, compare, table};
use longhand_gpt::gradcheck::{check_models, subjects};
use longhand_tensor::cases::{Case, LayerNormCase, Op, Tensors};
use longhand_tensor::reference::{Arith, Real};
use longhand_tensor::{Ctx, Isa, Result};

fn assert_passed(rows: &[Row]) {
    println!("{}", table(rows));
    assert!(rows.iter().all(|row| row.passed && row.seeded.is_finite()));
}

#[test]
fn every_op_on_every_instruction_set() {
    let rows = check_ops(&Isa::available()).unwrap();
    assert_passed(&rows);
    // In the ops an error of a ten-thousandth shows, wherever it stands; but in a sum of 9,001 terms.
    assert!(rows.iter().all(|row| row.seeded < 1e-4 || row.what == "sum_of_squares"));
}

#[test]
fn both_block_kinds_on_every_instruction_set() {
    let rows = check_models(&Isa::available()).unwrap();
    assert_passed(&rows);
}

/// Layer norm with one element of dweight off by a factor 1 + f, in the reference's backward or in the kernel's.
struct Wrong {
    op: LayerNormCase,
    reference: f32,
    kernel: f32,
}

impl Op for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        Wrong { op: Op::resized(&self.op, rows, cols), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        self.op.inputs()
    }
    fn outputs(&self) -> &'static [&'static str] {
        self.op.outputs()
    }
    fn flops(&self) -> u64 {
        self.op.flops()
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        self.op.reference_forward::<A>(inp)
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut grads = self.op.reference_backward::<A>(inp, dout);
        let d = grads[1][7];
        grads[1][7] += d * A::T::from_f64(self.reference as f64);
        grads
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Op::forward(&self.op, ctx, inp)
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut grads = Op::backward(&self.op, ctx, inp, out, dout)?;
        grads[1][7] *= 1.0 + self.kernel;
        Ok(grads)
    }
}

#[test]
fn a_wrong_backward_of_an_op_is_caught() {
    let case = |reference: f32, kernel: f32| {
        let op = LayerNormCase { name: "layernorm", residual: false, rows: 67, c: 21 };
        Case::new(Wrong { op, reference, kernel })
    };
    let right = case(0.0, 0.0);
    assert!(check_reference(&right).passed);
    let row = check_reference(&case(1e-5, 0.0));
    assert!(!row.passed && row.worst == ("dweight".to_string(), 7), "{row}");
    for isa in Isa::available() {
        let ctx = Ctx::new(isa);
        assert!(check_kernel(&right, &ctx).unwrap().passed);
        for f in [1e-3, -1e-3, f32::NAN] {
            let row = check_kernel(&case(0.0, f), &ctx).unwrap();
            assert!(!row.passed && row.worst == ("dweight".to_string(), 7), "{row}");
        }
    }
}

#[test]
fn a_wrong_gradient_of_a_model_is_caught() {
    let subject = &subjects().unwrap()[1];
    let right = subject.tape_parts(&Ctx::default()).unwrap();
    assert!(compare("right", Link::Model, None, &right).passed);
    for p in (0..right.len()).filter(|&p| right[p].seed) {
        let mut wrong = right.clone();
        // All of a tensor, as a forgotten factor or sequence would have it.
        wrong[p].got.iter_mut().for_each(|x| *x *= 1.0 + 1.01 * right[p].smallest_seeded());
        let row = compare("wrong", Link::Model, None, &wrong);
        assert!(!row.passed && row.worst.0 == right[p].name, "{row}");
    }
    let mut missing = right.clone();
    missing[3].got.fill(f64::NAN);
    assert!(!compare("missing", Link::Model, None, &missing).passed);
}

/// What a row says it would have caught is what the check itself catches, and nothing much smaller.
#[test]
fn the_smallest_seeded_error_is_the_smallest() {
    let expected = [3.0f64, -0.5, 0.0].map(|x| (x, 1e-6 * x.abs()));
    let part = Part::new("x", true, &[3.0, -0.5, 0.0], expected);
    let f = part.smallest_seeded();
    let seeded = |factor: f64| {
        let mut part = part.clone();
        part.got[0] *= factor;
        part.passes()
    };
    assert!(!seeded(1.0 + f) && !seeded(1.0 - f) && seeded(1.0 + 0.99 * f) && seeded(1.0 - 0.99 * f), "{f:e}");
}
