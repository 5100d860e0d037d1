//! Why a request did not pass: a closed table of stable codes.
//!
//! A denial becomes HTTP in `proxy::reject` and a close frame in `ws::close`, nowhere else.

use super::step::Step;
use std::borrow::Cow;

/// Characters of a refused model that are logged.
const LONGEST_MODEL: usize = 32;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The stable code.
    pub code: Code,
    /// For people: lower case, what is wrong and what to do; never a credential.
    pub message: Cow<'static, str>,
    /// When a retry makes sense.
    pub retry_after_ms: Option<u64>,
    /// The step that refused, once `check` has noted it.
    pub step: Option<Step>,
    /// The model that was refused, for the log.
    pub model: Option<Box<str>>,
}

impl Denial {
    /// A refusal with a text of its own.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, step: None, model: None }
    }

    /// The same, about this model: its beginning, which is shorter than any token that a caller could
    /// put there.
    pub(crate) fn about(mut self, model: &str) -> Self {
        self.model = Some(model.chars().take(LONGEST_MODEL).collect());
        self
    }

    /// The same, at this step.
    pub(crate) fn at(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }
}

impl From<Code> for Denial {
    fn from(code: Code) -> Self {
        Self::new(code, code.row().2)
    }
}

macro_rules! codes {
    ($($variant:ident $status:literal $name:literal $message:literal;)*) => {
        /// The codes: `x-keygate-error`, metric label, close reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $message] $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn row(self) -> (u16, &'static str, &'static str) {
                match self { $(Self::$variant => ($status, $name, $message),)* }
            }
        }
    };
}

codes! {
    MalformedRequest 400 "malformed_request" "the request is malformed";
    AmbiguousCredentials 400 "ambiguous_credentials" "the request carries two different credentials; send one";
    AmbiguousModel 400 "ambiguous_model" "the request names more than one model; name it once";
    InvalidBody 400 "invalid_body" "the body is not valid JSON";
    TokenMissing 401 "token_missing" "no token was sent; send it as 'Authorization: Bearer TOKEN'";
    TokenInvalid 401 "token_invalid" "the token is not valid";
    TokenExpired 401 "token_expired" "the token has expired";
    ProviderNotAllowed 403 "provider_not_allowed" "the token may not use this provider";
    PathNotAllowed 403 "path_not_allowed" "the token may not use this path";
    MethodNotGranted 403 "method_not_granted" "the token may not use this method";
    ModelNotAllowed 403 "model_not_allowed" "the token may not use this model";
    OriginNotAllowed 403 "origin_not_allowed" "the token may not be used from this origin";
    MayNotMint 403 "may_not_mint" "the token may not mint client tokens";
    NoRoute 404 "no_route" "no provider answers at this path";
    MethodNotAllowed 405 "method_not_allowed" "this method is not supported";
    Conflict 409 "conflict" "the stream exists with another Stream-Allowed-Origins; delete it, or send the same";
    BodyTooLarge 413 "body_too_large" "the body is too large";
    UriTooLong 414 "uri_too_long" "the request target is longer than 8 KiB";
    InvalidField 422 "invalid_field" "a field of the request is wrong";
    UnsupportedBody 415 "unsupported_body" "this kind of body can't be read; send plain JSON";
    ExpectationFailed 417 "expectation_failed" "only 'Expect: 100-continue' is understood";
    WrongHost 421 "wrong_host" "this gateway does not answer to that host name";
    HeadersTooLarge 431 "headers_too_large" "more than 100 header fields or 32 KiB of them";
    RateLimited 429 "rate_limited" "too many requests for this token; try again later";
    ConcurrencyLimited 429 "concurrency_limited" "too many requests of this token at a time; try again later";
    InternalError 500 "internal_error" "something went wrong in the gateway";
    UpstreamUnreachable 502 "upstream_unreachable" "the provider could not be reached";
    UpstreamRejectedKey 502 "upstream_rejected_key" "the provider rejected the gateway's own key; tell its operator. Your token is not the problem";
    StoreUnavailable 503 "store_unavailable" "the token store is not available";
    NoProviderKey 503 "no_provider_key" "the gateway has no usable key for this provider";
    ShuttingDown 503 "shutting_down" "the gateway is shutting down; connect again";
    UpstreamTimeout 504 "upstream_timeout" "the provider did not answer in time";
    TokenRevoked 401 "token_revoked" "the token was revoked";
    SessionExpired 401 "session_expired" "the session has lasted as long as it may";
    MessageTooBig 413 "message_too_big" "the WebSocket message is too big";
}

impl Code {
    /// HTTP status.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// WebSocket close status (RFC 6455 section 7.4): policy, too big, try later, internal,
    /// going away, frames that break the protocol.
    pub const fn close_status(self) -> u16 {
        match self {
            Self::MessageTooBig | Self::BodyTooLarge => 1009,
            Self::ShuttingDown => 1001,
            Self::MalformedRequest => 1002,
            Self::InternalError | Self::UpstreamUnreachable => 1011,
            Self::RateLimited | Self::ConcurrencyLimited | Self::UpstreamTimeout => 1013,
            _ => 1008,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_distinct_and_fit_a_close_frame() {
        let names: HashSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len(), "a code names one thing");
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{} is no refusal", code.as_str());
            assert!(code.as_str().len() <= 123, "a close reason has 123 bytes at most");
        }
    }
}
