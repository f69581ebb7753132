//! Metrics of the inbox.

use ::metrics::{Unit, counter, gauge, histogram};
use chrono::TimeDelta;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

use super::Kind::{self, Counter, Gauge, Histogram};
use super::seconds;

/// As in the table of all others.
pub(super) const TABLE: &[(&str, Kind, Option<Unit>, &str)] = &[
    (
        "bellwether_webhooks_received_total",
        Counter,
        None,
        "Deliveries by source and by what became of them at the door.",
    ),
    (
        "bellwether_webhooks_refused_total",
        Counter,
        None,
        "Deliveries that were not believed, by the code of the reason.",
    ),
    ("bellwether_webhooks_processed_total", Counter, None, "Attempts to apply an event, by how they ended."),
    ("bellwether_webhooks_waiting", Gauge, None, "Events that are stored and not yet applied."),
    ("bellwether_webhooks_oldest_waiting_seconds", Gauge, Some(Unit::Seconds), "Age of the oldest of them."),
    ("bellwether_webhooks_dead", Gauge, None, "Events that were given up: an operator must look at them."),
    ("bellwether_webhooks_conflicts", Gauge, None, "Events that came under a known id with another body."),
    ("bellwether_webhooks_certificates_fetched_total", Counter, None, "Files fetched to verify a delivery."),
    ("bellwether_webhooks_batch_size", Histogram, None, "Deliveries that were made durable by one commit."),
    ("bellwether_paypal_differences", Gauge, None, "What the last comparison with PayPal found, by kind."),
];

/// Deliveries are counted, not timed.
pub(super) fn with_buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    let batches = Matcher::Full("bellwether_webhooks_batch_size".to_owned());
    builder.set_buckets_for_metric(batches, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0])
}

/// The series are there before the first event.
pub(super) fn begin() {
    for outcome in ["stored", "duplicate", "conflict", "refused", "undecided", "unavailable"] {
        counter!("bellwether_webhooks_received_total", "source" => "paypal", "outcome" => outcome).absolute(0);
    }
    for outcome in ["processed", "ignored", "failed", "dead"] {
        counter!("bellwether_webhooks_processed_total", "outcome" => outcome).absolute(0);
    }
    for kind in ["missing", "unknown_transaction", "different_amount", "unknown_refund"] {
        gauge!("bellwether_paypal_differences", "kind" => kind).set(0.0);
    }
}

/// A delivery was answered: stored, duplicate, conflict, refused, undecided or unavailable.
pub fn webhook_received(source: &'static str, outcome: &'static str) {
    counter!("bellwether_webhooks_received_total", "source" => source, "outcome" => outcome).increment(1);
}

/// A delivery was not believed.
pub fn webhook_refused(code: &'static str) {
    counter!("bellwether_webhooks_refused_total", "code" => code).increment(1);
}

/// An attempt to apply an event ended.
pub fn webhook_processed(outcome: &'static str) {
    counter!("bellwether_webhooks_processed_total", "outcome" => outcome).increment(1);
}

/// How many events wait, the age of the oldest, and how many need an operator.
pub fn webhook_backlog(waiting: i64, oldest: TimeDelta, dead: i64, conflicts: i64) {
    gauge!("bellwether_webhooks_waiting").set(waiting as f64);
    gauge!("bellwether_webhooks_oldest_waiting_seconds").set(seconds(oldest));
    gauge!("bellwether_webhooks_dead").set(dead as f64);
    gauge!("bellwether_webhooks_conflicts").set(conflicts as f64);
}

/// A certificate was asked for.
pub fn certificate_fetched() {
    counter!("bellwether_webhooks_certificates_fetched_total").increment(1);
}

/// Deliveries were made durable by one commit.
pub fn webhook_batch(size: usize) {
    histogram!("bellwether_webhooks_batch_size").record(size as f64);
}

/// What a comparison with PayPal found.
pub fn paypal_differences(kind: &'static str, count: usize) {
    gauge!("bellwether_paypal_differences", "kind" => kind).set(count as f64);
}
