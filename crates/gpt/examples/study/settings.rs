//! The command line: two folders, and then `name=value`.

use super::Outcome;
use std::path::PathBuf;
use std::str::FromStr;

/// What a study was told.
pub struct Settings {
    /// The folder with `sst2`, `sick` and `tinyshakespeare.txt`.
    pub data: PathBuf,
    /// The folder of results and of the pre-trained model.
    pub out: PathBuf,
    values: Vec<(String, String)>,
}

impl Settings {
    /// The command line's, whose values have those names.
    pub fn read(usage: &str, names: &[&str]) -> Outcome<Settings> {
        let mut words = std::env::args().skip(1);
        let (Some(data), Some(out)) = (words.next(), words.next()) else { return Err(usage.into()) };
        let mut values = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if names.contains(&name) => values.push((name.to_string(), value.to_string())),
                _ => return Err(format!("{word}: must be NAME=VALUE, with a name of {}", names.join(", ")).into()),
            }
        }
        Ok(Settings { data: data.into(), out: out.into(), values })
    }

    /// The value of `name`, or `usual`.
    pub fn get<T: FromStr>(&self, name: &str, usual: T) -> Outcome<T> {
        match self.values.iter().rev().find(|(n, _)| n == name) {
            None => Ok(usual),
            Some((_, value)) => value.parse().map_err(|_| format!("{name}={value}: is no value of this kind").into()),
        }
    }
}
