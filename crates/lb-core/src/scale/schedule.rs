//! Other bounds at certain hours.

use std::{fmt, str::FromStr};

/// Minutes in a day.
pub(super) const DAY: u16 = 24 * 60;

/// A minute of the day, by whatever clock the caller keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// `minutes` after midnight; what is beyond a day starts it anew.
    pub const fn from_minutes(minutes: u16) -> Self {
        Self(minutes % DAY)
    }

    /// Minutes after midnight, below 1,440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

/// A text that is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time {found:?} is not valid: expected HH:MM, from 00:00 to 23:59")]
pub struct TimeError {
    found: String,
}

impl FromStr for TimeOfDay {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let digits = |text: &str, limit: u16| {
            let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            two.then(|| text.parse::<u16>().ok()).flatten().filter(|number| *number < limit)
        };
        let time = text.split_once(':').and_then(|(hours, minutes)| {
            Some(Self(digits(hours, 24)? * 60 + digits(minutes, 60)?))
        });
        time.ok_or_else(|| TimeError { found: text.chars().take(40).collect() })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

/// Other bounds every day from one time to another, the second not included; over midnight if it is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub from: TimeOfDay,
    /// When it is over. Never the same as `from`.
    pub to: TimeOfDay,
    /// Least number of instances meanwhile; `None`: as ever.
    pub min: Option<u32>,
    /// Most instances meanwhile; `None`: as ever.
    pub max: Option<u32>,
}

impl Window {
    /// Whether it is in force.
    pub fn holds(&self, time: TimeOfDay) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{} to {}", self.from, self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, to: &str) -> Window {
        Window { from: from.parse().unwrap(), to: to.parse().unwrap(), min: Some(8), max: None }
    }

    #[test]
    fn a_window_holds_from_its_first_minute_to_the_one_before_its_last() {
        let holds = |window: Window, times: &[&str]| {
            times.iter().map(|time| window.holds(time.parse().unwrap())).collect::<Vec<_>>()
        };
        let day = holds(window("08:00", "18:00"), &["07:59", "08:00", "17:59", "18:00", "00:00"]);
        assert_eq!(day, [false, true, true, false, false]);
        let night = holds(window("22:00", "06:00"), &["21:59", "22:00", "00:00", "05:59", "06:00"]);
        assert_eq!(night, [false, true, true, true, false]);
    }

    #[test]
    fn times_are_hours_and_minutes() {
        assert_eq!("08:30".parse::<TimeOfDay>().unwrap().minutes(), 510);
        assert_eq!(TimeOfDay::from_minutes(510).to_string(), "08:30");
        for bad in ["", "8:30", "24:00", "08:60", "0830", "08:3 ", "+8:30", "08:30:00"] {
            let error = bad.parse::<TimeOfDay>().unwrap_err().to_string();
            assert!(error.ends_with("expected HH:MM, from 00:00 to 23:59"), "{error}");
        }
    }
}
