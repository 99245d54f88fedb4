//! The callers through the socket: bearer tokens, and the identities that they stand for.
//!
//! The server makes no tokens and knows none of its own: the process that opens it hands them in. A
//! token is accepted as a bearer token only: kubectl prints the password that stands in a server's
//! URL.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::failure::RequestFailure;

/// User name of the one person of a machine, who may do everything: kubeadm's name for the holder
/// of its first kubeconfig.
pub const ADMIN: &str = "kubernetes-admin";

/// The identity that a token stands for, in the words of Kubernetes' `UserInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name, as admission sees it.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further attributes, such as the pod that a projected token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
    /// The audiences that the token is meant for; none means this server. A token for another
    /// audience gives no access here.
    pub audiences: Vec<String>,
}

/// The known tokens: a handful, handed in when the server is opened.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Vec<(String, Identity)>,
}

// === impl Identity ===

impl Identity {
    /// A user of this server, known by name alone.
    pub fn user(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

// === impl Tokens ===

impl Tokens {
    /// The same tokens, and `token` for `identity`.
    #[must_use]
    pub fn with(mut self, token: impl Into<String>, identity: Identity) -> Self {
        self.known.push((token.into(), identity));
        self
    }

    /// The identity of `token`; `None` for an unknown one. The time of the look-up reveals only the
    /// number and the lengths of the known tokens.
    pub fn find(&self, token: &str) -> Option<&Identity> {
        let mut found = None;
        for (known, identity) in &self.known {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(identity);
            }
        }
        found
    }

    /// The sender of a request with these headers; or the refusal.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<&Identity, RequestFailure> {
        let identity = token(headers).and_then(|token| self.find(token));
        identity.filter(|identity| identity.audiences.is_empty()).ok_or_else(|| {
            RequestFailure::new(
                401,
                "Unauthorized",
                "the request carries no bearer token that this server knows: use the kubeconfig of \
                 this server",
            )
        })
    }
}

/// Prints identities but no token: debug output ends up in logs.
impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.known.iter().map(|(_, identity)| identity)).finish()
    }
}

/// The token of the `Authorization` header; `None` if there is a second such header, for two
/// parties could each believe another one.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let other = Identity { audiences: vec!["other".into()], ..Identity::user("pod") };
        Tokens::default().with("secret", Identity::user("admin")).with("foreign", other)
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    /// A request without a token of this server is refused.
    #[test]
    fn only_a_known_token_for_this_server_opens_it() {
        let tokens = tokens();
        for value in ["Bearer secret", "bearer secret", "BEARER  secret"] {
            assert_eq!(tokens.authenticate(&headers(&[value])).unwrap().name, "admin", "{value}");
        }
        for value in [
            "",
            "secret",
            "Bearer",
            "Bearer ",
            "Basic secret",
            // "ebb:secret".
            "Basic ZWJiOnNlY3JldA==",
            "Bearer secre",
            "Bearer secrets",
            "Bearer SECRET",
            "Bearer foreign",
        ] {
            let refusal = tokens.authenticate(&headers(&[value])).unwrap_err();
            assert_eq!((refusal.code, refusal.reason), (401, "Unauthorized"), "{value}");
        }
        assert!(tokens.authenticate(&headers(&[])).is_err());
        assert!(tokens.authenticate(&headers(&["Bearer secret", "Bearer secret"])).is_err());
        assert!(Tokens::default().authenticate(&headers(&["Bearer "])).is_err());
    }

    #[test]
    fn a_token_keeps_its_audiences() {
        assert_eq!(tokens().find("foreign").unwrap().audiences, ["other"]);
    }

    #[test]
    fn debugging_prints_no_token() {
        let text = format!("{:?}", tokens());
        assert!(text.contains("admin") && !text.contains("secret"), "{text}");
    }
}
