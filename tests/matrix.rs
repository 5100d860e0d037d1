//! Routes × transports × checks: there is no second path that skips one.
//!
//! Every way in (each provider's named and bare routes, the configured ones) is tried with every
//! transport (HTTP, SSE, WebSocket) over every carrier (the bare socket, TLS, HTTP/2) against every
//! check. A provider kind without a row fails. WebSockets need HTTP/1.1.

use crate::support::client::{Raw, Request, Response};
use crate::support::frame::{Frame, TEXT};
use crate::support::gateway::Setup;
use crate::support::tls::{H2, bridge};
use crate::support::upstream::Answer;
use keygate::config::Kind;
use keygate::provider::route::BARE;
use keygate::token::ticket::Subject;
use keygate::values::ids::TokenDigest;
use std::net::SocketAddr;

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]
access_log: { file: $DIR/access.log }
server_names: [gate.test]
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  anthropic: { kind: anthropic, url: $UPSTREAM, keys: [{ file: $KEY(anthropic) }] }
  gemini: { kind: gemini, url: $UPSTREAM, keys: [{ file: $KEY(gemini) }] }
  decart:
    kind: decart
    url: $UPSTREAM
    routes: [/v1/generate/, /v1/jobs/]
    keys: [{ file: $KEY(decart) }]
  internal:
    kind: generic
    url: $UPSTREAM
    routes: [/tools/]
    model: { query: m }
    keys: [{ file: $KEY(internal) }]
  streams: { kind: durable-streams, url: $UPSTREAM, cookie: keygate_token }
policies:
  bound: { models: [ok], origins: ['https://app.test'] }
  elsewhere: { models: [ok], origins: ['https://app.test'], providers: [PROVIDER] }
  paths: { models: [ok], origins: ['https://app.test'], paths: [/nothing] }
  methods: { models: [ok], origins: ['https://app.test'], methods: [DELETE] }
  rate: { models: [ok], origins: ['https://app.test'], rate_limit: { requests: 1, per: 60s } }
tokens:
  - { name: bound, sha256: $SHA(bound), policy: bound }
  - { name: elsewhere, sha256: $SHA(elsewhere), policy: elsewhere }
  - { name: paths, sha256: $SHA(paths), policy: paths }
  - { name: methods, sha256: $SHA(methods), policy: methods }
  - { name: rate, sha256: $SHA(rate), policy: rate }
  - { name: off, sha256: $SHA(off), disabled: true }
  - { name: old, sha256: $SHA(old), expires_at: '2020-01-01T00:00:00Z' }
";

