//! What people do to an index behind our back: it is named, and nothing is written to what is not ours.

use instep_conformance::node::Node;
use instep_core::{DocId, Engine, Ensured, FieldType, IndexName, Mapping, Settings, Ticket, Write};
use instep_elastic::{Cluster, ClusterOptions};
use serde_json::json;

fn cluster(url: &str) -> Cluster {
    let options = ClusterOptions {
        urls: vec![url.to_owned()],
        ..ClusterOptions::default()
    };
    Cluster::new(options).unwrap()
}

/// A request beside the engine.
pub(crate) fn send(url: &str, method: &str, path: &str, body: &str) {
    use std::io::{Read, Write};
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
}

fn mapping() -> Mapping {
    Mapping {
        fields: [("n".to_owned(), FieldType::Long)].into(),
        language: "en".into(),
    }
}

async fn write(cluster: &Cluster, index: &IndexName) -> &'static str {
    let delete = Write::Delete(DocId::parse("1").unwrap(), Ticket(1));
    match cluster.apply(vec![(index.clone(), delete)]).await {
        Ok(_) => "written",
        Err(error) => {
            assert!(error.remedy().is_some(), "{error}");
            error.code()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_changed_hands_is_named() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let cluster = cluster(&url);
        let index = IndexName::from(format!("by-hand-{}", std::process::id()));
        let name = index.as_str();
        cluster.drop_index(&index).await.unwrap();
        let ensure = async || cluster.ensure(&index, &mapping(), &Settings::new()).await;
        ensure().await.unwrap();
        assert_eq!(write(&cluster, &index).await, "written");

        send(
            &url,
            "PUT",
            &format!("{name}/_settings"),
            r#"{"index.blocks.read_only_allow_delete":true}"#,
        );
        let put = Write::Put(
            instep_core::Document {
                id: DocId::parse("1").unwrap(),
                language: "en".into(),
                readers: instep_core::Readers::Public,
                source: "{}".into(),
            },
            Ticket(1),
        );
        let blocked = cluster.apply(vec![(index.clone(), put)]).await.unwrap_err();
        assert_eq!(
            (blocked.code(), blocked.is_transient()),
            ("engine_read_only", true)
        );
        send(
            &url,
            "PUT",
            &format!("{name}/_settings"),
            r#"{"index.blocks.read_only_allow_delete":null}"#,
        );
        assert_eq!(write(&cluster, &index).await, "written");

        send(&url, "POST", &format!("{name}/_close"), "");
        assert_eq!(write(&cluster, &index).await, "index_closed");
        assert!(cluster.indexes().await.unwrap().contains(&index));
        send(&url, "POST", &format!("{name}/_open"), "");
        assert_eq!(write(&cluster, &index).await, "written");

        send(&url, "DELETE", &format!("{name}/_alias/*"), "");
        assert_eq!(write(&cluster, &index).await, "alias_missing");
        assert_eq!(write(&cluster, &index).await, "written");

        send(&url, "DELETE", name, "");
        assert_eq!(write(&cluster, &index).await, "index_missing");
        assert!(!cluster.indexes().await.unwrap().contains(&index));
        send(&url, "PUT", name, "{}");
        assert_eq!(write(&cluster, &index).await, "index_replaced");
        assert_eq!(ensure().await.unwrap_err().code(), "index_replaced");
        cluster.drop_index(&index).await.unwrap();
        assert_eq!(ensure().await.unwrap(), Ensured::Created);
        assert_eq!(write(&cluster, &index).await, "written");
        cluster.drop_index(&index).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_changed_live_or_need_a_new_index() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let cluster = cluster(&url);
        let index = IndexName::from(format!("settings-{}", std::process::id()));
        cluster.drop_index(&index).await.unwrap();
        let ensure = async |settings: &[(&str, serde_json::Value)]| {
            let settings: Settings = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            cluster.ensure(&index, &mapping(), &settings).await
        };
        let shards = ("number_of_shards", json!(2));
        assert_eq!(
            ensure(std::slice::from_ref(&shards)).await.unwrap(),
            Ensured::Created
        );
        let both = [shards, ("refresh_interval", json!("7s"))];
        assert_eq!(ensure(&both).await.unwrap(), Ensured::Unchanged);
        assert_eq!(ensure(&both).await.unwrap(), Ensured::Unchanged);
        assert_eq!(
            ensure(&[("number_of_shards", json!(3))]).await.unwrap(),
            Ensured::NeedsNewIndex
        );
        let unsafe_one = ensure(&[("index.translog.durability", json!("async"))]).await;
        assert_eq!(unsafe_one.unwrap_err().code(), "unsafe_setting");
        cluster.drop_index(&index).await.unwrap();
    }
}
