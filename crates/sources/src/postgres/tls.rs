//! TLS by libpq's rules: encryption alone, a chain up to a known authority, or the host's name as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use instep_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Whose certificate is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anyone's: the connection is encrypted, the server is not known (`prefer`, `require`).
    Anyone,
    /// One that a known authority signed, for any host (`verify-ca`).
    Authority,
    /// One that a known authority signed for this host (`verify-full`).
    Name,
}

/// A client's own certificate.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// How a client speaks TLS. `root`: a PEM file with authorities, or `system` for those of the machine; where an
/// authority is needed there must be one, as with libpq.
pub(super) fn client(trust: Trust, root: Option<&Path>, identity: Option<&Identity>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Anyone(provider.clone())),
        Trust::Authority | Trust::Name => {
            let root = root.ok_or_else(|| {
                Error::invalid(
                    "no_root_certificate",
                    "sslmode verify-ca and verify-full need to know an authority",
                )
                .with_remedy("name its certificate: root_certificate = \"ca.pem\", or \"system\" for the machine's own")
            })?;
            let known = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(root)?), provider.clone())
                .build()
                .map_err(|error| unreadable(root, error))?;
            match trust {
                Trust::Name => known,
                Trust::Anyone | Trust::Authority => Arc::new(AnyName(known)),
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::fatal("tls", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&identity.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| unreadable(&identity.key, error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unreadable(&identity.certificate, error))
}

fn roots(root: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let certificates = match root == Path::new("system") {
        true => rustls_native_certs::load_native_certs().certs,
        false => certificates(root)?,
    };
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err(unreadable(root, "it holds no certificate"));
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    read.map(|certificate| certificate.map_err(|error| unreadable(path, error)))
        .collect()
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid(
        "bad_certificate",
        format!("the certificate file `{}` cannot be used: {why}", path.display()),
    )
    .with_remedy("name a readable PEM file")
}

/// Checks that the server holds the key of its certificate, and nothing about the certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks everything but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match self
            .0
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
