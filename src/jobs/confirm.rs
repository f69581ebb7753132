//! Whether a period was paid, by PayPal's own list: its message may be late.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::billing::{Event, Money, Payer, What};
use crate::webhooks::{PayPalClient, PayPalError};

/// How long before the end of a period its next payment may have been made.
const BEFORE: TimeDelta = TimeDelta::days(5);

/// Asks PayPal.
#[derive(Debug, Clone)]
pub struct Confirmer(pub Arc<PayPalClient>);

impl Confirmer {
    /// The payments of a subscription around the end of a period, up to `now`. They take effect like any that are told: by their ids.
    ///
    /// # Errors
    /// When there is no answer that can be understood.
    pub async fn payments(
        &self,
        link: &str,
        period_end: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Event>, PayPalError> {
        let id = request_id(link, period_end);
        let list = match self.0.subscription_payments(link, period_end - BEFORE, now, &id).await {
            Ok(list) => list,
            // Nothing of it is known there: there is no payment of it.
            Err(PayPalError::NotFound(_)) => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        list.iter().filter(|one| one["status"] == "COMPLETED").map(|one| event_of(link, one)).collect()
    }
}

/// The same for each attempt at one period.
fn request_id(link: &str, period_end: DateTime<Utc>) -> String {
    let digest = Sha256::digest(format!("{link}/{}/confirm", period_end.timestamp_micros()));
    HEXLOWER.encode(digest.get(..16).unwrap_or_default())
}

fn event_of(link: &str, transaction: &Value) -> Result<Event, PayPalError> {
    let unclear = |what: &str| {
        PayPalError::Fail(format!("PayPal: a payment of subscription {link} has no {what} that can be read"))
    };
    let id = transaction["id"].as_str().ok_or_else(|| unclear("id"))?;
    let at = transaction["time"].as_str().and_then(|time| time.parse().ok()).ok_or_else(|| unclear("time"))?;
    let amount = &transaction["amount_with_breakdown"]["gross_amount"];
    let currency = amount["currency_code"].as_str().and_then(|code| code.parse().ok());
    let amount =
        amount["value"].as_str().zip(currency).and_then(|(value, currency)| Money::parse(value, currency).ok());
    let amount = amount.ok_or_else(|| unclear("amount"))?;
    let payer = Payer { id: None, email: transaction["payer_email"].as_str().map(str::to_owned) };
    let (completed, custom, subscription) = (true, None, Some(link.to_owned()));
    let what = What::Payment { id: id.to_owned(), completed, amount, subscription, custom, payer };
    Ok(Event { source: "paypal".to_owned(), id: format!("lookup-{id}"), at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_in_the_list_is_the_payment_that_would_be_told() {
        let one = serde_json::json!({"id": "8AB", "status": "COMPLETED", "time": "2027-03-13T10:00:00Z",
            "amount_with_breakdown": {"gross_amount": {"currency_code": "USD", "value": "79.99"}}});
        let event = event_of("I-1", &one).unwrap();
        assert!(
            matches!(&event.what, What::Payment { id, completed: true, amount, .. } if id == "8AB" && amount.minor == 7_999)
        );
        for broken in ["id", "time", "amount_with_breakdown"] {
            let mut one = one.clone();
            one[broken] = Value::Null;
            assert!(event_of("I-1", &one).is_err(), "{broken}");
        }
        assert_eq!(request_id("I-1", event.at), request_id("I-1", event.at));
        assert_ne!(request_id("I-1", event.at), request_id("I-2", event.at));
    }
}
