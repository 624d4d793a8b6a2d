//! What is said of a file of limits that is no TOML.

/// What toml says of `text`, on one line.
pub fn toml_fault(e: &toml::de::Error, text: &str) -> String {
    let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", e.message().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_named() {
        let text = "a = 1\nb = = 2\n";
        let fault = toml_fault(&text.parse::<toml::Table>().unwrap_err(), text);
        assert!(fault.starts_with("line 2: ") && !fault.contains('\n'), "{fault}");
    }
}
