//! By which numbers instances are planned.

use std::{ops::Deref, time::Duration};

use super::schedule::{DAY, TimeOfDay, Window};

/// Most instances of a service that anybody may ask for; far above any LAN, it bounds a typing error.
pub const INSTANCE_LIMIT: u32 = 10_000;

/// Most windows of a schedule: several for each hour.
pub const WINDOW_LIMIT: usize = 64;

/// The least and the most of something; the least is never above the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    min: u32,
    max: u32,
}

/// A least number above the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("min is {min} and max is {max}: expected min to be at most max")]
pub struct BoundsError {
    min: u32,
    max: u32,
}

impl Bounds {
    /// At least `min` and at most `max`.
    ///
    /// # Errors
    /// `min` is above `max`; it names both.
    pub fn new(min: u32, max: u32) -> Result<Self, BoundsError> {
        if min <= max { Ok(Self { min, max }) } else { Err(BoundsError { min, max }) }
    }

    /// The least.
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The most.
    pub const fn max(self) -> u32 {
        self.max
    }
}

/// Settings before anyone has checked them.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSettings {
    /// Calls per slot, running and queued, that instances should have on average. 0.05 to 10.
    pub target: f64,
    /// Share of the target that the demand may be off without consequences. 0 to 0.5.
    pub tolerance: f64,
    /// Demand is averaged over this time, and judged after it. 1 s to 10 min.
    pub sync: Duration,
    /// Instances are taken away only when the highest demand of this time allows it. At most an hour.
    pub stabilization: Duration,
    /// One step up adds at most this share of the instances there are, or [`Self::step_count`] if that is more. 0 to 10.
    pub step_share: f64,
    /// One step up may always add so many. At least 1.
    pub step_count: u32,
    /// After any change nothing is taken away for this time. At most an hour.
    pub cooldown: Duration,
    /// Nothing is planned for this time after the start: scalers and workers are still on their way back. At most 10 min.
    pub settle: Duration,
    /// Least number of instances of the service. At least 1: without any, no demand could be seen.
    pub min: u32,
    /// Most instances of the service. At most [`INSTANCE_LIMIT`].
    pub max: u32,
    /// Other bounds at certain hours; of several in force the last says.
    pub schedule: Vec<Window>,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            target: 0.7,
            tolerance: 0.1,
            sync: Duration::from_secs(15),
            stabilization: Duration::from_secs(300),
            step_share: 1.0,
            step_count: 4,
            cooldown: Duration::from_secs(60),
            settle: Duration::from_secs(5),
            min: 1,
            max: INSTANCE_LIMIT,
            schedule: Vec::new(),
        }
    }
}

/// Settings that make sense, each by itself and all together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings(RawSettings);

/// What makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value out of its range.
    #[error("{field} is {found}: expected {expected}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// The bounds of the service contradict each other.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// The bounds in a window, or of a window with the general ones, contradict each other.
    #[error("schedule {window}: {source}")]
    Schedule {
        /// Which window.
        window: Window,
        /// How.
        source: BoundsError,
    },
}

impl Deref for Settings {
    type Target = RawSettings;

    fn deref(&self) -> &RawSettings {
        &self.0
    }
}

impl Settings {
    /// Checks every value by itself and against the others.
    ///
    /// # Errors
    /// Names the first value that makes no sense, what it held and what was expected.
    pub fn parse(raw: RawSettings) -> Result<Self, SettingsError> {
        number("target", raw.target, 0.05, 10.0)?;
        number("tolerance", raw.tolerance, 0.0, 0.5)?;
        number("step_share", raw.step_share, 0.0, 10.0)?;
        time("sync", raw.sync, 1, 600)?;
        time("stabilization", raw.stabilization, 0, 3_600)?;
        time("cooldown", raw.cooldown, 0, 3_600)?;
        time("settle", raw.settle, 0, 600)?;
        count("step_count", raw.step_count)?;
        count("min", raw.min)?;
        count("max", raw.max)?;
        Bounds::new(raw.min, raw.max)?;
        if raw.schedule.len() > WINDOW_LIMIT {
            let expected = format!("at most {WINDOW_LIMIT} windows");
            return Err(value("schedule", format!("{} windows", raw.schedule.len()), expected));
        }
        for window in &raw.schedule {
            check_window(window)?;
        }
        let settings = Self(raw);
        for minute in 0..DAY {
            settings.bounds_in_window(TimeOfDay::from_minutes(minute))?;
        }
        Ok(settings)
    }

    /// The bounds at a time of day, and the window that made them.
    pub fn bounds(&self, time: TimeOfDay) -> (Bounds, Option<Window>) {
        self.bounds_in_window(time).expect("every minute was checked")
    }

    fn bounds_in_window(&self, time: TimeOfDay) -> Result<(Bounds, Option<Window>), SettingsError> {
        let (mut min, mut max, mut last) = (self.min, self.max, None);
        for window in self.schedule.iter().filter(|window| window.holds(time)) {
            min = window.min.unwrap_or(min);
            max = window.max.unwrap_or(max);
            last = Some(*window);
        }
        match (Bounds::new(min, max), last) {
            (Ok(bounds), last) => Ok((bounds, last)),
            (Err(source), Some(window)) => Err(SettingsError::Schedule { window, source }),
            (Err(source), None) => Err(source.into()),
        }
    }
}

fn check_window(window: &Window) -> Result<(), SettingsError> {
    if window.from == window.to {
        return Err(value("schedule", window.to_string(), "two different times".to_owned()));
    }
    window.min.map_or(Ok(()), |min| count("schedule.min", min))?;
    window.max.map_or(Ok(()), |max| count("schedule.max", max))
}

fn value(field: &'static str, found: String, expected: String) -> SettingsError {
    SettingsError::Value { field, found, expected }
}

fn number(field: &'static str, found: f64, least: f64, most: f64) -> Result<(), SettingsError> {
    // What is not a number is in no range.
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(value(field, found.to_string(), format!("a number from {least} to {most}")))
}

fn time(field: &'static str, found: Duration, least: u64, most: u64) -> Result<(), SettingsError> {
    if (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&found) {
        return Ok(());
    }
    Err(value(field, format!("{} s", found.as_secs_f64()), format!("{least} to {most} s")))
}

fn count(field: &'static str, found: u32) -> Result<(), SettingsError> {
    if (1..=INSTANCE_LIMIT).contains(&found) {
        return Ok(());
    }
    Err(value(field, found.to_string(), format!("1 to {INSTANCE_LIMIT}")))
}
