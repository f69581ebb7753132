//! Passwords of operators: Argon2id (RFC 9106) with 19 MiB, two passes and one lane, as OWASP's cheat sheet on storing passwords
//! has it; kept as PHC strings.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};

/// The shortest password, in characters.
pub const SHORTEST: usize = 12;

/// The longest, in bytes: whoever is not signed in yet must not make us work without bound.
pub const LONGEST: usize = 1_024;

/// How every hash of ours begins; another one would cost what somebody else has decided.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// Of no password that anybody has.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Ym9keW5vYm9keW5vYm9keQ$3uZ1Jcq6c9Dq5W3G7i0cKyg1m0z4nF8bUe1x6Wn9tXc";

/// Why a password, a hash or a name was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// Makes the hash that is kept. Takes tens of milliseconds and 19 MiB.
///
/// # Errors
/// When the password is too short, too long, or the name itself.
pub fn hash(name: &str, password: &SecretString) -> Result<String, Unfit> {
    let text = password.expose_secret();
    if text.chars().count() < SHORTEST {
        return Err(Unfit(format!(
            "the password has fewer than {SHORTEST} characters; take a sentence, or `openssl rand -base64 18`"
        )));
    }
    if text.len() > LONGEST {
        return Err(Unfit(format!("the password has more than {LONGEST} bytes")));
    }
    if text.eq_ignore_ascii_case(name) {
        return Err(Unfit("the password is the name".to_owned()));
    }
    let made = PasswordHasher::<PasswordHash>::hash_password(&Argon2::default(), text.as_bytes());
    made.map(|hash| hash.to_string()).map_err(|fault| Unfit(format!("the password could not be hashed: {fault}")))
}

/// Whether it is the password of `hash`. Takes as long for nobody (`None`) as for somebody.
pub fn is_right(password: &SecretString, hash: Option<&str>) -> bool {
    let Ok(kept) = PasswordHash::new(hash.unwrap_or(NOBODY)) else { return false };
    let right = Argon2::default().verify_password(password.expose_secret().as_bytes(), &kept).is_ok();
    right && hash.is_some()
}

/// Checks a hash that another process has made.
///
/// # Errors
/// When it is none of ours.
pub fn check_hash(hash: &str) -> Result<(), Unfit> {
    let readable = hash.starts_with(OURS) && PasswordHash::new(hash).is_ok();
    readable.then_some(()).ok_or_else(|| Unfit(format!("password_hash must be a PHC string that begins with {OURS}")))
}

/// Checks a name that somebody is to sign in with.
///
/// # Errors
/// When it is empty, too long, or has other signs than letters, digits, `.`, `_`, `-` and `@`.
pub fn check_name(name: &str) -> Result<(), Unfit> {
    let fits = (1..=64).contains(&name.len())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "._-@".contains(sign));
    fits.then_some(()).ok_or_else(|| Unfit("a name has 1 to 64 letters, digits, and . _ - @".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_nobody_elses() {
        let (right, wrong) = (SecretString::from("correct horse battery"), SecretString::from("correct horse batterz"));
        let (one, other) = (hash("ada", &right).unwrap(), hash("ada", &right).unwrap());
        assert_ne!(one, other, "each has a salt of its own");
        assert!(check_hash(&one).is_ok() && check_hash(NOBODY).is_ok());
        assert!(is_right(&right, Some(&one)) && is_right(&right, Some(&other)));
        assert!(!is_right(&wrong, Some(&one)) && !is_right(&right, None));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fault = |name, password: &str| hash(name, &SecretString::from(password)).unwrap_err().to_string();
        assert!(fault("ada", "short").contains("12"));
        assert!(fault("ada", &"x".repeat(1_025)).contains("1024"));
        assert!(fault("ada.lovelace", "Ada.Lovelace").contains("name"));
        for name in ["", "a b", "a/b", "a\0", &"n".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("ada.lovelace@example.com").is_ok());
        for foreign in
            ["", "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaA", "$argon2id$v=19$m=19456,t=2,p=1$!!$x"]
        {
            assert!(check_hash(foreign).is_err(), "{foreign}");
        }
    }
}
