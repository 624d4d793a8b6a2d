//! The models against PyTorch and Hugging Face transformers: logits, hidden states, gradients and a training
//! trace of tiny random models, computed in float64 (the trace in float32). `tests/data/make_reference.py` made
//! the folders.

use longhand_gpt::config::Config;
use longhand_gpt::data::Batch as Rows;
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::OptimOptions;
use longhand_gpt::train::Trainer;
use longhand_tensor::exec::{Batch, Exec, IGNORE, Infer, InferMemory, PackedParams, Weights};
use longhand_tensor::params::Params;
use longhand_tensor::{Ctx, Isa};
use safetensors::SafeTensors;
use std::path::PathBuf;

const MODELS: [&str; 2] = ["gpt1-tiny", "gpt2-tiny"];

struct Reference {
    config: Config,
    model: Gpt,
    params: Params,
    expected: Vec<u8>,
    trace: Vec<f64>,
    /// (B, T)
    ids: Vec<Vec<u32>>,
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

impl Reference {
    fn load(name: &str) -> Reference {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
        let mut config = Config::load(dir.join("config.json")).unwrap();
        config.set_dropout(0.0);
        let model = Gpt::new(&config).unwrap();
        let mut params = model.init(0).unwrap();
        let weights = std::fs::read(dir.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&weights).unwrap();
        let mut names = 0;
        for id in model.layout().ids() {
            let spec = model.layout().spec(id);
            params.get_mut(id).copy_from_slice(&floats(&file, &format!("transformer.{}", spec.name)));
            names += 1;
        }
        assert_eq!(names, file.names().len(), "every tensor of the file is a parameter");
        let expected = std::fs::read(dir.join("expected.safetensors")).unwrap();
        let trace = serde_json::from_slice(&std::fs::read(dir.join("trace.json")).unwrap()).unwrap();
        let file = SafeTensors::deserialize(&expected).unwrap();
        let tensor = file.tensor("input_ids").unwrap();
        let ids: Vec<u32> = tensor.data().chunks_exact(8).map(|b| b[0] as u32 | (b[1] as u32) << 8).collect();
        let ids = ids.chunks_exact(tensor.shape()[1]).map(|row| row.to_vec()).collect();
        Reference { config, model, params, expected, trace, ids }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.expected).unwrap()
    }

    /// Next-token rows: the last token of each sequence predicts nothing.
    fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for ids in &self.ids {
            rows.tokens.extend(ids);
            rows.targets.extend(ids[1..].iter().chain([&IGNORE]));
            rows.lens.push(ids.len());
        }
        rows
    }

    fn trainer(self, isa: Isa) -> Trainer {
        let options = OptimOptions::constant(1e-3);
        Trainer::with_params(Ctx::new(isa), self.model, self.params, options, 0).unwrap()
    }
}

/// Every difference is at most `tolerance` times the largest expected value.
fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * largest, "{what}[{i}]: {g} against {e}, largest {largest}");
    }
}

#[test]
fn logits_and_hidden_states() {
    for name in MODELS {
        let r = Reference::load(name);
        let file = r.file();
        let mut batch = Batch::default();
        r.ids.iter().enumerate().for_each(|(slot, ids)| batch.push(ids, 0, slot));
        let packed = PackedParams::pack(&Ctx::default(), &r.params).unwrap();
        for isa in Isa::available() {
            for weights in [Weights::Plain(&r.params), Weights::Packed(&packed)] {
                let ctx = Ctx::new(isa);
                let mut memory = InferMemory::new().unwrap();
                let mut infer = Infer::new(&ctx, weights, &batch, None, &mut memory);
                let mut hidden = Vec::new();
                let last = r
                    .model
                    .forward(&mut infer, |e, _, x| {
                        hidden.push(e.values(x).to_vec());
                        Ok(())
                    })
                    .unwrap();
                let logits = infer.logits(last, r.model.head()).unwrap();
                assert_eq!(hidden.len(), r.config.n_layer + 1);
                for (i, h) in hidden.iter().enumerate() {
                    let key = format!("hidden.{i}");
                    assert_close(&format!("{name} {isa} {key}"), h, &floats(&file, &key), 1e-5);
                }
                let expected = floats(&file, "logits");
                assert_close(&format!("{name} {isa} logits"), infer.values(logits), &expected, 1e-5);
            }
        }
    }
}

#[test]
fn loss_and_gradients() {
    for name in MODELS {
        for isa in Isa::available() {
            let r = Reference::load(name);
            let (rows, expected) = (r.rows(), r.expected.clone());
            let file = SafeTensors::deserialize(&expected).unwrap();
            let mut trainer = r.trainer(isa);
            let loss = trainer.gradients(std::slice::from_ref(&rows)).unwrap().mean();
            let want = floats(&file, "loss")[0] as f64;
            assert!((loss - want).abs() < 1e-5 * want, "{name} {isa}: loss {loss} against {want}");
            let layout = trainer.params().layout().clone();
            for id in layout.ids() {
                let key = format!("grad.transformer.{}", layout.spec(id).name);
                assert_close(
                    &format!("{name} {isa} {key}"),
                    trainer.learner().grads().get(id),
                    &floats(&file, &key),
                    1e-4,
                );
            }
        }
    }
}

#[test]
fn twenty_steps_of_adamw() {
    for name in MODELS {
        for isa in Isa::available() {
            let r = Reference::load(name);
            let (rows, trace) = (r.rows(), r.trace.clone());
            let mut trainer = r.trainer(isa);
            for (step, want) in trace.iter().enumerate() {
                let loss = trainer.step(std::slice::from_ref(&rows)).unwrap().loss;
                assert!((loss - want).abs() <= 1e-3 * want, "{name} {isa} step {step}: {loss} against {want}");
            }
        }
    }
}
