//! keygate's own endpoints: what they answer. The gate has passed, the permit is held; how answers
//! travel is the proxy's.

use crate::config::Config;
use crate::policy::own::{self, Answer, Endpoints, Question};
use crate::policy::{Code, Denial, granted};
use crate::token::client::Clients;
use crate::token::index::Index;
use crate::token::mint::shape::{Field, Shape, Wish};
use crate::token::mint::{self, Dimension, LONGEST_JWT, Minted, Parent, Refused};
use crate::token::store::{ClientChange, ClientStore};
use crate::token::{jwt, opaque};
use crate::values::clock::Clock;
use crate::values::timestamp::{self, Expiry};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Live client tokens that one process holds at most.
const MOST: usize = 500_000;
/// And of one parent: none keeps others from minting.
const MOST_OF_ONE: usize = 100_000;

/// What the endpoints need.
pub struct Endpoint {
    /// Where minted tokens go.
    pub clients: Arc<Clients>,
    /// Who may have changed while the request was read.
    pub index: Arc<Index>,
    /// Where they outlive the process.
    pub store: Option<Arc<dyn ClientStore>>,
    /// Time.
    pub clock: Clock,
}

impl Endpoints for Endpoint {
    fn jwks(&self, known: Option<&str>) -> Answer {
        let document = self.clients.keys.document();
        let same = |tag: &str| tag.trim().trim_start_matches("W/") == &*document.etag || tag == "*";
        let unchanged = known.is_some_and(|known| known.split(',').any(same));
        Answer {
            status: if unchanged { 304 } else { 200 },
            headers: vec![
                ("cache-control", "public, max-age=300".to_owned()),
                ("etag", document.etag.to_string()),
            ],
            body: if unchanged { Bytes::new() } else { Bytes::from(document.body.to_string()) },
            denial: None,
        }
    }

    fn mint(&self, question: &Question, config: &Config) -> Answer {
        let now_ms = self.clock.wall_ms();
        let shape = question.shape;
        let wish = match shape.read(&question.body, &config.client_tokens, now_ms) {
            Ok(wish) => wish,
            Err(fields) => return wrong(shape, &fields),
        };
        match self.minted(question, &wish, config, now_ms) {
            Ok((minted, signed)) => granted_answer(shape, wish, &minted, signed),
            Err(Told::Denied(denial)) => denied(shape, &denial),
            Err(Told::Wrong(field)) => wrong(shape, &[field]),
        }
    }
}

enum Told {
    Denied(Denial),
    Wrong(Field),
}

impl From<Denial> for Told {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Endpoint {
    fn minted(
        &self,
        question: &Question,
        wish: &Wish,
        config: &Config,
        now_ms: u64,
    ) -> Result<(Minted, Option<String>), Told> {
        let token = &question.token;
        let ends_at = match token.expires_at {
            Expiry::At(end) => Some(end),
            Expiry::Never => None,
            Expiry::Unreadable => Some(0),
        };
        let grant = granted(config, token)?;
        let parent =
            Parent { id: &token.id, digest: token.digest, name: &token.name, ends_at, grant };
        let minted =
            mint::mint(question.shape, wish, &parent, now_ms).map_err(|why| match why {
                Refused::Outside(dimension) => Denial::from(outside(dimension)),
                Refused::Ended => Code::TokenExpired.into(),
                Refused::Fault(why) => {
                    log::error!("minting failed: {why}");
                    Code::InternalError.into()
                }
            })?;
        let signed = self.signed(question.shape, &minted, wish, config, now_ms)?;
        if self.clients.len() >= MOST || self.clients.children_of(&token.id) >= MOST_OF_ONE {
            let why = "too many client tokens are alive; try again when some have ended";
            return Err(Denial::new(Code::StoreUnavailable, why).into());
        }
        if let Some(store) = &self.store {
            let change = ClientChange::Add(Box::new(minted.record.clone()));
            let stored = store.clone().request(change).blocking_recv();
            stored.map_err(|e| e.to_string()).and_then(|s| s.map_err(|e| e.to_string())).map_err(
                |why| {
                    log::error!("a client token could not be stored: {why}");
                    Denial::from(Code::StoreUnavailable)
                },
            )?;
        }
        // Revoked or disabled while it asked: its children are refused by the gate all the same.
        let parent = self.index.lookup(&token.digest).filter(|parent| !parent.disabled);
        let parent = parent.ok_or_else(|| Denial::from(Code::TokenInvalid))?;
        own::may_mint(&parent)?;
        self.clients.take(&minted.record);
        Ok((minted, signed))
    }

