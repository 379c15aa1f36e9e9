//! Requests over HTTP: which host, under which deadline, with which credentials, and what became of them.
//!
//! A call is an answer with its status and its whole body, or an error of the road: the caller judges the status. Before
//! a host is used for the first time, and again after it failed, it is asked which cluster it belongs to: another one
//! than the first that answered is refused by name. No redirect is followed and no proxy of the environment is used.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use instep_core::{Error, Result};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::fault;
use super::hosts::{Chosen, Hosts};
use super::product::Product;
use super::{ClusterOptions, Credentials};

/// How long a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Shorter bodies are sent as they are; longer ones are compressed, unless the host is on this machine.
const COMPRESSED_FROM: usize = 2 << 10;
/// The longest that a request waits because every host asked for a rest.
const REST: Duration = Duration::from_secs(5);

/// What is sent.
pub(crate) struct Call {
    method: Method,
    /// Without a slash in front; with its query.
    path: String,
    body: Bytes,
    kind: &'static str,
    /// Whether somebody waits for the answer: then it is not compressed, which takes a cluster longer than sending it.
    hurried: bool,
    /// How long it may take, where that is less than what the options say.
    within: Option<Duration>,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Call::new(Method::GET, path.into(), Bytes::new(), "application/json")
    }

    pub(crate) fn head_or_delete(method: Method, path: impl Into<String>) -> Self {
        Call::new(method, path.into(), Bytes::new(), "application/json")
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Call::new(Method::POST, path.into(), body.into(), "application/json")
    }

    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Call::new(Method::PUT, path.into(), body.into(), "application/json")
    }

    /// A body of lines.
    pub(crate) fn lines(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Call::new(Method::POST, path.into(), body.into(), "application/x-ndjson")
    }

    fn new(method: Method, path: String, body: Bytes, kind: &'static str) -> Self {
        Call {
            method,
            path,
            body,
            kind,
            hurried: false,
            within: None,
        }
    }

    /// The same with less time.
    pub(crate) fn within(self, within: Duration) -> Self {
        Call {
            within: Some(within),
            ..self
        }
    }

    /// The same for somebody who waits.
    pub(crate) fn hurried(self) -> Self {
        Call {
            hurried: true,
            ..self
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

pub(crate) struct Client {
    http: reqwest::Client,
    hosts: Hosts,
    authorization: Option<HeaderValue>,
    #[cfg(feature = "aws")]
    signer: Option<super::aws::Signer>,
    timeout: Duration,
    longest: usize,
    product: Mutex<Option<Arc<Product>>>,
}

impl Client {
    pub(crate) fn new(options: &ClusterOptions) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(options.authorities.as_deref())?)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_keepalive(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|error| Error::fatal("http_client", format!("no HTTP client can be made: {error}")))?;
        Ok(Client {
            http,
            hosts: Hosts::new(&options.urls)?,
            authorization: authorization(&options.credentials)?,
            #[cfg(feature = "aws")]
            signer: match &options.credentials {
                Credentials::Aws { region } => Some(super::aws::Signer::new(region)),
                Credentials::None | Credentials::Basic { .. } | Credentials::ApiKey(_) => None,
            },
            timeout: options.timeout,
            longest: options.answer_bytes,
            product: Mutex::default(),
        })
    }

    /// How long one request may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What the cluster is; asked for once.
    pub(crate) async fn product(&self) -> Result<Arc<Product>> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let chosen = self.choose(true).await?;
        self.verify(&chosen, None).await
    }

    /// The next request asks first which cluster answers.
    pub(crate) fn doubt(&self) {
        self.hosts.doubt();
    }

    fn known(&self) -> Option<Arc<Product>> {
        self.product
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends a request to the next host, and to the one after it as long as a connection cannot be made. Everything else
    /// that fails on the road is the caller's to repeat.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer> {
        let mut last = None;
        for _ in 0..self.hosts.count() {
            let chosen = self.choose(!call.hurried).await?;
            let answered = match self.verified(&chosen, call.within).await {
                Ok(()) => self.send(&chosen, &call).await,
                Err(error) => Err(error),
            };
            match answered {
                Err(error) if error.code() == "engine_unreachable" => last = Some(error),
                answered => return answered,
            }
        }
        Err(last.unwrap_or_else(fault::busy))
    }

    async fn choose(&self, patient: bool) -> Result<Chosen> {
        match self.hosts.next(Instant::now(), patient) {
            Ok(chosen) => Ok(chosen),
            Err(wait) if wait <= REST => {
                tokio::time::sleep(wait).await;
                self.hosts
                    .next(Instant::now(), patient)
                    .map_err(|_| fault::busy())
            }
            Err(_) => Err(fault::busy()),
        }
    }

    async fn verified(&self, chosen: &Chosen, within: Option<Duration>) -> Result<()> {
        if !chosen.verified {
            self.verify(chosen, within).await?;
        }
        Ok(())
    }

    /// Asks a host which cluster it belongs to.
    async fn verify(&self, chosen: &Chosen, within: Option<Duration>) -> Result<Arc<Product>> {
        let asking = Call {
            within,
            ..Call::get("")
        };
        let answer = self.send(chosen, &asking).await?;
        let read = match answer.is_success() {
            true => Product::read(&answer.body),
            false => Err(fault::of_administration(
                answer.status,
                &answer.body,
                "asking what answers",
            )),
        };
        let product = match read {
            Ok(product) => Arc::new(product),
            // The address was right once: what answers there now may pass.
            Err(error) if self.known().is_some() && !error.is_transient() => {
                return Err(fault::unreadable("does not say what answers"));
            }
            Err(error) => return Err(error),
        };
        let mut known = self.product.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(first) if first.cluster != product.cluster => Err(Error::fatal(
                "cluster_replaced",
                "what answers is another cluster than the one before",
            )
            .with_remedy(
                "check the cluster's url; if it was made anew, restart instep: it is filled by a scan",
            )),
            Some(_) | None => {
                *known = Some(Arc::clone(&product));
                self.hosts.verified(chosen.place);
                Ok(product)
            }
        }
    }

    async fn send(&self, chosen: &Chosen, call: &Call) -> Result<Answer> {
        let timeout = call.within.unwrap_or(self.timeout);
        let sent = tokio::time::timeout(timeout, self.exchange(chosen, call)).await;
        let answered = match sent {
            Ok(answered) => answered,
            Err(_) => Err(Error::transient(
                "engine_timeout",
                format!("the cluster did not answer within {timeout:?}"),
            )
            .with_remedy("look at the cluster's load and at the network")),
        };
        match &answered {
            // Something in front of a host speaks for it.
            Ok(answer) if matches!(answer.status, 502 | 504) => {
                self.hosts.failed(chosen.place, Instant::now())
            }
            Ok(_) => self.hosts.answered(chosen.place),
            Err(error) if error.code() == fault::too_long().code() => self.hosts.answered(chosen.place),
            Err(_) => self.hosts.failed(chosen.place, Instant::now()),
        }
        answered
    }

    async fn exchange(&self, chosen: &Chosen, call: &Call) -> Result<Answer> {
        let url = chosen.address(&call.path);
        let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let mut request = self.http.request(call.method.clone(), url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if local || call.hurried {
            request = request.header(ACCEPT_ENCODING, "identity");
        }
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.kind);
            request = match call.body.len() >= COMPRESSED_FROM && !local {
                false => request.body(call.body.clone()),
                true => request
                    .header(CONTENT_ENCODING, "gzip")
                    .body(compressed(call.body.clone()).await?),
            };
        }
        let request = request.build().map_err(|error| of_the_road(&error))?;
        #[cfg(feature = "aws")]
        let request = self.signed(request).await?;
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| of_the_road(&error))?;
        let status = response.status().as_u16();
        #[cfg(feature = "aws")]
        if let (401 | 403, Some(signer)) = (status, &self.signer) {
            signer.refused().await;
        }
        if matches!(status, 429 | 503)
            && let Some(wait) = wait_asked(response.headers(), SystemTime::now())
        {
            self.hosts.rest(chosen.place, Instant::now(), wait);
        }
        let body = whole(response, self.longest).await?;
        Ok(Answer { status, body })
    }
}

