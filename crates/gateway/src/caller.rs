//! Who sends a request.
//!
//! Guarantees: a key that is sent decides, and a wrong one is refused rather than ignored; without a key a caller is
//! anonymous, and served only when the request was made on this machine, under this machine's name, and not passed
//! on for somebody else. What cannot be told counts against the caller.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use instep_core::{Error, Principal, Result};

use crate::keys::{Keys, unauthenticated};

/// The caller of this request.
pub(crate) fn identify(keys: &Keys, request: &Parts) -> Result<Principal> {
    let mut sent = request.headers.get_all(AUTHORIZATION).iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => Err(unauthenticated("more than one Authorization header was sent")),
        // What is no text is no key that we gave out.
        (Some(header), None) => keys.authenticate(header.to_str().unwrap_or_default()),
        (None, _) if is_local(request) => Ok(Principal::anonymous()),
        (None, _) => Err(unauthenticated(
            "an API key is needed: callers without one are served on this machine only",
        )
        .with_remedy("send `Authorization: ApiKey <secret>`")),
    }
}

/// Whether the caller may see operational state: by its scope, or on this machine while there are no keys at all.
pub(crate) fn may_operate(keys: &Keys, principal: &Principal) -> Result<()> {
    if principal.scopes.operate || (keys.is_empty() && principal.subject.is_none()) {
        return Ok(());
    }
    match principal.subject {
        Some(_) => Err(
            Error::denied("security_exception", "the API key has no scope `operate`")
                .with_remedy("add `operate` to the scopes of the key"),
        ),
        None => Err(unauthenticated("an API key with the scope `operate` is needed")
            .with_remedy("send `Authorization: ApiKey <secret>`")),
    }
}

/// A web page that names this machine by a host name of its own (DNS rebinding), and a caller behind a proxy on this
/// machine, both come from a loopback address; their headers tell.
fn is_local(request: &Parts) -> bool {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    let near = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    let headers = &request.headers;
    let passed_on = headers.keys().any(|name| tells_of_a_proxy(name.as_str()));
    let mut hosts = headers
        .get_all(HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or_default())
        .chain(request.uri.authority().map(|authority| authority.as_str()));
    near && !passed_on && hosts.all(names_this_machine)
}

/// Whether a header, by its name in lower case, is one that proxies add.
fn tells_of_a_proxy(name: &str) -> bool {
    matches!(
        name,
        "forwarded" | "via" | "x-real-ip" | "cf-connecting-ip" | "true-client-ip"
    ) || name.starts_with("x-forwarded-")
}

/// Whether a host, with or without a port, is this machine's loopback.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;
    use instep_core::Fault;

    use super::*;

    fn anonymous(peer: Option<&str>, headers: &[(&str, &str)]) -> Result<Principal> {
        let mut request = Request::builder().uri("/_search");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts
                .extensions
                .insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        }
        identify(&Keys::default(), &parts)
    }

    #[test]
    fn who_is_served_without_a_key() {
        let here = Some("127.0.0.1:5000");
        for (peer, headers, served) in [
            (here, &[][..], true),
            (here, &[("host", "localhost:9200")], true),
            (here, &[("host", "LOCALHOST")], true),
            (here, &[("host", "127.0.0.1:9200")], true),
            (here, &[("host", "[::1]:9200")], true),
            (Some("[::1]:5000"), &[("host", "[::1]")], true),
            (Some("[::ffff:127.0.0.1]:5000"), &[], true),
            (here, &[("host", "rebound.example:9200")], false),
            (here, &[("host", "localhost.example")], false),
            (here, &[("host", "10.0.0.1")], false),
            (here, &[("host", "")], false),
            (here, &[("host", "localhost"), ("host", "rebound.example")], false),
            (
                here,
                &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")],
                false,
            ),
            (
                here,
                &[("host", "localhost"), ("forwarded", "for=10.0.0.1")],
                false,
            ),
            (Some("10.0.0.1:5000"), &[("host", "localhost")], false),
            (None, &[("host", "localhost")], false),
        ] {
            let answer = anonymous(peer, headers);
            assert_eq!(answer.is_ok(), served, "{peer:?} {headers:?}");
            if let Err(error) = answer {
                assert_eq!(error.fault(), Fault::Unauthenticated);
            }
        }
    }

    #[test]
    fn any_trace_of_a_proxy_needs_a_key() {
        let here = Some("127.0.0.1:5000");
        for name in [
            "Forwarded",
            "Via",
            "X-Real-IP",
            "CF-Connecting-IP",
            "True-Client-IP",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Forwarded-Server",
        ] {
            let headers = [("host", "localhost"), (name, "anything")];
            assert!(anonymous(here, &headers).is_err(), "{name}");
        }
        let headers = [("host", "localhost"), ("x-opaque-id", "7"), ("viable", "1")];
        assert!(anonymous(here, &headers).is_ok());
    }

    #[test]
    fn keys_that_are_wrong_are_not_ignored() {
        let here = Some("127.0.0.1:5000");
        for headers in [
            &[("authorization", "ApiKey none")][..],
            &[("authorization", "")],
            &[("authorization", "ApiKey a"), ("authorization", "ApiKey b")],
        ] {
            assert!(anonymous(here, headers).is_err(), "{headers:?}");
        }
    }
}
