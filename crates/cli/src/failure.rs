//! What ends the program: an exit status and one line.

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

impl From<longhand_gpt::error::Error> for Failure {
    fn from(e: longhand_gpt::error::Error) -> Failure {
        Failure::new(e.to_string())
    }
}

impl From<longhand_tensor::Error> for Failure {
    fn from(e: longhand_tensor::Error) -> Failure {
        Failure::new(e.to_string())
    }
}
