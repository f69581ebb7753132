//! PURE: from PayPal's words to what happened, in the terms of `billing`. One table of the kinds of events is all that is known of
//! PayPal beyond this room.
//!
//! Two generations of its API are told apart by their members: amounts are `{total, currency}` or `{value, currency_code}`; a sale
//! names its subscription as `billing_agreement_id`; a refund names its payment as `sale_id`, or by its link `up`.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Envelope;
use crate::billing::{Change, Currency, CustomId, Event, Money, Payer, ReversalKind, What};

/// Whose events these are, in the inbox and for `billing`.
pub const SOURCE: &str = "paypal";

/// What happened, by an event of PayPal. `None`: nothing follows from events of its kind.
///
/// # Errors
/// What is missing or wrong in an event of a kind that counts: nobody can apply it as it is.
pub fn read(envelope: &Envelope) -> Result<Option<Event>, String> {
    let resource = &envelope.value["resource"];
    let reader = Reader { resource, created_at: envelope.created_at };
    let kind = envelope.event_type.as_str();
    let told = match kind {
        "BILLING.SUBSCRIPTION.CREATED" => reader.subscription(Change::Created, &["create_time"])?,
        "BILLING.SUBSCRIPTION.ACTIVATED" | "BILLING.SUBSCRIPTION.RE-ACTIVATED" => {
            reader.subscription(Change::Activated, STATUS)?
        }
        "BILLING.SUBSCRIPTION.UPDATED" => reader.subscription(Change::Updated, &["update_time"])?,
        "BILLING.SUBSCRIPTION.SUSPENDED" => reader.subscription(Change::Suspended, STATUS)?,
        "BILLING.SUBSCRIPTION.CANCELLED" => reader.subscription(Change::Canceled, STATUS)?,
        "BILLING.SUBSCRIPTION.EXPIRED" => reader.subscription(Change::Expired, STATUS)?,
        "BILLING.SUBSCRIPTION.PAYMENT.FAILED" => reader.subscription(Change::PaymentFailed, FAILED)?,
        "PAYMENT.SALE.COMPLETED" | "PAYMENT.CAPTURE.COMPLETED" => reader.payment(true)?,
        "PAYMENT.SALE.PENDING" | "PAYMENT.CAPTURE.PENDING" => reader.payment(false)?,
        "PAYMENT.SALE.DENIED" | "PAYMENT.CAPTURE.DENIED" | "PAYMENT.CAPTURE.DECLINED" => {
            reader.reversal(ReversalKind::Denied)?
        }
        "PAYMENT.SALE.REFUNDED" | "PAYMENT.CAPTURE.REFUNDED" => reader.reversal(ReversalKind::Refunded)?,
        "PAYMENT.SALE.REVERSED" | "PAYMENT.CAPTURE.REVERSED" => reader.reversal(ReversalKind::Reversed)?,
        _ if kind.starts_with("CUSTOMER.DISPUTE.") => reader.dispute()?,
        _ => return Ok(None),
    };
    let (at, what) = told;
    Ok(Some(Event { source: SOURCE.to_owned(), id: envelope.id.clone(), at, what }))
}

/// Where a subscription says since when it is as it is.
const STATUS: &[&str] = &["status_update_time", "update_time"];

/// When the charge failed; the subscription itself may not have changed.
const FAILED: &[&str] = &["billing_info/last_failed_payment/time", "update_time"];

struct Reader<'e> {
    resource: &'e Value,
    created_at: Option<DateTime<Utc>>,
}

