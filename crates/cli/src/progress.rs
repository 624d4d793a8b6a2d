//! What is shown while something long runs: a bar on a terminal, regular lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Instant;

/// What is known after a step.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Steps done.
    pub step: u64,
    /// Mean loss since the last reading, nats (a token, where a text is told).
    pub loss: f64,
    /// The same in bits a byte, where a text is told.
    pub bits_per_byte: Option<f64>,
}

/// Progress of a run of `total` steps.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    /// Where the clock of the speed starts: time, step.
    began: (Instant, u64),
    /// Tokens trained on since then.
    tokens: u64,
    /// Seconds spent on evaluation, samples and saving, which the speed leaves out.
    paused: f64,
}

impl Progress {
    /// A bar if standard error is a terminal. `done` steps are behind already.
    pub fn new(total: u64, done: u64) -> Progress {
        let bar = terminal_bar(total);
        if let Some(bar) = &bar {
            bar.set_position(done);
        }
        Progress { bar, total, began: (Instant::now(), done), tokens: 0, paused: 0.0 }
    }

    /// Whether there is a bar: then a reading a step is welcome, else one every `--log-interval`.
    pub fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    /// Counts the tokens of a step.
    pub fn count(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// Seconds of the steps themselves.
    fn seconds(&self) -> f64 {
        (self.began.0.elapsed().as_secs_f64() - self.paused).max(1e-9)
    }

    /// Tokens trained on, and the seconds of the steps themselves, since this process began.
    pub fn totals(&self) -> (u64, f64) {
        (self.tokens, self.seconds())
    }

    /// Tokens a second, so far, of the steps themselves.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds()
    }

    /// Shows a reading.
    pub fn show(&self, r: Reading) {
        let speed = self.tokens_per_second();
        let done = r.step.saturating_sub(self.began.1).max(1);
        let left = self.total.saturating_sub(r.step) as f64 * self.seconds() / done as f64;
        let bits = r.bits_per_byte.map_or(String::new(), |bits| format!("{bits:.3} bits/byte  "));
        let message = format!("loss {:.4}  {bits}{} tokens/s  {} left", r.loss, thousands(speed as u64), clock(left));
        match &self.bar {
            Some(bar) => {
                bar.set_position(r.step);
                bar.set_message(message);
            }
            None => self.line(&format!("step {:>6}/{}  {message}", r.step, self.total)),
        }
    }

    /// Runs something that is no step, apart from the speed.
    pub fn aside<T>(&mut self, work: impl FnOnce(&Progress) -> T) -> T {
        let began = Instant::now();
        let result = work(self);
        self.paused += began.elapsed().as_secs_f64();
        result
    }

    /// Writes a line above the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print_line(text)),
            None => print_line(text),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar, if standard error is a terminal.
fn terminal_bar(total: u64) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len}  {msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar
    })
}

/// A bar over things that are counted and named, on a terminal alone.
pub struct Counter(Option<ProgressBar>);

impl Counter {
    /// A bar for `total` of them.
    pub fn new(total: u64) -> Counter {
        Counter(terminal_bar(total))
    }

    /// The next one begins.
    pub fn next(&self, name: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(name.to_string());
            bar.inc(1);
            bar.tick();
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Why standard output did not take a line, the first time.
static LOST: OnceLock<String> = OnceLock::new();

/// A line on standard output. One that it refuses ends no run, but makes it a failure at its end (`lost_output`); a reader
/// that has gone is none.
pub fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = writeln!(out, "{text}").and_then(|()| out.flush())
        && e.kind() != ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| e.to_string());
    }
}

/// Why standard output has not taken every line, if it has not.
pub fn lost_output() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// A line on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "longhand: {text}");
}

/// 1234567 as 1,234,567.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// Seconds as 0:07, 12:34 or 1:02:03.
pub fn clock(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 1e9).round() as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!((thousands(7).as_str(), thousands(1234567).as_str()), ("7", "1,234,567"));
        assert_eq!((clock(7.4).as_str(), clock(754.0).as_str(), clock(3723.0).as_str()), ("0:07", "12:34", "1:02:03"));
        assert_eq!(clock(f64::INFINITY), clock(1e9));
    }
}
