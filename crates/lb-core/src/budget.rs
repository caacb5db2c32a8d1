//! How often a client may try again.
//!
//! When workers turn calls away because they are full, each retry is a call more: without a bound they would feed the overload
//! that they come from, and it would not end with its cause. So retries are paid from a budget that calls fill.
//!
//! Source: the retry throttling of gRPC (gRFC A6) and the retry budgets of Finagle, as a token bucket.

/// Share of calls that may be tried again in the long run.
pub const RETRY_SHARE: f64 = 0.1;

/// Retries that can be saved up: enough for a short crowd at a single worker, and no more load than that at once.
pub const SAVED_RETRIES: u32 = 10;

/// Thousandths of a retry that each call pays in.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a constant from 0 to 1"
)]
const DEPOSIT: u32 = (RETRY_SHARE * 1_000.0) as u32;

const RETRY: u32 = 1_000;

/// Retries that a client may still make.
#[derive(Debug, Clone, Copy)]
pub struct RetryBudget {
    /// In thousandths.
    balance: u32,
}

impl Default for RetryBudget {
    /// All that can be saved up is there at the start: the first calls should not be the worst.
    fn default() -> Self {
        Self { balance: SAVED_RETRIES * RETRY }
    }
}

impl RetryBudget {
    /// A call is made.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + DEPOSIT).min(SAVED_RETRIES * RETRY);
    }

    /// Pays for one retry. False: there is nothing left for it.
    pub fn withdraw(&mut self) -> bool {
        let rest = self.balance.checked_sub(RETRY);
        self.balance = rest.unwrap_or(self.balance);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_ten_may_be_tried_again() {
        let mut budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit();
            while budget.withdraw() {
                retries += 1;
            }
        }
        // What is paid in while nothing more can be saved is lost.
        assert_eq!(retries, 1_000 + SAVED_RETRIES - 1);
        (0..1_000_000).for_each(|_| budget.deposit());
        let saved = std::iter::from_fn(|| budget.withdraw().then_some(())).count();
        assert_eq!(saved, SAVED_RETRIES as usize);
    }
}
