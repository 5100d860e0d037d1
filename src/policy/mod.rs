//! The gate. [`check`] shows its whole order in one function, the same for HTTP, SSE and
//! WebSocket upgrades; the first step that refuses answers.
//!
//! The gate decides and knows nothing of sockets or frameworks: what it asks of a request is the
//! trait [`Request`], which `proxy::admit` implements. Only [`check`] makes a [`Permit`], or a
//! pending one that [`Pass::decide`] completes.

mod authentication;
pub mod concurrency;
pub mod denial;
pub mod failed_auth;
pub mod model;
pub mod origin;
pub mod permit;
pub mod rate;
pub mod scope;
pub mod step;

pub use denial::{Code, Denial};
pub use permit::{Pass, Pending, Permit};
pub use step::Step;

use crate::config::Config;
use crate::token::index::Index;
use crate::token::ticket::{self, Seal};
use crate::token::{Credential, GrantSource, Token};
use crate::values::clock::Clock;
use crate::values::grant::{Grant, RateLimit};
use crate::values::net::AddressKey;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a path is, by its provider's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Asks a model something and leaves nothing behind.
    Inference,
    /// The list of models.
    ModelList,
    /// Reads or leaves state that everybody behind the key shares; also all that is not known.
    Stateful,
    /// Media that bypasses the gateway once it has begun.
    OutOfBand,
    /// Would hand out a real credential.
    Minting,
}

/// What the gate asks of a request, step by step.
pub trait Request {
    /// 1. Framing and headers.
    ///
    /// # Errors
    /// 400, 431.
    fn framing(&mut self) -> Result<(), Denial>;
    /// 2. Host.
    ///
    /// # Errors
    /// 400, 421.
    fn host(&mut self) -> Result<(), Denial>;
    /// 3. Target and path.
    ///
    /// # Errors
    /// 400, 414.
    fn target(&mut self) -> Result<(), Denial>;
    /// 4. Method.
    ///
    /// # Errors
    /// 405.
    fn method(&mut self) -> Result<(), Denial>;
    /// 5. Whether this is a CORS preflight.
    fn is_preflight(&self) -> bool;
    /// 6. Finds the provider.
    ///
    /// # Errors
    /// 404; 400 for what only this provider's paths may not hold.
    fn route(&mut self) -> Result<(), Denial>;
    /// 7. Finds the token, or the upload ticket that stands for it.
    ///
    /// # Errors
    /// 401 without, 400 with two different ones.
    fn extract(&mut self) -> Result<Credential, Denial>;
    /// 8. What a ticket would have to be good for.
    fn ticket_subject(&self) -> ticket::Subject<'_>;
    /// The caller's address, as limits count it.
    fn client(&self) -> AddressKey;
    /// Told whose request it is, once that is known.
    fn authenticated(&mut self, token: &Arc<Token>);
    /// 9. What is to be reached.
    fn scope(&self) -> scope::Target<'_>;
    /// 10. Where it says it comes from.
    fn origin(&self) -> origin::Effective<'_>;
    /// 11. Body type and size.
    ///
    /// # Errors
    /// 413, 415, 417.
    fn body(&mut self) -> Result<(), Denial>;
    /// 12. Every place in which the request names a model; reads the body where it has to.
    ///
    /// # Errors
    /// 400, 415.
    fn models(&mut self) -> impl Future<Output = Result<model::Named, Denial>> + Send;
    /// 17. Chooses the key.
    ///
    /// # Errors
    /// 503.
    fn key(&mut self) -> Result<(), Denial>;
}

/// What the gate decides by.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The configuration of this request, from start to end.
    pub config: &'a Config,
    /// Known tokens.
    pub index: &'a Index,
    /// What upload tickets are checked with.
    pub seal: &'a Seal,
    /// Failures by address.
    pub failed_auth: &'a failed_auth::FailedAuth,
    /// Time.
    pub clock: &'a Clock,
}

/// What the gate decided.
#[derive(Debug)]
pub enum Verdict {
    /// A CORS preflight: answer it, forward nothing.
    Preflight,
    /// Go on; where the permit is pending, keep the last byte until it is decided.
    Pass(Pass),
}

