//! Folders that are right in every way that they may be written, and wrong in every way that was thought of.

use super::*;
use crate::fs::TestDir;
use crate::generate::Session;
use crate::safetensors_io::{Tensor, read};
use longhand_tensor::exec::Weights;
use serde_json::Value;

fn tiny(arch: Arch) -> (Gpt, Params) {
    let mut config = Config::new(arch, 11, 8);
    (config.n_layer, config.n_embd, config.n_head) = (2, 8, 2);
    let model = Gpt::new(&config).unwrap();
    let mut params = model.init(5).unwrap();
    // Every bias and gain moved, so that none can be left out unseen.
    for id in model.layout().ids() {
        for (i, x) in params.get_mut(id).iter_mut().enumerate() {
            *x += 0.01 * (i % 7) as f32;
        }
    }
    (model, params)
}

/// A folder of a small model, as this crate writes it.
fn folder(name: &str, arch: Arch) -> (TestDir, Params) {
    let dir = TestDir::new(name);
    let (model, params) = tiny(arch);
    save(dir.path(), &model, &params, None, Dtype::F32).unwrap();
    (dir, params)
}

fn same(a: &Params, b: &Params) -> bool {
    a.layout().ids().all(|id| a.get(id) == b.get(id))
}

/// The tensors of a folder, to be changed and written again.
fn tensors(dir: &TestDir) -> Vec<Tensor> {
    read(dir.path().join(WEIGHTS), NonFinite::Refuse, Access::Map).unwrap()
}

fn file_of(tensors: &[Tensor]) -> Vec<u8> {
    let named: Vec<NamedTensor<'_>> =
        tensors.iter().map(|t| NamedTensor { name: &t.name, shape: &t.shape, data: &t.data }).collect();
    let mut bytes = Vec::new();
    safetensors_io::write(&mut bytes, &named).unwrap();
    bytes
}

#[test]
fn what_was_written_comes_back_however_it_is_cut() {
    for arch in [Arch::Gpt1, Arch::Gpt2] {
        let (dir, params) = folder("hf-ways", arch);
        let ways = |name: &str, dir: &TestDir, tied: bool| {
            for access in [Access::Map, Access::Read] {
                let opened = load(dir.path(), access).unwrap_or_else(|e| panic!("{arch:?} {name}: {e}"));
                assert_eq!(opened.model.config().tie_word_embeddings, tied, "{name}");
                let mut own = opened.params.layout().ids().zip(params.layout().ids());
                assert!(own.all(|(a, b)| opened.params.get(a) == params.get(b)), "{arch:?} {name}");
            }
        };
        ways("as written", &dir, true);
        let good = tensors(&dir);
        assert!(good.iter().all(|t| t.name.starts_with(PREFIX)));

        let bare: Vec<Tensor> =
            good.iter().map(|t| Tensor { name: t.name[PREFIX.len()..].to_string(), ..t.clone() }).collect();
        dir.write(WEIGHTS, file_of(&bare));
        ways("without prefix", &dir, true);

        let mut older = good.clone();
        for layer in 0..2 {
            let mask = |name: &str, shape: &[usize]| Tensor {
                name: format!("transformer.h.{layer}.attn.{name}"),
                shape: shape.to_vec(),
                data: vec![1.0; shape.iter().product()],
            };
            older.extend([mask("bias", &[1, 1, 8, 8]), mask("masked_bias", &[])]);
        }
        older.push(Tensor { name: "score.weight".into(), shape: vec![2, 8], data: vec![0.5; 16] });
        dir.write(WEIGHTS, file_of(&older));
        ways("with masks and another head", &dir, true);
        assert_eq!(load(dir.path(), Access::Map).unwrap().ignored, ["score.weight"]);

        let table = good.iter().find(|t| t.shape == [11, 8]).unwrap().clone();
        let mut doubled = good.clone();
        doubled.push(Tensor { name: HEAD.into(), ..table.clone() });
        dir.write(WEIGHTS, file_of(&doubled));
        ways("with the table twice", &dir, true);

        doubled.last_mut().unwrap().data[3] += 1.0;
        dir.write(WEIGHTS, file_of(&doubled));
        ways("with a head of its own", &dir, false);
        let opened = load(dir.path(), Access::Map).unwrap();
        assert_eq!(opened.params.get(opened.model.head())[3], table.data[3] + 1.0);

        std::fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
        let mut map = serde_json::Map::new();
        for shard in 0..3 {
            let name = format!("model-{:05}-of-00003.safetensors", shard + 1);
            let part: Vec<Tensor> = good.iter().skip(shard).step_by(3).cloned().collect();
            map.extend(part.iter().map(|t| (t.name.clone(), Value::from(name.as_str()))));
            dir.write(&name, file_of(&part));
        }
        dir.write(INDEX, json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string());
        ways("in shards", &dir, true);
    }
}

