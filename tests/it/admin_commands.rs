//! `admin` and `audit` as an operator types them, before a daemon runs and beside one, on both databases.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Engine, client, eventually};
use crate::killed::Site;

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_made_beside_a_daemon_and_sign_in_to_it_on_sqlite() {
    operators_are_made_beside_a_daemon_and_sign_in_to_it(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_made_beside_a_daemon_and_sign_in_to_it_on_postgres() {
    operators_are_made_beside_a_daemon_and_sign_in_to_it(Engine::Postgres).await;
}

/// The exit code, what was said and what was told.
fn admin(site: &Site, listen: Option<String>, arguments: &[&str], password: &str) -> (Option<i32>, Vec<Value>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(arguments).current_dir(site.directory.path()).env_clear().envs(site.environment());
    command.envs(listen.map(|address| ("BELLWETHER_LISTEN", address)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have refused its arguments before it reads.
    let _ = child.stdin.take().unwrap().write_all(password.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let shown = password.len() > 5 && (said.contains(password.trim()) || told.contains(password.trim()));
    assert!(!shown || password.starts_with("bob"), "a password is never shown");
    (output.status.code(), said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), told)
}

async fn operators_are_made_beside_a_daemon_and_sign_in_to_it(engine: Engine) {
    let site = Site::new(engine).await;
    let create = |name| ["admin", "create", name, "--role", "admin", "--password-stdin", "--json"];
    // Before a daemon ever ran.
    let (code, said, told) = admin(&site, None, &create("ada"), "the first sentence\n");
    assert_eq!((code, &said[0]["action"]), (Some(0), &json!("created")), "{told}");
    let (code, _, told) = admin(&site, None, &create("ada"), "the first sentence\n");
    assert_eq!((code, told.contains("reset-password")), (Some(1), true), "{told}");
    // Nonsense.
    for (arguments, password, wanted) in [
        (create("bob"), "short\n", "fewer than 12"),
        (create("b/b"), "the first sentence\n", "letters, digits"),
        (create("bobbobbobbob"), "bobbobbobbob\n", "the name"),
    ] {
        let (code, _, told) = admin(&site, None, &arguments, password);
        assert_eq!((code, told.contains(wanted)), (Some(2), true), "{told}");
    }
    let (code, _, told) = admin(&site, None, &["admin", "create", "bob", "--role", "king", "--password-stdin"], "x\n");
    assert_eq!((code, told.contains("viewer, operator, admin")), (Some(2), true), "{told}");
    let (code, ..) = admin(&site, None, &["admin", "create", "bob", "--role", "viewer"], "the first sentence\n");
    assert_eq!(code, Some(2), "a password comes from standard input, and that is said");
    // Beside the daemon, which is asked where it has the file.
    let daemon = site.start(&[]);
    let beside = |arguments: &[&str], password: &str| admin(&site, Some(daemon.api.to_string()), arguments, password);
    let mut dry = create("bob").to_vec();
    dry.push("--dry-run");
    assert_eq!(beside(&dry, "the second sentence\n").1[0]["dry_run"], json!(true));
    assert_eq!(beside(&create("bob"), "the second sentence\r\n").0, Some(0));
    let (code, _, told) = beside(&create("bob"), "the second sentence\n");
    assert_eq!((code, told.contains("already")), (Some(1), true), "{told}");
    let reset = ["admin", "reset-password", "ada", "--password-stdin", "--json"];
    assert_eq!(beside(&reset, "the third sentence\n").1[0]["action"], json!("password_reset"));
    let (_, listed, _) = beside(&["admin", "ls", "--json"], "");
    let names: Vec<_> = listed.iter().map(|one| (one["name"].clone(), one["role"].clone())).collect();
    assert_eq!(names, [(json!("ada"), json!("admin")), (json!("bob"), json!("admin"))]);
    // Only the password of now opens.
    let sign_in = async |name: &str, password: &str| {
        let url = format!("http://{}/admin/login", daemon.api);
        let page = client().get(&url).send().await.unwrap();
        let cookie = page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let page = page.text().await.unwrap();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let fields = [("username", name), ("password", password), ("csrf", &csrf)];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        http.post(url).header("cookie", cookie).body(body).send().await.unwrap().status().as_u16()
    };
    eventually("the daemon serves", async || daemon.get("/startupz").await.is_some_and(|(status, _)| status == 200))
        .await;
    assert_eq!(sign_in("ada", "the first sentence").await, 401);
    assert_eq!(sign_in("ada", "the third sentence").await, 303);
    assert_eq!(sign_in("bob", "the second sentence").await, 303, "the end of the line is no part of it");
    // Taken away, for good, and said to be.
    assert_eq!(beside(&["admin", "remove", "bob"], "").0, Some(2), "it wants a yes");
    assert_eq!(beside(&["admin", "remove", "bob", "--yes", "--json"], "").1[0]["action"], json!("removed"));
    assert_eq!(beside(&["admin", "remove", "bob", "--yes", "--json"], "").0, Some(1));
    assert_eq!(sign_in("bob", "the second sentence").await, 401);
    assert_eq!(beside(&["audit", "ls", "--json"], ""), (Some(0), vec![], String::new()));
}
