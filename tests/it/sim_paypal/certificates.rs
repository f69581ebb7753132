//! The CA of the simulated PayPal: a root, an intermediate, and signing certificates of every kind, each at a URL of its name.

use poem::Response;
use poem::http::{StatusCode, header};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, SigningKey, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

const NAME: &str = "messageverificationcerts.sandbox.paypal.com";
const SIGNING_KEY: &str = include_str!("../../data/paypal/sim-signing-key.pem");
const WEAK: &str = include_str!("../../data/paypal/weak.pem");

pub struct Certificates {
    /// PEM of the root.
    pub root: String,
    /// DER of the intermediate.
    pub intermediate: Vec<u8>,
    signing_key: KeyPair,
    server: (Vec<u8>, Vec<u8>),
    files: Vec<(&'static str, String)>,
}

fn params(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params("unused", (2010, 2060));
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// AuthorityInfoAccess with one address of the issuer.
fn issuer_at(url: &str) -> CustomExtension {
    const CA_ISSUERS: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
    let sized = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let description = sized(0x30, &[&CA_ISSUERS[..], &sized(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], sized(0x30, &description))
}

impl Certificates {
    pub fn make(base: &str) -> Self {
        let signing_key = KeyPair::from_pem_and_sign_algo(SIGNING_KEY, &PKCS_RSA_SHA256).unwrap();
        let root_key = KeyPair::generate().unwrap();
        let root = authority("Simulated Root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority("Simulated Root"), &root_key);
        let middle_key = KeyPair::generate().unwrap();
        let middle = authority("Simulated Intermediate").signed_by(&middle_key, &root_issuer).unwrap();
        let middle_issuer = Issuer::new(authority("Simulated Intermediate"), &middle_key);
        let signed = |params: CertificateParams| params.signed_by(&signing_key, &middle_issuer).unwrap();
        let with_middle = |certificate: &Certificate| format!("{}{}", certificate.pem(), middle.pem());
        let usual = signed(params(NAME, (2020, 2050)));
        let mut with_address = params(NAME, (2020, 2050));
        with_address.custom_extensions.push(issuer_at(&format!("{base}/aia/intermediate.der")));
        let mut elsewhere = params(NAME, (2020, 2050));
        elsewhere.custom_extensions.push(issuer_at("http://issuer.example.com/intermediate.der"));
        let mut without_usage = params(NAME, (2020, 2050));
        without_usage.extended_key_usages.clear();
        let mut other_usage = params(NAME, (2020, 2050));
        other_usage.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let own_root_key = KeyPair::generate().unwrap();
        let own_root = authority("Somebody's Root").self_signed(&own_root_key).unwrap();
        let own_issuer = Issuer::new(authority("Somebody's Root"), &own_root_key);
        let own_chain = params(NAME, (2020, 2050)).signed_by(&signing_key, &own_issuer).unwrap();
        let other_key = KeyPair::generate().unwrap();
        let not_rsa = params(NAME, (2020, 2050)).signed_by(&other_key, &middle_issuer).unwrap();
        let files = vec![
            ("CERT-full", with_middle(&usual)),
            ("CERT-leaf", usual.pem()),
            ("CERT-leaf-with-address", signed(with_address).pem()),
            ("CERT-leaf-with-foreign-address", signed(elsewhere).pem()),
            ("CERT-expired", with_middle(&signed(params(NAME, (2015, 2018))))),
            ("CERT-early", with_middle(&signed(params(NAME, (2049, 2050))))),
            ("CERT-other-name", with_middle(&signed(params("www.paypal.com", (2020, 2050))))),
            ("CERT-no-usage", with_middle(&signed(without_usage))),
            ("CERT-other-usage", with_middle(&signed(other_usage))),
            ("CERT-self-made", params(NAME, (2020, 2050)).self_signed(&signing_key).unwrap().pem()),
            ("CERT-own-root", format!("{}{}", own_chain.pem(), own_root.pem())),
            ("CERT-weak", WEAK.to_owned()),
            ("CERT-not-rsa", with_middle(&not_rsa)),
            ("CERT-no-certificate", "<html>We will be back soon</html>".to_owned()),
            ("CERT-huge", format!("{}{}", with_middle(&usual), "#".repeat(64 * 1024))),
        ];
        let server_key = KeyPair::generate().unwrap();
        let server = params("localhost", (2020, 2050)).signed_by(&server_key, &root_issuer).unwrap();
        let server = (server.der().to_vec(), server_key.serialize_der());
        Self { root: root.pem(), intermediate: middle.der().to_vec(), signing_key, server, files }
    }

    /// The file of a name, or what becomes of the request.
    pub fn answer(&self, name: &str) -> Response {
        if name == "CERT-elsewhere" {
            let response = Response::builder().status(StatusCode::FOUND);
            return response.header(header::LOCATION, "/v1/notifications/certs/CERT-full").finish();
        }
        match self.files.iter().find(|(known, _)| *known == name) {
            Some((_, pem)) => Response::builder().body(pem.clone()),
            None => Response::builder().status(StatusCode::NOT_FOUND).finish(),
        }
    }

    /// RSA, PKCS #1 v1.5, SHA-256.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.signing_key.sign(text).unwrap()
    }

    /// How the server shows that it is localhost.
    pub fn tls(&self) -> Arc<rustls::ServerConfig> {
        let (certificate, key) = &self.server;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
        let chain = vec![CertificateDer::from(certificate.clone())];
        Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}