#[test]
fn halves_come_back_rounded_and_say_so() {
    let dir = TestDir::new("hf-halves");
    let (model, params) = tiny(Arch::Gpt2);
    for (dtype, steps) in [(Dtype::Bf16, 1 << 8), (Dtype::F16, 1 << 11)] {
        save(dir.path(), &model, &params, None, dtype).unwrap();
        let opened = load(dir.path(), Access::Map).unwrap();
        let stored = describe(dir.path(), Access::Map).unwrap().tensors;
        assert!(stored.iter().all(|t| t.dtype == dtype.name().to_uppercase()), "{stored:?}");
        let text = std::fs::read_to_string(dir.path().join(CONFIG)).unwrap();
        assert!(text.contains(&format!("\"dtype\": {:?}", dtype.torch_name())), "{text}");
        for id in params.layout().ids() {
            for (a, b) in opened.params.get(id).iter().zip(params.get(id)) {
                assert!((a - b).abs() <= b.abs() / steps as f32 + 1e-7, "{a} {b}");
            }
        }
        // Rounded once, it is as it is.
        save(dir.path(), &model, &opened.params, None, dtype).unwrap();
        assert!(same(&load(dir.path(), Access::Map).unwrap().params, &opened.params));
    }
}

/// The logits' bits of a few tokens.
fn logits(model: &Gpt, weights: Weights) -> Vec<u32> {
    let ctx = Ctx::default();
    let mut session = Session::new(&ctx, model, weights, 1).unwrap();
    session.feed(&[(0, &[3, 1, 4, 1, 5])]).unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn packed_from_the_files_or_from_bytes_it_is_the_model_that_was_loaded() {
    let ctx = Ctx::default();
    for arch in [Arch::Gpt1, Arch::Gpt2] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let dir = TestDir::new("hf-packed");
            let (model, params) = tiny(arch);
            save(dir.path(), &model, &params, None, dtype).unwrap();
            let config = std::fs::read(dir.path().join(CONFIG)).unwrap();
            let file = std::fs::read(dir.path().join(WEIGHTS)).unwrap();
            // Bytes that begin anywhere: no number stands where a float may.
            let shifted = [&[0], &file[..]].concat();
            let loaded = load(dir.path(), Access::Map).unwrap();
            assert!(same(&from_bytes(&config, &shifted[1..]).unwrap().params, &loaded.params));
            for kind in [WeightType::F32, WeightType::Bf16] {
                let packed = PackedParams::pack_as(&ctx, &loaded.params, kind).unwrap();
                let expected = logits(&loaded.model, Weights::Packed(&packed));
                for (name, opened) in [
                    ("map", load_packed(&ctx, dir.path(), Access::Map, kind)),
                    ("read", load_packed(&ctx, dir.path(), Access::Read, kind)),
                    ("bytes", packed_from_bytes(&ctx, &config, &file, kind)),
                    ("shifted bytes", packed_from_bytes(&ctx, &config, &shifted[1..], kind)),
                ] {
                    let opened = opened.unwrap();
                    let got = logits(&opened.model, Weights::Packed(&opened.params));
                    assert!(got == expected, "{arch:?} {dtype:?} {kind:?} {name}");
                }
            }
            // The same line, however it is read.
            let mut bad = tensors(&dir);
            bad[2].data[1] = f32::INFINITY;
            let bad = file_of(&bad);
            dir.write(WEIGHTS, &bad);
            let expected = line(&dir);
            assert!(expected.ends_with("element 1 = inf: must be finite"), "{expected}");
            let packed = load_packed(&ctx, dir.path(), Access::Map, WeightType::F32).unwrap_err().to_string();
            assert_eq!(packed.strip_prefix(&format!("{}/", dir.path().display())), Some(&expected[..]));
            let bytes = packed_from_bytes(&ctx, &config, &bad, WeightType::F32).unwrap_err().to_string();
            assert_eq!(bytes, expected);
            let cut = packed_from_bytes(&ctx, &config, &bad[..9], WeightType::F32).unwrap_err().to_string();
            assert!(cut.starts_with("model.safetensors: header length"), "{cut}");
            let empty = from_bytes(b"{", &file).unwrap_err().to_string();
            assert!(empty.starts_with("config.json: line 1, column 1: EOF"), "{empty}");
        }
    }
}

