//! API keys: who a caller is.
//!
//! Guarantees: secrets are held hashed only, and compared without regard to where they differ; a key with an empty or
//! wildcard subject or unit is refused by name before it can authenticate anyone. Leaves to `Policy` what a caller may
//! read.

use std::collections::BTreeSet;
use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instep_core::{Error, Fault, Principal, Result, Scopes, name};
use sha2::{Digest, Sha256};

/// The shortest secret, in bytes. A generated one has 32 random bytes or more.
pub const MIN_SECRET_BYTES: usize = 16;

/// The most units one key may have: each is a term of every search.
pub const MAX_UNITS: usize = 1_024;

/// A key as the configuration defines it.
#[derive(Clone)]
pub struct KeyDefinition {
    /// Its name (`[key.buyer]`): the `id` or user name that clients send beside the secret.
    pub name: String,
    /// The secret.
    pub secret: String,
    /// Who the caller is.
    pub subject: String,
    /// Groups the caller belongs to.
    pub units: Vec<String>,
    /// What the caller may do.
    pub scopes: Scopes,
}

/// Without the secret.
impl fmt::Debug for KeyDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyDefinition")
            .field("name", &self.name)
            .field("subject", &self.subject)
            .field("units", &self.units)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The keys that are accepted. None by default: every caller is anonymous.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    name: String,
    hash: [u8; 32],
    principal: Principal,
}

/// Names only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| &key.name))
            .finish()
    }
}

impl Keys {
    /// Checks the definitions and forgets their secrets. Refused, by the key's name: a name used twice, a secret that
    /// is short, used twice or not sendable in a header, a subject or unit that is empty, `*`, or padded with white
    /// space.
    pub fn new(definitions: Vec<KeyDefinition>) -> Result<Self> {
        let mut keys: Vec<Key> = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let KeyDefinition {
                name,
                secret,
                subject,
                units,
                scopes,
            } = definition;
            name::checked("key", &name)?;
            if secret.len() < MIN_SECRET_BYTES {
                return Err(refused(
                    &name,
                    &format!("its secret is shorter than {MIN_SECRET_BYTES} bytes"),
                )
                .with_remedy("use a generated secret, for example of `openssl rand -hex 32`"));
            }
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(refused(
                    &name,
                    "its secret has white space or characters other than ASCII's",
                ));
            }
            identity(&name, "subject", &subject)?;
            if units.len() > MAX_UNITS {
                return Err(refused(&name, &format!("it has more than {MAX_UNITS} units")));
            }
            for unit in &units {
                identity(&name, "unit", unit)?;
            }
            let hash = hash(&secret);
            if let Some(other) = keys.iter().find(|key| key.name == name || key.hash == hash) {
                return Err(refused(
                    &name,
                    &format!("key `{}` has the same name or secret", other.name),
                ));
            }
            let units: BTreeSet<String> = units.into_iter().collect();
            keys.push(Key {
                name,
                hash,
                principal: Principal {
                    subject: Some(subject),
                    units: units.into_iter().collect(),
                    scopes,
                },
            });
        }
        Ok(Keys(keys))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who sends this `Authorization` header: `ApiKey <secret>`, `ApiKey` or `Basic` with base64 of `name:secret`, or
    /// `Bearer <secret>`. Everything else is unauthenticated, whatever is wrong with it.
    pub fn authenticate(&self, authorization: &str) -> Result<Principal> {
        let (scheme, credentials) = authorization.trim().split_once(' ').unwrap_or_default();
        let credentials = credentials.trim();
        let found = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => self.find(None, credentials),
            "basic" => self.find_pair(credentials),
            // Official clients send either: the secret as given, or base64 of a pair.
            "apikey" => self
                .find(None, credentials)
                .or_else(|| self.find_pair(credentials)),
            _ => None,
        };
        found.cloned().ok_or_else(|| {
            unauthenticated("the API key is not accepted").with_remedy(
                "send `Authorization: ApiKey <secret>`, `Bearer <secret>`, or `Basic` with the key's name and secret",
            )
        })
    }

    fn find_pair(&self, encoded: &str) -> Option<&Principal> {
        let pair = STANDARD.decode(encoded).ok()?;
        let (name, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        self.find(Some(name), secret)
    }

    /// Looks at every key whatever was found before, so that the time taken says nothing about which one fits.
    fn find(&self, name: Option<&str>, secret: &str) -> Option<&Principal> {
        let hash = hash(secret);
        let mut found = None;
        for key in &self.0 {
            let fits = black_box(same(&key.hash, &hash));
            if fits && name.is_none_or(|name| name == key.name) {
                found = Some(&key.principal);
            }
        }
        found
    }
}

/// Refuses an address that others can reach while there is no key: an anonymous caller is served on this machine only.
pub fn check_listen(address: &SocketAddr, keys: &Keys) -> Result<()> {
    if address.ip().to_canonical().is_loopback() || !keys.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(
        "listen_without_keys",
        format!("cannot listen on {address}: others can reach this address, and there is no API key"),
    )
    .with_remedy("add a key (`[key.<name>]` with secret, subject and scopes), or listen on 127.0.0.1"))
}

/// The caller is not known.
pub(crate) fn unauthenticated(message: &str) -> Error {
    Error::new(Fault::Unauthenticated, "security_exception", message)
}

