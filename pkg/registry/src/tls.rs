//! TLS: whom to trust, and what to show to those who ask.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::Error;

/// Certificate file and key file; they may be one.
pub(crate) type Pair = (PathBuf, PathBuf);

/// What flags and `hosts.toml` say for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) skip_verify: bool,
    /// Trusted in place of the system's roots.
    pub(crate) replace_roots: Option<PathBuf>,
    /// Trusted as well.
    pub(crate) more_roots: Vec<PathBuf>,
    /// Client certificates, the first that fits is shown.
    pub(crate) client: Vec<Pair>,
}

impl Settings {
    /// Reads the files.
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if self.skip_verify {
            Arc::new(Verifier { webpki: Trust::Everyone, given: Vec::new(), provider: Arc::clone(&provider) })
        } else {
            Arc::new(self.verifier(&provider)?)
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Client { source: Box::new(error) })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        if self.client.is_empty() {
            return Ok(builder.with_no_client_auth());
        }
        let keys: Result<Vec<_>, Error> = self.client.iter().map(|pair| client_key(pair, &provider)).collect();
        Ok(builder.with_client_cert_resolver(Arc::new(ClientKeys(keys?))))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier, Error> {
        let mut given = Vec::new();
        for path in self.replace_roots.iter().chain(&self.more_roots) {
            given.extend(certificates("CA file", path)?);
        }
        let mut roots = if self.replace_roots.is_some() { RootCertStore::empty() } else { system_roots().clone() };
        roots.add_parsable_certificates(given.iter().cloned());
        let webpki = if roots.is_empty() {
            Trust::Nobody
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Trust::Roots(builder.build().map_err(|error| Error::Client { source: Box::new(error) })?)
        };
        Ok(Verifier { webpki, given, provider: Arc::clone(provider) })
    }
}

/// The system's roots, read once. A machine without any can still pull over http or with a CA of its own.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::debug!(%error, "system root certificate left out");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.certs);
        roots
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::Pem { what: "certificate", path: path.to_owned(), source: None }),
        Err(error) => Err(Error::Pem { what: "certificate", path: path.to_owned(), source: Some(Box::new(error)) }),
    }
}

fn client_key((certificate, key): &Pair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let chain = certificates("client certificate", certificate)?;
    let text = read("client key", key)?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|error| Error::Pem {
        what: "private key",
        path: key.clone(),
        source: Some(Box::new(error)),
    })?;
    let fits = CertifiedKey::from_der(chain, der, provider);
    fits.map(Arc::new).map_err(|source| Error::ClientCertificate { path: certificate.clone(), source })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { what, path: path.to_owned(), source })
}

/// The first client certificate whose key the server can check.
#[derive(Debug)]
struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientKeys {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Whose word on a certificate counts.
#[derive(Debug)]
enum Trust {
    /// `--skip-verify`
    Everyone,
    /// Not a single root on this machine.
    Nobody,
    Roots(Arc<WebPkiServerVerifier>),
}

/// webpki, and beside it: a server certificate that was given itself as CA file is trusted as it stands.
///
/// The usual self-signed registry certificate (`openssl req -x509`) is marked as a CA, and webpki refuses a CA as a server's
/// certificate. Go takes it, so `ctr` does.
#[derive(Debug)]
struct Verifier {
    webpki: Trust,
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let webpki = match &self.webpki {
            Trust::Everyone => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
            Trust::Roots(webpki) => webpki,
        };
        match webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // webpki checks the dates first: whoever gets as far as this error has valid ones. The name is left.
            Err(error) if is_ca_as_server(&error) && self.given.iter().any(|given| given == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            // A foreign one of that kind is nothing but unknown.
            Err(error) if is_ca_as_server(&error) => Err(CertificateError::UnknownIssuer.into()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// webpki's own error type is not part of rustls's interface, only its name shows.
fn is_ca_as_server(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other)) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}
