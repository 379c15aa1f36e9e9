//! Media types, encodings, parameters, identity: what official clients send and expect.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::*;

#[tokio::test]
async fn the_identity_that_clients_check() {
    let shop = shop();
    let answer = shop.ask("GET", "/", None, "").await;
    let json = answer.json();
    assert_eq!(json["version"]["number"], "7.10.2");
    assert_eq!(json["version"]["distribution"], "opensearch");
    assert_eq!(json["version"]["build_flavor"], "default");
    assert_eq!(json["tagline"], "You Know, for Search");
    assert_eq!(shop.ask("GET", "/?pretty", None, "").await.json(), json);
    assert!(answer.headers.get("warning").is_none());
    assert_eq!(shop.ask("GET", "/?nothing=1", None, "").await.status, 400);
}

#[tokio::test]
async fn answers_are_called_as_the_client_calls_them() {
    let shop = shop();
    let v8 = "application/vnd.elasticsearch+json; compatible-with=8";
    let v9 = "application/vnd.elasticsearch+json; compatible-with=9";
    let v7 = "application/vnd.opensearch+json; compatible-with=7";
    let plain = "application/json; charset=UTF-8";
    for (headers, status, expected) in [
        (&[("accept", v8), ("content-type", v8)][..], 200, v8),
        (&[("accept", v9), ("content-type", v9)], 200, v9),
        (&[("accept", v7), ("content-type", v7)], 200, v7),
        (&[("content-type", v8)], 200, v8),
        (
            &[("accept", "*/*"), ("content-type", "application/json")],
            200,
            plain,
        ),
        (
            &[("accept", "text/html"), ("content-type", "application/json")],
            406,
            plain,
        ),
        (&[("content-type", "text/plain")], 406, plain),
        (&[("content-type", "application/x-ndjson")], 406, plain),
        (
            &[
                ("accept", v8),
                ("content-type", "application/x-www-form-urlencoded"),
            ],
            406,
            v8,
        ),
        (&[], 406, plain),
    ] {
        let answer = shop.send("POST", "/_search", headers, r#"{"size":1}"#).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?} {}", answer.body);
        assert_eq!(answer.header("content-type"), expected, "{headers:?}");
        assert_eq!(answer.json().get("hits").is_some(), status == 200);
    }
    for path in ["/", "/_instep/capabilities"] {
        let answer = shop
            .send("GET", path, &[("accept", "application/yaml")], "")
            .await;
        assert_eq!(answer.status, 406, "{path}");
        assert_eq!(answer.error_type(), "media_type_header_exception");
    }
    for (path, status) in [
        ("/", 200),
        ("/seller/_doc/none", 404),
        ("/none/_search", 404),
        ("/nothing/here", 404),
    ] {
        let answer = shop.send("GET", path, &[("accept", v8)], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (status, v8),
            "{path}"
        );
        assert_eq!(answer.header("x-elastic-product"), "Elasticsearch", "{path}");
    }
}

#[tokio::test]
async fn keys_as_clients_send_them() {
    let shop = shop();
    let pair = STANDARD.encode("buyer:buyer-secret-0123456789");
    for key in [
        BUYER.to_owned(),
        format!("ApiKey {pair}"),
        format!("Basic {pair}"),
        "Bearer buyer-secret-0123456789".to_owned(),
    ] {
        let answer = shop.ask("GET", "/ad/_count", Some(&key), "").await;
        assert_eq!(answer.json()["count"], 3, "{key}");
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_requests_and_answers() {
    let shop = shop();
    let json = ("content-type", "application/json");
    let sent = [json, ("content-encoding", "gzip")];
    let answer = shop.send("POST", "/_search", &sent, gzip(br#"{"size":1}"#)).await;
    assert_eq!(answer.hits().len(), 1);
    let answer = shop.send("POST", "/_search", &sent, &b"no gzip"[..]).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    // Small on the wire, too long once unpacked.
    let bomb = gzip(&vec![b' '; 5_000_000]);
    assert!(bomb.len() < 100_000);
    assert_eq!(shop.send("POST", "/_search", &sent, bomb).await.status, 413);
    for encoding in ["br", "deflate", "gzip, gzip", "zstd"] {
        let answer = shop
            .send("POST", "/_search", &[json, ("content-encoding", encoding)], "{}")
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["status"].as_u64()),
            (415, Some(415)),
            "{encoding}"
        );
    }

    let mut request = Request::builder()
        .uri("/_search")
        .header("accept-encoding", "gzip");
    request = request.header("authorization", STAFF);
    let response = shop
        .app
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""_index":"ledger""#), "{text}");
}

#[tokio::test]
async fn what_is_not_known_is_refused_by_name() {
    let shop = shop();
    for (method, path, body, named) in [
        (
            "POST",
            "/_search",
            r#"{"query":{"nested":{"path":"x"}}}"#,
            "nested",
        ),
        (
            "POST",
            "/_search",
            r#"{"query":{"bool":{"must":[{"wrapper":{"query":"e30="}}]}}}"#,
            "wrapper",
        ),
        ("POST", "/_search", r#"{"script_fields":{}}"#, "script_fields"),
        ("POST", "/_search", r#"{"size":1,"size":2}"#, "size"),
        ("POST", "/_search", r#"{"aggs":{"a":{"global":{}}}}"#, "global"),
        ("GET", "/_search?scroll=1m", "", "scroll"),
        ("GET", "/_search?source=%7B%7D", "", "source"),
        ("GET", "/_search?size=1&size=2", "", "size"),
        ("GET", "/_search?si%7Ae=1&size=2", "", "size"),
        ("GET", "/_count?size=1", "", "size"),
        ("POST", "/_count", r#"{"size":1}"#, "size"),
        ("GET", "/seller/_doc/1?routing=x", "", "routing"),
        ("GET", "/seller/_doc/1", "{}", "body"),
        (
            "POST",
            "/_mget",
            r#"{"docs":[{"_index":"seller","_id":"1","routing":"x"}]}"#,
            "routing",
        ),
        ("POST", "/_search", "{", ""),
    ] {
        let answer = shop.ask(method, path, None, body).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.body);
        assert!(answer.reason().contains(named), "{named}: {}", answer.body);
        assert_eq!(shop.given(), Vec::<String>::new());
    }
    let long = format!("/seller/_doc/{}", "x".repeat(513));
    assert_eq!(shop.ask("GET", &long, None, "").await.status, 400);
}

#[tokio::test]
async fn unknown_routes_say_what_exists() {
    let shop = shop();
    let answer = shop.ask("GET", "/_cluster/health", None, "").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("/_cluster/health") && answer.body.contains("/{names}/_search"));
    let answer = shop.ask("PUT", "/_search", None, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].as_u64()),
        (405, Some(405))
    );
    assert!(answer.header("allow").contains("POST"), "{:?}", answer.headers);
    for path in [
        "//_search",
        "/_search/",
        "/seller//_search",
        "/seller/_doc/",
        "/seller/_doc/a/b",
        "/%5fsearch",
        "/seller/_doc",
    ] {
        let answer = shop.ask("GET", path, None, "").await;
        assert!(
            matches!(answer.status.as_u16(), 400 | 404),
            "{path} {}",
            answer.status
        );
        assert_eq!(shop.given(), Vec::<String>::new(), "{path}");
    }
}

#[tokio::test]
async fn reading_an_id_gives_that_document() {
    let shop = shop();
    let answer = shop
        .ask(
            "GET",
            "/seller/_doc/a%2Fb%2C%C3%B6%20%3F%25?_source=price",
            None,
            "",
        )
        .await;
    let json = answer.json();
    assert_eq!(json["_id"], "a/b,ö ?%");
    assert_eq!(json["_source"].to_string(), r#"{"price":1.0}"#);
    let answer = shop
        .ask("GET", "/ad/_doc/svensk?_source=false", Some(BUYER), "")
        .await;
    assert_eq!(
        answer.timeless(),
        r#"{"_id":"svensk","_index":"ad-sv","found":true}"#
    );
    let answer = shop.ask("GET", "/ad/_doc/nothing", Some(BUYER), "").await;
    assert_eq!(
        answer.timeless(),
        r#"{"_id":"nothing","_index":"ad","found":false}"#
    );
}

/// Over a real connection: the peer's address is known, and the server stops when told to.
#[tokio::test]
async fn a_server_answers_and_stops() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(crate::serve(listener, shop().app, async {
        let _ = stopped.await;
    }));
    for (method, path, status, has_body) in [
        ("GET", "/seller/_count", "200 OK", true),
        ("HEAD", "/seller/_doc/1", "200 OK", false),
        ("HEAD", "/seller/_doc/none", "404 Not Found", false),
        ("HEAD", "/nothing", "404 Not Found", false),
    ] {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), !has_body, "{answer}");
        assert!(answer.contains("x-elastic-product: Elasticsearch"), "{answer}");
    }
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
