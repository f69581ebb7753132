//! PURE: a letter as it goes over the wire.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use sha2::{Digest, Sha256};

use super::Letter;

/// A letter as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Composed {
    /// From whom, to whom.
    pub envelope: Envelope,
    /// Headers and body.
    pub bytes: Vec<u8>,
}

/// What is beside the words.
#[derive(Debug, Clone)]
pub struct Cover<'c> {
    /// Whose letter it is.
    pub from: &'c Mailbox,
    /// Where it goes.
    pub recipient: &'c str,
    /// Account, period and step: what makes it this letter and no other.
    pub key: [&'c str; 3],
    /// When it is sent.
    pub at: DateTime<Utc>,
}

/// A letter that no server can be given.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    /// The address is none.
    #[error("{0:?} is no mail address")]
    Address(String),
    /// The words cannot be put together.
    #[error("it cannot be written: {0}")]
    Words(#[from] askama::Error),
    /// The parts cannot be put together.
    #[error("it cannot be put together: {0}")]
    Parts(#[from] lettre::error::Error),
}

/// Puts a letter together.
///
/// # Errors
/// When the recipient is no address, or something cannot be written.
pub fn compose(letter: &Letter, cover: &Cover<'_>) -> Result<Composed, Unsendable> {
    // lettre refuses line breaks in an address; what a person reads there is not needed.
    let refused = |_| Unsendable::Address(cover.recipient.to_owned());
    let to: lettre::Address = cover.recipient.trim().parse().map_err(refused)?;
    let header = |name, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
    let id = message_id(cover.key, cover.from.email.domain());
    let mut message = Message::builder()
        .from(cover.from.clone())
        .to(Mailbox::new(None, to))
        .subject(letter.subject)
        .date(SystemTime::from(cover.at))
        .message_id(Some(id))
        // RFC 3834: nobody's absence answers it.
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()));
    if cover.key[2] == "invitation" {
        // Whoever has no account did not ask for it. Each address is written to once, so there is no list to be taken from.
        let away = format!("<mailto:{}?subject=unsubscribe>", cover.from.email);
        message = message.raw_header(header("List-Unsubscribe", away));
    }
    let whole = message.multipart(MultiPart::alternative_plain_html(letter.plain()?, letter.html()?))?;
    Ok(Composed { envelope: whole.envelope().clone(), bytes: whole.formatted() })
}

/// The same for the same letter, however often it is sent: a mail program shows one that came twice as one, and whoever looks for it
/// in the server's log finds it.
pub fn message_id(key: [&str; 3], domain: &str) -> String {
    let mut hasher = Sha256::new();
    for part in key {
        // With its length before it, so that no two keys look alike.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let digest = HEXLOWER.encode(hasher.finalize().get(..16).unwrap_or_default());
    format!("<{digest}@{domain}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(recipient: &str, step: &str) -> Result<String, Unsendable> {
        let details = serde_json::json!({"plan": "gold\r\nBcc: x@example.com", "referral_code": "ABC"});
        let letter = Letter::of(step, &details, "https://site.example").unwrap();
        let from = "Müller & Söhne <billing@site.example>".parse().unwrap();
        let key = ["u1", "2027-03-13T05:00:00Z", step];
        let cover = Cover { from: &from, recipient, key, at: "2027-03-14T12:00:00Z".parse().unwrap() };
        let composed = compose(&letter, &cover)?;
        assert_eq!(composed.envelope.to().len(), 1);
        Ok(String::from_utf8(composed.bytes).unwrap())
    }

    #[test]
    fn a_letter_has_the_headers_it_needs_and_no_others() {
        let text = composed("someone@example.com", "welcome").unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"],
            "{head}"
        );
        for line in
            ["To: someone@example.com", "Subject: Your subscription is active", "Date: Sun, 14 Mar 2027 12:00:00 +0000"]
        {
            assert!(head.lines().any(|found| found == line), "{line}: {head}");
        }
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998));
        assert!(body.contains("text/plain; charset=utf-8") && body.contains("text/html; charset=utf-8"), "{body}");
        assert!(!head.contains("Bcc"), "{text}");
        let invitation = composed("someone@example.com", "invitation").unwrap();
        assert!(
            invitation.contains("List-Unsubscribe: <mailto:billing@site.example?subject=unsubscribe>"),
            "{invitation}"
        );
    }

    #[test]
    fn nothing_can_be_smuggled_into_an_address() {
        for bad in
            ["", "x", "a@b@c", "a@example.com\r\nBcc: b@example.com", "a@example.com, b@example.com", "<a@example.com>"]
        {
            assert!(matches!(composed(bad, "welcome"), Err(Unsendable::Address(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_letter_has_one_id_for_ever_and_no_two_have_the_same() {
        let id = |key| message_id(key, "site.example");
        assert_eq!(id(["u1", "p", "welcome"]), "<6da8d31abef522b51767ed3d8e958f03@site.example>");
        assert_ne!(id(["u1", "p", "welcome"]), id(["u1p", "", "welcome"]));
        assert_ne!(id(["u1", "p", "welcome"]), id(["u1", "p", "dunning_0"]));
    }
}
