//! PURE: from the bytes that a certificate URL gave to a certificate that may sign for PayPal.
//!
//! The URL is known to have served the leaf alone, so a chain may be incomplete without anybody being at fault: what is missing
//! is told apart from what is wrong.

use chrono::{DateTime, Utc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::Refusal;

/// The shortest key that may sign, in bits.
const SHORTEST_KEY: usize = 2_048;

/// Most certificates of one file.
const MOST_CERTIFICATES: usize = 10;

/// Most addresses of issuers that are looked at.
const MOST_ISSUERS: usize = 4;

/// A certificate as it is transferred.
pub type Der = CertificateDer<'static>;

/// A certificate whose chain was followed to an anchor.
#[derive(Debug, Clone)]
pub struct SigningCertificate {
    leaf: Der,
    /// In this span every certificate of the chain is valid.
    pub not_before: DateTime<Utc>,
    /// The end of it, inclusive.
    pub not_after: DateTime<Utc>,
}

/// Why a chain does not lead to an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainFault {
    /// Something in it is wrong.
    Refused(Refusal),
    /// The issuer is missing; it may be at one of these addresses.
    Incomplete(Vec<String>),
}

impl From<Refusal> for ChainFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The certificates of a file: PEM, or a single one in DER.
///
/// # Errors
/// What is wrong with the file.
pub fn read_file(bytes: &[u8]) -> Result<Vec<Der>, String> {
    let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
    let certificates = if is_pem {
        let read: Result<Vec<Der>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        read.map_err(|fault| format!("this is not PEM: {fault}"))?
    } else {
        vec![CertificateDer::from(bytes.to_vec())]
    };
    if certificates.is_empty() || certificates.len() > MOST_CERTIFICATES {
        return Err(format!("it has {} certificates, 1 to {MOST_CERTIFICATES} are taken", certificates.len()));
    }
    for certificate in &certificates {
        parse(certificate).map_err(|_| "this is not a certificate".to_owned())?;
    }
    Ok(certificates)
}

/// Follows `chain` (the signing certificate first) to one of the `trusted` certificates or of the public roots, as of `at`. A
/// trusted certificate may be an intermediate one.
///
/// # Errors
/// What is wrong, or what is missing.
pub fn establish(
    chain: &[Der],
    trusted: &[Der],
    names: &[&str],
    at: DateTime<Utc>,
) -> Result<SigningCertificate, ChainFault> {
    let [leaf, others @ ..] = chain else {
        return Err(Refusal::new("certificate_malformed", "there is no certificate").into());
    };
    let parsed = parse(leaf)?;
    check_key(&parsed)?;
    check_usage(&parsed)?;
    let end_entity = EndEntityCert::try_from(leaf).map_err(|fault| malformed(&fault))?;
    check_names(&end_entity, names)?;
    let anchors = anchors(trusted, at);
    let time = u64::try_from(at.timestamp()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let followed = end_entity.verify_for_usage(algorithms, &anchors, others, time, KeyUsage::server_auth(), None, None);
    if let Err(fault) = followed {
        return Err(chain_fault(&fault, chain));
    }
    let (mut not_before, mut not_after) = validity(&parsed);
    // Those that the path did not need may narrow the span; then it is only followed again sooner.
    for (from, to) in others.iter().filter_map(|other| parse(other).ok()).map(|other| validity(&other)) {
        if (from..=to).contains(&at) {
            (not_before, not_after) = (not_before.max(from), not_after.min(to));
        }
    }
    Ok(SigningCertificate { leaf: leaf.clone(), not_before, not_after })
}

impl SigningCertificate {
    /// Whether the chain holds at `at`.
    pub fn is_valid_at(&self, at: DateTime<Utc>) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }

    /// Checks an SHA-256 RSA (PKCS #1 v1.5) signature.
    ///
    /// # Errors
    /// `signature`.
    pub fn check_signature(&self, text: &str, signature: &[u8]) -> Result<(), Refusal> {
        let end_entity = EndEntityCert::try_from(&self.leaf).map_err(|fault| malformed(&fault))?;
        let algorithm = webpki::ring::RSA_PKCS1_2048_8192_SHA256;
        end_entity.verify_signature(algorithm, text.as_bytes(), signature).map_err(|_| {
            let detail = "the signature is not of this body, under this webhook id, by this certificate; if every delivery is \
                 refused so, PAYPAL_WEBHOOK_ID is that of another webhook";
            Refusal::new("signature", detail)
        })
    }
}

