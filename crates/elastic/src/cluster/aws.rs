//! Requests to Amazon OpenSearch Service, signed with AWS Signature Version 4.
//!
//! Who signs is looked for where AWS's own tools look: environment variables, a profile, a web identity, the role of a
//! container or of the machine. Credentials are kept until shortly before they expire, and no longer than a refusal.
//!
//! Protocol: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use instep_core::{Error, Result};
use reqwest::Request;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::sync::{Mutex, OnceCell};

/// What the service is called in a signature.
const SERVICE: &str = "es";
/// Credentials are fetched anew so long before they expire.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// Credentials that say nothing of their end are looked for again after this: a file of them may change.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// Signs requests for one region.
pub(crate) struct Signer {
    region: String,
    chain: OnceCell<DefaultCredentialsChain>,
    kept: Mutex<Option<(Credentials, SystemTime)>>,
}

impl Signer {
    /// Nothing is looked for yet.
    pub(crate) fn new(region: &str) -> Self {
        Signer {
            region: region.to_owned(),
            chain: OnceCell::new(),
            kept: Mutex::default(),
        }
    }

    /// Adds the signature of the request as it is now: nothing that is signed (method, address, body) may change after.
    pub(crate) async fn sign(&self, request: &mut Request) -> Result<()> {
        let credentials = self.credentials().await?;
        let body = request.body().and_then(|body| body.as_bytes());
        let signature = signature(
            &credentials,
            &self.region,
            SystemTime::now(),
            request.method().as_str(),
            request.url().as_str(),
            body.unwrap_or_default(),
        )?;
        for (name, mut value) in signature {
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }

    /// The service refused them: they may have been taken back, and others given.
    pub(crate) async fn refused(&self) {
        *self.kept.lock().await = None;
    }

    async fn credentials(&self) -> Result<Credentials> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some((credentials, until)) = &*kept
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let chain = self.chain.get_or_init(|| {
            let region = Region::new(self.region.clone());
            DefaultCredentialsChain::builder().region(region).build()
        });
        let found = chain.await.provide_credentials().await.map_err(|error| {
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            Error::transient(
                "aws_credentials",
                format!("there are no AWS credentials: {innermost}"),
            )
            .with_remedy(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role",
            )
        })?;
        let until = match found.expiry() {
            // What is about to end is used as long as nothing newer is given, but looked for each time.
            Some(end) => end.checked_sub(EARLY).unwrap_or(now),
            None => now + KEPT,
        };
        *kept = Some((found.clone(), until));
        Ok(found)
    }
}

/// The headers that sign a request.
fn signature(
    credentials: &Credentials,
    region: &str,
    at: SystemTime,
    method: &str,
    url: &str,
    body: &[u8],
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::fatal("aws_signature", format!("a request cannot be signed: {error}"))
    };
    let identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(at)
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let request = SignableRequest::new(method, url, std::iter::empty(), SignableBody::Bytes(body))
        .map_err(|error| failed(&error))?;
    let (instructions, _) = sign(request, &params)
        .map_err(|error| failed(&error))?
        .into_parts();
    let (headers, _) = instructions.into_parts();
    let headers = headers.into_iter().map(|header| {
        let name = HeaderName::from_bytes(header.name().as_bytes()).map_err(|error| failed(&error))?;
        let value = HeaderValue::from_str(header.value()).map_err(|error| failed(&error))?;
        Ok((name, value))
    });
    headers.collect()
}
