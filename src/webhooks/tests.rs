//! The real delivery of PayPal's sandbox, and strict JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::Value;

use super::certificate::{ChainFault, establish, read_file};
use super::{Delivery, Envelope, Refusal, json, standard};

const DELIVERY: &str = include_str!("../../tests/data/paypal/delivery.json");
const LEAF: &[u8] = include_bytes!("../../tests/data/paypal/signing-certificate.pem");
const INTERMEDIATE: &[u8] = include_bytes!("../../tests/data/paypal/intermediate.pem");
const ROOT: &[u8] = include_bytes!("../../tests/data/paypal/root.pem");
const NAME: &str = "messageverificationcerts.sandbox.paypal.com";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

struct Real {
    delivery: Delivery,
    body: Vec<u8>,
    webhook_id: String,
    valid_at: DateTime<Utc>,
}

fn real() -> Real {
    let file: Value = serde_json::from_str(DELIVERY).unwrap();
    let headers = file["headers"].as_object().unwrap().clone();
    let values = |name: &'static str| {
        let found = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str().unwrap().as_bytes()).collect()
    };
    let delivery = Delivery::read(values).unwrap();
    let body = STANDARD.decode(file["body_base64"].as_str().unwrap()).unwrap();
    let webhook_id = file["webhook_id"].as_str().unwrap().to_owned();
    Real { delivery, body, webhook_id, valid_at: at(file["valid_at"].as_str().unwrap()) }
}

#[test]
fn the_real_delivery_holds_as_of_its_day_and_no_other() {
    let Real { delivery, body, webhook_id, valid_at } = real();
    let text = delivery.signed_text(&webhook_id, &body);
    assert_eq!(
        text, "071f7d20-1584-11e7-abf0-6b62a8a99ac4|2017-03-30T20:04:05Z|96605875FF6516633|3494065244",
        "the checksum is of the raw body, as an unsigned decimal"
    );
    let chain = [read_file(LEAF).unwrap(), read_file(INTERMEDIATE).unwrap()].concat();
    let root = read_file(ROOT).unwrap();
    let certificate = establish(&chain, &root, &[NAME], valid_at).unwrap();
    assert_eq!(delivery.check_time(valid_at), Ok(()));
    assert_eq!(certificate.check_signature(&text, &delivery.signature), Ok(()));
    assert_eq!(certificate.not_after, at("2019-04-26T12:00:00Z"));
    let code = |result: Result<(), Refusal>| result.unwrap_err().code;
    assert_eq!(
        code(certificate.check_signature(&text.replace("3494065244", "3494065245"), &delivery.signature)),
        "signature"
    );
    assert_eq!(code(certificate.check_signature(&text, &delivery.signature[1..])), "signature");

    let today = at("2026-11-25T00:00:00Z");
    assert_eq!(code(delivery.check_time(today)), "too_old");
    let refused = |fault| match fault {
        ChainFault::Refused(refusal) => refusal.code,
        ChainFault::Incomplete(_) => "incomplete",
    };
    let code = |chain, trusted, names: &[&str], at| establish(chain, trusted, names, at).map_err(refused).unwrap_err();
    assert_eq!(code(&chain, &root, &[NAME], today), "certificate_expired");
    assert_eq!(code(&chain, &root, &[NAME], at("2017-02-17T23:59:59Z")), "certificate_not_yet_valid");
    assert_eq!(code(&chain, &root, &["messageverificationcerts.paypal.com"], valid_at), "certificate_name");
}

/// The trap: the address may serve the signing certificate alone, and the root of that day is no public root any more.
#[test]
fn an_issuer_that_is_missing_is_told_from_a_chain_that_is_wrong() {
    let Real { valid_at, .. } = real();
    let (leaf, intermediate) = (read_file(LEAF).unwrap(), read_file(INTERMEDIATE).unwrap());
    assert!(establish(&leaf, &intermediate, &[NAME], valid_at).is_ok(), "an intermediate may be trusted by itself");
    let ChainFault::Incomplete(issuers) = establish(&leaf, &[], &[NAME], valid_at).unwrap_err() else {
        panic!("the issuer is missing, nothing is wrong");
    };
    assert_eq!(issuers, ["http://cacerts.digicert.com/DigiCertSHA2ExtendedValidationServerCA.crt"]);
    // An anchor that has itself expired is none: the root ends in 2031.
    let late = at("2035-01-01T00:00:00Z");
    assert!(establish(&leaf, &read_file(ROOT).unwrap(), &[NAME], late).is_err());
}

