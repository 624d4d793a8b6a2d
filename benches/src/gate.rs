//! What the gate decides: limits of this CPU from `gate.toml`, intervals from Criterion's estimates, a verdict from both.
//!
//! ```text
//! lower end of the interval > limit                    refused
//! upper end of the interval < limit                    accepted
//! neither, and twice the samples are allowed           as many samples again are added to those that are there
//! neither, and they are not                            undecided: accepted only if the median lies below the limit
//! ```
//!
//! A round goes through every case that is open, so the samples of a case lie as far apart as a round is long, and what
//! disturbs the machine for some seconds meets a part of them. The first two rounds are halves of the first decision.
//! Every sample that was taken counts, and the first interval that decides is the last one, whichever way it decides:
//! nothing is repeated until it passes.

use longhand_measure::limits::toml_fault;
use std::collections::BTreeMap;
use std::path::Path;

/// Instruction sets with limits.
pub const ISAS: [&str; 2] = ["avx2", "avx512"];

/// What is gated: the gate's name of it, and what follows `attention_` in the name of its case.
pub const CASES: [(&str, &str); 4] = [
    ("forward_t128", "forward/b1h12t128d64"),
    ("forward_t1024", "forward/b1h12t1024d64"),
    ("forward_backward_t128", "forward_backward/b1h12t128d64"),
    ("forward_backward_t1024", "forward_backward/b1h12t1024d64"),
];

/// What a case is measured against.
pub const BASELINES: [&str; 2] = ["peak", "matmul"];

/// A confidence interval of a median ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub lower: f64,
    /// The median itself.
    pub median: f64,
    /// Its upper end.
    pub upper: f64,
}

impl Interval {
    /// The median's interval in Criterion's `estimates.json`.
    pub fn read(path: &Path) -> Result<Interval, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn parse(text: &str) -> Result<Interval, String> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let number = |at: &str| {
            let number = json.pointer(at).and_then(|x| x.as_f64()).filter(|x| x.is_finite() && *x > 0.0);
            number.ok_or_else(|| format!("no ratio at {at}"))
        };
        let lower = number("/median/confidence_interval/lower_bound")?;
        let upper = number("/median/confidence_interval/upper_bound")?;
        Ok(Interval { lower, median: number("/median/point_estimate")?, upper })
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The interval lies below the limit.
    Accepted,
    /// The interval lies above the limit.
    Refused,
    /// The limit lies within the interval of the most samples, and the median below the limit.
    UndecidedBelow,
    /// The limit lies within the interval of the most samples, and the median does not lie below it.
    UndecidedAbove,
}

impl Verdict {
    /// Whether the gate lets it through.
    pub fn passes(self) -> bool {
        matches!(self, Verdict::Accepted | Verdict::UndecidedBelow)
    }

    /// As it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Refused => "REFUSED",
            Verdict::UndecidedBelow => "undecided, accepted by its median",
            Verdict::UndecidedAbove => "undecided, REFUSED by its median",
        }
    }
}

/// A verdict, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// How it ended.
    pub verdict: Verdict,
    /// The interval of all samples.
    pub interval: Interval,
    /// How many they are.
    pub samples: usize,
}

/// Decides cases by their limits, all of them round by round. `measure(case, n)` gives the interval of n samples in all
/// of the case of that place in `limits`, those of earlier rounds among them, or `None` where the case is not run at all.
pub fn decide<E>(
    limits: &[f64],
    rounds: Rounds,
    mut measure: impl FnMut(usize, usize) -> Result<Option<Interval>, E>,
) -> Result<Vec<Option<Decision>>, E> {
    let mut decisions = vec![None; limits.len()];
    let mut open: Vec<usize> = (0..limits.len()).collect();
    let mut samples = rounds.samples / 2;
    while !open.is_empty() {
        let mut left = Vec::new();
        for case in open {
            let Some(interval) = measure(case, samples)? else { continue };
            match judge(limits[case], rounds, samples, interval) {
                Some(verdict) => decisions[case] = Some(Decision { verdict, interval, samples }),
                None => left.push(case),
            }
        }
        open = left;
        samples = if samples < rounds.samples { rounds.samples } else { samples * 2 };
    }
    Ok(decisions)
}