#[cfg(feature = "aws")]
impl Client {
    async fn signed(&self, mut request: reqwest::Request) -> Result<reqwest::Request> {
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        Ok(request)
    }
}

/// How long an answer asks to wait: in seconds, or until a moment (RFC 9110, 10.2.3).
fn wait_asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match asked.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(asked).ok()?.duration_since(now).ok(),
    }
}

/// The whole body: one that ends early is an error, one that does not end is refused. Most come in one piece, which is
/// not copied.
async fn whole(mut response: Response, longest: usize) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| of_the_road(&error))? {
        if first.len().max(body.len()) + chunk.len() > longest {
            return Err(fault::too_long());
        }
        match (first.is_empty(), body.is_empty()) {
            (true, _) => first = chunk,
            (false, true) => {
                let told = response
                    .content_length()
                    .and_then(|length| usize::try_from(length).ok());
                body.reserve(first.len() + chunk.len() + told.unwrap_or_default().min(longest));
                body.extend_from_slice(&first);
                body.extend_from_slice(&chunk);
            }
            (false, false) => body.extend_from_slice(&chunk),
        }
    }
    Ok(match body.is_empty() {
        true => first,
        false => body.freeze(),
    })
}

async fn compressed(body: Bytes) -> Result<Vec<u8>> {
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        encoder.write_all(&body)?;
        encoder.finish()
    };
    let failed = |error: &dyn std::fmt::Display| {
        Error::transient(
            "compression",
            format!("a request could not be compressed: {error}"),
        )
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// A failure between us and a host.
fn of_the_road(error: &reqwest::Error) -> Error {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // The innermost cause names neither address nor credentials.
    let why = innermost.to_string();
    if why.contains("certificate") {
        return Error::transient(
            "engine_certificate",
            format!("the cluster's certificate is refused: {why}"),
        )
        .with_remedy("name the authority that signed it: ca = \"<PEM file>\" in the cluster's section");
    }
    if error.is_connect() && why.contains("InvalidContentType") {
        return Error::transient(
            "engine_unreachable",
            "what answers at the cluster's address speaks no TLS",
        )
        .with_remedy("write http:// instead of https://, or name the port that speaks TLS");
    }
    if error.is_connect() {
        return Error::transient(
            "engine_unreachable",
            format!("the cluster cannot be reached: {why}"),
        )
        .with_remedy("start it, or check its url; indexing goes on by itself");
    }
    if error.is_timeout() {
        return Error::transient("engine_timeout", "the cluster did not answer in time")
            .with_remedy("look at the cluster's load and at the network");
    }
    Error::transient(
        "engine_cut",
        format!("the connection to the cluster was cut: {why}"),
    )
    .with_remedy("it is made again, and what was sent is repeated")
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>> {
    let text = match credentials {
        Credentials::None => return Ok(None),
        Credentials::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        // A key and its id are shown to people in both forms; what is encoded has no colon.
        Credentials::ApiKey(key) if key.contains(':') => format!("ApiKey {}", STANDARD.encode(key)),
        Credentials::ApiKey(key) => format!("ApiKey {key}"),
        Credentials::Aws { .. } if cfg!(feature = "aws") => return Ok(None),
        Credentials::Aws { .. } => {
            return Err(
                Error::invalid("no_aws", "this build does not sign requests for AWS")
                    .with_remedy("build it with the feature: cargo build --release --features aws"),
            );
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Error::invalid(
            "bad_credentials",
            "an API key has characters that no header holds",
        )
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn tls(authorities: Option<&str>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(text) => {
            let refused = |why: String| {
                Error::invalid(
                    "bad_certificate",
                    format!("the cluster's authorities cannot be used: {why}"),
                )
                .with_remedy("name a PEM file with the certificates of the authorities")
            };
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                let certificate = certificate.map_err(|error| refused(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| refused(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(refused("there is no certificate".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::fatal("tls", format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rests_are_asked_for_in_seconds_or_until_a_moment() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (asked, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(asked));
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(wait_asked(&headers, now), expected, "{asked}");
        }
        assert_eq!(wait_asked(&HeaderMap::new(), now), None);
    }
}