#[test]
fn json_is_read_strictly() {
    let code = |text: &str| Envelope::read(text.as_bytes()).map(|envelope| envelope.id).map_err(|refusal| refusal.code);
    assert_eq!(code(r#"{"id":"WH-1","event_type":"A.B","x":{"a":[1,{"b":null}]}}"#), Ok("WH-1".to_owned()));
    for (text, expected) in [
        (r#"{"id":"WH-1","event_type":"A.B","id":"WH-1"}"#, "not_json"),
        (r#"{"id":"WH-1","event_type":"A.B","x":{"a":1,"a":1}}"#, "not_json"),
        (r#"{"id":"WH-1","event_type":"A.B","x":[{"a":1,"\u0061":1}]}"#, "not_json"),
        (r#"{"id":"WH-1","event_type":"A.B"} {}"#, "not_json"),
        ("\u{feff}{}", "not_json"),
        ("", "not_json"),
        ("\"text\"", "not_json"),
        (r#"{"id":"","event_type":"A.B"}"#, "event_id"),
        (r#"{"id":"a\u0000b","event_type":"A.B"}"#, "event_id"),
        (r#"{"id":"a b","event_type":"A.B"}"#, "event_id"),
        (r#"{"id":["WH-1"],"event_type":"A.B"}"#, "event_id"),
        (r#"{"id":"WH-1","event_type":null}"#, "event_type"),
    ] {
        assert_eq!(code(text), Err(expected), "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(json::parse(deep.as_bytes()).unwrap_err().code, "not_json", "depth is bounded");
    assert_eq!(json::parse(&[b'{', 0xff, b'}']).unwrap_err().code, "not_json");
}

/// D50: an id as long as PayPal may make one is no fault; a longer one is refused and not an error of ours.
#[test]
fn d50_an_id_of_255_bytes_is_taken_and_one_of_256_refused() {
    let of =
        |length: usize| Envelope::read(format!(r#"{{"id":"{}","event_type":"A"}}"#, "x".repeat(length)).as_bytes());
    assert!(of(255).is_ok());
    assert_eq!(of(256).unwrap_err().code, "event_id");
}

/// The example of the specification (<https://github.com/standard-webhooks/standard-webhooks>).
#[test]
fn a_standard_webhook_is_checked_under_either_secret() {
    let secret = |text: &str| SecretString::from(text.to_owned());
    let ours = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let body = br#"{"test": 2432232314}"#;
    let (id, timestamp) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(format!("v1,{}", STANDARD.encode(standard::sign(&ours, id, timestamp, body))), signature);
    let now = at("2021-02-25T15:02:10Z");
    let check = |id: &str, timestamp: &str, signature: &str, body: &[u8], secrets: &[SecretString], now| {
        let values = |name: &'static str| match name {
            "webhook-id" => vec![id.as_bytes()],
            "webhook-timestamp" => vec![timestamp.as_bytes()],
            _ => vec![signature.as_bytes()],
        };
        standard::check(values, body, secrets, now).map_err(|refusal| refusal.code)
    };
    let both = [secret("another"), ours];
    assert_eq!(check(id, timestamp, signature, body, &both, now), Ok(id.to_owned()));
    let several = format!("v2,AAAA v1,AAAA {signature}");
    assert_eq!(check(id, timestamp, &several, body, &both, now), Ok(id.to_owned()));
    assert_eq!(check(id, timestamp, signature, body, &both[..1], now), Err("signature"));
    assert_eq!(check(id, timestamp, signature, body, &[], now), Err("signature"));
    assert_eq!(check(id, timestamp, signature, b"{}", &both, now), Err("signature"));
    assert_eq!(check("msg_other", timestamp, signature, body, &both, now), Err("signature"));
    assert_eq!(check(id, timestamp, "v1a,x", body, &both, now), Err("signature"));
    assert_eq!(check(id, "soon", signature, body, &both, now), Err("header_malformed"));
    assert_eq!(check(id, timestamp, signature, body, &both, now + standard::TOLERANCE * 2), Err("too_old"));
    assert_eq!(check(id, timestamp, signature, body, &both, now - standard::TOLERANCE * 2), Err("from_the_future"));
}

/// D5: every kind of event that moves money or a subscription is read, in both generations of PayPal's words.
#[test]
fn d5_each_kind_of_event_is_read_in_both_generations_of_words() {
    let told = |kind: &str, resource: &str| {
        let text = format!(
            r#"{{"id":"WH-1","event_type":"{kind}","create_time":"2027-06-01T12:00:00Z","resource":{resource}}}"#
        );
        match super::paypal::read(&Envelope::read(text.as_bytes()).unwrap()) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(event)) => format!("{} {:?}", event.at.format("%H:%M"), event.what),
            Err(fault) => format!("wrong: {fault}"),
        }
    };
    let has = |kind: &str, resource: &str, parts: &[&str]| {
        let told = told(kind, resource);
        assert!(parts.iter().all(|part| told.contains(part)), "{kind}: {told} lacks one of {parts:?}");
    };
    let sale = r#"{"id":"S-1","amount":{"total":"24.99","currency":"USD"},"billing_agreement_id":"I-1","create_time":"2027-06-01T10:00:00Z"}"#;
    has(
        "PAYMENT.SALE.COMPLETED",
        sale,
        &["10:00 Payment", "\"S-1\"", "completed: true", "minor: 2499", "Some(\"I-1\")"],
    );
    has("PAYMENT.SALE.PENDING", sale, &["completed: false"]);
    has("PAYMENT.SALE.DENIED", sale, &["Reversal", "of: \"S-1\"", "Denied", "amount: None"]);
    has("PAYMENT.SALE.REVERSED", sale, &["Reversal", "of: \"S-1\"", "Reversed"]);
    let refund = r#"{"id":"R-1","sale_id":"S-1","amount":{"total":"-24.99","currency":"USD"}}"#;
    has("PAYMENT.SALE.REFUNDED", refund, &["12:00 Reversal", "\"R-1\"", "of: \"S-1\"", "Refunded", "minor: 2499"]);
    let capture =
        r#"{"id":"C-1","amount":{"value":"509.99","currency_code":"USD"},"custom_id":"silver_annual_1700000000_u_7"}"#;
    has("PAYMENT.CAPTURE.COMPLETED", capture, &["\"C-1\"", "minor: 50999", "silver", "Annual", "u_7"]);
    let up = r#"{"id":"R-2","amount":{"value":"1.00","currency_code":"USD"},"links":[{"rel":"up","href":"https://x/v2/payments/captures/C-1"}]}"#;
    has("PAYMENT.CAPTURE.REFUNDED", up, &["of: \"C-1\"", "minor: 100"]);
    has("PAYMENT.CAPTURE.DECLINED", capture, &["Denied", "of: \"C-1\""]);
    let subscription = r#"{"id":"I-1","plan_id":"P-1","status_update_time":"2027-06-01T09:00:00Z","create_time":"2027-06-01T08:00:00Z",
        "custom_id":"gold_monthly_1_u1","subscriber":{"payer_id":"X1","email_address":"a@b.example"}}"#;
    for (kind, change, at) in [
        ("CREATED", "Created", "08:00"),
        ("ACTIVATED", "Activated", "09:00"),
        ("RE-ACTIVATED", "Activated", "09:00"),
        ("UPDATED", "Updated", "12:00"),
        ("SUSPENDED", "Suspended", "09:00"),
        ("CANCELLED", "Canceled", "09:00"),
        ("EXPIRED", "Expired", "09:00"),
        ("PAYMENT.FAILED", "PaymentFailed", "12:00"),
    ] {
        let kind = format!("BILLING.SUBSCRIPTION.{kind}");
        has(&kind, subscription, &[at, "Subscription", "\"I-1\"", change, "a@b.example", "P-1"]);
    }
    let dispute =
        r#"{"dispute_id":"PP-D-1","status":"OPEN","disputed_transactions":[{"seller_transaction_id":"C-1"}]}"#;
    has("CUSTOMER.DISPUTE.CREATED", dispute, &["Dispute", "PP-D-1", "C-1", "OPEN"]);
    assert_eq!(told("BILLING.PLAN.CREATED", "{}"), "nothing");
    for (kind, resource) in [
        ("PAYMENT.SALE.COMPLETED", r#"{"id":"S-1"}"#),
        ("PAYMENT.SALE.COMPLETED", r#"{"id":"S-1","amount":{"total":24.99,"currency":"USD"}}"#),
        ("PAYMENT.SALE.COMPLETED", r#"{"amount":{"total":"24.99","currency":"USD"}}"#),
        ("PAYMENT.CAPTURE.REFUNDED", r#"{"id":"R-1"}"#),
        ("BILLING.SUBSCRIPTION.ACTIVATED", "{}"),
        ("BILLING.SUBSCRIPTION.ACTIVATED", "[]"),
    ] {
        assert!(told(kind, resource).starts_with("wrong: "), "{kind} {resource}");
    }
}

proptest! {
    /// Whatever strangers send, the answer is a word and never a panic.
    #[test]
    fn no_bytes_make_the_readers_panic(
        headers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 5),
        body in proptest::collection::vec(any::<u8>(), 0..400),
        url in "(https?://)?[a-z.@:/%?#0-9\\\\]{0,60}",
    ) {
        let values = |name: &'static str| match name {
            "paypal-transmission-id" => vec![&headers[0][..]],
            "paypal-transmission-time" => vec![b"2027-06-01T12:00:00Z".as_slice()],
            "paypal-transmission-sig" => vec![b"AAAA".as_slice()],
            "paypal-cert-url" => vec![url.as_bytes()],
            _ => vec![b"SHA256withRSA".as_slice()],
        };
        if let Ok(delivery) = Delivery::read(values) {
            let hosts = ["api.paypal.com".to_owned()];
            if let Ok(url) = delivery.check_certificate_url(&hosts) {
                prop_assert_eq!(url.host_str(), Some("api.paypal.com"));
            }
        }
        let _ = Delivery::read(|_| headers.iter().map(Vec::as_slice).collect());
        let _ = Envelope::read(&body);
        if let Ok(chain) = read_file(&body) {
            let _ = establish(&chain, &[], &["a.example"], DateTime::UNIX_EPOCH);
        }
    }

    /// JSON that is written by one and read by the strict reader means the same.
    #[test]
    fn what_is_json_to_everybody_is_json_to_the_strict_reader(text in "[{}\\[\\]\":,a1 ntrue.\\-]{0,24}") {
        let lax = serde_json::from_str::<Value>(&text);
        match json::parse(text.as_bytes()) {
            Ok(value) => prop_assert_eq!(value, lax.unwrap()),
            Err(_) => prop_assert!(lax.is_err() || !lax.unwrap().is_object() || text.contains('"')),
        }
    }
}
