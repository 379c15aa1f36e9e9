//! Clusters: addresses, secrets, and what excludes what.

use super::*;

#[test]
fn clusters_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let environment = |name: &str| (name == "KEY").then(|| "a2V5OnNlY3JldA==".to_owned());
    let load = |cluster: &str| {
        let text = format!(
            "[source.s]\nurl = \"sqlite:s.db\"\n[collection.c]\nroot = \"c\"\npublic = true\n[collection.c.fields]\na = \"text\"\n{cluster}"
        );
        Config::parse(&folder.path().join("instep.toml"), text, &environment)
    };
    let good = [
        "url = \"http://127.0.0.1:9200\"",
        "urls = [\"https://a:9200\", \"https://b:9200\"]\napi_key = \"${KEY}\"",
        "url = \"https://a\"\naws_region = \"eu-west-1\"",
        "url = \"https://a\"\nuser = \"u\"\npassword_file = \"password\"\nsettings = { number_of_replicas = 0 }",
    ];
    for cluster in good {
        let loaded = load(&format!("[cluster.main]\n{cluster}\n"));
        if cluster.contains("aws_region") && !cfg!(feature = "aws") {
            let refused = loaded.unwrap_err().to_string();
            assert!(refused.contains("--features aws"), "{refused}");
            continue;
        }
        let config = loaded.unwrap();
        assert_eq!(config.sets[0].cluster.as_str(), "main", "{cluster}");
        for text in [config.print(), format!("{:?}", config.clusters)] {
            assert!(!text.contains("hunter2") && !text.contains("a2V5"), "{text}");
        }
    }
    for (url, in_the_clear) in [
        ("https://a:9200", false),
        ("http://127.0.0.1:9200", false),
        ("http://localhost", false),
        ("http://[::1]:9200", false),
        ("http://a.example:9200", true),
    ] {
        let cluster = format!("[cluster.main]\nurl = \"{url}\"\nuser = \"u\"\npassword = \"${{KEY}}\"\n");
        let config = load(&cluster).unwrap();
        let main = config.clusters.iter().find(|known| known.name.as_str() == "main");
        let Some(EngineConfig::Cluster(urls)) = main.map(|main| &main.engine) else {
            panic!("{cluster}")
        };
        assert_eq!(urls.in_the_clear().is_some(), in_the_clear, "{url}");
    }
    let bad = [
        ("", "says not what it is"),
        ("engine = \"opensearch\"", "`opensearch` is no engine to choose"),
        ("url = \"a:9200\"", "http://"),
        ("url = \"http://u:hunter2@a\"", "user or a password"),
        ("url = \"http://a\"\nuser = \"u\"", "without a password"),
        ("url = \"http://a\"\npassword = \"hunter2\"", "without a user"),
        (
            "url = \"http://a\"\nuser = \"u\"\npassword = \"hunter2\"\napi_key = \"k\"",
            "excludes",
        ),
        (
            "url = \"http://a\"\naws_region = \"r\"\nuser = \"u\"\npassword = \"hunter2\"",
            "`aws_region` excludes",
        ),
        ("url = \"http://a\"\nwriter_memory_mb = 20", "says nothing about"),
        (
            "engine = \"embedded\"\napi_key = \"hunter2\"",
            "says nothing about the embedded",
        ),
        ("url = \"http://a\"\nca = \"none.pem\"", "none.pem"),
        ("url = \"http://a\"\nca = \"password\"", "no certificate"),
    ];
    for (cluster, said) in bad {
        let error = load(&format!("[cluster.main]\n{cluster}\n")).unwrap_err();
        let text = format!("{error} {}", error.remedy().unwrap_or_default());
        let shown: String = text.replace(cluster, "");
        assert!(text.contains(said), "{cluster}: {text}");
        assert!(
            cluster.contains("hunter2") || !shown.contains("hunter2"),
            "{text}"
        );
    }
    // Two of them: a set has to say which.
    let config = load("[cluster.a]\nurl = \"http://a\"\n[cluster.b]\nurl = \"http://b\"\n").unwrap();
    assert_eq!(config.sets[0].cluster.as_str(), "embedded");
}
