//! The limits of `longhand roofline --assert FILE`.
//!
//! ```toml
//! [of_peak]                             # flops a second over the peak of multiply-adds
//! "matmul/1024x1024x1024" = 0.6
//!
//! [of_bound]                            # the least time over the time taken
//! "adamw/33554432" = 0.75
//! ```

use crate::failure::Failure;
use longhand_measure::cases::Case;
use longhand_measure::limits::toml_fault;
use longhand_measure::roofline::Row;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What each kernel must reach.
#[derive(Debug)]
pub struct Limits {
    path: PathBuf,
    /// Measure, kernel, limit.
    all: Vec<(Measure, String, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    OfPeak,
    OfBound,
}

const MEASURES: [(&str, Measure); 2] = [("of_peak", Measure::OfPeak), ("of_bound", Measure::OfBound)];

impl Limits {
    /// Reads the file; every kernel in it must be among those that will run.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, or holds what is no limit of a kernel.
    pub fn load(path: &Path, chosen: &[Case]) -> Result<Limits, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        let names: Vec<&str> = chosen.iter().map(|c| c.name.as_str()).collect();
        let all = read(&text, &names).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        Ok(Limits { path: path.to_path_buf(), all })
    }

    /// A line for each limit that is not reached.
    pub fn missed(&self, rows: &[Row]) -> Vec<String> {
        let missed = |(measure, name, limit): &(Measure, String, f64)| {
            let row = rows.iter().find(|r| r.name == *name)?;
            let (word, reached) = match measure {
                Measure::OfPeak => ("of_peak", row.of_peak),
                Measure::OfBound => ("of_bound", row.of_bound()),
            };
            // A share that is no number reaches nothing.
            (reached.is_nan() || reached < *limit).then(|| {
                format!("{}: {word} of {name} is {reached:.3}: at least {limit} is asserted", self.path.display())
            })
        };
        self.all.iter().filter_map(missed).collect()
    }
}

fn read(text: &str, names: &[&str]) -> Result<Vec<(Measure, String, f64)>, String> {
    let file: Table = text.parse().map_err(|e: toml::de::Error| toml_fault(&e, text))?;
    let mut all = Vec::new();
    for (key, kernels) in &file {
        let measure = MEASURES.iter().find(|(name, _)| name == key);
        let (Some((_, measure)), Value::Table(kernels)) = (measure, kernels) else {
            return Err(format!("{key:?}: must be a table [of_peak] or [of_bound]"));
        };
        for (name, value) in kernels {
            if !names.contains(&name.as_str()) {
                return Err(format!("{key}.{name:?}: must be a kernel that is measured; --json prints their names"));
            }
            let (limit, shown) = match value {
                Value::Float(x) => (*x, x.to_string()),
                Value::Integer(i) => (*i as f64, i.to_string()),
                other => (f64::NAN, format!("a {}", other.type_str())),
            };
            if !(limit > 0.0 && limit <= 1.0) {
                return Err(format!("{key}.{name:?} = {shown}: must be a share above 0 and at most 1"));
            }
            all.push((*measure, name.clone(), limit));
        }
    }
    if all.is_empty() {
        return Err("no limit: a table [of_peak] or [of_bound] with a share for each kernel is wanted".into());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_wrong_ones_named() {
        let names = ["matmul/1x2x3", "adamw/5"];
        let read = |text: &str| read(text, &names);
        let good = read("[of_peak]\n\"matmul/1x2x3\" = 0.5\n[of_bound]\n\"adamw/5\" = 1\n").unwrap();
        assert_eq!(good.len(), 2);
        assert!(good.contains(&(Measure::OfPeak, "matmul/1x2x3".into(), 0.5)));
        for (text, words) in [
            ("", "no limit"),
            ("x = 1", "\"x\": must be a table"),
            ("[of_pea]\n", "\"of_pea\": must be a table"),
            ("\"a\\nb\" = 1", "\"a\\nb\": must be a table"),
            ("[of_peak]\n\"matmul\" = 0.5", "of_peak.\"matmul\": must be a kernel"),
            ("[of_peak]\n\"adamw/5\" = 1.5", "of_peak.\"adamw/5\" = 1.5: must be a share"),
            ("[of_peak]\n\"adamw/5\" = nan", "must be a share"),
            ("[of_peak]\n\"adamw/5\" = \"a\"", "must be a share"),
            ("[of_peak]\n\"adamw/5\" 1", "line 2: "),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(words) && !said.contains('\n'), "{text:?}: {said}");
        }
    }
}