/// What the interval of so many samples says; `None` where more are to be taken.
fn judge(limit: f64, rounds: Rounds, samples: usize, interval: Interval) -> Option<Verdict> {
    if samples < rounds.samples {
        None
    } else if interval.lower > limit {
        Some(Verdict::Refused)
    } else if interval.upper < limit {
        Some(Verdict::Accepted)
    } else if samples * 2 <= rounds.most {
        None
    } else if interval.median < limit {
        Some(Verdict::UndecidedBelow)
    } else {
        Some(Verdict::UndecidedAbove)
    }
}

/// How much is measured before a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounds {
    /// Samples of the first decision, taken in two rounds.
    pub samples: usize,
    /// Most samples of a case.
    pub most: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
}

/// `gate.toml`: how much is measured, and limits for CPUs by name. How far attention stays behind a product depends on
/// the core: what is slow on one is as it should be on another.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// How much is measured.
    pub rounds: Rounds,
    cpus: BTreeMap<String, Ratios>,
}

/// The highest ratio accepted for a case of `CASES` over one of `BASELINES` on one of `ISAS`.
type Ratios = BTreeMap<[&'static str; 3], f64>;

/// The limits of a CPU that has none of its own.
pub const OTHER: &str = "other";

/// Greatest limit that makes sense: the fused attention at a hundredth of the peak.
const HIGHEST: f64 = 100.0;

impl Limits {
    /// Reads `text`; a fault is one line: what is wrong, and the values that are right.
    pub fn parse(text: &str) -> Result<Limits, String> {
        let mut root: toml::Table = text.parse().map_err(|e: toml::de::Error| toml_fault(&e, text))?;
        let mut rounds = table(&mut root, "", "rounds")?;
        let samples = whole(&mut rounds, "samples", 20, 1000)?;
        let most = whole(&mut rounds, "most", samples, 10_000)?;
        let confidence = number(&mut rounds, "rounds", "confidence", 0.5, 0.9999)?;
        nothing_else(&rounds, "rounds.")?;
        let mut cpus = BTreeMap::new();
        let other = table(&mut root, "", OTHER)?;
        cpus.insert(OTHER.to_string(), ratios(other, OTHER, true)?);
        for cpu in root.keys().cloned().collect::<Vec<_>>() {
            let mut parts = cpu.split('-');
            let vendor = parts.next().is_some_and(|v| !v.is_empty() && v.chars().all(char::is_alphanumeric));
            let numbers: Vec<_> = parts.map(|n| n.parse::<u32>().is_ok()).collect();
            if !vendor || !matches!(numbers[..], [true] | [true, true]) {
                let wanted = "rounds, other, or a CPU as Vendor-family or Vendor-family-model is wanted";
                return Err(format!("{} is not known; {wanted}", cpu.escape_debug()));
            }
            let isas = table(&mut root, "", &cpu)?;
            let limits = ratios(isas, &cpu, false)?;
            if limits.is_empty() {
                return Err(format!("{cpu} has no limits; one of {} is wanted", ISAS.join(", ")));
            }
            cpus.insert(cpu, limits);
        }
        Ok(Limits { rounds: Rounds { samples, most, confidence }, cpus })
    }

    /// The name whose limits hold for `cpu` on `isa`: the longest that is `cpu` or the beginning of it, "AuthenticAMD-26"
    /// for "AuthenticAMD-26-2", and has limits for that instruction set; else `OTHER`.
    pub fn name(&self, cpu: &str, isa: &str) -> &str {
        let begins =
            |name: &&String| cpu.strip_prefix(name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('-'));
        let has = |name: &&String| self.cpus[*name].keys().any(|[of, ..]| *of == isa);
        self.cpus.keys().filter(begins).filter(has).max_by_key(|name| name.len()).map_or(OTHER, String::as_str)
    }

    /// The highest ratio that `name` accepts for a case of `CASES` over one of `BASELINES` on one of `ISAS`.
    pub fn of(&self, name: &str, isa: &'static str, case: &'static str, over: &'static str) -> f64 {
        self.cpus[name][&[isa, case, over]]
    }
}

/// The limits of one CPU: of every instruction set, or of those that are there, each whole.
fn ratios(mut isas: toml::Table, cpu: &str, all: bool) -> Result<Ratios, String> {
    let mut ratios = BTreeMap::new();
    for isa in ISAS {
        if !all && !isas.contains_key(isa) {
            continue;
        }
        let mut cases = table(&mut isas, &format!("{cpu}."), isa)?;
        for (case, _) in CASES {
            let mut overs = table(&mut cases, &format!("{cpu}.{isa}."), case)?;
            for over in BASELINES {
                let ratio = number(&mut overs, &format!("{cpu}.{isa}.{case}"), over, 0.01, HIGHEST)?;
                ratios.insert([isa, case, over], ratio);
            }
            nothing_else(&overs, &format!("{cpu}.{isa}.{case}."))?;
        }
        nothing_else(&cases, &format!("{cpu}.{isa}."))?;
    }
    nothing_else(&isas, &format!("{cpu}."))?;
    Ok(ratios)
}

/// This CPU as `gate.toml` names it: vendor, family and model with dashes between them, "AuthenticAMD-26-2"; empty where
/// the system does not say. From the text of `/proc/cpuinfo`.
pub fn cpu_name(cpuinfo: &str) -> String {
    let value = |of: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == of).map(|(_, value)| value.trim())
    };
    match (value("vendor_id"), value("cpu family"), value("model")) {
        (Some(vendor), Some(family), Some(model)) => format!("{vendor}-{family}-{model}"),
        _ => String::new(),
    }
}

