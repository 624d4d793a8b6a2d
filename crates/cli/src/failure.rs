//! What ends the program: an exit status and one line.

use longhand_gpt::error::Error;

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// 1 for what went wrong, 2 for a wrong command line.
    pub status: u8,
    /// One line, without the program's name.
    pub line: String,
}

impl Failure {
    /// Something that went wrong.
    pub fn new(line: impl Into<String>) -> Failure {
        Failure { status: 1, line: line.into() }
    }

    /// A command line that says nothing useful.
    pub fn usage(line: impl Into<String>) -> Failure {
        Failure { status: 2, line: line.into() }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        match in_words_of_flags(e) {
            e @ Error::Config { .. } => Failure::usage(e.to_string()),
            e => Failure::new(e.to_string()),
        }
    }
}

/// A wrong setting under the name of the flag that gave it, where config.json calls it otherwise. Files have errors of
/// their own.
fn in_words_of_flags(e: Error) -> Error {
    let Error::Config { field, value, limit } = e else { return e };
    let field = match field.as_str() {
        "n_positions" => "block_size".to_string(),
        "embd_pdrop" | "attn_pdrop" | "resid_pdrop" => "dropout".to_string(),
        "initializer_range" => "init_std".to_string(),
        _ => field,
    };
    Error::Config { field, value, limit }
}

impl From<longhand_tensor::Error> for Failure {
    fn from(e: longhand_tensor::Error) -> Failure {
        Failure::new(e.to_string())
    }
}
