//! Any bytes as config.json: a configuration that writes itself and reads itself back, or an error of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_gpt::config::Config;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    match Config::from_hf_json(&json) {
        Ok(config) => {
            config.validate().expect("what was read is valid");
            let again = Config::from_hf_json(&config.to_hf_json()).expect("what was written can be read");
            assert_eq!(again.param_count(), config.param_count());
        }
        Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
    }
});
