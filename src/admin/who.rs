//! Which operator sends a request: by a token, else by the certificate of its connection.

use crate::config::{Credential, Operator};
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

/// The longest file of a token.
const TOKEN_BYTES_MAX: usize = 4096;
/// Names of a certificate that are told to whoever has shown it.
const NAMES_TOLD_MAX: usize = 8;

/// Why somebody is no operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("an operator shows a token or a client certificate, and there is neither")]
    Nothing,
    #[error("no operator has this token")]
    Token,
    #[error("the certificate of {} is no operator's: no certificate_name in [[admin.operators]] says so", told(.0))]
    Certificate(Vec<String>),
    /// Browsers show certificates to whatever a page has them post to, in any form but this one.
    #[error("who acts by a certificate sends content-type: application/json")]
    Form,
}

impl Unknown {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Nothing | Self::Token => StatusCode::UNAUTHORIZED,
            Self::Certificate(_) => StatusCode::FORBIDDEN,
            Self::Form => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

fn told(names: &[String]) -> String {
    match names {
        [] => "nobody (it carries no name)".to_owned(),
        _ => names.iter().take(NAMES_TOLD_MAX).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
    }
}

/// Who it is. A token is what the request itself says, so no certificate makes up for a bad one.
/// `shown`: the names of the connection's certificate.
///
/// # Errors
/// Why it is nobody.
pub(super) async fn knows(
    operators: &[Operator],
    headers: &HeaderMap,
    shown: Option<&[String]>,
) -> Result<String, Unknown> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = bearer(value.as_bytes()).ok_or(Unknown::Token)?;
        return by_token(operators, token).await.ok_or(Unknown::Token);
    }
    let shown = shown.ok_or(Unknown::Nothing)?;
    let by = by_certificate(operators, shown).ok_or_else(|| Unknown::Certificate(shown.to_vec()))?;
    let form = headers.get(header::CONTENT_TYPE);
    if form.is_some_and(|value| value == "application/json") { Ok(by) } else { Err(Unknown::Form) }
}

/// The first operator of whom the certificate carries the name.
fn by_certificate(operators: &[Operator], shown: &[String]) -> Option<String> {
    let carried = |operator: &&Operator| matches!(&operator.credential, Credential::CertificateName(name) if shown.contains(name));
    operators.iter().find(carried).map(|operator| operator.name.clone())
}

/// The token of `Bearer TOKEN`. Source: RFC 6750, section 2.1; RFC 9110: the scheme in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whose token it is. Digests are compared, all of them and whole, so that time tells nothing.
async fn by_token(operators: &[Operator], presented: &[u8]) -> Option<String> {
    let presented = digest(presented);
    let mut found = None;
    for operator in operators {
        let wanted = match &operator.credential {
            Credential::CertificateName(_) => continue,
            Credential::TokenSha256(digest) => *digest,
            Credential::TokenFile(path) => match tokio::fs::read(path).await {
                Ok(token) if (1..=TOKEN_BYTES_MAX).contains(&token.trim_ascii().len()) => {
                    digest(token.trim_ascii())
                }
                Ok(_) => {
                    tracing::error!(operator = operator.name, path = %path.display(), "holds no token");
                    continue;
                }
                Err(error) => {
                    tracing::error!(operator = operator.name, path = %path.display(), %error, "no token");
                    continue;
                }
            },
        };
        let differs = presented.iter().zip(wanted).fold(0, |differs, (a, b)| differs | (a ^ b));
        if std::hint::black_box(differs) == 0 {
            found = Some(operator.name.clone());
        }
    }
    found
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_read_as_one() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value:?}");
        }
    }

    fn known(name: &str, credential: Credential) -> Operator {
        Operator { name: name.to_owned(), credential }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn an_operator_is_known_by_the_whole_token_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("proxima-token-{}", std::process::id()));
        std::fs::write(&path, "of bob, in a file\n").unwrap();
        let operators = [
            known("alice", Credential::TokenSha256(digest(b"of alice"))),
            known("bob", Credential::TokenFile(path.clone())),
            known("gone", Credential::TokenFile(path.with_extension("none"))),
        ];
        for (token, name) in [
            ("of alice", Some("alice")),
            ("of bob, in a file", Some("bob")),
            ("of alic", None),
            ("of alice2", None),
            ("", None),
        ] {
            let found =
                knows(&operators, &headers(&[("authorization", &format!("Bearer {token}"))]), None).await;
            assert_eq!(found, name.map(str::to_owned).ok_or(Unknown::Token), "{token:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn an_operator_is_known_by_a_name_of_the_certificate_unless_a_token_is_shown() {
        let operators = [
            known("alice", Credential::TokenSha256(digest(b"of alice"))),
            known("carol", Credential::CertificateName("carol@example.net".to_owned())),
        ];
        let json = ("content-type", "application/json");
        let carol = ["carol".to_owned(), "carol@example.net".to_owned()];
        let other = ["alice".to_owned(), "Carol@example.net".to_owned()];
        let unknown = Unknown::Certificate(other.to_vec());
        for (what, pairs, shown, found) in [
            ("carol", vec![json], Some(&carol[..]), Ok("carol")),
            // The name of an operator in the configuration is no name of a certificate.
            ("somebody else", vec![json], Some(&other[..]), Err(unknown)),
            ("no name", vec![json], Some(&[][..]), Err(Unknown::Certificate(Vec::new()))),
            ("nothing", vec![json], None, Err(Unknown::Nothing)),
            (
                "a page in carol's browser",
                vec![("content-type", "text/plain")],
                Some(&carol[..]),
                Err(Unknown::Form),
            ),
            ("a page that says nothing", vec![], Some(&carol[..]), Err(Unknown::Form)),
            (
                "a token goes first",
                vec![json, ("authorization", "Bearer of alice")],
                Some(&carol[..]),
                Ok("alice"),
            ),
            (
                "a bad one, too",
                vec![json, ("authorization", "Bearer of bob")],
                Some(&carol[..]),
                Err(Unknown::Token),
            ),
            ("no bearer", vec![json, ("authorization", "Basic abc")], Some(&carol[..]), Err(Unknown::Token)),
        ] {
            let known = knows(&operators, &headers(&pairs), shown).await;
            assert_eq!(known, found.map(str::to_owned), "{what}");
        }
    }

    #[test]
    fn who_is_no_operator_is_told_the_names_that_were_shown() {
        let text = Unknown::Certificate(vec!["mallory".to_owned(), "m@\n".to_owned()]).to_string();
        assert!(text.starts_with(r#"the certificate of "mallory", "m@\n" is no operator's"#), "{text}");
    }
}
