//! Words and numbers as the page prints them.

use super::Scale;

/// Text inside an element or a quoted attribute; control characters, which HTML forbids, become U+FFFD.
pub fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len() + 16);
    for c in words.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_noncharacter(c) => out.push('\u{fffd}'),
            // Marks that reorder or hide text around them do neither here.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn is_noncharacter(c: char) -> bool {
    let code = c as u32;
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// 0.312, or a dash for what is no number.
pub fn fixed(x: f64, digits: usize) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    let words = format!("{x:.digits$}");
    // No sign on what rounds to zero, and a minus as wide as the digits.
    if words.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        words.trim_start_matches('-').into()
    } else {
        words.replace('-', "−")
    }
}

/// 71.3 or 0.713.
pub fn score(x: f64, scale: Scale) -> String {
    match scale {
        Scale::Percent => fixed(100.0 * x, 1),
        Scale::Coefficient => fixed(x, 3),
    }
}

/// +12.0 or −0.031.
pub fn signed(x: f64, scale: Scale) -> String {
    let words = score(x, scale);
    if words.starts_with(['−', '–']) || words.chars().all(|c| "0.".contains(c)) {
        words
    } else {
        format!("+{words}")
    }
}

/// 12,345.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// 812, 45.1 thousand, 1.25 million.
pub fn large(n: u64) -> String {
    let x = n as f64;
    match n {
        0..10_000 => count(n),
        10_000..1_000_000 => format!("{:.1} thousand", x / 1e3),
        _ => format!("{:.2} million", x / 1e6),
    }
}

/// 8.1 s, 41 s, 3 min 20 s, 1 h 05 min.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return "–".into();
    }
    let whole = s.round() as u64;
    match whole {
        0..10 => format!("{s:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// 1e-3, 6.25e-5.
pub fn rate(x: f64) -> String {
    if !x.is_finite() {
        return "–".into();
    }
    let words = format!("{x:.2e}");
    let (digits, power) = words.split_once('e').unwrap_or((&words, "0"));
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e{}", power.replace('-', "−"))
}

/// The mean; nothing for no numbers.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sum = values.iter().fold(0.0, |a, b| a + b);
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// The sample standard deviation; nothing for fewer than two numbers.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares = values.iter().fold(0.0, |a, v| a + (v - mean) * (v - mean));
    (values.len() > 1).then(|| libm::sqrt(squares / (values.len() - 1) as f64))
}

/// "a", "a and b", "a, b and c".
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_words() {
        assert_eq!([count(7), count(1000), count(1234567)], ["7", "1,000", "1,234,567"]);
        assert_eq!([large(812), large(45_100), large(1_250_000)], ["812", "45.1 thousand", "1.25 million"]);
        assert_eq!([seconds(8.14), seconds(59.6), seconds(3900.0)], ["8.1 s", "1 min 00 s", "1 h 05 min"]);
        assert_eq!([rate(1e-3), rate(6.25e-5), rate(f64::NAN)], ["1e−3", "6.25e−5", "–"]);
        assert_eq!([fixed(-0.0001, 2), fixed(-1.5, 1), fixed(f64::INFINITY, 1)], ["0.00", "−1.5", "–"]);
        assert_eq!([signed(0.12, Scale::Percent), signed(-0.031, Scale::Coefficient)], ["+12.0", "−0.031"]);
        assert_eq!(deviation(&[1.0, 3.0]), Some(libm::sqrt(2.0)));
        assert_eq!((deviation(&[1.0]), mean(&[])), (None, None));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("<a href=\"x\">&'\u{0}\u{202e}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}\u{fffd}");
    }
}