/// The gate: every step, in order.
///
/// # Errors
/// The first step that refuses.
pub async fn check<R: Request>(rules: Rules<'_>, request: &mut R) -> Result<Verdict, Denial> {
    request.framing().map_err(|d| d.at(Step::Framing))?;
    request.host().map_err(|d| d.at(Step::Host))?;
    request.target().map_err(|d| d.at(Step::Target))?;
    request.method().map_err(|d| d.at(Step::Method))?;
    if request.is_preflight() {
        return Ok(Verdict::Preflight);
    }
    request.route().map_err(|d| d.at(Step::Route))?;
    let credential = request.extract().map_err(|d| d.at(Step::Extraction))?;
    let now_ms = rules.clock.wall_ms();
    let token = authentication::authenticate(rules, &credential, request, now_ms)
        .map_err(|d| d.at(Step::Authentication))?;
    request.authenticated(&token);
    let limits = Limits::of(rules.config, &token);
    let grant = granted(rules.config, &token).map_err(|d| d.at(Step::Authentication))?;
    scope::check(grant, &request.scope()).map_err(|d| d.at(Step::Scope))?;
    origin::check(grant, &request.origin()).map_err(|d| d.at(Step::Origin))?;
    request.body().map_err(|d| d.at(Step::Body))?;
    let (mut model, mut pending) = (None, None);
    // A grant without models pays nothing for them.
    if grant.models.is_some() {
        let named = request.models().await.map_err(|d| d.at(Step::Model))?;
        if named.pending {
            model::check_so_far(grant, &named).map_err(|d| d.at(Step::Model))?;
            pending = Some(named);
        } else {
            let decided = model::check(grant, &request.scope(), named);
            model = decided.map_err(|d| d.at(Step::Model))?;
        }
    }
    rate::take(&token.counters, limits.rate, rules.clock.steady_ms())
        .map_err(|d| d.at(Step::Rate))?;
    let in_flight = concurrency::enter(&token.counters, limits.concurrency)
        .map_err(|d| d.at(Step::Concurrency))?;
    // Step::Budget: the reservation has its place here.
    // Step::Own: keygate's own endpoints answer here.
    request.key().map_err(|d| d.at(Step::Key))?;
    token.counters.last_used_ms.store(now_ms, Relaxed);
    Ok(Verdict::Pass(match pending {
        Some(named) => Pass::Pending(Pending::new(token, named, in_flight)),
        None => Pass::Decided(Permit::new(token, model, in_flight)),
    }))
}

/// The grant that bounds `token` under this configuration.
///
/// # Errors
/// Its policy is gone or its own grant can't be read: nothing is allowed.
pub fn granted<'a>(config: &'a Config, token: &'a Token) -> Result<&'a Grant, Denial> {
    match &token.grant {
        GrantSource::Policy(name) => match config.policies.get(name) {
            Some(grant) => Ok(grant),
            None => Err(Code::TokenInvalid.into()),
        },
        GrantSource::Inline(grant) => Ok(grant),
        GrantSource::Default => Ok(config.default_policy.as_deref().unwrap_or(&UNRESTRICTED)),
        GrantSource::Unreadable => Err(Code::TokenInvalid.into()),
    }
}

/// Whether a session that passed before may go on: its token is there, and its grant still
/// reaches what it reached.
pub fn still_allowed(config: &Config, token: &Token, target: &scope::Target<'_>) -> bool {
    !token.disabled && granted(config, token).is_ok_and(|grant| scope::check(grant, target).is_ok())
}

static UNRESTRICTED: Grant = Grant {
    providers: None,
    methods: None,
    paths: None,
    models: None,
    origins: None,
    allow_missing_origin: false,
    rate_limit: None,
    concurrency: None,
};

/// The limits in force: an inline grant inherits what it leaves out from the default policy.
struct Limits {
    rate: Option<RateLimit>,
    concurrency: Option<u32>,
}

impl Limits {
    fn of(config: &Config, token: &Token) -> Self {
        let none = Self { rate: None, concurrency: None };
        let of = |grant: &Grant| Self { rate: grant.rate_limit, concurrency: grant.concurrency };
        match &token.grant {
            GrantSource::Inline(grant) => {
                let fallback = config.default_policy.as_deref().map_or(none, of);
                Self {
                    rate: grant.rate_limit.or(fallback.rate),
                    concurrency: grant.concurrency.or(fallback.concurrency),
                }
            }
            _ => granted(config, token).map_or(none, of),
        }
    }
}