fn table(of: &mut toml::Table, path: &str, name: &str) -> Result<toml::Table, String> {
    match of.remove(name) {
        Some(toml::Value::Table(t)) => Ok(t),
        Some(other) => Err(format!("{path}{name} is {}; a table is wanted", shown(&other))),
        None => Err(format!("{path}{name} is missing; a table is wanted")),
    }
}

fn number(of: &mut toml::Table, path: &str, name: &str, low: f64, high: f64) -> Result<f64, String> {
    let wanted = format!("a number from {low} to {high} is wanted");
    let value = of.remove(name).ok_or_else(|| format!("{path}.{name} is missing; {wanted}"))?;
    let x = value.as_float().or(value.as_integer().map(|i| i as f64));
    x.filter(|x| (low..=high).contains(x)).ok_or_else(|| format!("{path}.{name} is {}; {wanted}", shown(&value)))
}

fn whole(of: &mut toml::Table, name: &str, low: usize, high: usize) -> Result<usize, String> {
    let wanted = format!("a whole number from {low} to {high} is wanted");
    let value = of.remove(name).ok_or_else(|| format!("rounds.{name} is missing; {wanted}"))?;
    let n = value.as_integer().and_then(|i| usize::try_from(i).ok()).filter(|n| (low..=high).contains(n));
    n.ok_or_else(|| format!("rounds.{name} is {}; {wanted}", shown(&value)))
}

