//! The body of a fuzz target (`fuzz/`), whose committed inputs a test runs again.

pub use crate::inquiry::fuzz::txt;

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn txt() {
        super::replay::replay("txt", super::txt);
    }
}
