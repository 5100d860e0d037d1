//! A socket's messages from its caller, read where a grant names models: each is decided before the
//! provider has it whole.
//!
//! A message that may not pass ends the socket: what came before it still reaches the provider, in
//! order; then the caller's side is cut, and learns why by a close frame. Synchronous, as the phase
//! in which it runs must be.

use super::canonical::Framing;
use super::ctx::Note;
use super::gateway::Gateway;
use crate::body::json_model::Refused as Unreadable;
use crate::body::message_model::{Found, Scanner, Wanted};
use crate::config::Config;
use crate::policy::{Code, Denial, Pass, model};
use crate::provider::socket::{Messages, Naming};
use crate::provider::{BodyPlaces, ModelPlaces};
use crate::session::registry::Live;
use crate::ws::inspect::{Inspector, Judge, Refused};
use bytes::Bytes;
use std::sync::atomic::Ordering::Acquire;

/// How the messages of the socket that a request opens name models.
pub(super) fn messages(places: &ModelPlaces<'_>, query: Option<&str>) -> Option<&'static Messages> {
    match places.body {
        BodyPlaces::Frames(messages) => Some(messages.under(query)),
        BodyPlaces::None | BodyPlaces::Json { .. } => None,
    }
}

/// Stands at a place in what a caller sends.
pub(super) struct Reader {
    messages: &'static Messages,
    inspector: Inspector,
    scanner: Scanner,
    /// A message has named the model that the socket needs.
    begun: bool,
}

/// What a message is held against.
pub(super) struct Against<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) config: &'a Config,
    pub(super) permit: &'a Pass,
    pub(super) live: &'a Live,
    /// What [`Gateway::changes`] said when the request began.
    pub(super) changes: u64,
    pub(super) note: &'a mut Note,
}

impl Reader {
    /// Before the first byte of the socket that a request opens; `None` where it opens none, or
    /// where the messages name no models.
    pub(super) fn of(
        places: &ModelPlaces<'_>,
        query: Option<&str>,
        framing: Framing,
    ) -> Option<Box<Self>> {
        let messages = messages(places, query).filter(|_| framing.upgrade)?;
        let (inspector, scanner) = (Inspector::default(), Scanner::new(wanted(messages)));
        Some(Box::new(Self { messages, inspector, scanner, begun: false }))
    }

    /// Takes a chunk. Gives what passes now; with a denial, what passes before the end of all.
    pub(super) fn pass(&mut self, chunk: Bytes, against: Against<'_>) -> (Bytes, Option<Denial>) {
        let limit = against.config.limits.max_ws_message;
        let Self { messages, inspector, scanner, begun } = self;
        let mut judging = Judging { messages, scanner, begun, against };
        let (passes, verdict) = inspector.pass(chunk, limit, &mut judging);
        let denial = verdict.err().map(|refused| match refused {
            Refused::Malformed(what) => Denial::new(Code::MalformedRequest, what),
            Refused::TooBig => Code::MessageTooBig.into(),
            Refused::Message(denial) => denial,
        });
        (passes, denial)
    }
}

fn wanted(messages: &Messages) -> Wanted {
    let kind = match messages.named {
        Naming::Each(kind) => Some(kind),
        Naming::Url | Naming::First => None,
    };
    Wanted { main: messages.main, further: messages.further, kind }
}

struct Judging<'a> {
    messages: &'static Messages,
    scanner: &'a mut Scanner,
    begun: &'a mut bool,
    against: Against<'a>,
}

impl Judge for Judging<'_> {
    type Refusal = Denial;

    fn hear(&mut self, piece: &[u8]) -> Result<(), Denial> {
        self.scanner.feed(piece).map_err(denial)
    }

    fn decide(&mut self) -> Result<(), Denial> {
        let found = self.scanner.finish().map_err(denial)?;
        *self.scanner = Scanner::new(wanted(self.messages));
        let due = match self.messages.named {
            Naming::Url => false,
            Naming::First => !*self.begun,
            Naming::Each(_) => !found.other_kind,
        };
        if due && found.main.is_none() {
            let why = "the token may use certain models only, and the message names none";
            return Err(Denial::new(Code::ModelNotAllowed, why));
        }
        *self.begun = true;
        if found.models.is_empty() { Ok(()) } else { self.against.hold(found) }
    }
}

impl Against<'_> {
    /// Holds what a message names against the grants as they are now.
    fn hold(&mut self, found: Found) -> Result<(), Denial> {
        // First noted, then held against the grant in force: if that changes in between, either we
        // see it here, or those who re-check what is open see the models.
        if !self.live.note_models(&found.models) {
            let why = "the socket has named more than 64 different models";
            return Err(Denial::new(Code::AmbiguousModel, why));
        }
        let changed = self.gateway.changes.load(Acquire) != self.changes;
        for model in &found.models {
            if !changed {
                self.permit.allows(self.config, model)?;
            } else if !self.gateway.allows_now(self.live, model) {
                return Err(Code::ModelNotAllowed.into());
            }
        }
        let Some(main) = found.main.as_deref().map(model::plain) else { return Ok(()) };
        let first = self.permit.decided().and_then(|permit| permit.model());
        if first.is_some_and(|first| !model::same(first, main)) {
            let why = "the URL and a message name different models";
            return Err(Denial::new(Code::AmbiguousModel, why));
        }
        if self.note.model.as_deref() != Some(main) {
            self.note.model = Some(main.into());
        }
        Ok(())
    }
}

fn denial(refused: Unreadable) -> Denial {
    match refused {
        Unreadable::Syntax(why) => {
            Denial::new(Code::InvalidBody, format!("the message is no JSON object: {why}"))
        }
        Unreadable::Duplicate => Denial::new(
            Code::AmbiguousModel,
            "the message has a member twice that leads to a model",
        ),
        Unreadable::TooMany => {
            Denial::new(Code::AmbiguousModel, "the message names more than 64 different models")
        }
        Unreadable::NotAName => {
            Denial::new(Code::AmbiguousModel, "the model in the message is not a plain name")
        }
    }
}
