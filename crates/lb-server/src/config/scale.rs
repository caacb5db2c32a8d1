//! The table `[scale]`: from text to settings of the planner.

use std::time::Duration;

use serde::Deserialize;

use lb_core::{
    id::ServiceName,
    scale::{RawSettings, Settings, SettingsError, Window},
};
use lb_runtime::config::{ConfigError, Loaded};

use super::Raw;

/// The table as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawScale {
    service: String,
    target: f64,
    tolerance: f64,
    sync_s: u32,
    stabilization_s: u32,
    cooldown_s: u32,
    settle_s: u32,
    step_share: f64,
    step_count: u32,
    min: u32,
    max: u32,
    schedule: Vec<String>,
}

/// How workers are scaled, where scalers are.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleSettings {
    /// The service whose workers are scaled.
    pub service: ServiceName,
    /// By which numbers.
    pub planner: Settings,
}

impl Default for ScaleSettings {
    /// Those of the embedded default file.
    fn default() -> Self {
        let service = "lb.v1.Compute".parse().expect("a service name");
        Self { service, planner: Settings::default() }
    }
}

impl RawScale {
    /// What holds of the table.
    pub(crate) fn resolve(&self, loaded: &Loaded<Raw>) -> Result<ScaleSettings, ConfigError> {
        let service =
            self.service.parse().map_err(|error| loaded.refuse("scale.service", error))?;
        let windows = self.schedule.iter().map(|text| window(text));
        let windows: Result<Vec<Window>, String> = windows.collect();
        let seconds = |count: u32| Duration::from_secs(count.into());
        let raw = RawSettings {
            target: self.target,
            tolerance: self.tolerance,
            sync: seconds(self.sync_s),
            stabilization: seconds(self.stabilization_s),
            step_share: self.step_share,
            step_count: self.step_count,
            cooldown: seconds(self.cooldown_s),
            settle: seconds(self.settle_s),
            min: self.min,
            max: self.max,
            schedule: windows.map_err(|problem| loaded.refuse("scale.schedule", problem))?,
        };
        let planner = Settings::parse(raw).map_err(|error| loaded.refuse(key(&error), error))?;
        Ok(ScaleSettings { service, planner })
    }
}

/// The key that an error is about.
fn key(error: &SettingsError) -> &'static str {
    match error {
        SettingsError::Value { field: "target", .. } => "scale.target",
        SettingsError::Value { field: "tolerance", .. } => "scale.tolerance",
        SettingsError::Value { field: "sync", .. } => "scale.sync_s",
        SettingsError::Value { field: "stabilization", .. } => "scale.stabilization_s",
        SettingsError::Value { field: "cooldown", .. } => "scale.cooldown_s",
        SettingsError::Value { field: "settle", .. } => "scale.settle_s",
        SettingsError::Value { field: "step_share", .. } => "scale.step_share",
        SettingsError::Value { field: "step_count", .. } => "scale.step_count",
        SettingsError::Value { field: "max", .. } => "scale.max",
        SettingsError::Value { field: "schedule" | "schedule.min" | "schedule.max", .. }
        | SettingsError::Schedule { .. } => "scale.schedule",
        SettingsError::Value { .. } | SettingsError::Bounds(_) => "scale.min",
    }
}

/// Reads `08:00-18:00 min 8 max 20`.
fn window(text: &str) -> Result<Window, String> {
    let shown: String = text.chars().take(80).collect();
    let malformed = || {
        format!(
            "window {shown:?} is not valid: expected HH:MM-HH:MM and min N, max N or both, as in \"08:00-18:00 min 8\""
        )
    };
    let mut words = text.split_whitespace();
    let (from, to) = words.next().and_then(|span| span.split_once('-')).ok_or_else(malformed)?;
    let time = |text: &str| text.parse().map_err(|error| format!("window {shown:?}: {error}"));
    let mut window = Window { from: time(from)?, to: time(to)?, min: None, max: None };
    while let Some(bound) = words.next() {
        let count = words.next().and_then(|count| count.parse::<u32>().ok());
        let place = match bound {
            "min" => &mut window.min,
            "max" => &mut window.max,
            _ => return Err(malformed()),
        };
        if place.replace(count.ok_or_else(malformed)?).is_some() {
            return Err(malformed());
        }
    }
    if window.min.is_none() && window.max.is_none() { Err(malformed()) } else { Ok(window) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_two_times_and_bounds() {
        let window = |text| window(text).map(|found| (found.to_string(), found.min, found.max));
        assert_eq!(
            window("08:00-18:00 min 8 max 20").unwrap(),
            ("08:00 to 18:00".into(), Some(8), Some(20))
        );
        assert_eq!(window("22:00-06:00 max 2").unwrap().2, Some(2));
        for text in [
            "",
            "08:00",
            "08:00-18:00",
            "08:00-18:00 min",
            "08:00-18:00 least 1",
            "08:00-18:00 min 1 min 2",
        ] {
            let error = window(text).unwrap_err();
            assert!(
                error.starts_with(&format!("window {text:?} is not valid: expected")),
                "{error}"
            );
        }
        let error = window("8:00-18:00 min 1").unwrap_err();
        assert!(error.contains("expected HH:MM, from 00:00 to 23:59"), "{error}");
    }
}
