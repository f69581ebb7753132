//! Names the source revision for `bellwether version`, and rebuilds when an embedded migration changes.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "a build script has no configuration to ask")]
fn main() {
    println!("cargo:rerun-if-changed=migrations");
    // Every commit adds a line here; a path that does not exist would make cargo build anew each time.
    if std::path::Path::new(".git/logs/HEAD").exists() {
        println!("cargo:rerun-if-changed=.git/logs/HEAD");
    }
    println!("cargo:rerun-if-env-changed=BELLWETHER_REVISION");
    // Only to tell a clock that cannot be right; given from outside where a build must come out the same each time.
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|epoch| epoch.parse().ok()).unwrap_or_else(now);
    // Cargo hands these to a program that it runs itself, and a name that begins like ours would be taken for a setting.
    println!("cargo:rustc-env=BUILT_AT={built}");
    let revision = std::env::var("BELLWETHER_REVISION").ok().or_else(revision_of_checkout);
    println!("cargo:rustc-env=BUILT_OF={}", revision.as_deref().unwrap_or("unknown"));
}

fn revision_of_checkout() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let revision = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !revision.trim().is_empty()).then(|| revision.trim().to_owned())
}
