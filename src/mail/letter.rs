//! PURE: the words of each letter, once as plain text and once as HTML, from the same paragraphs.

use askama::Template;
use chrono::{DateTime, Utc};
use chrono_tz::America::New_York;
use serde_json::Value;

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The subject.
    pub subject: &'static str,
    paragraphs: Vec<String>,
    /// A page of the site, and what is to be done there.
    link: String,
    action: &'static str,
    site: String,
}

/// As mail programs show it that show text.
#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Plain<'l> {
    paragraphs: &'l [String],
    link: &'l str,
    action: &'l str,
    site: &'l str,
}

/// As the others do; whatever came from outside is escaped.
#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'l> {
    subject: &'l str,
    paragraphs: &'l [String],
    link: &'l str,
    action: &'l str,
    site: &'l str,
}

/// Where account holders of PayPal see what they pay by itself.
const PAYPAL_PAYMENTS: &str = "https://www.paypal.com/myaccount/autopay/";

/// Every letter that there is; reminders are `dunning_0`, `dunning_1` ..
pub const STEPS: &[&str] = &["welcome", "canceled", "suspended", "expired", "taken_back", "invitation", "dunning_0"];

/// What a letter is shown with where nobody is written to.
pub fn example() -> Value {
    serde_json::json!({
        "plan": "gold", "current_period_end": "2027-03-13T05:00:00Z", "referral_code": "ABCDEFGHJK",
    })
}

impl Letter {
    /// The letter of a step. `details` is what is known of its occasion, `site` the address of the site. `None`: there is no such
    /// letter.
    pub fn of(step: &str, details: &Value, site: &str) -> Option<Self> {
        let site = site.trim_end_matches('/').to_owned();
        let text = |name: &str| details[name].as_str().unwrap_or_default();
        let plan = match text("plan") {
            "" => "your plan".to_owned(),
            plan => format!("the {plan} plan"),
        };
        let end = day_of(text("current_period_end"));
        let is_paypals = !text("paypal_subscription").is_empty();
        let (subject, words, action): (_, &[String], _) = match step {
            "welcome" => (
                "Your subscription is active",
                &[format!("Thank you. {} is yours until {end}.", capital(&plan))],
                "See your subscription",
            ),
            "canceled" => (
                "Your subscription will end",
                &[format!("You have canceled. You keep {plan} until {end}; nothing is charged after that.")],
                "See your subscription",
            ),
            "suspended" => (
                "Your subscription is suspended",
                &[format!("We have had no payment since {end}, so {plan} is withheld. It comes back when you pay.")],
                "Pay now",
            ),
            "expired" => (
                "Your subscription has ended",
                &[format!("{} has ended. You are welcome back.", capital(&plan))],
                "See your subscription",
            ),
            "taken_back" => (
                "A payment was returned",
                &["A payment of yours was refunded or reversed. What it had paid for is no longer active.".to_owned()],
                "See your subscription",
            ),
            "invitation" => (
                "You are invited",
                &[
                    "Somebody who uses our stock scanner thinks that you would like it.".to_owned(),
                    "You were written to once because they gave us your address. We will not write again.".to_owned(),
                ],
                "Look around",
            ),
            _ => {
                let number: usize = step.strip_prefix("dunning_")?.parse().ok()?;
                let subject =
                    if number == 0 { "Your payment did not go through" } else { "Your payment is still missing" };
                let words = format!("We could not renew {plan}, which was paid until {end}.");
                // PayPal tries again by itself; a second payment here would be one too many.
                let (why, action) = if is_paypals {
                    let why = "PayPal could not charge you and will try again. Please look at how you pay there. Nothing \
                               changes for you while there is still time.";
                    (why, "Look at PayPal")
                } else {
                    let why = "Please look at your payment details. Nothing changes for you while there is still time.";
                    (why, "Pay now")
                };
                (subject, &[words, why.to_owned()], action)
            }
        };
        let link = match step {
            _ if is_paypals && step.starts_with("dunning_") => PAYPAL_PAYMENTS.to_owned(),
            "invitation" => format!("{site}/?ref={}", text("referral_code")),
            _ => format!("{site}/account/billing"),
        };
        Some(Self { subject, paragraphs: words.to_vec(), link, action, site })
    }

    /// As plain text.
    ///
    /// # Errors
    /// When the template cannot be filled in.
    pub fn plain(&self) -> Result<String, askama::Error> {
        let Self { paragraphs, link, action, site, .. } = self;
        Plain { paragraphs, link, action, site }.render()
    }

    /// As HTML; nothing that came from outside can become a tag.
    ///
    /// # Errors
    /// When the template cannot be filled in.
    pub fn html(&self) -> Result<String, askama::Error> {
        let Self { subject, paragraphs, link, action, site } = self;
        Html { subject, paragraphs, link, action, site }.render()
    }
}