fn nothing_else(of: &toml::Table, path: &str) -> Result<(), String> {
    match of.keys().next() {
        Some(key) => Err(format!("{path}{} is not known", key.escape_debug())),
        None => Ok(()),
    }
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(x) => x.to_string(),
        toml::Value::Integer(x) => x.to_string(),
        toml::Value::String(s) => format!("{s:?}"),
        other => format!("of type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: Rounds = Rounds { samples: 20, most: 100, confidence: 0.99 };

    /// Decides at the limit 1.5 from one interval a round, and says with how many samples each was asked for. The first
    /// round, half of a decision, gives an interval that would be refused.
    fn rounds(intervals: &[[f64; 3]]) -> (Verdict, Vec<usize>) {
        let (mut asked, mut left) = (Vec::new(), intervals.iter());
        let decisions = decide(&[1.5], ROUNDS, |_, n| {
            asked.push(n);
            let half = asked.len() == 1;
            let [lower, median, upper] =
                if half { [1.6, 1.7, 1.8] } else { *left.next().expect("no round after the deciding one") };
            Ok::<_, String>(Some(Interval { lower, median, upper }))
        });
        let decision = decisions.expect("measured")[0].expect("run");
        assert_eq!(left.next(), None);
        assert_eq!(Some(&decision.samples), asked.last());
        assert_eq!(asked.remove(0), 10);
        (decision.verdict, asked)
    }

    #[test]
    fn an_interval_clear_of_the_limit_decides_at_once() {
        assert_eq!(rounds(&[[1.51, 1.6, 1.7]]), (Verdict::Refused, vec![20]));
        assert_eq!(rounds(&[[1.3, 1.4, 1.49]]), (Verdict::Accepted, vec![20]));
    }

    #[test]
    fn an_interval_across_the_limit_is_widened_and_either_verdict_ends_it() {
        let across = [1.4, 1.49, 1.6];
        assert_eq!(rounds(&[across, [1.3, 1.4, 1.49]]), (Verdict::Accepted, vec![20, 40]));
        assert_eq!(rounds(&[across, across, [1.51, 1.52, 1.6]]), (Verdict::Refused, vec![20, 40, 80]));
    }

    #[test]
    fn after_the_most_samples_the_median_decides_and_says_so() {
        // 160 samples would be more than 100.
        let across = [1.4, 1.51, 1.6];
        assert_eq!(rounds(&[across, across, [1.4, 1.49, 1.6]]), (Verdict::UndecidedBelow, vec![20, 40, 80]));
        assert_eq!(rounds(&[across, across, across]), (Verdict::UndecidedAbove, vec![20, 40, 80]));
        // Ends that touch the limit are across it, and so is a median upon it.
        assert_eq!(rounds(&[[1.5, 1.5, 1.5]; 3]).0, Verdict::UndecidedAbove);
        assert!(Verdict::Accepted.passes() && Verdict::UndecidedBelow.passes());
        assert!(!Verdict::Refused.passes() && !Verdict::UndecidedAbove.passes());
    }

    #[test]
    fn a_case_that_was_not_run_has_no_decision_and_a_failure_passes_through() {
        assert_eq!(decide(&[1.5], ROUNDS, |_, _| Ok::<_, String>(None)), Ok(vec![None]));
        assert_eq!(decide(&[1.5], ROUNDS, |_, _| Err("unreadable")), Err("unreadable"));
    }

    #[test]
    fn a_round_goes_through_every_case_that_is_open() {
        let mut asked = Vec::new();
        let decisions = decide(&[1.5, 2.5, 3.5], ROUNDS, |case, n| {
            asked.push((case, n));
            let of = |lower, upper| Some(Interval { lower, median: 2.0, upper });
            // Refused at once, not run, across its limit until it is accepted.
            Ok::<_, String>([of(1.9, 2.1), None, of(1.9, if n < 80 { 3.6 } else { 2.1 })][case])
        });
        assert_eq!(asked, [(0, 10), (1, 10), (2, 10), (0, 20), (2, 20), (2, 40), (2, 80)]);
        let decisions = decisions.expect("measured");
        assert_eq!(
            decisions.iter().map(|d| d.map(|d| (d.verdict, d.samples))).collect::<Vec<_>>(),
            [Some((Verdict::Refused, 20)), None, Some((Verdict::Accepted, 80))]
        );
    }

    #[test]
    fn estimates_are_read_as_criterion_writes_them() {
        let of = |lower: &str| {
            format!(
                r#"{{"mean":{{"point_estimate":9.0}},"median":{{"confidence_interval":{{"confidence_level":0.99,
                "lower_bound":{lower},"upper_bound":1.6}},"point_estimate":1.5,"standard_error":0.1}},"slope":null}}"#
            )
        };
        assert_eq!(Interval::parse(&of("1.4")), Ok(Interval { lower: 1.4, median: 1.5, upper: 1.6 }));
        let fault = Interval::parse(&of("null")).expect_err("no number");
        assert_eq!(fault, "no ratio at /median/confidence_interval/lower_bound");
        assert!(Interval::parse("{").is_err());
    }

    #[test]
    fn the_limits_of_this_tree_are_sound() {
        let limits = Limits::parse(include_str!("../gate.toml")).expect("gate.toml is sound");
        for (cpu, ratios) in &limits.cpus {
            for (ratio, limit) in ratios {
                assert!(
                    (1.0..=limits.of(OTHER, ratio[0], ratio[1], ratio[2])).contains(limit),
                    "{cpu} {ratio:?}: {limit}"
                );
            }
        }
    }

    #[test]
    fn a_cpu_has_its_familys_limits_and_an_unknown_one_the_others() {
        let limits = Limits::parse(include_str!("../gate.toml")).expect("gate.toml is sound");
        assert_eq!(limits.name("AuthenticAMD-26-2", "avx512"), "AuthenticAMD-26-2");
        assert_eq!(limits.name("AuthenticAMD-26-2-x", "avx2"), "AuthenticAMD-26-2");
        // Another model that begins with the same digits, one without limits for this set, none at all.
        assert_eq!(limits.name("AuthenticAMD-26-21", "avx2"), OTHER);
        assert_eq!(limits.name("AuthenticAMD-25-1", "avx512"), OTHER);
        assert_eq!(limits.name("", "avx2"), OTHER);
        let cpuinfo =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n";
        assert_eq!(cpu_name(cpuinfo), "AuthenticAMD-26-2");
        assert_eq!(cpu_name("Processor : 0"), "");
    }

    #[test]
    fn a_bad_file_gets_one_clear_line() {
        let good = include_str!("../gate.toml");
        let line = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            let fault = Limits::parse(&good.replacen(from, to, 1)).expect_err(to);
            assert!(!fault.contains('\n'), "{fault}");
            fault
        };
        let wanted = "a number from 0.01 to 100 is wanted";
        let at = "other.avx2.forward_t128.peak";
        let peak = good.lines().find(|l| l.starts_with("peak")).expect("a limit");
        assert_eq!(line(peak, "peak = -1.5"), format!("{at} is -1.5; {wanted}"));
        assert_eq!(line(peak, "peak = nan"), format!("{at} is NaN; {wanted}"));
        assert_eq!(line(peak, "peak = 101"), format!("{at} is 101; {wanted}"));
        assert_eq!(line(peak, "peak = \"low\""), format!("{at} is \"low\"; {wanted}"));
        assert_eq!(line(peak, ""), format!("{at} is missing; {wanted}"));
        assert_eq!(line(peak, &format!("{peak}\npeek = 1.0")), "other.avx2.forward_t128.peek is not known");
        assert_eq!(
            line("[other.avx2.forward_t128]", "[other.avx2.forward_t127]"),
            "other.avx2.forward_t128 is missing; a table is wanted"
        );
        assert_eq!(line("[rounds]", "[round]"), "rounds is missing; a table is wanted");
        assert_eq!(
            line("[AuthenticAMD-25-1.avx2.forward_t128]", "[AuthenticAMD-25-1.avx.forward_t128]"),
            "AuthenticAMD-25-1.avx2.forward_t128 is missing; a table is wanted"
        );
        let wanted = "rounds, other, or a CPU as Vendor-family or Vendor-family-model is wanted";
        let seeds = format!("{good}\n[seeds]\nn = 1\n");
        assert_eq!(Limits::parse(&seeds), Err(format!("seeds is not known; {wanted}")));
        let empty = format!("{good}\n[GenuineIntel-6-207]\n");
        assert_eq!(
            Limits::parse(&empty),
            Err("GenuineIntel-6-207 has no limits; one of avx2, avx512 is wanted".into())
        );
        let samples = good.lines().find(|l| l.starts_with("samples")).expect("rounds.samples");
        let fault = line(samples, "samples = 19");
        assert_eq!(fault, "rounds.samples is 19; a whole number from 20 to 1000 is wanted");
        let fault = line(samples, "samples = 999");
        assert!(fault.starts_with("rounds.most is ") && fault.ends_with("from 999 to 10000 is wanted"), "{fault}");
        assert!(line(samples, "samples = ").starts_with("line "));
    }
}
