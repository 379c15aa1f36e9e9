//! Hydration, operations, readiness, limits.

use super::*;

#[tokio::test]
async fn rows_come_in_hit_order_one_query_for_each_collection() {
    let shop = shop();
    let answer = shop
        .ask("POST", "/seller,ad/_search?hydrate=true", Some(BUYER), "")
        .await;
    let rows: Vec<String> = answer.json()["hits"]["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| format!("{} {}", hit["_id"].as_str().unwrap(), hit["_row"]))
        .collect();
    assert_eq!(
        rows,
        [
            r#"open {"row":"ad/open"}"#,
            r#"shared {"row":"ad/shared"}"#,
            r#"svensk {"row":"ad/svensk"}"#,
            r#"1 {"row":"seller/1"}"#,
            "gone null",
            r#"a/b,ö ?% {"row":"seller/a/b,ö ?%"}"#,
        ]
    );
    let calls = std::mem::take(&mut *shop.rows.0.lock().unwrap());
    let asked: Vec<String> = calls
        .iter()
        .map(|(collection, ids, _)| format!("{collection}: {}", ids.join(" ")))
        .collect();
    assert_eq!(asked, ["ad: open shared svensk", "seller: 1 gone a/b,ö ?%"]);
    let buyer = Visibility::of(Some("buyer-subject"), &["everyone".to_owned()]);
    assert!(calls.iter().all(|(_, _, visibility)| *visibility == buyer));
}

#[tokio::test]
async fn rows_of_documents_by_id() {
    let shop = shop();
    let answer = shop
        .ask("GET", "/ad/_doc/shared?hydrate=true", Some(BUYER), "")
        .await;
    assert_eq!(answer.json()["_row"]["row"], "ad/shared");
    let answer = shop.ask("GET", "/seller/_doc/gone?hydrate", None, "").await;
    assert_eq!(answer.json()["_row"], Value::Null);
    let body = r#"{"docs":[{"_index":"seller","_id":"gone"},{"_index":"ad","_id":"hidden"},{"_index":"ad","_id":"open"},{"_index":"seller","_id":"1"}]}"#;
    let json = shop
        .ask("POST", "/_mget?hydrate=true", Some(BUYER), body)
        .await
        .json();
    assert_eq!(json["docs"][0].get("_row"), Some(&Value::Null));
    assert_eq!(
        json["docs"][1].get("_row"),
        None,
        "nothing is read for what is hidden"
    );
    assert_eq!(json["docs"][2]["_row"]["row"], "ad/open");
    assert_eq!(json["docs"][3]["_row"]["row"], "seller/1");
    let plain = shop.ask("GET", "/ad/_doc/shared", Some(BUYER), "").await;
    assert_eq!(plain.json().get("_row"), None);
    let hidden = shop
        .rows
        .0
        .lock()
        .unwrap()
        .iter()
        .any(|(_, ids, _)| ids.iter().any(|id| id == "hidden"));
    assert!(!hidden);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_refused_by_name() {
    let shop = shop();
    for path in [
        "/ledger/_search?hydrate=true",
        "/_search?hydrate=true",
        "/ledger/_doc/entry?hydrate=true",
    ] {
        let answer = shop.ask("GET", path, Some(STAFF), "").await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(
            answer.reason().contains("[hydrate]") && answer.reason().contains("[ledger]"),
            "{}",
            answer.body
        );
    }
    assert_eq!(shop.given(), Vec::<String>::new());
}

#[tokio::test]
async fn operational_state_without_keys() {
    let shop = shop_with(Keys::default(), Limits::default(), false);
    assert_eq!(
        shop.ask("GET", "/_instep/status", None, "").await.json()["lag"],
        0
    );
    let metrics = shop.ask("GET", "/metrics", None, "").await;
    assert_eq!(metrics.body, "lag 0\n");
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    // Passed on by a proxy, or under a host name that a web page made up: not from here.
    for header in [("x-forwarded-for", "10.0.0.1"), ("host", "rebound.example")] {
        for path in ["/_instep/status", "/metrics", "/_search"] {
            assert_eq!(
                shop.send("GET", path, &[header], "").await.status,
                401,
                "{path} {header:?}"
            );
        }
    }
    let ready = shop.ask("GET", "/_instep/health/ready", None, "").await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()["code"].as_str()),
        (503, Some("no_active_set"))
    );
    assert!(!ready.body.contains(SET));
    assert_eq!(
        shop.ask("GET", "/_instep/health/live", None, "").await.status,
        200
    );
}

#[tokio::test]
async fn wrong_keys_are_refused_everywhere() {
    let shop = shop();
    for path in [
        "/",
        "/_instep/capabilities",
        "/_search",
        "/seller/_count",
        "/seller/_doc/1",
        "/_mget",
        "/_instep/status",
        "/metrics",
    ] {
        for key in [
            "ApiKey nothing",
            "Bearer buyer-secret",
            "Basic eDp5",
            "buyer-secret-0123456789",
        ] {
            let answer = shop.ask("GET", path, Some(key), "").await;
            assert_eq!(answer.status, 401, "{path} {key}");
            assert_eq!(answer.error_type(), "security_exception");
            assert_eq!(answer.header("www-authenticate"), "ApiKey");
        }
    }
    assert_eq!(shop.given(), Vec::<String>::new());
}

#[tokio::test]
async fn limits_hold() {
    let shop = shop_with(
        keys(),
        limits(|limits| {
            limits.body_bytes = 100;
            limits.timeout = Duration::from_millis(50);
            limits.concurrent_requests = 1;
        }),
        true,
    );
    let long = format!(r#"{{"query":{{"term":{{"a":"{}"}}}}}}"#, "x".repeat(100));
    let answer = shop.ask("POST", "/_search", None, &long).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["status"].as_u64()),
        (413, Some(413))
    );

    shop.engine_does(Does::Hang);
    let (first, second, health) = tokio::join!(
        shop.ask("GET", "/_search", None, ""),
        shop.ask("GET", "/_search", None, ""),
        shop.ask("GET", "/_instep/health/live", None, ""),
    );
    assert_eq!(
        (first.status.as_u16(), first.error_type().as_str()),
        (503, "timeout_exception")
    );
    assert_eq!(
        (second.status.as_u16(), second.json()["status"].as_u64()),
        (429, Some(429))
    );
    assert_eq!(
        (first.header("retry-after"), second.header("retry-after")),
        ("1", "1")
    );
    assert_eq!(health.status, 200);

    // Neither a panic nor a timeout keeps a place for ever.
    shop.engine_does(Does::Panic);
    assert_eq!(shop.ask("GET", "/_search", None, "").await.status, 500);
    shop.engine_does(Does::Answer);
    assert_eq!(shop.ask("GET", "/_search", None, "").await.status, 200);
}
