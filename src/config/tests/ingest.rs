//! What an operator sees of `[ingest]`.

use super::*;

#[test]
fn a_key_in_the_url_of_a_provider_is_shown_to_nobody() {
    let toml = "[ingest]\nprovider = \"csv\"\n[ingest.csv]\nbase_url = \"https://me:canary@example.com:8443/prices.csv?token=canary#canary\"\n\
                licence = \"display\"\n[ingest.yahoo]\ncookie_url = \"https://example.org/\"\n";
    let config = load(toml, &[]).unwrap();
    let shown = |key: &str| {
        let settings: Vec<_> = config.settings.iter().filter(|setting| setting.key == key).collect();
        assert_eq!(settings.len(), 1, "{key}");
        settings[0].shown.clone().unwrap()
    };
    assert_eq!(shown("ingest.csv.base_url"), "\"https://example.com:8443/prices.csv\"");
    assert_eq!(shown("ingest.yahoo.cookie_url"), "\"https://example.org/\"");
    assert!(!format!("{:?}", config.settings).contains("canary"));
    // It is asked for as it is written.
    let ProviderConfig::Csv(csv) = config.ingest.provider else { panic!("{toml}") };
    assert!(
        matches!(csv.source, CsvSource::Url(url) if url.query() == Some("token=canary") && url.password() == Some("canary"))
    );
}

#[test]
fn a_url_that_is_none_is_refused_without_what_may_be_secret_in_it() {
    let told = |url: &str| {
        let toml = format!("[ingest]\nprovider = \"csv\"\n[ingest.csv]\nbase_url = \"{url}\"\n");
        load(&toml, &[]).unwrap_err().to_string()
    };
    for (url, shown) in [
        ("ftp://me:canary@example.com/x", "\"[redacted]\" is not an http URL"),
        ("example.com/x?token=canary", "\"[redacted]\" is not an http URL"),
        ("example.com/x", "\"example.com/x\" is not an http URL"),
    ] {
        let told = told(url);
        assert!(told.contains(shown) && !told.contains("canary"), "{told}");
    }
}
