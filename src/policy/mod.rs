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
pub mod holder;
pub mod model;
pub mod origin;
pub mod own;
pub mod permit;
pub mod rate;
pub mod scope;
pub mod step;

pub use denial::{Code, Denial};
pub use permit::{Pass, Pending, Permit};
pub use step::Step;

use crate::config::Config;
use crate::token::client::Clients;
use crate::token::index::Index;
use crate::token::ticket::{self, Seal};
use crate::token::{Credential, GrantSource, Token};
use crate::values::clock::Clock;
use crate::values::grant::Grant;
use crate::values::net::AddressKey;
pub use holder::{Holder, still_allowed};
use std::future::Future;
use std::sync::Arc;

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
    /// 6. Whether this is a public endpoint of keygate's own, for which no token is needed.
    fn is_public(&self) -> bool;
    /// 7. Finds the token, or the upload ticket that stands for it.
    ///
    /// # Errors
    /// 401 without, 400 with two different ones.
    fn extract(&mut self) -> Result<Credential, Denial>;
    /// 7. Whether who sends no token may go on without one.
    fn is_open(&self) -> bool;
    /// 8. What a ticket would have to be good for.
    fn ticket_subject(&self) -> ticket::Subject<'_>;
    /// The caller's address, as limits count it.
    fn client(&self) -> AddressKey;
    /// Told whose request it is, once that is known.
    fn authenticated(&mut self, token: &Arc<Token>);
    /// 9. What is to be reached.
    fn scope(&self) -> scope::Target<'_>;
    /// 9. Where it would copy from, decoded: that has to be reached as well.
    ///
    /// # Errors
    /// 400 for what is no path.
    fn copied(&self) -> Result<Option<Box<str>>, Denial>;
    /// 10. Where it says it comes from.
    fn origin(&self) -> origin::Effective<'_>;
    /// 10. Whether the stream's own policy lets it be used from there.
    ///
    /// # Errors
    /// 403, 503 where nobody knows, 400 for a stream that is spelt otherwise.
    fn stream(&mut self) -> impl Future<Output = Result<(), Denial>> + Send {
        std::future::ready(Ok(()))
    }
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
    /// 14. Takes one of the connections that `token` may open.
    ///
    /// # Errors
    /// 401 where none is left, 503.
    fn spend(
        &mut self,
        token: &Arc<Token>,
        uses: u32,
    ) -> impl Future<Output = Result<(), Denial>> + Send;
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
    /// Known client tokens.
    pub clients: &'a Clients,
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
    /// A public endpoint of keygate's own.
    Public,
    /// Mint a client token; forward nothing.
    Mint(Permit),
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
    if request.is_public() {
        return Ok(Verdict::Public);
    }
    let credential = match request.extract() {
        Err(denial) if denial.code == Code::TokenMissing && request.is_open() => None,
        found => Some(found.map_err(|d| d.at(Step::Extraction))?),
    };
    let now_ms = rules.clock.wall_ms();
    let holder = authentication::authenticate(rules, credential.as_ref(), request, now_ms)
        .map_err(|d| d.at(Step::Authentication))?;
    if !holder.token.is_anonymous() {
        request.authenticated(&holder.token);
    }
    let bounds = holder.bounds(rules.config).map_err(|d| d.at(Step::Authentication))?;
    reach(&bounds, request).map_err(|d| d.at(Step::Scope))?;
    let by_cookie = credential.as_ref().is_some_and(|credential| credential.by_cookie);
    bounds.each(|b| origin::check(b.grant, &request.origin(), by_cookie), Step::Origin)?;
    request.stream().await.map_err(|d| d.at(Step::Origin))?;
    request.body().map_err(|d| d.at(Step::Body))?;
    let mints = request.scope().class == Class::Minting;
    // Grants without models pay nothing for them.
    let names = bounds.name_models() && !mints;
    let (model, pending) = if names { decide_model(&bounds, request).await? } else { (None, None) };
    let steady_ms = rules.clock.steady_ms();
    let counts = holder.counts(rules.config);
    counts.take_rate(steady_ms).map_err(|d| d.at(Step::Rate))?;
    let in_flight = counts.enter().map_err(|d| d.at(Step::Concurrency))?;
    // Step::Budget: the reservation has its place here.
    if mints {
        own::may_mint(&holder.token).map_err(|d| d.at(Step::Own))?;
    } else if let Some(uses) = holder.token.client.as_ref().and_then(|c| c.uses)
        // A ticket carries on what its first leg has paid for.
        && credential.as_ref().is_none_or(|credential| credential.ticket.is_none())
    {
        request.spend(&holder.token, uses).await.map_err(|d| d.at(Step::Concurrency))?;
    }
    let ends = bounds.ends(&holder);
    holder.used(now_ms);
    if mints {
        return Ok(Verdict::Mint(Permit::new(holder, (model, names), in_flight, ends)));
    }
    request.key().map_err(|d| d.at(Step::Key))?;
    Ok(Verdict::Pass(match pending {
        Some(named) => Pass::Pending(Pending::new(holder, named, in_flight, ends)),
        None => Pass::Decided(Permit::new(holder, (model, names), in_flight, ends)),
    }))
}

/// Step 9, for what is asked and for what it would copy.
fn reach<R: Request>(bounds: &holder::Bounds<'_>, request: &R) -> Result<(), Denial> {
    let target = request.scope();
    let check = |t| bounds.each(|b| scope::check(b.grant, b.inference_only, t), Step::Scope);
    check(&target)?;
    match request.copied()? {
        Some(path) => check(&scope::Target { path: &path, ..target }),
        None => Ok(()),
    }
}

/// Step 12: the model, or what is known of it while the body is still to come.
async fn decide_model<R: Request>(
    bounds: &holder::Bounds<'_>,
    request: &mut R,
) -> Result<(Option<Box<str>>, Option<model::Named>), Denial> {
    let named = request.models().await.map_err(|d| d.at(Step::Model))?;
    if named.pending {
        bounds.each(|b| model::check_so_far(b.grant, &named), Step::Model)?;
        return Ok((None, Some(named)));
    }
    bounds.each(|b| model::check(b.grant, &request.scope(), &named), Step::Model)?;
    Ok((named.model, None))
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
        // The provider is public, and nothing else is reached.
        GrantSource::Public => Ok(&UNRESTRICTED),
        GrantSource::Default => Ok(config.default_policy.as_deref().unwrap_or(&UNRESTRICTED)),
        GrantSource::Unreadable => Err(Code::TokenInvalid.into()),
    }
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
    max_session: None,
    end_at_expiry: false,
};