fn parse(certificate: &Der) -> Result<X509Certificate<'_>, Refusal> {
    let parsed = X509Certificate::from_der(certificate.as_ref());
    parsed.map(|(_, parsed)| parsed).map_err(|fault| malformed(&fault))
}

fn malformed(fault: &dyn std::fmt::Display) -> Refusal {
    Refusal::new("certificate_malformed", format!("the signing certificate cannot be read: {fault}"))
}

fn check_key(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() >= SHORTEST_KEY => Ok(()),
        Ok(PublicKey::RSA(key)) => {
            let detail = format!("the key has {} bits, {SHORTEST_KEY} at least are asked for", key.key_size());
            Err(Refusal::new("certificate_key", detail))
        }
        _ => Err(Refusal::new("certificate_key", "the key is not an RSA key")),
    }
}

/// The chain verifier lets a certificate pass that names no usage at all; here it must be said.
fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if usage.value.server_auth => Ok(()),
        _ => Err(Refusal::new("certificate_usage", "the certificate is not made for server authentication")),
    }
}

fn check_names(certificate: &EndEntityCert<'_>, names: &[&str]) -> Result<(), Refusal> {
    let is_for = |name: &&str| {
        let name = ServerName::try_from(*name);
        name.is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    };
    if names.iter().any(is_for) {
        return Ok(());
    }
    Err(Refusal::new("certificate_name", format!("the certificate is not of {}", names.join(" or "))))
}

/// The verifier does not ask whether an anchor is still valid.
fn anchors<'t>(trusted: &'t [Der], at: DateTime<Utc>) -> Vec<TrustAnchor<'t>> {
    let valid = |certificate: &&Der| {
        parse(certificate).is_ok_and(|parsed| {
            let (from, to) = validity(&parsed);
            (from..=to).contains(&at)
        })
    };
    let ours = trusted.iter().filter(valid).filter_map(|certificate| anchor_from_trusted_cert(certificate).ok());
    ours.chain(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()).collect()
}

fn validity(certificate: &X509Certificate<'_>) -> (DateTime<Utc>, DateTime<Utc>) {
    let instant = |seconds: i64, otherwise| DateTime::from_timestamp(seconds, 0).unwrap_or(otherwise);
    let span = certificate.validity();
    (
        instant(span.not_before.timestamp(), DateTime::<Utc>::MAX_UTC),
        instant(span.not_after.timestamp(), DateTime::<Utc>::MIN_UTC),
    )
}

fn chain_fault(fault: &Error, chain: &[Der]) -> ChainFault {
    let refused = |code, detail: &str| ChainFault::Refused(Refusal::new(code, detail));
    match fault {
        Error::UnknownIssuer => {
            let parsed: Vec<_> = chain.iter().filter_map(|certificate| parse(certificate).ok()).collect();
            // Who names a root of his own lacks nothing.
            if parsed.iter().any(|one| one.subject().as_raw() == one.issuer().as_raw()) {
                let detail = "the chain ends in a root that is not trusted here; if it is PayPal's, add it to paypal.trust_roots";
                return refused("certificate_untrusted", detail);
            }
            ChainFault::Incomplete(parsed.iter().rev().flat_map(issuers_of).take(MOST_ISSUERS).collect())
        }
        Error::CertExpired { .. } => refused("certificate_expired", "a certificate of the chain has expired"),
        Error::CertNotValidYet { .. } => {
            refused("certificate_not_yet_valid", "a certificate of the chain is not valid yet")
        }
        other => refused("certificate_untrusted", &format!("the chain does not hold: {other}")),
    }
}

/// Where a certificate says that its issuer's is.
fn issuers_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() {
            for place in access.accessdescs.iter().filter(|place| place.access_method.to_id_string() == CA_ISSUERS) {
                if let GeneralName::URI(address) = place.access_location {
                    found.push(address.to_owned());
                }
            }
        }
    }
    found
}
