//! Real handshakes on the loopback, with certificates of an authority made for the test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod document;
mod handshake;
mod openssl;
mod renewal;
mod support;
