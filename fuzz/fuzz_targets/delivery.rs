//! Headers and a body, parted by line feeds: the five headers of PayPal, the three of Standard Webhooks, then the body.

#![no_main]

use bellwether::webhooks::{Delivery, standard};
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;

const HEADERS: [&str; 8] = [
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-cert-url",
    "paypal-auth-algo",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

fuzz_target!(|input: &[u8]| {
    let parts: Vec<&[u8]> = input.splitn(HEADERS.len() + 1, |byte| *byte == b'\n').collect();
    let values = |name: &'static str| -> Vec<&[u8]> {
        let place = HEADERS.iter().position(|header| *header == name);
        place.and_then(|place| parts.get(place)).into_iter().copied().collect()
    };
    let body = parts.get(HEADERS.len()).copied().unwrap_or_default();
    let Some(at) = DateTime::from_timestamp(1_490_904_250, 0) else { return };
    if let Ok(delivery) = Delivery::read(values) {
        let _ = delivery.check_time(at);
        let hosts = ["api.paypal.com".to_owned(), "127.0.0.1:8443".to_owned()];
        if let Ok(url) = delivery.check_certificate_url(&hosts) {
            let host = url.host_str().unwrap_or_default();
            assert!(host == "api.paypal.com" || host == "127.0.0.1", "nothing is fetched from {host}");
            assert_eq!(url.scheme(), "https");
        }
        assert_eq!(delivery.signed_text("1W", body).matches('|').count(), 3, "four parts, whatever was sent");
    }
    let secret = SecretString::from("whsec_c2VjcmV0IG9mIHRoZSBmdXp6ZXI=");
    let _ = standard::check(values, body, &[secret], at);
});