    fn signed(
        &self,
        shape: Shape,
        minted: &Minted,
        wish: &Wish,
        config: &Config,
        now_ms: u64,
    ) -> Result<Option<String>, Told> {
        // The other shapes have no place for it.
        if shape != Shape::Client || config.client_tokens.signing.is_none() {
            return Ok(None);
        }
        let claims = mint::claims(minted, wish, &config.client_tokens, now_ms);
        let signed = jwt::sign(&self.clients, &claims, now_ms);
        let signed = signed.ok_or_else(|| Denial::from(Code::InternalError))?;
        if signed.len() > LONGEST_JWT {
            let loc = vec!["body".into()];
            let msg = "the signed token would be longer than 4 KiB: ask for less".to_owned();
            return Err(Told::Wrong(Field { loc, msg, kind: "value_error" }));
        }
        Ok(Some(signed))
    }
}

fn outside(dimension: Dimension) -> Code {
    match dimension {
        Dimension::Providers => Code::ProviderNotAllowed,
        Dimension::Methods => Code::MethodNotGranted,
        Dimension::Paths => Code::PathNotAllowed,
        Dimension::Models => Code::ModelNotAllowed,
        Dimension::Origins => Code::OriginNotAllowed,
    }
}

fn granted_answer(shape: Shape, wish: Wish, minted: &Minted, signed: Option<String>) -> Answer {
    // The one time that its holder gets to see it.
    let plain = minted.opaque.expose();
    let record = &minted.record;
    let seconds = record.ends_at / 1_000;
    let value = match shape {
        Shape::Client => client(minted, signed),
        Shape::Secret => json!({
            "value": plain,
            "expires_at": seconds,
            "session": session(wish.session),
        }),
        Shape::Session => {
            let mut session = session(wish.session);
            session.insert("client_secret".into(), json!({"value": plain, "expires_at": seconds}));
            Value::Object(session)
        }
        Shape::Gemini => json!({ "name": plain }),
    };
    answer(200, &value, None)
}

fn client(minted: &Minted, signed: Option<String>) -> Value {
    let text = mint::text(&minted.grant);
    // What is not restricted is left out: Decart's library for Python refuses a null in here.
    let named = [("models", text.models), ("origins", text.origins)];
    let lists = named.into_iter().filter_map(|(name, list)| Some((name.to_owned(), list?.into())));
    let permissions: Map<String, Value> = lists.collect();
    let permissions = (!permissions.is_empty()).then_some(permissions);
    let length = minted.grant.max_session.map(|length| length.as_secs().max(1));
    json!({
        "apiKey": minted.opaque.expose(),
        "token": signed,
        "expiresAt": timestamp::format(minted.record.ends_at),
        "permissions": permissions,
        "constraints": length.map(|s| json!({ "realtime": { "maxSessionDuration": s } })),
    })
}

/// The session as it was sent, under an id of its own.
fn session(sent: Option<Map<String, Value>>) -> Map<String, Value> {
    let mut session = sent.unwrap_or_default();
    session.entry("type").or_insert_with(|| "realtime".into());
    session.insert("object".to_owned(), "realtime.session".into());
    if let Ok(id) = opaque::draw_client_id() {
        session.insert("id".to_owned(), id.replacen("ctk_", "sess_", 1).into());
    }
    session
}

/// 422, naming the fields.
fn wrong(shape: Shape, fields: &[Field]) -> Answer {
    if shape == Shape::Client {
        let detail: Vec<_> =
            fields.iter().map(|f| json!({ "loc": f.loc, "msg": f.msg, "type": f.kind })).collect();
        return answer(422, &json!({ "detail": detail }), Some(Code::InvalidField));
    }
    let place = |field: &Field| {
        let names = field.loc.iter().skip(1).map(|name| match name {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        });
        names.collect::<Vec<_>>().join(".")
    };
    let all: Vec<_> = fields.iter().map(|f| format!("{}: {}", place(f), f.msg)).collect();
    let denial = Denial::new(Code::InvalidField, all.join("; "));
    let param = fields.first().map(place);
    let mut told = denied(shape, &denial);
    if shape != Shape::Gemini {
        let body = error(shape, &denial, param);
        told.body = Bytes::from(body.to_string());
    }
    told
}

fn denied(shape: Shape, denial: &Denial) -> Answer {
    answer(denial.code.status(), &error(shape, denial, None), Some(denial.code))
}

/// In the shape that its SDK reads; the gate's own refusals are `proxy::reject`'s.
fn error(shape: Shape, denial: &Denial, param: Option<String>) -> Value {
    let (status, code, message) = (denial.code.status(), denial.code.as_str(), &denial.message);
    let kind = match status {
        403 => "permission_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let google = match status {
        403 => "PERMISSION_DENIED",
        401 => "UNAUTHENTICATED",
        503 => "UNAVAILABLE",
        500 => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    match shape {
        Shape::Client => json!({ "detail": message }),
        Shape::Secret | Shape::Session => json!({"error": {
            "message": message, "type": kind, "code": code, "param": param
        }}),
        Shape::Gemini => json!({"error": {
            "code": status, "message": format!("{message} ({code})"), "status": google
        }}),
    }
}

fn answer(status: u16, value: &Value, denial: Option<Code>) -> Answer {
    let headers = vec![("cache-control", "no-store".to_owned())];
    Answer { status, headers, body: Bytes::from(value.to_string()), denial }
}
