//! The body of a fuzz target (`fuzz/`), whose committed inputs a test runs again.

pub use crate::commands::bench::run::fuzz::scenario;

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn scenario() {
        super::replay::replay("scenario", super::scenario);
    }
}
