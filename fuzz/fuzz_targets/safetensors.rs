//! Any bytes as a safetensors file: tensors whose dims fit their data, or an error of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_gpt::safetensors_io::{NonFinite, read_bytes};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    for non_finite in [NonFinite::Refuse, NonFinite::Allow] {
        match read_bytes(bytes, Path::new("fuzz.safetensors"), non_finite) {
            Ok(tensors) => {
                for t in tensors {
                    assert_eq!(t.shape.iter().product::<usize>(), t.data.len(), "{}", t.name);
                    assert!(non_finite == NonFinite::Allow || t.data.iter().all(|x| x.is_finite()), "{}", t.name);
                }
            }
            Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
        }
    }
});