/// A way in. `MODEL` in the target or the body stands for the model.
#[derive(Debug, Clone, Copy)]
struct Way {
    kind: Kind,
    provider: &'static str,
    method: &'static str,
    target: &'static str,
    body: Option<&'static str>,
    upgrade: bool,
    /// The body is a form, and no JSON.
    form: bool,
    /// The URL or the body names a model, to which a grant can be held.
    models: bool,
    /// A message of the socket names one; its grant has models too.
    message: Option<&'static str>,
    /// The credential is an upload ticket of the token.
    ticket: bool,
    /// The token is in a cookie.
    cookie: bool,
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const FORM: Option<&str> = Some(
    "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n\
     --b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nMODEL\r\n--b--\r\n",
);

const BODY: Option<&str> = Some(r#"{"model":"MODEL","stream":true}"#);

/// Every way in. WebSockets stand once for each place in which a model can be named.
const WAYS: &[Way] = &[
    way(Kind::OpenAi, "openai", "POST", "/v1/chat/completions", BODY),
    way(Kind::OpenAi, "openai", "POST", "/openai/v1/responses", BODY),
    turn(r#"{"model":"ok","tools":[{"model":"MODEL"}]}"#),
    turn(r#"{"model":"ok","tools":[{"svg":{"model":"MODEL"}}]}"#),
    turn(r#"{"model":"ok","input":[{},{"tools":[{"model":"MODEL"}]}]}"#),
    turn(r#"{"model":"ok","input":[{"tools":[{"svg":{"model":"MODEL"}}]}]}"#),
    turn(r#"{"model":"ok","moderation":{"model":"MODEL"}}"#),
    form(way(Kind::OpenAi, "openai", "POST", "/v1/audio/transcriptions", FORM)),
    form(way(Kind::OpenAi, "openai", "POST", "/openai/v1/images/edits", FORM)),
    socket(Kind::OpenAi, "openai", "/v1/realtime?model=MODEL"),
    socket(Kind::OpenAi, "openai", "/openai/v1/realtime?model=MODEL"),
    says(openai(SESSION), r#"{"type":"session.update","session":{"model":"MODEL"}}"#),
    says(openai(SESSION), r#"{"session":{"audio":{"input":{"transcription":{"model":"MODEL"}}}}}"#),
    says(openai(SESSION), r#"{"session":{"input_audio_transcription":{"model":"MODEL"}}}"#),
    says(openai(SESSION), r#"{"session":{"tools":[{"model":"MODEL"}]}}"#),
    says(openai(SESSION), r#"{"type":"response.create","response":{"model":"MODEL"}}"#),
    says(
        openai(SESSION),
        r#"{"response":{"audio":{"input":{"transcription":{"model":"MODEL"}}}}}"#,
    ),
    says(openai(SESSION), r#"{"response":{"input_audio_transcription":{"model":"MODEL"}}}"#),
    says(openai(SESSION), r#"{"type":"response.create","response":{"tools":[{"model":"MODEL"}]}}"#),
    says(openai(SESSION), r#"{"type":"another","model":"MODEL"}"#),
    says(openai(SESSION), r#"{"type":"another","tools":[{"model":"MODEL"}]}"#),
    says(
        openai(TRANSCRIPTION),
        r#"{"session":{"audio":{"input":{"transcription":{"model":"MODEL"}}}}}"#,
    ),
    says(openai(TRANSCRIPTION), r#"{"session":{"input_audio_transcription":{"model":"MODEL"}}}"#),
    says(openai("/v1/responses"), r#"{"type":"response.create","model":"MODEL"}"#),
    says(openai("/openai/v1/responses"), r#"{"type":"response.create","model":"MODEL"}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","tools":[{"model":"MODEL"}]}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","tools":[{"svg":{"model":"MODEL"}}]}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","input":[{"tools":[{"model":"MODEL"}]}]}"#),
    says(
        openai("/v1/responses"),
        r#"{"model":"ok","input":[{"tools":[{"svg":{"model":"MODEL"}}]}]}"#,
    ),
    says(openai("/v1/responses"), r#"{"model":"ok","moderation":{"model":"MODEL"}}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","response":{"model":"MODEL"}}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","response":{"tools":[{"model":"MODEL"}]}}"#),
    says(openai("/v1/responses"), r#"{"model":"ok","session":{"model":"MODEL"}}"#),
    way(Kind::Anthropic, "anthropic", "POST", "/v1/messages", BODY),
    way(Kind::Anthropic, "anthropic", "POST", "/v1/complete", BODY),
    way(Kind::Anthropic, "anthropic", "POST", "/anthropic/v1/messages", BODY),
    way(Kind::Gemini, "gemini", "POST", "/v1beta/models/MODEL:generateContent", Some("{}")),
    way(Kind::Gemini, "gemini", "POST", "/v1/models/MODEL:streamGenerateContent", Some("{}")),
    way(Kind::Gemini, "gemini", "POST", "/gemini/v1beta/models/MODEL:generateContent", Some("{}")),
    way(Kind::Gemini, "gemini", "POST", "/v1beta/openai/chat/completions", BODY),
    way(Kind::Gemini, "gemini", "POST", "/v1alpha/models/MODEL:generateContent", Some("{}")),
    without_model(way(Kind::Gemini, "gemini", "POST", "/upload/v1beta/files", Some("{}"))),
    by_ticket(without_model(way(Kind::Gemini, "gemini", "POST", UPLOAD, Some("{}")))),
    without_model(way(Kind::Gemini, "gemini", "GET", "/download/v1beta/files/f", None)),
    says(gemini(LIVE), SETUP),
    says(gemini(NAMED_LIVE), SETUP),
    says(gemini(LIVE), r#"{"setup":{"model":"models/ok"},"model":"MODEL"}"#),
    way(Kind::Decart, "decart", "POST", "/v1/generate/MODEL", Some("{}")),
    form(way(Kind::Decart, "decart", "POST", "/decart/v1/jobs/MODEL", FORM)),
    socket(Kind::Decart, "decart", "/decart/v1/stream?model=MODEL"),
    way(Kind::Generic, "internal", "GET", "/tools/x?m=MODEL", None),
    way(Kind::Generic, "internal", "GET", "/internal/x?m=MODEL", None),
    socket(Kind::Generic, "internal", "/tools/socket?m=MODEL"),
    without_model(way(Kind::DurableStreams, "streams", "GET", "/v1/stream/x?offset=-1", None)),
    without_model(way(Kind::DurableStreams, "streams", "POST", "/v1/stream/x", Some("{}"))),
    without_model(way(Kind::DurableStreams, "streams", "GET", "/streams/v1/stream/x", None)),
    by_cookie(way(Kind::DurableStreams, "streams", "GET", "/v1/stream/x?live=sse", None)),
];

const UPLOAD: &str = "/upload/v1beta/files?upload_id=1";
const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
const NAMED_LIVE: &str =
    "/gemini//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

const SETUP: &str = r#"{"setup":{"model":"models/MODEL"}}"#;
const SESSION: &str = "/v1/realtime?model=ok";
const TRANSCRIPTION: &str = "/v1/realtime?intent=transcription";

/// A way on which no model is named where it could be read: tried with grants without models.
const fn without_model(way: Way) -> Way {
    Way { models: false, ..way }
}

/// The second leg of an upload.
const fn by_ticket(way: Way) -> Way {
    Way { ticket: true, ..way }
}

/// A browser's, which can't set headers.
const fn by_cookie(way: Way) -> Way {
    Way { cookie: true, models: false, ..way }
}

/// A way whose body is a form.
const fn form(way: Way) -> Way {
    Way { form: true, ..way }
}

const fn way(
    kind: Kind,
    provider: &'static str,
    method: &'static str,
    target: &'static str,
    body: Option<&'static str>,
) -> Way {
    Way {
        kind,
        provider,
        method,
        target,
        body,
        upgrade: false,
        form: false,
        models: true,
        message: None,
        ticket: false,
        cookie: false,
    }
}

/// A socket on which this message names the model.
const fn says(way: Way, message: &'static str) -> Way {
    Way { models: false, message: Some(message), ..way }
}

const fn turn(body: &'static str) -> Way {
    way(Kind::OpenAi, "openai", "POST", "/v1/responses", Some(body))
}

const fn openai(target: &'static str) -> Way {
    socket(Kind::OpenAi, "openai", target)
}

const fn gemini(target: &'static str) -> Way {
    socket(Kind::Gemini, "gemini", target)
}

const fn socket(kind: Kind, provider: &'static str, target: &'static str) -> Way {
    Way { upgrade: true, ..way(kind, provider, "GET", target, None) }
}

/// What is wrong with a request, and what it must get.
struct Check {
    name: &'static str,
    token: Option<&'static str>,
    origin: &'static str,
    host: &'static str,
    model: &'static str,
    expected: (u16, &'static str),
}

const GOOD: Check = Check {
    name: "good",
    token: Some("bound"),
    origin: "https://app.test",
    host: "gate.test",
    model: "ok",
    expected: (200, ""),
};

const CHECKS: &[Check] = &[
    Check { name: "host", host: "evil.test", expected: (421, "wrong_host"), ..GOOD },
    Check { name: "no token", token: None, expected: (401, "token_missing"), ..GOOD },
    Check { name: "disabled", token: Some("off"), expected: (401, "token_invalid"), ..GOOD },
    Check { name: "expired", token: Some("old"), expected: (401, "token_expired"), ..GOOD },
    Check {
        name: "provider",
        token: Some("elsewhere"),
        expected: (403, "provider_not_allowed"),
        ..GOOD
    },
    Check { name: "path", token: Some("paths"), expected: (403, "path_not_allowed"), ..GOOD },
    Check { name: "method", token: Some("methods"), expected: (403, "method_not_granted"), ..GOOD },
    Check {
        name: "origin",
        origin: "https://evil.test",
        expected: (403, "origin_not_allowed"),
        ..GOOD
    },
    Check { name: "null origin", origin: "null", expected: (403, "origin_not_allowed"), ..GOOD },
    Check { name: "model", model: "other", expected: (403, "model_not_allowed"), ..GOOD },
    Check { name: "rate", token: Some("rate"), expected: (429, "rate_limited"), ..GOOD },
];

fn request(setup: &Setup, way: &Way, check: &Check) -> Request {
    let mut target = way.target.replace("MODEL", check.model);
    if let Some(token) = check.token.filter(|_| way.ticket) {
        target = ticketed(setup, way.provider, &target, setup.token(token));
    }
    let mut request = setup.request(way.method, &target).host(check.host).origin(check.origin);
    if let Some(token) = check.token.filter(|_| !way.ticket).map(|name| setup.token(name)) {
        request = match way.cookie {
            true => request.header("cookie", format!("keygate_token={token}")),
            false => request.bearer(token),
        };
    }
    if way.upgrade {
        for (name, value) in UPGRADE {
            request = request.header(name, value);
        }
    }
    match way.body {
        Some(body) if way.form => {
            request.body("multipart/form-data; boundary=b", body.replace("MODEL", check.model))
        }
        Some(body) => request.json(body.replace("MODEL", check.model)),
        None => request,
    }
}

/// As the gateway makes it when the provider names this target.
fn ticketed(setup: &Setup, provider: &str, target: &str, token: &str) -> String {
    let gateway = setup.running().gateway();
    let parent = gateway.index.lookup(&TokenDigest::of(token.as_bytes())).expect("it is known");
    let (path, query) = target.split_once('?').expect("an upload's id");
    let subject = Subject { provider, path, query: query.into() };
    let ticket = gateway.seal.issue(&parent, &subject, setup.clock.wall_ms() + 1);
    format!("{target}&keygate_ticket={ticket}")
}

async fn setup_for(way: &Way) -> Setup {
    // The `elsewhere` policy names every provider but this one.
    let others = ["openai", "anthropic", "gemini", "decart", "internal", "streams"]
        .into_iter()
        .filter(|p| *p != way.provider)
        .collect::<Vec<_>>()
        .join(", ");
    let mut yaml = CONFIG.replace("PROVIDER", &others);
    if !way.models && way.message.is_none() {
        yaml = yaml.replace("models: [ok], ", "");
    }
    let setup = Setup::with(&yaml).await;
    setup.upstream.answer(if way.upgrade {
        Answer::websocket()
    } else {
        Answer::sse(["one", "two"])
    });
    setup
}

/// How requests get to the gateway.
enum Carrier {
    /// On a bare socket, or on one that a bridge puts into TLS.
    Http1(SocketAddr),
    Http2(H2),
}

impl Carrier {
    async fn status(&self, request: Request) -> u16 {
        match self {
            Self::Http1(addr) => request.to(*addr).open().await.status,
            Self::Http2(connection) => connection.open(request).await.status,
        }
    }

    async fn send(&self, request: Request) -> Response {
        match self {
            Self::Http1(addr) => request.to(*addr).send().await,
            Self::Http2(connection) => connection.send(request).await,
        }
    }
}

async fn assert_passes(carrier: &Carrier, request: Request, way: &Way) {
    let status = carrier.status(request).await;
    assert_eq!(status, if way.upgrade { 101 } else { 200 }, "{way:?} must pass");
}

#[tokio::test]
async fn every_way_in_passes_every_check() {
    every_check(async |setup| Carrier::Http1(setup.addr()), |_| true).await;
}

#[tokio::test]
async fn every_way_in_passes_every_check_over_tls() {
    every_check(async |setup| Carrier::Http1(bridge(setup.tls()).await), |_| true).await;
}

#[tokio::test]
async fn every_way_in_passes_every_check_over_http2() {
    let plain = |way: &Way| !way.upgrade;
    every_check(async |setup| Carrier::Http2(H2::connect(setup.tls()).await), plain).await;
}

async fn every_check(carry: impl AsyncFn(&Setup) -> Carrier, fits: impl Fn(&Way) -> bool) {
    for way in WAYS.iter().filter(|way| fits(way)) {
        let setup = setup_for(way).await;
        let carrier = carry(&setup).await;
        assert_passes(&carrier, request(&setup, way, &GOOD), way).await;
        let spend = Check { token: Some("rate"), ..GOOD };
        assert_passes(&carrier, request(&setup, way, &spend), way).await;
        let reached = setup.upstream.wait_for_heads(2).await.len();
        for check in CHECKS.iter().filter(|c| way.models || c.model == GOOD.model) {
            let response = carrier.send(request(&setup, way, check)).await;
            let (status, code) = check.expected;
            assert_eq!(response.denial(), Some(code), "{} on {way:?}", check.name);
            response.assert_denied(status, code);
        }
        assert_eq!(
            setup.upstream.received().len(),
            reached,
            "{way:?}: a denied request reached the upstream"
        );
        if let (Some(message), Carrier::Http1(addr)) = (way.message, &carrier) {
            every_message(&setup, way, *addr, message).await;
        }
    }
}

/// An allowed model passes in this message, and another ends the socket before it arrives.
async fn every_message(setup: &Setup, way: &Way, addr: SocketAddr, message: &str) {
    for (model, passes) in [("ok", true), ("other", false)] {
        let before = setup.upstream.texts().len();
        let mut raw = Raw::connect(addr).await;
        let opened = request(setup, way, &GOOD).send_on(&mut raw).await;
        assert_eq!(opened.status, 101, "{way:?} opens");
        let text = message.replace("MODEL", model);
        raw.send(Frame::new(TEXT, &*text).masked().to_bytes()).await;
        if passes {
            assert_eq!(setup.upstream.wait_for_texts(before + 1).await.last(), Some(&text));
            continue;
        }
        let (bytes, _) = raw.read_until_close().await;
        let close = Frame::parse(&bytes).and_then(|(frame, _)| frame.close_code());
        assert_eq!(close, Some((1008, "model_not_allowed".into())), "{way:?}");
        let connection = setup.upstream.connections().len() - 1;
        setup.upstream.wait_for_close_of(connection).await;
        assert_eq!(setup.upstream.texts().len(), before, "{way:?}: it never arrived");
    }
}

#[test]
fn every_kind_and_transport_has_its_rows() {
    let missing = missing_rows(WAYS);
    assert!(missing.is_empty(), "ways in without a row: {missing:?}");
    let without_gemini: Vec<Way> =
        WAYS.iter().filter(|w| w.kind != Kind::Gemini).copied().collect();
    assert!(!missing_rows(&without_gemini).is_empty(), "a kind without a row must be noticed");
    let without_upload: Vec<Way> =
        WAYS.iter().filter(|w| !w.target.starts_with("/upload/")).copied().collect();
    assert_eq!(missing_rows(&without_upload).len(), 1, "a bare path without a row must be noticed");
}

/// Kinds (and their named and bare routes) that `ways` leaves out. The match has no wildcard: a
/// kind that is added does not compile until it stands here, and then needs its rows.
fn missing_rows(ways: &[Way]) -> Vec<String> {
    let mut missing = Vec::new();
    const KINDS: [Kind; 6] = [
        Kind::OpenAi,
        Kind::Anthropic,
        Kind::Gemini,
        Kind::Decart,
        Kind::DurableStreams,
        Kind::Generic,
    ];
    for kind in KINDS {
        let (name, socket) = match kind {
            Kind::OpenAi => ("openai", true),
            Kind::Anthropic => ("anthropic", false),
            Kind::Gemini => ("gemini", true),
            Kind::Decart => ("decart", true),
            Kind::DurableStreams => ("streams", false),
            Kind::Generic => ("internal", true),
        };
        let named = format!("/{name}/");
        let has = |f: &dyn Fn(&Way) -> bool| ways.iter().any(|w| w.kind == kind && f(w));
        if !has(&|w| w.target.starts_with(&named)) {
            missing.push(format!("{kind:?} by its name"));
        }
        if !has(&|w| !w.target.starts_with(&named)) {
            missing.push(format!("{kind:?} by its own paths"));
        }
        if socket && !has(&|w| w.upgrade) {
            missing.push(format!("{kind:?} over WebSocket"));
        }
    }
    for (kind, bare) in BARE {
        if !ways.iter().any(|w| w.kind == kind && w.target.starts_with(bare)) {
            missing.push(format!("{kind:?} at {bare}"));
        }
    }
    missing
}
