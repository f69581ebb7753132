//! What an operator sees of `[ingest.universe]`.

use super::*;

#[test]
fn a_source_follows_from_what_is_named() {
    let source = |toml: &str| load(toml, &[]).unwrap().ingest.universe.source;
    assert_eq!(source(""), UniverseSource::BuiltIn);
    let file = tempfile::NamedTempFile::new().unwrap();
    let named = format!("[ingest.universe]\nfile = {:?}", file.path().display().to_string());
    assert_eq!(source(&named), UniverseSource::File(file.path().to_owned()));
    let both = "[ingest.universe]\nsource = \"directories\"\nother_listed = \"lists/otherlisted.txt\"";
    let UniverseSource::Directories { nasdaq_listed, other_listed } = source(both) else { panic!("{both}") };
    assert_eq!(nasdaq_listed.to_string(), "https://www.nasdaqtrader.com/dynamic/SymDir/nasdaqlisted.txt");
    assert_eq!(other_listed, Place::File("lists/otherlisted.txt".into()));
}

#[test]
fn every_mistake_is_named_and_a_key_in_a_url_is_shown_to_nobody() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml = format!(
        "[ingest.universe]\nsource = \"directories\"\nfile = {:?}\nnasdaq_listed = \"ftp://example.com/nasdaqlisted.txt\"\n\
         sec_tickers = \"https://me:canary@example.com/list.json?key=canary\"\nleave_out = [\"warrants\"]\n\
         max_shrink_percent = 101\nexclude_file = \"/none.csv\"\n",
        file.path().display().to_string()
    );
    let told = load(&toml, &[]).unwrap_err();
    insta::assert_snapshot!(told, @r#"
    ingest.universe.nasdaq_listed (my.toml:4): ftp://example.com/nasdaqlisted.txt is not an http URL; fix: write https://HOST/PATH, or the path of a file
    ingest.universe.contact (not set): the SEC demands a contact in the User-Agent; fix: write a mail address at which its operator reaches you
    ingest.universe.source (my.toml:2): the source is "directories" and ingest.universe.file is set as well; fix: remove one of them; symbols to add go into ingest.universe.include_file
    ingest.universe.leave_out (my.toml:6): there is no kind of listing "warrants"; fix: choose from "test-issue", "etf", "next-shares", "deficient", "delinquent", "bankrupt"
    ingest.universe.exclude_file (my.toml:8): there is no file /none.csv; fix: name a CSV file with a `symbol` column
    ingest.universe.max_shrink_percent (my.toml:7): 101 is out of range; fix: choose 0 to 100
    "#);
    let contact = [("BELLWETHER_INGEST__UNIVERSE__CONTACT", "ops@example.com")];
    let good =
        load("[ingest.universe]\nsec_tickers = \"https://me:canary@example.com/list.json?key=canary\"", &contact);
    let shown = format!("{:?}", good.unwrap().settings);
    assert!(!shown.contains("canary") && shown.contains("https://example.com/list.json"), "{shown}");
}
