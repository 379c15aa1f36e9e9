//! Where documents lie, in collections with several partitions.

use instep_core::{Language, Placed, Settlement, Ticket};

use super::{Bench, Fresh, block_on, cases, doc};

fn placed(id: &str, language: Option<&str>, ticket: u64) -> Placed {
    Placed {
        key: doc(id),
        language: language.map(Language::from),
        ticket: Ticket(ticket),
    }
}

impl Bench {
    async fn placements(&self, set: &str, ids: &[&str]) -> Vec<Option<String>> {
        let keys: Vec<_> = ids.iter().map(|id| doc(id)).collect();
        let found = self.log().placements(&set.into(), &keys).await.unwrap();
        found
            .into_iter()
            .map(|language| language.map(|language| language.to_string()))
            .collect()
    }
}

cases! {
    /// Each set knows for itself where its documents lie. What was forgotten under a ticket is not brought back by a
    /// settlement of an older write.
    async fn placements_are_kept_until_they_are_forgotten(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        let some = |text: &str| Some(text.to_owned());
        let mut number = 0;
        let mut settlement = |all: Vec<Placed>| {
            number += 1;
            Settlement { number, placed: all, ..Settlement::default() }
        };
        let first = settlement(vec![placed("1", Some("en"), 5), placed("2", Some("sv"), 5), placed("3", Some("sv"), 5)]);
        bench.settle(&a, first).await.unwrap();
        bench.settle(&b, settlement(vec![placed("1", Some("de"), 5)])).await.unwrap();
        bench.reopen();
        assert_eq!(bench.placements("a", &["2", "1", "9", "3"]).await, [some("sv"), some("en"), None, some("sv")]);
        assert_eq!(bench.placements("b", &["1", "2"]).await, [some("de"), None]);

        bench.log().forget_placements(&"a".into(), &[doc("1"), doc("9")], Ticket(7)).await.unwrap();
        assert_eq!(bench.placements("a", &["1", "2"]).await, [None, some("sv")]);
        bench.settle(&a, settlement(vec![placed("1", Some("en"), 6), placed("2", None, 6), placed("3", Some("de"), 6)])).await.unwrap();
        assert_eq!(bench.placements("a", &["1", "2", "3"]).await, [None, None, some("de")]);
        bench.settle(&a, settlement(vec![placed("1", Some("de"), 7), placed("9", None, 7)])).await.unwrap();
        bench.log().forget_placements(&"a".into(), &[doc("3")], Ticket(0)).await.unwrap();
        bench.reopen();
        assert_eq!(bench.placements("a", &["1", "9", "3"]).await, [some("de"), None, None]);
        // An edited definition may have other partitions.
        let edited = [("product".into(), "2".to_owned())];
        bench.log().register(&"a".into(), &edited).await.unwrap();
        assert_eq!(bench.placements("a", &["1"]).await, [None]);
        assert_eq!(bench.placements("b", &["1"]).await, [some("de")]);
    }
}
