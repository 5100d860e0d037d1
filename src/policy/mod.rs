//! The gate. [`check`] shows its whole order in one function, the same for HTTP, SSE and
//! WebSocket upgrades; the first step that refuses answers.
//!
//! The gate decides and knows nothing of sockets or frameworks: what it asks of a request is the
//! trait [`Request`], which `proxy::admit` implements. Only [`check`] makes a [`Permit`].

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
pub use permit::Permit;
pub use step::Step;

use crate::config::Config;
use crate::token::client::Clients;
use crate::token::index::Index;
use crate::token::{GrantSource, Presented, Token};
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
    /// 7. Finds the token.
    ///
    /// # Errors
    /// 401 without, 400 with two different ones.
    fn extract(&mut self) -> Result<Presented, Denial>;
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
    /// 400, 413, 415.
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
    /// Go on.
    Permit(Permit),
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
    let presented = request.extract().map_err(|d| d.at(Step::Extraction))?;
    let now_ms = rules.clock.wall_ms();
    let holder = authenticate(rules, &presented, request.client(), now_ms)
        .map_err(|d| d.at(Step::Authentication))?;
    request.authenticated(&holder.token);
    let bounds = holder.bounds(rules.config).map_err(|d| d.at(Step::Authentication))?;
    bounds.each(|b| scope::check(b.grant, b.inference_only, &request.scope()), Step::Scope)?;
    bounds.each(|b| origin::check(b.grant, &request.origin()), Step::Origin)?;
    request.body().map_err(|d| d.at(Step::Body))?;
    let mints = request.scope().class == Class::Minting;
    let model = if bounds.name_models() && !mints {
        let named = request.models().await.map_err(|d| d.at(Step::Model))?;
        bounds.each(|b| model::check(b.grant, &request.scope(), &named), Step::Model)?;
        model::decided(named)
    } else {
        // A grant without models pays nothing for them.
        None
    };
    let steady_ms = rules.clock.steady_ms();
    holder.take_rate(rules.config, steady_ms).map_err(|d| d.at(Step::Rate))?;
    let in_flight = holder.enter(rules.config).map_err(|d| d.at(Step::Concurrency))?;
    // Step::Budget: the reservation has its place here.
    if mints {
        own::may_mint(&holder.token).map_err(|d| d.at(Step::Own))?;
    } else if let Some(uses) = holder.token.client.as_ref().and_then(|c| c.uses) {
        request.spend(&holder.token, uses).await.map_err(|d| d.at(Step::Concurrency))?;
    }
    let ends = bounds.ends(&holder.token);
    holder.used(now_ms);
    let permit = Permit::new(holder.token, model, in_flight, ends);
    if mints {
        return Ok(Verdict::Mint(permit));
    }
    request.key().map_err(|d| d.at(Step::Key))?;
    Ok(Verdict::Permit(permit))
}

/// Step 8. The lookup comes first: a valid token passes whatever its address did before.
fn authenticate(
    rules: Rules<'_>,
    presented: &Presented,
    client: AddressKey,
    now_ms: u64,
) -> Result<Holder, Denial> {
    let found = match rules.index.lookup(&presented.digest) {
        None => rules.clients.find(presented, rules.config, now_ms),
        found => found,
    };
    let holder = found.and_then(|token| Holder::of(token, rules.index));
    let Some(holder) = holder.filter(Holder::is_enabled) else {
        let limit = rules.config.limits.failed_auth;
        return Err(match rules.failed_auth.count(client, limit, rules.clock.steady_ms()) {
            Ok(()) => Code::TokenInvalid.into(),
            Err(wait_ms) => Denial {
                retry_after_ms: Some(wait_ms),
                ..Denial::new(Code::RateLimited, "too many invalid tokens from this address")
            },
        });
    };
    if holder.has_expired(now_ms) {
        return Err(Code::TokenExpired.into());
    }
    Ok(holder)
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