fn identity(key: &str, kind: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(refused(key, &format!("it has an empty {kind}")));
    }
    if value == "*" {
        return Err(refused(
            key,
            &format!("its {kind} is `*`, which would stand for nobody in particular"),
        )
        .with_remedy(
            "name the readers; a key that may see every document has the scope `read_all` instead",
        ));
    }
    if value.trim() != value || value.chars().any(char::is_control) {
        return Err(refused(
            key,
            &format!("a {kind} of it has white space around it or control characters"),
        ));
    }
    Ok(())
}

fn refused(key: &str, wrong: &str) -> Error {
    Error::invalid("bad_key", format!("key `{key}` is refused: {wrong}"))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Compares every byte, whatever the first ones say.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |differences, (left, right)| {
        black_box(differences | (left ^ right))
    }) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &str = "0123456789abcdef:buyer";

    fn key(name: &str, secret: &str, subject: &str, units: &[&str]) -> KeyDefinition {
        KeyDefinition {
            name: name.into(),
            secret: secret.into(),
            subject: subject.into(),
            units: units.iter().map(ToString::to_string).collect(),
            scopes: Scopes::default(),
        }
    }

    #[test]
    fn headers_that_are_accepted() {
        let keys = Keys::new(vec![
            key("buyer", SECRET, "ann", &["everyone"]),
            key("other", "another-long-secret", "bob", &[]),
        ])
        .unwrap();
        let pair = STANDARD.encode(format!("buyer:{SECRET}"));
        for header in [
            format!("ApiKey {SECRET}"),
            format!("apikey  {SECRET} "),
            format!("ApiKey {pair}"),
            format!("Basic {pair}"),
            format!("Bearer {SECRET}"),
        ] {
            let principal = keys.authenticate(&header).unwrap();
            assert_eq!(principal.subject.as_deref(), Some("ann"), "{header}");
        }
        let wrong_name = STANDARD.encode(format!("other:{SECRET}"));
        let no_name = STANDARD.encode(SECRET);
        for header in [
            String::new(),
            SECRET.to_owned(),
            "ApiKey".to_owned(),
            "ApiKey ".to_owned(),
            format!("ApiKey {}", &SECRET[..SECRET.len() - 1]),
            format!("ApiKey {SECRET}x"),
            format!("ApiKey {wrong_name}"),
            format!("Basic {wrong_name}"),
            format!("Basic {SECRET}"),
            format!("Basic {no_name}"),
            format!("Bearer {pair}"),
            format!("Digest {SECRET}"),
            "Basic ====".to_owned(),
        ] {
            let error = keys.authenticate(&header).unwrap_err();
            assert_eq!(error.fault(), Fault::Unauthenticated, "{header}");
            assert!(!error.to_string().contains("0123"), "{header}");
        }
        let error = Keys::default()
            .authenticate(&format!("Bearer {SECRET}"))
            .unwrap_err();
        assert_eq!(error.fault(), Fault::Unauthenticated);
    }

    #[test]
    fn keys_that_are_refused() {
        let good = || key("good", SECRET, "ann", &["everyone"]);
        assert!(Keys::new(vec![good()]).is_ok());
        let many = vec!["unit"; MAX_UNITS + 1];
        for (bad, why) in [
            (key("bad", SECRET, "bob", &[]), "`good`"),
            (key("good", "another-long-secret", "bob", &[]), "`good`"),
            (key("bad", "short", "bob", &[]), "shorter"),
            (key("bad", "", "bob", &[]), "shorter"),
            (key("bad", "with a space inside", "bob", &[]), "white space"),
            (key("bad", "sixteen-ünd-more-byteß", "bob", &[]), "ASCII"),
            (key("bad", "another-long-secret", "", &[]), "empty subject"),
            (key("bad", "another-long-secret", "*", &[]), "subject is `*`"),
            (key("bad", "another-long-secret", " bob", &[]), "subject"),
            (key("bad", "another-long-secret", "bob", &["a", ""]), "empty unit"),
            (key("bad", "another-long-secret", "bob", &["*"]), "unit is `*`"),
            (key("bad", "another-long-secret", "bob", &["a\n"]), "unit"),
            (key("bad", "another-long-secret", "bob", &many), "units"),
            (key("Bad", "another-long-secret", "bob", &[]), "`Bad`"),
        ] {
            let (name, secret) = (bad.name.clone(), bad.secret.clone());
            let error = Keys::new(vec![good(), bad]).unwrap_err();
            assert_eq!(error.fault(), Fault::Invalid);
            assert!(error.to_string().contains(why), "{error}, not {why}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            assert!(
                secret.len() < 10 || !format!("{error:?}").contains(&secret),
                "{error}"
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let definition = key("buyer", SECRET, "ann", &[]);
        assert!(!format!("{definition:?}").contains(SECRET));
        assert_eq!(
            format!("{:?}", Keys::new(vec![definition]).unwrap()),
            r#"["buyer"]"#
        );
    }

    #[test]
    fn addresses_without_keys() {
        let keys = Keys::new(vec![key("buyer", SECRET, "ann", &[])]).unwrap();
        for (address, alone) in [
            ("127.0.0.1:9200", true),
            ("127.9.9.9:1", true),
            ("[::1]:9200", true),
            ("[::ffff:127.0.0.1]:9200", true),
            ("0.0.0.0:9200", false),
            ("[::]:9200", false),
            ("10.0.0.1:9200", false),
            ("[::ffff:10.0.0.1]:9200", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(
                check_listen(&address, &Keys::default()).is_ok(),
                alone,
                "{address}"
            );
            assert!(check_listen(&address, &keys).is_ok(), "{address}");
        }
    }
}
