//! AWS Signature Version 4 from the other side: whether a request is signed by whom it says.
//!
//! Written from the protocol's description, independently of the library that signs:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

/// Who signs, and for what.
#[derive(Clone, Debug)]
pub struct Signatory {
    /// The key's public part.
    pub access_key: String,
    /// The key's secret.
    pub secret: String,
    /// The token of a session, where the key belongs to one.
    pub token: Option<String>,
    /// The region in the signature's scope.
    pub region: String,
    /// The service in the signature's scope.
    pub service: String,
}

impl Signatory {
    /// Why the request, with its whole body, is not signed by this one. The time of the signature is not compared with the
    /// clock.
    pub fn refuses(&self, head: &str, body: &[u8]) -> Option<String> {
        let mut lines = head.lines();
        let mut line = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let header = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let authorization = header("authorization").unwrap_or_default();
        let Some(parts) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else {
            return Some("it is not signed".to_owned());
        };
        let part = |wanted: &str| {
            let part = parts.split(',').filter_map(|part| part.trim().split_once('='));
            part.filter(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
                .next()
                .unwrap_or_default()
        };
        let at = header("x-amz-date").unwrap_or_default();
        let day = at.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        if part("Credential") != format!("{}/{scope}", self.access_key) {
            return Some(format!("of another key or scope: {}", part("Credential")));
        }
        if header("x-amz-security-token") != self.token.as_deref() {
            return Some("of another session".to_owned());
        }
        let hash = hex(digest(&SHA256, body).as_ref());
        if header("x-amz-content-sha256").is_some_and(|told| told != hash) {
            return Some("the body is another one than was signed".to_owned());
        }
        let signed: Vec<&str> = part("SignedHeaders").split(';').collect();
        for needed in ["host", "x-amz-date"]
            .into_iter()
            .chain(self.token.is_some().then_some("x-amz-security-token"))
        {
            if !signed.contains(&needed) {
                return Some(format!("`{needed}` is not signed"));
            }
        }
        let mut canonical = String::new();
        for name in &signed {
            let Some(value) = header(name) else {
                return Some(format!("`{name}` is signed and not there"));
            };
            canonical.push_str(&format!("{name}:{value}\n"));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = format!(
            "{method}\n{}\n{}\n{canonical}\n{}\n{hash}",
            encoded(path, "/"),
            sorted(query),
            signed.join(";"),
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{at}\n{scope}\n{}",
            hex(digest(&SHA256, request.as_bytes()).as_ref())
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for of in [day, &self.region, &self.service, "aws4_request"] {
            key = mac(&key, of);
        }
        (part("Signature") != hex(&mac(&key, &text)))
            .then(|| format!("another signature than that of\n{request}"))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path as it came, encoded once more; a query is encoded already.
fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "-_.~".contains(c) || kept.contains(c) => encoded.push(c),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The parameters by name and value, each with its equals sign.
fn sorted(query: &str) -> String {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let value = match (first, tail) {
                (b'%', [a, b, after @ ..]) => {
                    rest = after;
                    let digits = [*a, *b];
                    let digits = std::str::from_utf8(&digits).unwrap_or_default();
                    u8::from_str_radix(digits, 16).unwrap_or(b'?')
                }
                (byte, _) => {
                    rest = tail;
                    *byte
                }
            };
            bytes.push(value);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(&decoded(name), ""), encoded(&decoded(value), "")))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From AWS's published test suite: `get-vanilla`.
    #[test]
    fn the_published_example_is_accepted_and_no_other() {
        let signatory = Signatory {
            access_key: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
            region: "us-east-1".into(),
            service: "service".into(),
        };
        let head = "GET / HTTP/1.1\r\nHost:example.amazonaws.com\r\nX-Amz-Date:20150830T123600Z\r\n\
            Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, \
            Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(signatory.refuses(head, b""), None);
        for (is, instead) in [
            ("GET /", "POST /"),
            ("GET /", "GET /x"),
            ("GET /", "GET /?a=1"),
            ("fbf31", "fbf32"),
            ("123600Z", "123601Z"),
        ] {
            let reason = signatory.refuses(&head.replacen(is, instead, 1), b"");
            assert!(reason.is_some(), "{instead}");
        }
        assert!(signatory.refuses(head, b"x").is_some());
    }
}
