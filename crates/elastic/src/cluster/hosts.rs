//! The hosts of a cluster: they take turns, and one that fails is set aside for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use instep_core::{Error, Result};
use reqwest::Url;
use tokio::time::Instant;

/// How long a host that failed once is set aside; it doubles with every further failure.
const ASIDE: Duration = Duration::from_millis(500);
/// And at most.
const ASIDE_AT_MOST: Duration = Duration::from_secs(30);
/// The longest rest that a host may ask for.
const REST_AT_MOST: Duration = Duration::from_secs(60);

/// The hosts, each with what is known of it.
pub(crate) struct Hosts {
    state: Mutex<State>,
}

struct State {
    hosts: Vec<Host>,
    turn: usize,
}

struct Host {
    url: Url,
    failures: u32,
    /// Not before.
    aside: Option<Instant>,
    /// It asked for a rest until then.
    rest: Option<Instant>,
    /// It has told which cluster it belongs to since it last failed.
    verified: bool,
}

/// A host that was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) place: usize,
    pub(crate) url: Url,
    pub(crate) verified: bool,
}

impl Chosen {
    /// The address of a path below the host's, without a slash in front, with its query.
    pub(crate) fn address(&self, path: &str) -> Url {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut url = self.url.clone();
        if !path.is_empty() {
            url.set_path(&format!("{}{path}", self.url.path()));
        }
        url.set_query(query);
        url
    }
}

impl Hosts {
    /// Reads addresses.
    pub(crate) fn new(urls: &[String]) -> Result<Self> {
        let hosts = urls.iter().map(|url| read(url)).collect::<Result<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(Error::invalid("bad_cluster_url", "a cluster needs an address"));
        }
        let hosts = hosts.into_iter().map(|url| Host {
            url,
            failures: 0,
            aside: None,
            rest: None,
            verified: false,
        });
        Ok(Hosts {
            state: Mutex::new(State {
                hosts: hosts.collect(),
                turn: 0,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.state().hosts.len()
    }

    /// The next host: the first in turn that is not set aside, else the one that comes back first. `Err` with how long
    /// to wait where every host asked for a rest, which only the `patient` keep.
    pub(crate) fn next(&self, now: Instant, patient: bool) -> Result<Chosen, Duration> {
        let mut state = self.state();
        let count = state.hosts.len();
        let start = state.turn;
        state.turn = (start + 1) % count;
        let places = (0..count).map(|step| (start + step) % count);
        let awake = |place: &usize| !patient || state.hosts[*place].rest.is_none_or(|until| until <= now);
        let place = places
            .clone()
            .filter(awake)
            .find(|place| state.hosts[*place].aside.is_none_or(|until| until <= now))
            .or_else(|| {
                places
                    .clone()
                    .filter(awake)
                    .min_by_key(|place| state.hosts[*place].aside)
            });
        match place {
            Some(place) => Ok(Chosen {
                place,
                url: state.hosts[place].url.clone(),
                verified: state.hosts[place].verified,
            }),
            None => {
                let earliest = state.hosts.iter().filter_map(|host| host.rest).min();
                Err(earliest.map_or(Duration::ZERO, |until| until - now))
            }
        }
    }

    /// The host answered.
    pub(crate) fn answered(&self, place: usize) {
        let mut state = self.state();
        let host = &mut state.hosts[place];
        (host.failures, host.aside) = (0, None);
    }

    /// The host told that it belongs to the right cluster.
    pub(crate) fn verified(&self, place: usize) {
        self.state().hosts[place].verified = true;
    }

    /// The host did not answer, or something in front of it did: others first, for a while; and what stands behind
    /// its address may be another cluster by now.
    pub(crate) fn failed(&self, place: usize, now: Instant) {
        let mut state = self.state();
        let host = &mut state.hosts[place];
        let wait = ASIDE
            .saturating_mul(1 << host.failures.min(10))
            .min(ASIDE_AT_MOST);
        host.failures = host.failures.saturating_add(1);
        host.aside = Some(now + wait);
        host.verified = false;
    }

    /// What stands behind the addresses may be another cluster by now: a connection that idled is made anew without a word.
    pub(crate) fn doubt(&self) {
        self.state()
            .hosts
            .iter_mut()
            .for_each(|host| host.verified = false);
    }

    /// The host asked for a rest.
    pub(crate) fn rest(&self, place: usize, now: Instant, wait: Duration) {
        self.state().hosts[place].rest = Some(now + wait.min(REST_AT_MOST));
    }
}

fn read(text: &str) -> Result<Url> {
    let refuse = |why: &str| {
        Error::invalid("bad_cluster_url", format!("the address of a cluster {why}")).with_remedy(
            "write http://host:9200 or https://host:9200; user and password have keys of their own",
        )
    };
    let mut url = Url::parse(text).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refuse("does not start with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("holds a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a query"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(&["http://a:1".to_owned(), "http://b:2/under".to_owned()]).unwrap()
    }

    #[test]
    fn addresses_are_read_or_refused() {
        for good in ["http://a:9200", "https://a/b/c", "http://[::1]:9200"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["a:9200", "ftp://a", "http://u:p@a", "http://a?x=1", "", "http://"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(!error.contains("u:p"), "{error}");
        }
        let hosts = hosts();
        for (path, first, second) in [
            ("", "http://a:1/", "http://b:2/under/"),
            (
                "a%2Cb/_search?x=1",
                "http://a:1/a%2Cb/_search?x=1",
                "http://b:2/under/a%2Cb/_search?x=1",
            ),
            ("../a?b", "http://a:1/a?b", "http://b:2/a?b"),
        ] {
            for address in [first, second] {
                let chosen = hosts.next(Instant::now(), true).unwrap();
                assert_eq!(chosen.address(path).as_str(), address);
            }
        }
    }

    #[test]
    fn they_take_turns_and_the_dead_wait() {
        let (hosts, now) = (hosts(), Instant::now());
        let turns =
            |count| -> Vec<usize> { (0..count).map(|_| hosts.next(now, true).unwrap().place).collect() };
        assert_eq!(turns(4), [0, 1, 0, 1]);
        hosts.failed(0, now);
        assert_eq!(turns(3), [1, 1, 1]);
        hosts.failed(1, now + Duration::from_secs(1));
        assert_eq!(turns(1), [0], "of two that failed, the one that comes back first");
        hosts.answered(0);
        assert_eq!(turns(2), [0, 0]);
        hosts.rest(0, now, Duration::from_secs(5));
        assert_eq!(turns(2), [1, 1]);
        hosts.rest(1, now, Duration::from_secs(500));
        assert_eq!(hosts.next(now, true).unwrap_err(), Duration::from_secs(5));
        assert!(hosts.next(now, false).is_ok(), "somebody waits for a search");
    }
}
