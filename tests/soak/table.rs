//! The result as a table, and how sure it is.

use crate::ledger::Record;
use crate::outcome::SERVED;

/// The quantile of the normal distribution that leaves 2.5 % above it: a two-sided interval of 95 %.
const Z: f64 = 1.959_964;

/// The upper end of Wilson's interval for the rate of failures, at 95 %; 1 where nothing was sent.
#[allow(clippy::cast_precision_loss, reason = "counts lie far below 2^52")]
pub(crate) fn wilson(failed: u64, all: u64) -> f64 {
    if all == 0 {
        return 1.0;
    }
    // A calm request that failed counts as well.
    let failed = failed.min(all);
    let (n, p) = (all as f64, failed as f64 / all as f64);
    let square = Z * Z;
    let spread = Z * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    ((p + square / (2.0 * n) + spread) / (1.0 + square / n)).min(1.0)
}

/// Digits of a number in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A row for each fault, and the outcomes of what failed below. The bounds are for what the fault
/// was on for: requests, and strikes, which alone are independent of each other.
pub(crate) fn markdown(records: &[Record]) -> String {
    let head = "| fault | | requests | while it was on | waited | redialled | failed | \
                of requests, 95 % | strikes | that failed | of strikes, 95 % | requests/s |\n\
                | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    let rows: String = records.iter().map(row).collect();
    let failures: String = records.iter().flat_map(failures).collect();
    let wakes: String = records.iter().filter_map(wakes).collect();
    format!("{head}{rows}{failures}{wakes}")
}

fn row(record: &Record) -> String {
    let Record { fault, title, under_fault, strikes, waited, redialled, seconds, .. } = record;
    let (all, failed) = (record.requests(), record.failed());
    #[allow(clippy::cast_precision_loss, reason = "counts lie far below 2^52")]
    let rate = all as f64 / seconds.max(1.0);
    let (of_requests, failed_strikes) = (wilson(failed, *under_fault), count(record));
    let of_strikes = 100.0 * wilson(failed_strikes, *strikes);
    let [requests, under_fault, waited, redialled] =
        [all, *under_fault, *waited, *redialled].map(grouped);
    format!(
        "| {fault} | {title} | {requests} | {under_fault} | {waited} | {redialled} | {failed} | \
         ≤ {of_requests:.1e} | {strikes} | {failed_strikes} | ≤ {of_strikes:.0} % | {rate:.0} |\n"
    )
}

fn count(record: &Record) -> u64 {
    record.failed_strikes.len().try_into().unwrap_or(u64::MAX)
}

fn failures(record: &Record) -> impl Iterator<Item = String> {
    let failed = record.outcomes.iter().filter(|(label, _)| *label != SERVED);
    let failed = failed.map(|(label, count)| format!("{count} times {label}"));
    let all = failed.chain(record.gone_wrong.iter().cloned());
    all.map(|what| format!("\n{}: {what}\n", record.fault))
}

/// How long starts from zero took.
fn wakes(record: &Record) -> Option<String> {
    let (under, calm) = (spread(&record.wakes_under_fault), spread(&record.wakes_calm));
    if under.is_none() && calm.is_none() {
        return None;
    }
    let [under, calm] = [under, calm].map(|spread| spread.unwrap_or_else(|| "none".to_owned()));
    Some(format!("\n{}: starts from zero while it was on: {under}; others: {calm}\n", record.fault))
}

/// How many times there are, the median and the longest.
fn spread(times: &[u64]) -> Option<String> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let (median, longest) = (sorted.get(sorted.len() / 2)?, sorted.last()?);
    let (count, median, longest) = (sorted.len(), grouped(*median), grouped(*longest));
    Some(format!("{count}, median {median} ms, longest {longest} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_the_target() {
        // T1: no failure in a million requests is a rate of 4e-6 at the most.
        let bound = wilson(0, 1_000_000);
        assert!((3.8e-6..4e-6).contains(&bound), "{bound:e}");
        assert!((wilson(10, 100) - 0.174_366).abs() < 1e-5, "{}", wilson(10, 100));
        assert!((wilson(0, 0) - 1.0).abs() < f64::EPSILON);
        assert!((wilson(9, 3) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_failed_is_named() {
        let outcomes = [(SERVED.to_owned(), 1_234_567), ("503 overloaded".to_owned(), 2)];
        let record = Record {
            fault: "F1".to_owned(),
            outcomes: outcomes.into(),
            under_fault: 1_000_000,
            redialled: 7,
            strikes: 6,
            failed_strikes: [3].into(),
            gone_wrong: vec!["strike 3: the activator is not back".to_owned()],
            seconds: 1000.0,
            wakes_under_fault: vec![9, 1_400, 12],
            ..Record::default()
        };
        let text = markdown(&[record]);
        let row =
            "| F1 |  | 1,234,569 | 1,000,000 | 0 | 7 | 2 | ≤ 7.3e-6 | 6 | 1 | ≤ 56 % | 1235 |";
        assert!(text.contains(row), "{text}");
        let failed = "\nF1: 2 times 503 overloaded\n\nF1: strike 3: the activator is not back\n";
        assert!(text.contains(failed), "{text}");
        let woken = "\nF1: starts from zero while it was on: 3, median 12 ms, longest 1,400 ms; \
                     others: none\n";
        assert!(text.ends_with(woken), "{text}");
    }
}