#[test]
fn described_without_being_loaded() {
    let (dir, params) = folder("hf-described", Arch::Gpt2);
    // What lies beside the model's own file is none of it.
    dir.write("backup.safetensors", "x");
    let found = describe(dir.path(), Access::Map).unwrap();
    assert_eq!(found.files, [dir.path().join(WEIGHTS)]);
    assert_eq!(found.tensors.len(), params.layout().specs().len());
    assert_eq!(found.tensors.iter().map(|t| t.bytes).sum::<u64>(), 4 * found.config.param_count());
    assert!(found.tensors.iter().all(|t| t.dtype == "F32"));
}

#[test]
fn what_transformers_cannot_compute_is_not_written() {
    let (dir, (model, _)) = (TestDir::new("hf-banded"), tiny(Arch::Gpt2));
    let config = Config { attention_window: Some(4), ..model.config().clone() };
    let model = Gpt::new(&config).unwrap();
    let e = save(dir.path(), &model, &model.init(1).unwrap(), None, Dtype::F32).unwrap_err().to_string();
    assert!(e.contains("transformers computes neither"), "{e}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

/// The error of a folder, without the folder's own path.
fn line(dir: &TestDir) -> String {
    let line = load(dir.path(), Access::Map).unwrap_err().to_string();
    assert!(line.len() < 2_000 && !line.contains('\n'), "{line}");
    line.replace(&format!("{}/", dir.path().display()), "").replace(&dir.path().display().to_string(), "FOLDER")
}

#[test]
fn wrong_folders_have_their_line() {
    let (dir, _) = folder("hf-wrong", Arch::Gpt2);
    let good = tensors(&dir);
    let config = std::fs::read_to_string(dir.path().join(CONFIG)).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let mut wrong = Vec::new();
    let mut same = |got: String, expected: &str| {
        if got != expected {
            wrong.push((got, expected.to_string()));
        }
    };

    // The configuration against the tensors.
    let with = |field: &str, value: Value| {
        let mut other = config.clone();
        other[field] = value;
        dir.write(CONFIG, other.to_string());
        line(&dir)
    };
    same(with("model_type", json!("bert")), "config.json: model_type = \"bert\": must be \"openai-gpt\" or \"gpt2\"");
    same(with("n_layer", json!(0)), "config.json: n_layer = 0: must be a whole number of at least 1");
    same(with("n_embd", json!(9)), "config.json: n_embd = 9: must be divisible by n_head = 2");
    same(with("vocab_size", json!(1u64 << 40)), "config.json: vocab_size = 1099511627776: must be from 1 to 16777216");
    same(
        with("scale_attn_by_inverse_layer_idx", json!(true)),
        "config.json: scale_attn_by_inverse_layer_idx = true: must be false: the other is not built",
    );
    same(with("n_inner", json!(7)), "config.json: n_inner = 7: must be null or 4 × n_embd = 4 × 8");
    same(with("vocab_size", json!(12)), "model.safetensors: wte.weight is [11, 8], must be [12, 8]");
    same(with("tie_word_embeddings", json!(false)), "model.safetensors: missing lm_head.weight [11, 8]");
    let deeper = with("n_layer", json!(4096));
    assert!(deeper.starts_with("model.safetensors: missing h.2.ln_1.weight [8]"), "{deeper}");
    let shallower = with("n_layer", json!(1));
    assert!(shallower.starts_with("model.safetensors: unknown h.1.attn.c_attn.bias [24]"), "{shallower}");
    dir.write(CONFIG, "{");
    same(line(&dir), "config.json: line 1, column 1: EOF while parsing an object");
    dir.write(CONFIG, "[]");
    same(line(&dir), "config.json: config = an array of 0 items: must be an object");
    dir.write(CONFIG, config.to_string());

    // One file of tensors.
    let file = |tensors: &[Tensor]| {
        dir.write(WEIGHTS, file_of(tensors));
        line(&dir)
    };
    same(
        file(&good[1..]),
        &format!("model.safetensors: missing {} {:?}", &good[0].name[PREFIX.len()..], good[0].shape),
    );
    let mut other = good.clone();
    other.push(Tensor { name: "transformer.h.7.attn.bias".into(), shape: vec![8], data: vec![0.0; 8] });
    same(file(&other), "model.safetensors: unknown h.7.attn.bias [8]");
    let mut other = good.clone();
    other.push(Tensor { name: "wte.weight".into(), shape: vec![11, 8], data: vec![0.0; 88] });
    same(file(&other), "model.safetensors: tensor wte.weight: stands twice, also as transformer.wte.weight");
    let mut other = good.clone();
    let at = other.iter().position(|t| t.name == "transformer.h.0.attn.c_attn.weight").unwrap();
    other[at].shape.reverse();
    same(file(&other), "model.safetensors: h.0.attn.c_attn.weight is [24, 8], must be [8, 24] (transposed)");
    let mut other = good.clone();
    other[at].data[5] = f32::NAN;
    same(file(&other), "model.safetensors: tensor transformer.h.0.attn.c_attn.weight, element 5 = NaN: must be finite");

    // Shards.
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    dir.write(first, file_of(&good[..9]));
    dir.write(second, file_of(&good[9..]));
    std::fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    let map: serde_json::Map<String, Value> = good
        .iter()
        .enumerate()
        .map(|(i, t)| (t.name.clone(), Value::from(if i < 9 { first } else { second })))
        .collect();
    let index = |map: Value| {
        dir.write(INDEX, json!({"weight_map": map}).to_string());
        line(&dir)
    };
    let edited = |name: &str, value: Option<Value>| {
        let mut map = map.clone();
        match value {
            Some(value) => map.insert(name.to_string(), value),
            None => map.remove(name),
        };
        Value::Object(map)
    };
    let limit = "must be a file NAME.safetensors of this folder";
    same(index(Value::Null), "model.safetensors.index.json: weight_map = null: must be an object of tensors and files");
    same(
        index(json!({})),
        "model.safetensors.index.json: weight_map = an object of 0 keys: must be an object of tensors and files",
    );
    for bad in [
        json!("../../etc/passwd.safetensors"),
        json!("/x.safetensors"),
        json!("a.bin"),
        json!(""),
        json!(3),
        json!("a\\b.safetensors"),
    ] {
        same(
            index(edited("a", Some(bad.clone()))),
            &format!("model.safetensors.index.json: weight_map[\"a\"] = {bad}: {limit}"),
        );
    }
    same(index(edited("a", Some(json!("b.safetensors")))), "b.safetensors: No such file or directory (os error 2)");
    same(
        index(edited("a", Some(json!(first)))),
        &format!("model.safetensors.index.json: weight_map[\"a\"] = {first}: that file has no such tensor"),
    );
    let name = &good[0].name;
    same(
        index(edited(name, Some(json!(second)))),
        &format!("model.safetensors.index.json: weight_map[{name:?}] = {second}: is in {first}"),
    );
    same(index(edited(name, None)), &format!("{first}: tensor {name}: is not in model.safetensors.index.json"));
    let many = (0..=MAX_SHARDS).map(|i| (i.to_string(), Value::from(format!("{i}.safetensors")))).collect();
    same(index(Value::Object(many)), "model.safetensors.index.json: weight_map = 4097 files: must be at most 4096");
    dir.write(INDEX, "{\"weight_map\": {\"a\": \"x.safetensors\", \"a\": \"x.safetensors\"}}");
    same(line(&dir), "model.safetensors.index.json: line 1, column 59: the key \"a\" stands twice");
    dir.write(INDEX, json!({"weight_map": map}).to_string());
    dir.write(second, [7u8; 5]);
    same(line(&dir), &format!("{second}: size = 5 bytes: must be at least 8, the length of the header"));

    // No weights that can be read.
    for name in [INDEX, first, second] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    same(line(&dir), "FOLDER: weights: must be there as model.safetensors or model.safetensors.index.json");
    dir.write("pytorch_model.bin", b"PK\x03\x04");
    same(
        line(&dir),
        "pytorch_model.bin: format: is pickled, which is code; rewrite it with transformers: \
         AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// OpenAI's release in small: twelve heads, so twelve channels at least.
fn release(dir: &TestDir) -> (Gpt, Params) {
    let mut config = Config::new(Arch::Gpt1, 11, 8);
    (config.n_layer, config.n_embd, config.n_head) = (2, 12, 12);
    let model = Gpt::new(&config).unwrap();
    let params = model.init(5).unwrap();
    let mut shapes = Vec::new();
    let mut flat = Vec::new();
    for name in openai::names(2) {
        let id = model.layout().ids().find(|id| model.layout().spec(*id).name == name).unwrap();
        let shape = &model.layout().spec(id).shape;
        let convolution = shape.len() == 2 && !name.contains("embed");
        shapes.push(if convolution { [&[1], &shape[..]].concat() } else { shape.clone() });
        flat.extend_from_slice(params.get(id));
    }
    dir.write("params_shapes.json", json!(shapes).to_string());
    for (i, part) in flat.chunks(flat.len().div_ceil(10)).enumerate() {
        dir.write(&format!("params_{i}.npy"), npy(part, "<f4"));
    }
    (model, params)
}

fn npy(numbers: &[f32], descr: &str) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}", numbers.len());
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn openais_arrays_are_cut_by_their_shapes() {
    let dir = TestDir::new("hf-openai");
    let (model, params) = release(&dir);
    let opened = load(dir.path(), Access::Map).unwrap();
    assert_eq!(opened.model.config(), model.config());
    assert!(same(&opened.params, &params));
    let found = describe(dir.path(), Access::Map).unwrap();
    assert_eq!((found.tensors.len(), found.files.len()), (26, 10));
    assert!(found.files.iter().all(|path| path.is_file()));

    let mut wrong = Vec::new();
    let mut same = |got: String, expected: &str| {
        if got != expected {
            wrong.push((got, expected.to_string()));
        }
    };
    let array = |bytes: Vec<u8>| {
        dir.write("params_9.npy", bytes);
        line(&dir)
    };
    let last = std::fs::read(dir.path().join("params_9.npy")).unwrap();
    same(array(b"NUMPY".to_vec()), "params_9.npy: format: must be numpy's .npy");
    same(array(b"\x93NUMPY\x03\x00\x00\x00".to_vec()), "params_9.npy: version = 3: must be 1");
    same(array(b"\x93NUMPY\x01\x00\xff\x00{".to_vec()), "params_9.npy: header: must end within the file");
    same(
        array(npy(&[1.0], "<f8")),
        "params_9.npy: header = {'descr':'<f8','fortran_order':False,'shape':(1,),}: must be little-endian f32 of one dim, here 1",
    );
    same(
        array(last[..last.len() - 3].to_vec()).split(": must").next().unwrap().to_string(),
        &format!(
            "params_9.npy: header = {{'descr':'<f4','fortran_order':False,'shape':({},),}}",
            (last.len() - 128) / 4
        ),
    );
    let (all, there) = (model.layout().count(), model.layout().count() - (last.len() - 128) / 4 + 1);
    same(
        array(npy(&[1.0], "<f4")),
        &format!("params_*.npy: numbers = {there}: must be {all}, as params_shapes.json says"),
    );
    let mut bad = last.clone();
    let at = bad.len() - 2;
    bad[at..].copy_from_slice(&[0x80, 0x7F]);
    same(array(bad), "params_*.npy: h.1.ln_2.bias, element 11 = inf: must be finite");
    std::fs::remove_file(dir.path().join("params_9.npy")).unwrap();
    same(line(&dir), "params_9.npy: No such file or directory (os error 2)");
    for (text, expected) in [
        ("{}", "params_shapes.json: shapes = an object of 0 keys: must be an array of shapes"),
        ("[[8, 12], [11, 12]]", "params_shapes.json: number of shapes = 2: must be 2 and 12 for each block"),
        ("[[8, 12], 3]", "params_shapes.json: [1] = 3: must be one to three lengths"),
        (
            "[[8], [11, 12]]",
            "params_shapes.json: [0]: must begin with the shapes of positions and tokens, two dims each",
        ),
    ] {
        dir.write("params_shapes.json", text);
        same(line(&dir), expected);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
