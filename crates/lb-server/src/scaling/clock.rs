//! The time of day on this machine, for schedules.

use jiff::Zoned;

use lb_core::scale::TimeOfDay;

/// Now, by the machine's time zone; by UTC if it has none.
pub(super) fn time_of_day() -> TimeOfDay {
    let now = Zoned::now();
    let minutes = i32::from(now.hour()) * 60 + i32::from(now.minute());
    TimeOfDay::from_minutes(u16::try_from(minutes).unwrap_or_default())
}
