//! A connection to a camera: its name resolved once, the address checked, TLS where the URL says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::super::allow::Allowed;
use super::super::limits::CONNECT_TIME;
use super::super::order::{Identity, Trust};
use super::failure::{Failure, of_io};

/// What bytes to and from a camera pass through.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// A connection.
pub(super) struct Link {
    /// Its bytes.
    pub(super) wire: Box<dyn Wire>,
    /// Where the camera is.
    pub(super) peer: IpAddr,
    /// Which of our addresses it sees.
    pub(super) local: IpAddr,
}

/// Connects as the operator wants it.
#[derive(Clone)]
pub(super) struct Dialler {
    allowed: Allowed,
    verified: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
}

impl Dialler {
    /// One that knows these ranges.
    pub(super) fn new(allowed: Allowed) -> Dialler {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("the provider has the cipher suites of both versions")
        };
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let verified = builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let any = builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        Dialler {
            allowed,
            verified: Arc::new(verified),
            any: Arc::new(any),
        }
    }

    /// Where the camera of this URL is: an address that `trust` allows. Its name is resolved here, and not again.
    pub(super) async fn find(&self, url: &Url, trust: Trust) -> Result<SocketAddr, Failure> {
        Ok(self.allowed.choose(trust, resolve(url).await?)?)
    }

    /// The same of a URL to which a camera at `from` sends us: to itself, or where a stranger may send us.
    pub(super) async fn find_redirect(
        &self,
        url: &Url,
        from: IpAddr,
    ) -> Result<SocketAddr, Failure> {
        let addresses = resolve(url).await?;
        let own = addresses.iter().find(|address| address.ip() == from);
        if let Some(address) = own {
            return Ok(*address);
        }
        let chosen = self.allowed.choose(Trust::Request, addresses);
        chosen.map_err(Failure::RedirectNotAllowed)
    }

    /// Connects to an address that was found.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        url: &Url,
        identity: Identity,
    ) -> Result<Link, Failure> {
        let connected = async {
            let failed = |error: std::io::Error| Failure::Connect(of_io(&error));
            let stream = TcpStream::connect(address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let local = stream.local_addr().map_err(failed)?.ip();
            let wire: Box<dyn Wire> = if url.scheme() == "rtsps" {
                self.secure(url, identity, stream).await?
            } else {
                Box::new(stream)
            };
            Ok(Link {
                wire,
                peer: address.ip(),
                local,
            })
        };
        match timeout(CONNECT_TIME, connected).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::Connect("it does not answer")),
        }
    }

    async fn secure(
        &self,
        url: &Url,
        identity: Identity,
        stream: TcpStream,
    ) -> Result<Box<dyn Wire>, Failure> {
        let config = match identity {
            Identity::Verified => self.verified.clone(),
            Identity::Any => self.any.clone(),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host).map_err(|_| Failure::Name)?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Failure::Tls(of_tls(&error, identity))),
        }
    }
}

/// The addresses of a URL's host, in the order of the resolver.
async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, Failure> {
    let port = url.port().unwrap_or(match url.scheme() {
        "rtsps" => 322,
        _ => 554,
    });
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Ipv6(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Domain(name)) => match timeout(CONNECT_TIME, lookup_host((name, port))).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(_)) | Err(_) => Err(Failure::Name),
        },
        None => Err(Failure::Name),
    }
}

/// What went wrong with TLS.
fn of_tls(error: &std::io::Error, identity: Identity) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) if identity == Identity::Verified => {
            "the camera's certificate is not of a public authority, or not for this host: it has to be said that any certificate will do"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "the camera's certificate cannot be read",
        _ => "the camera does not speak TLS as it should",
    }
}

/// Takes every certificate, where the operator says that any will do. Who presents it must still hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
