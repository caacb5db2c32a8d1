//! Figures as people read them: three digits and the unit that fits.

const MICROSECONDS_PER_MILLISECOND: f64 = 1e3;
const MICROSECONDS_PER_SECOND: f64 = 1e6;

/// From here on minutes and seconds read better than seconds.
const MICROSECONDS_PER_MINUTE: f64 = 60e6;

/// Stands where there is no figure.
pub(crate) const NOTHING: &str = "–";

/// A unit for all ticks of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TimeUnit {
    pub(super) symbol: &'static str,
    pub(super) microseconds: f64,
}

impl TimeUnit {
    /// The unit in which the greatest value of an axis reads well.
    pub(super) fn fitting(max_us: f64) -> Self {
        let (symbol, microseconds) = if max_us < MICROSECONDS_PER_MILLISECOND {
            ("µs", 1.0)
        } else if max_us < MICROSECONDS_PER_SECOND {
            ("ms", MICROSECONDS_PER_MILLISECOND)
        } else {
            ("s", MICROSECONDS_PER_SECOND)
        };
        Self { symbol, microseconds }
    }
}

/// `"850 µs"`, `"2.31 ms"`, `"23.1 ms"`, `"2.81 s"`, `"3 min 20 s"`.
pub(crate) fn duration(microseconds: f64) -> String {
    // Rounded before the unit is chosen, or 999.9 µs would read "1000 µs".
    let rounded = three_digits_of(microseconds);
    if rounded >= MICROSECONDS_PER_MINUTE {
        let seconds = (microseconds / MICROSECONDS_PER_SECOND).round();
        return format!("{} min {} s", (seconds / 60.0).floor(), seconds % 60.0);
    }
    let unit = TimeUnit::fitting(rounded);
    format!("{} {}", three_digits(rounded / unit.microseconds), unit.symbol)
}

/// A time that is a round figure in its unit: `"20 ms"`.
pub(crate) fn round_duration(microseconds: f64) -> String {
    let unit = TimeUnit::fitting(microseconds);
    format!("{} {}", (microseconds / unit.microseconds).round(), unit.symbol)
}

/// From one time to another: `"502–515 ms"`, `"950 µs – 1.20 ms"`.
pub(crate) fn duration_range(min_us: f64, max_us: f64) -> String {
    let (min, max) = (duration(min_us), duration(max_us));
    match (min.rsplit_once(' '), max.rsplit_once(' ')) {
        _ if min == max => min,
        (Some((figure, unit)), Some((_, same))) if unit == same && !figure.contains(' ') => {
            format!("{figure}–{max}")
        }
        _ => format!("{min} – {max}"),
    }
}

/// A time that may be missing.
pub(crate) fn duration_or_nothing(microseconds: Option<f64>) -> String {
    microseconds.map_or_else(|| NOTHING.to_owned(), duration)
}

/// `"0%"`, `"2.5%"`, `"25%"`, `"100%"`.
pub(crate) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let tenths = (percent * 10.0).round() / 10.0;
    if tenths > 0.0 && tenths < 10.0 {
        format!("{tenths}%")
    } else {
        format!("{}%", percent.round())
    }
}

/// A part that may be unknown.
pub(super) fn percent_or_nothing(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| NOTHING.to_owned(), percent)
}

/// A rate: `"2.31"`, `"231"`, `"12,345"`.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 1000.0 {
        return three_digits(three_digits_of(per_second));
    }
    grouped(&format!("{:.0}", per_second.round()))
}

/// A tick's figure without needless digits: `"0.5"`, `"20"`.
pub(super) fn plain(value: f64) -> String {
    // Sums of steps carry errors in the last digits that nobody should read.
    format!("{}", (value * 1e6).round() / 1e6)
}

/// A count: `"12,345"`.
pub(crate) fn count(count: u64) -> String {
    grouped(&count.to_string())
}

/// How many times as much: `"1.8×"`, `"12×"`.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}×") } else { format!("{ratio:.0}×") }
}

/// `singular` for one, else `plural`: `"1 call"`, `"3 calls"`.
pub(super) fn counted(number: u64, singular: &str, plural: &str) -> String {
    let noun = if number == 1 { singular } else { plural };
    format!("{} {noun}", count(number))
}

/// A ratio in which hundredths matter: `"1.04"`.
pub(crate) fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Rounded to three significant digits; whole from 100 on.
fn three_digits_of(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powf(value.log10().floor() - 2.0);
    (value / scale).round() * scale
}

fn three_digits(value: f64) -> String {
    if value >= 99.95 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_pick_a_unit() {
        let cases = [
            (0.0, "0 µs"),
            (7.0, "7.00 µs"),
            (850.0, "850 µs"),
            (999.9, "1.00 ms"),
            (2_312.0, "2.31 ms"),
            (23_120.0, "23.1 ms"),
            (231_400.0, "231 ms"),
            (999_600.0, "1.00 s"),
            (2_812_000.0, "2.81 s"),
            (59_990_000.0, "1 min 0 s"),
            (200_000_000.0, "3 min 20 s"),
        ];
        for (microseconds, expected) in cases {
            assert_eq!(duration(microseconds), expected);
        }
        assert_eq!(duration_or_nothing(None), "–");
        assert_eq!(duration_range(502_000.0, 515_000.0), "502–515 ms");
        assert_eq!(duration_range(950.0, 1_200.0), "950 µs – 1.20 ms");
        assert_eq!(duration_range(950.0, 950.1), "950 µs");
        assert_eq!(duration_range(61e6, 62e6), "1 min 1 s – 1 min 2 s");
        assert_eq!(ratio(1.0449), "1.04");
    }

    #[test]
    fn parts_and_rates_and_counts() {
        let parts = [0.0, 0.0004, 0.0253, 0.0999, 0.254, 1.0].map(percent);
        assert_eq!(parts, ["0%", "0%", "2.5%", "10%", "25%", "100%"]);
        let rates = [0.0, 0.5, 23.14, 231.4, 999.7, 12_345.4].map(rate);
        assert_eq!(rates, ["0", "0.50", "23.1", "231", "1000", "12,345"]);
        assert_eq!([7, 1234, 1_234_567].map(count), ["7", "1,234", "1,234,567"]);
        assert_eq!([1.04, 12.4].map(times), ["1.0×", "12×"]);
        assert_eq!(counted(1, "call", "calls"), "1 call");
        assert_eq!(counted(1000, "call", "calls"), "1,000 calls");
    }
}
