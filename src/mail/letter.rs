//! PURE: the words of each letter, once as plain text and once as HTML, from the same paragraphs.

use serde_json::Value;

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The subject.
    pub subject: String,
    paragraphs: Vec<String>,
    /// A page of the site, and what is to be done there.
    link: (String, &'static str),
}

impl Letter {
    /// The letter of a step. `details` is what is known of its occasion, `site` the address of the site. `None`: there is no such
    /// letter.
    pub fn of(step: &str, details: &Value, site: &str) -> Option<Self> {
        let site = site.trim_end_matches('/');
        let text = |name: &str| details[name].as_str().unwrap_or_default();
        let plan = match text("plan") {
            "" => "your plan".to_owned(),
            plan => format!("the {plan} plan"),
        };
        let end = text("current_period_end").get(..10).unwrap_or("its last day");
        let account = (format!("{site}/account/billing"), "See your subscription");
        let pay = (format!("{site}/account/billing"), "Pay now");
        let (subject, paragraphs, link) = match step {
            "welcome" => (
                "Your subscription is active",
                vec![format!("Thank you. {} is yours until {end}.", capital(&plan))],
                account,
            ),
            "canceled" => (
                "Your subscription will end",
                vec![format!("You have canceled. You keep {plan} until {end}; nothing is charged after that.")],
                account,
            ),
            "suspended" => (
                "Your subscription is suspended",
                vec![format!("We have had no payment since {end}, so {plan} is withheld. It comes back when you pay.")],
                pay,
            ),
            "expired" => (
                "Your subscription has ended",
                vec![format!("{} has ended. You are welcome back.", capital(&plan))],
                account,
            ),
            "taken_back" => (
                "A payment was returned",
                vec![
                    "A payment of yours was refunded or reversed. What it had paid for is no longer active.".to_owned(),
                ],
                account,
            ),
            "invitation" => {
                let link = format!("{site}/?ref={}", text("referral_code"));
                let words = "Somebody who uses our stock scanner thinks that you would like it.".to_owned();
                let why =
                    "You were written to once because they gave us your address. We will not write again.".to_owned();
                ("You are invited", vec![words, why], (link, "Look around"))
            }
            _ => {
                let number: usize = step.strip_prefix("dunning_")?.parse().ok()?;
                let subject =
                    if number == 0 { "Your payment did not go through" } else { "Your payment is still missing" };
                let words = format!("We could not renew {plan}, which was paid until {end}.");
                let why = "Please look at your payment details. Nothing changes for you while there is still time."
                    .to_owned();
                (subject, vec![words, why], pay)
            }
        };
        Some(Self { subject: subject.to_owned(), paragraphs, link })
    }

    /// As plain text.
    pub fn plain(&self) -> String {
        let (link, words) = &self.link;
        format!("{}\n\n{words}: {link}\n", self.paragraphs.join("\n\n"))
    }

    /// As HTML; nothing that came from outside can become a tag.
    pub fn html(&self) -> String {
        let paragraphs: String = self.paragraphs.iter().map(|words| format!("<p>{}</p>\n", escaped(words))).collect();
        let (link, words) = &self.link;
        format!(
            "<!doctype html>\n<html lang=\"en\"><body>\n{paragraphs}<p><a href=\"{}\">{words}</a></p>\n</body></html>\n",
            escaped(link)
        )
    }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
            format!("{}: {}", letter.subject, letter.plain().replace('\n', " "))
        });
        insta::assert_snapshot!(letters.join("\n"), @"
        Your subscription is active: Thank you. The gold plan is yours until 2027-03-13.  See your subscription: https://site.example/account/billing 
        Your subscription will end: You have canceled. You keep the gold plan until 2027-03-13; nothing is charged after that.  See your subscription: https://site.example/account/billing 
        Your subscription is suspended: We have had no payment since 2027-03-13, so the gold plan is withheld. It comes back when you pay.  Pay now: https://site.example/account/billing 
        Your subscription has ended: The gold plan has ended. You are welcome back.  See your subscription: https://site.example/account/billing 
        A payment was returned: A payment of yours was refunded or reversed. What it had paid for is no longer active.  See your subscription: https://site.example/account/billing 
        You are invited: Somebody who uses our stock scanner thinks that you would like it.  You were written to once because they gave us your address. We will not write again.  Look around: https://site.example/?ref=ABC 
        Your payment did not go through: We could not renew the gold plan, which was paid until 2027-03-13.  Please look at your payment details. Nothing changes for you while there is still time.  Pay now: https://site.example/account/billing 
        Your payment is still missing: We could not renew the gold plan, which was paid until 2027-03-13.  Please look at your payment details. Nothing changes for you while there is still time.  Pay now: https://site.example/account/billing 
        ");
        assert_eq!(Letter::of("nonsense", &details, "https://site.example"), None);
    }

    #[test]
    fn what_comes_from_outside_cannot_become_a_tag() {
        let details = serde_json::json!({"plan": "<script>alert(1)</script>", "referral_code": "\"><b>"});
        for step in ["welcome", "invitation"] {
            let html = Letter::of(step, &details, "https://site.example").unwrap().html();
            assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
        }
    }
}