/// Whether what a letter tells still holds. `standing`: the status of the account's subscription and the end of its period.
pub fn is_still_true(step: &str, period: &str, standing: Option<(&str, DateTime<Utc>)>) -> bool {
    let (status, end) = standing.unzip();
    let status = status.unwrap_or_default();
    let is_period = || {
        let of_letter = DateTime::parse_from_rfc3339(period).ok();
        end.zip(of_letter).is_some_and(|(end, of_letter)| end.timestamp() == of_letter.timestamp())
    };
    match step {
        "suspended" => status == "suspended",
        "expired" => status == "expired",
        "canceled" => ["canceled", "expired"].contains(&status),
        _ if step.starts_with("dunning_") => status == "past_due" && is_period(),
        _ => true,
    }
}

/// The date in New York, as people write it.
fn day_of(instant: &str) -> String {
    let at = instant.parse::<DateTime<Utc>>().ok();
    at.map_or_else(|| "its last day".to_owned(), |at| at.with_timezone(&New_York).format("%-d %B %Y").to_string())
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_says_what_happened_and_what_can_be_done() {
        let details =
            serde_json::json!({"plan": "gold", "current_period_end": "2027-03-13T05:00:00Z", "referral_code": "ABC"});
        let steps =
            ["welcome", "canceled", "suspended", "expired", "taken_back", "invitation", "dunning_0", "dunning_3"];
        let letters = steps.map(|step| {
            let letter = Letter::of(step, &details, "https://site.example/").unwrap();
            format!("{}: {}", letter.subject, letter.plain().unwrap().replace('\n', " "))
        });
        insta::assert_snapshot!(letters.join("\n"), @"
        Your subscription is active: Thank you. The gold plan is yours until 13 March 2027.  See your subscription: https://site.example/account/billing  --  https://site.example
        Your subscription will end: You have canceled. You keep the gold plan until 13 March 2027; nothing is charged after that.  See your subscription: https://site.example/account/billing  --  https://site.example
        Your subscription is suspended: We have had no payment since 13 March 2027, so the gold plan is withheld. It comes back when you pay.  Pay now: https://site.example/account/billing  --  https://site.example
        Your subscription has ended: The gold plan has ended. You are welcome back.  See your subscription: https://site.example/account/billing  --  https://site.example
        A payment was returned: A payment of yours was refunded or reversed. What it had paid for is no longer active.  See your subscription: https://site.example/account/billing  --  https://site.example
        You are invited: Somebody who uses our stock scanner thinks that you would like it.  You were written to once because they gave us your address. We will not write again.  Look around: https://site.example/?ref=ABC  --  https://site.example
        Your payment did not go through: We could not renew the gold plan, which was paid until 13 March 2027.  Please look at your payment details. Nothing changes for you while there is still time.  Pay now: https://site.example/account/billing  --  https://site.example
        Your payment is still missing: We could not renew the gold plan, which was paid until 13 March 2027.  Please look at your payment details. Nothing changes for you while there is still time.  Pay now: https://site.example/account/billing  --  https://site.example
        ");
        assert_eq!(Letter::of("nonsense", &details, "https://site.example"), None);
    }

    #[test]
    fn what_comes_from_outside_cannot_become_a_tag() {
        let details = serde_json::json!({"plan": "<script>alert(1)</script>", "referral_code": "\"><b>"});
        for step in ["welcome", "invitation"] {
            let html = Letter::of(step, &details, "https://site.example").unwrap().html().unwrap();
            assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
        }
    }

    #[test]
    fn what_paypal_pays_is_mended_at_paypal() {
        let details = serde_json::json!({"plan": "gold", "paypal_subscription": "I-1"});
        let reminder = Letter::of("dunning_1", &details, "https://site.example").unwrap().plain().unwrap();
        assert!(reminder.contains("Look at PayPal: https://www.paypal.com/myaccount/autopay/"), "{reminder}");
        assert!(!reminder.contains("Pay now"), "nobody is to pay twice: {reminder}");
        let gone = Letter::of("suspended", &details, "https://site.example").unwrap().plain().unwrap();
        assert!(gone.contains("Pay now: https://site.example/account/billing"), "{gone}");
    }

    #[test]
    fn what_is_true_no_longer_is_not_told() {
        let end = "2027-03-13T05:00:00Z";
        let at: DateTime<Utc> = end.parse().unwrap();
        let later: DateTime<Utc> = "2027-04-13T04:00:00Z".parse().unwrap();
        let told = |step: &str, standing| is_still_true(step, end, standing);
        assert!(told("dunning_1", Some(("past_due", at))));
        assert!(!told("dunning_1", Some(("active", later))) && !told("dunning_1", Some(("past_due", later))));
        assert!(!told("dunning_1", None));
        assert!(told("suspended", Some(("suspended", at))) && !told("suspended", Some(("active", later))));
        assert!(told("canceled", Some(("expired", at))) && !told("canceled", Some(("active", at))));
        assert!(told("welcome", Some(("past_due", later))) && told("invitation", None));
    }
}
