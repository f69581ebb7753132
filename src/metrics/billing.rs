//! Metrics of money beside the inbox.

use ::metrics::{Unit, counter, gauge};
use chrono::TimeDelta;

use super::Kind::{self, Counter, Gauge};
use super::seconds;

/// As in the table of all others.
pub(super) const TABLE: &[(&str, Kind, Option<Unit>, &str)] = &[
    (
        "bellwether_cancellations_waiting",
        Gauge,
        None,
        "Subscriptions that their holders have given up and that have not ended at PayPal yet.",
    ),
    (
        "bellwether_cancellations_oldest_waiting_seconds",
        Gauge,
        Some(Unit::Seconds),
        "How long the oldest of them has waited.",
    ),
    ("bellwether_renewals_in_doubt", Gauge, None, "Periods of which PayPal has not said whether they were paid."),
    (
        "bellwether_payments_ownerless",
        Gauge,
        None,
        "Payments of which it was not known, a day after they came, whose they are.",
    ),
    (
        "bellwether_reversals_unbooked",
        Gauge,
        None,
        "Refunds and chargebacks, more than a day old, of payments that are not in the books.",
    ),
    ("bellwether_cancellations_total", Counter, None, "Attempts to end a subscription at PayPal, by how they ended."),
];

/// The series are there before the first event.
pub(super) fn begin() {
    cancellations_waiting(0, TimeDelta::zero());
    renewals_in_doubt(0);
    strays(0, 0);
    for outcome in ["confirmed", "failed"] {
        counter!("bellwether_cancellations_total", "outcome" => outcome).absolute(0);
    }
}

/// PayPal was asked to end a subscription: confirmed or failed.
pub fn cancellation(outcome: &'static str) {
    counter!("bellwether_cancellations_total", "outcome" => outcome).increment(1);
}

/// Periods whose payment is in doubt.
pub fn renewals_in_doubt(periods: i64) {
    gauge!("bellwether_renewals_in_doubt").set(periods as f64);
}

/// Payments without an account, and money that went back without a payment.
pub fn strays(ownerless: i64, unbooked: i64) {
    gauge!("bellwether_payments_ownerless").set(ownerless as f64);
    gauge!("bellwether_reversals_unbooked").set(unbooked as f64);
}

/// How many have not got through yet, and the age of the oldest.
pub fn cancellations_waiting(waiting: i64, oldest: TimeDelta) {
    gauge!("bellwether_cancellations_waiting").set(waiting as f64);
    gauge!("bellwether_cancellations_oldest_waiting_seconds").set(seconds(oldest));
}
