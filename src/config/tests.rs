//! What an operator sees of the configuration.

mod components;
mod ingest;
mod universe;

use std::io::Write;

use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let environment = environment.iter().copied().collect();
    let name = file.path().display().to_string();
    Config::load(Some(file.path()), &environment).map_err(|problems| {
        let lines: Vec<String> =
            problems.0.iter().map(|problem| problem.to_string().replace(&name, "my.toml")).collect();
        lines.join("\n")
    })
}

#[test]
fn with_nothing_said_it_runs() {
    let config = Config::load(None, &Environment::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.database.to_string(), "sqlite:data/bellwether.db");
    assert!(matches!(config.ingest.provider, ProviderConfig::Sim { .. }));
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_fix() {
    let toml = r#"
listen = "nowhere"
metrics_listen = 9000
[ingest]
cadence_secs = 60
cadence_seconds = 5
phases = ["lunch"]
provider = "massive"
[log]
json = "perhaps"
"#;
    let told = load(toml, &[("BELLWETHER_HTTP__MAX_CONECTIONS", "5"), ("RENEWAL_LIMIT", "many")]).unwrap_err();
    insta::assert_snapshot!(told, @r#"
    listen (my.toml:2): "nowhere" is not an address such as "127.0.0.1:8000"; fix: write an address such as "127.0.0.1:8000"
    metrics_listen (my.toml:3): 9000 is an integer, not text; fix: put the value in quotes
    log.json (my.toml:10): "perhaps" is neither true nor false; fix: write true or false
    ingest.cadence_seconds (my.toml:6): 5 is out of range; fix: choose 10 to 3600
    ingest.phases (my.toml:7): "lunch" is not a phase to ingest in; fix: choose from "pre", "regular", "post", "overnight"
    ingest.phases (my.toml:7): no phase is named, so nothing would ever be ingested; fix: choose from "pre", "regular", "post", "overnight"
    ingest.massive.api_key (not set): ingest.provider is "massive" and there is no key; fix: set BELLWETHER_INGEST__MASSIVE__API_KEY or BELLWETHER_INGEST__MASSIVE__API_KEY_FILE
    renewals.limit (environment RENEWAL_LIMIT): "many" is not a whole number; fix: write a whole number
    ingest.cadence_secs (my.toml:5): there is no such key; fix: did you mean ingest.cadence_seconds?
    BELLWETHER_HTTP__MAX_CONECTIONS (environment BELLWETHER_HTTP__MAX_CONECTIONS): there is no such key; fix: did you mean BELLWETHER_HTTP__MAX_CONNECTIONS?
    "#);
}

#[test]
fn a_page_of_the_site_is_a_path() {
    let toml = "[site]\nfrontend_url = \"https://site.example/\"\npages = [\"/\", \"pricing\", \"//evil.example\", \"/a b\", \"/a#b\"]";
    insta::assert_snapshot!(load(toml, &[]).unwrap_err(), @r#"
    site.pages (my.toml:3): "pricing" is not the path of a page; fix: write each as "/pricing"
    site.pages (my.toml:3): "//evil.example" is not the path of a page; fix: write each as "/pricing"
    site.pages (my.toml:3): "/a b" is not the path of a page; fix: write each as "/pricing"
    site.pages (my.toml:3): "/a#b" is not the path of a page; fix: write each as "/pricing"
    "#);
    let pages =
        load(&toml.replace("\"pricing\", \"//evil.example\", \"/a b\", \"/a#b\"", "\"/é\""), &[]).unwrap().site.pages;
    let pages: Vec<&str> = pages.iter().map(url::Url::as_str).collect();
    assert_eq!(pages, ["https://site.example/", "https://site.example/%C3%A9"]);
}

#[test]
fn a_file_that_is_not_toml_names_its_line() {
    let told = load("listen = \"127.0.0.1:1\"\n[ingest\n", &[]).unwrap_err();
    assert!(told.starts_with("my.toml (my.toml:2): this is not TOML"), "{told}");
}

#[test]
fn production_names_each_thing_it_refuses() {
    let environment = [("ENVIRONMENT", "production"), ("CRON_SECRET", "short"), ("SECRET_KEY", &"ab".repeat(20))];
    insta::assert_snapshot!(load("", &environment).unwrap_err(), @"
    secret_key (environment SECRET_KEY): the secret repeats too few characters; fix: set SECRET_KEY to at least 32 random characters, e.g. from `openssl rand -hex 32`
    cron_secret (environment CRON_SECRET): the secret is too short; fix: set CRON_SECRET to at least 32 random characters, e.g. from `openssl rand -hex 32`
    allowed_hosts (default): production must not answer to every host name; fix: name the hosts: ALLOWED_HOSTS=api.example.com
    ingest.provider (default): production must not serve simulated prices; fix: set BELLWETHER_INGEST__PROVIDER=massive (or another real one) and its key
    ");
}

#[test]
fn the_later_source_wins_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "from-the-file\n").unwrap();
    std::fs::write(directory.path().join("CRON_SECRET"), "from-the-credential\n").unwrap();
    let origin = |environment: &[(&str, &str)]| {
        let config = load("cron_secret = \"from-toml\"", environment).unwrap();
        let setting = config.settings.iter().find(|setting| setting.key == "cron_secret").unwrap().clone();
        assert_eq!(setting.shown.as_deref(), Some("[redacted]"));
        setting.origin
    };
    let (secret, directory) = (secret.display().to_string(), directory.path().display().to_string());
    let variable = ("CRON_SECRET", "from-the-environment");
    let file = ("CRON_SECRET_FILE", secret.as_str());
    let credential = ("CREDENTIALS_DIRECTORY", directory.as_str());
    assert!(matches!(origin(&[]), Origin::File { line: 1, .. }));
    assert_eq!(origin(&[variable]), Origin::Environment("CRON_SECRET".to_owned()));
    assert!(matches!(origin(&[variable, file]), Origin::SecretFile { .. }));
    assert_eq!(origin(&[variable, file, credential]), Origin::Credential("CRON_SECRET".to_owned()));
}

#[test]
fn the_parts_of_a_database_make_a_url_and_no_password_shows() {
    let environment = [
        ("DB_ENGINE", "django.db.backends.postgresql"),
        ("DB_NAME", "site"),
        ("DB_USER", "me"),
        ("DB_PASSWORD", "p@ss/word"),
        ("DB_HOST", "db.internal"),
        ("DB_PORT", "5433"),
    ];
    let config = load("", &environment).unwrap();
    assert_eq!(config.database.to_string(), "postgres://me:redacted@db.internal:5433/site");
    let config = load("", &[("DATABASE_URL", "postgres://me:hunter2@h/site?password=hunter2")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn a_url_without_its_slashes_is_refused_and_its_password_not_repeated() {
    let environment = [("DATABASE_URL", "postgres:nobody:hunter2@127.0.0.1:1/x")];
    let told = load("", &environment).unwrap_err();
    assert!(told.starts_with("database.url") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_word_that_is_no_level_is_not_taken_for_a_target() {
    assert!(load("", &[("LOG_LEVEL", "inof")]).unwrap_err().starts_with("log.level (environment LOG_LEVEL): \"inof\""));
    assert!(load("", &[("LOG_LEVEL", "info,bellwether::ingest=debug")]).is_ok());
    assert!(load("", &[("LOG_LEVEL", "off")]).is_ok());
}

#[test]
fn systemd_names_the_state_directory() {
    let config = load("", &[("STATE_DIRECTORY", "/var/lib/bellwether:/var/lib/other")]).unwrap();
    assert_eq!(config.database.to_string(), "sqlite:/var/lib/bellwether/bellwether.db");
}

#[test]
fn an_origin_is_scheme_host_and_port_and_never_every_site() {
    let origins = |environment: &[(&str, &str)]| load("", environment).map(|config| config.http.cors_origins);
    let named = "HTTPS://Www.Example.COM:443,http://localhost:5173/,https://münchen.example,http://[::1]:8080";
    let site = ("FRONTEND_URL", "https://site.example/app/");
    let expected = [
        "https://www.example.com",
        "http://localhost:5173",
        "https://xn--mnchen-3ya.example",
        "http://[::1]:8080",
        "https://site.example",
    ];
    assert_eq!(origins(&[("EXTRA_CORS_ORIGINS", named), site]).unwrap(), expected);
    assert_eq!(origins(&[]).unwrap(), ["http://localhost:3000"]);
    let bad = "*,https://*.example.com,example.com,null,ftp://example.com,https://example.com/app,https://me:hunter2@example.com";
    insta::assert_snapshot!(origins(&[("EXTRA_CORS_ORIGINS", bad)]).unwrap_err(), @r#"
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "*": an origin is one site; answers are never shared with every site; fix: name each origin, e.g. https://www.example.com,https://app.example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "https://*.example.com": an origin is one site; answers are never shared with every site; fix: name each origin, e.g. https://www.example.com,https://app.example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "example.com" is not an origin; fix: write each as scheme, host and port if it has one, e.g. https://www.example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "null" is not an origin; fix: write each as scheme, host and port if it has one, e.g. https://www.example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "ftp://example.com" is not an origin; fix: write each as scheme, host and port if it has one, e.g. https://www.example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "https://example.com/app" has more than an origin: a browser never sends the rest; fix: write https://example.com
    http.cors_origins (environment EXTRA_CORS_ORIGINS): "https://me@example.com/" has more than an origin: a browser never sends the rest; fix: write https://example.com
    "#);
}

/// As little as production takes.
const PRODUCTION: &[(&str, &str)] = &[
    ("ENVIRONMENT", "production"),
    ("CRON_SECRET", "0123456789abcdefghijklmnopqrstuv"),
    ("SECRET_KEY", "0123456789abcdefghijklmnopqrstuv"),
    ("ALLOWED_HOSTS", "api.example.com"),
    ("BELLWETHER_INGEST__PROVIDER", "massive"),
    ("BELLWETHER_INGEST__MASSIVE__API_KEY", "k"),
];

#[test]
fn in_production_pages_of_a_developers_machine_may_not_read() {
    assert_eq!(load("", PRODUCTION).unwrap().http.cors_origins, [""; 0]);
    let said = [PRODUCTION, &[("FRONTEND_URL", "https://site.example")]].concat();
    assert_eq!(load("", &said).unwrap().http.cors_origins, ["https://site.example"]);
}

#[test]
fn production_that_uses_paypal_says_whose() {
    let production = [PRODUCTION, &[("PAYPAL_WEBHOOK_ID", "7BE12345XW678901M")]].concat();
    insta::assert_snapshot!(load("", &production).unwrap_err(), @"paypal.environment (default): production must say whose PayPal it is: by default it is the sandbox; fix: set PAYPAL_ENV=live (or sandbox, where nothing is real)");
    for said in ["live", "sandbox"] {
        assert!(load("", &[&production[..], &[("PAYPAL_ENV", said)]].concat()).is_ok());
    }
}