impl Reader<'_> {
    fn subscription(&self, change: Change, times: &[&str]) -> Result<(DateTime<Utc>, What), String> {
        let subscriber = &self.resource["subscriber"];
        let what = What::Subscription {
            id: self.needed("id")?,
            change,
            created_at: self.instant("create_time"),
            plan_id: self.text("plan_id"),
            custom: self.custom(),
            payer: Payer { id: text_of(&subscriber["payer_id"]), email: text_of(&subscriber["email_address"]) },
        };
        Ok((self.at(times)?, what))
    }

    fn payment(&self, completed: bool) -> Result<(DateTime<Utc>, What), String> {
        let what = What::Payment {
            id: self.needed("id")?,
            completed,
            amount: self.amount()?.ok_or("the payment has no amount")?,
            subscription: self.text("billing_agreement_id"),
            custom: self.custom(),
            payer: Payer {
                id: text_of(&self.resource["payer"]["payer_id"]),
                email: text_of(&self.resource["payer"]["email_address"]),
            },
        };
        // The same in every telling of it, however late.
        Ok((self.at(&["create_time"])?, what))
    }

    fn reversal(&self, kind: ReversalKind) -> Result<(DateTime<Utc>, What), String> {
        let id = self.needed("id")?;
        let of = self.text("sale_id").or_else(|| self.payment_above()).or_else(|| match kind {
            // The payment itself is shown, as it is now.
            ReversalKind::Denied | ReversalKind::Reversed => Some(id.clone()),
            ReversalKind::Refunded => None,
        });
        let of = of.ok_or("the refund does not say of which payment")?;
        // What was taken back is told with a minus by one generation and without by the other.
        let amount = match kind {
            ReversalKind::Refunded => {
                self.amount()?.map(|amount| Money { minor: amount.minor.saturating_abs(), ..amount })
            }
            ReversalKind::Denied | ReversalKind::Reversed => None,
        };
        Ok((self.at(&["create_time", "update_time"])?, What::Reversal { id, of, kind, amount }))
    }

    fn dispute(&self) -> Result<(DateTime<Utc>, What), String> {
        let transactions = self.resource["disputed_transactions"].as_array().into_iter().flatten();
        let what = What::Dispute {
            id: self.needed("dispute_id")?,
            payments: transactions.filter_map(|one| text_of(&one["seller_transaction_id"])).collect(),
            state: self.text("status").unwrap_or_else(|| "UNKNOWN".to_owned()),
        };
        Ok((self.at(&["update_time", "create_time"])?, what))
    }

    /// The first of these times that is there, else when the event was made.
    fn at(&self, names: &[&str]) -> Result<DateTime<Utc>, String> {
        let own = names.iter().find_map(|name| self.instant(name));
        own.or(self.created_at).ok_or_else(|| "it has no time of its own".to_owned())
    }

    fn instant(&self, path: &str) -> Option<DateTime<Utc>> {
        self.resource.pointer(&format!("/{path}"))?.as_str()?.parse().ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        text_of(&self.resource[name])
    }

    fn needed(&self, name: &str) -> Result<String, String> {
        self.text(name).ok_or_else(|| format!("resource.{name} is missing"))
    }

    /// What the site wrote on it. What it did not write itself says nothing.
    fn custom(&self) -> Option<CustomId> {
        self.text("custom_id").or_else(|| self.text("custom"))?.parse().ok()
    }

    fn amount(&self) -> Result<Option<Money>, String> {
        let amount = &self.resource["amount"];
        let said = |first: &str, second: &str| text_of(&amount[first]).or_else(|| text_of(&amount[second]));
        let (Some(value), Some(currency)) = (said("value", "total"), said("currency_code", "currency")) else {
            return if amount.is_null() { Ok(None) } else { Err("the amount is not as PayPal writes it".to_owned()) };
        };
        let currency: Currency = currency.parse()?;
        Money::parse(&value, currency).map(Some)
    }

    /// The payment that a refund links to: `{"rel": "up", "href": "https://../v2/payments/captures/ID"}`.
    fn payment_above(&self) -> Option<String> {
        let links = self.resource["links"].as_array()?;
        let href = links.iter().find(|link| link["rel"] == "up")?["href"].as_str()?;
        let id = href.split(['?', '#']).next()?.trim_end_matches('/').rsplit('/').next()?;
        (!id.is_empty()).then(|| id.to_owned())
    }
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}
