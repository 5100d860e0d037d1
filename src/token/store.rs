//! What a durable store of tokens has to offer. Implemented in `crate::store`.

use super::jwks::{KeyRecord, Rotation};
use super::ticket::KEY_BYTES;
use crate::values::Invalid;
use crate::values::grant::GrantText;
use crate::values::ids::TokenDigest;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A token's durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `tok_` and 16 base64url characters.
    pub id: String,
    /// For people; not unique.
    pub name: String,
    /// SHA-256 of the plain token, unique.
    pub digest: TokenDigest,
    /// Its last four characters.
    pub last4: String,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// RFC 3339 text; what can't be read counts as expired.
    pub expires_at: Option<String>,
    /// Refused while set.
    pub disabled: bool,
    /// Whether it may mint client tokens.
    pub may_mint: bool,
    /// A policy's name.
    pub policy: Option<String>,
    /// An inline grant; `Err` holds what the store had where it could not be read.
    pub grant: Option<Result<GrantText, String>>,
    /// Milliseconds since 1970, written lazily.
    pub last_used_at: Option<u64>,
}

/// A change to a record; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New name.
    pub name: Option<String>,
    /// New expiry, or `Some(None)` to remove it.
    pub expires_at: Option<Option<String>>,
    /// Disable or enable.
    pub disabled: Option<bool>,
    /// Let it mint, or no longer.
    pub may_mint: Option<bool>,
    /// New policy, or `Some(None)` to remove it.
    pub policy: Option<Option<String>>,
    /// New inline grant, or `Some(None)` to remove it.
    pub grant: Option<Option<GrantText>>,
}

/// A minted token's durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRecord {
    /// `ctk_` and 16 base64url characters; also the signed form's `jti`.
    pub id: String,
    /// The token that minted it.
    pub parent: String,
    /// SHA-256 of that one.
    pub parent_digest: TokenDigest,
    /// SHA-256 of its opaque form.
    pub digest: TokenDigest,
    /// What people call it: its parent's name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// Until when it opens connections.
    pub starts_until: u64,
    /// When it ends.
    pub ends_at: u64,
    /// How many connections it may open.
    pub uses: Option<u32>,
    /// Whether it has inference paths only.
    pub inference: bool,
    /// What it may do; `Err` where the store's text could not be read.
    pub grant: Result<GrantText, String>,
    /// JSON that its minter noted.
    pub metadata: Option<String>,
    /// Refused for good.
    pub revoked: bool,
}

/// A durable store of what is minted and of the keys that sign it. Calls block.
pub trait ClientStore: Send + Sync {
    /// Does what a request waits for, durably, within [`WITHIN`]; what has waited longer is not
    /// begun, and changes nothing. The answer does not come only if the store's thread is gone.
    fn request(self: Arc<Self>, change: ClientChange) -> Answer;
    /// What was added or changed behind `seq`, and how far that goes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn clients_since(&self, seq: i64) -> Result<(i64, Vec<ClientRecord>), StoreError>;
    /// Refuses a token from now on. Its record stays until it would have ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Failed`].
    fn revoke_client(&self, id: &str) -> Result<(), StoreError>;
    /// Forgets what has ended.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn forget_ended(&self, now_ms: u64) -> Result<(), StoreError>;
    /// Every signing key.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn keys(&self) -> Result<Vec<KeyRecord>, StoreError>;
    /// Changes the keys by what `decide` makes of them as they are; no other change comes between.
    ///
    /// # Errors
    /// [`StoreError::Failed`], and whatever `decide` refuses.
    fn rotate(&self, decide: &mut Decide<'_>) -> Result<(), StoreError>;
}

/// What a request waits for.
#[derive(Debug)]
pub enum ClientChange {
    /// Add a token.
    Add(Box<ClientRecord>),
    /// Take one of a token's connections; the answer says whether one was left.
    Use {
        /// The token's id.
        id: Arc<str>,
        /// How many it has in all.
        uses: u32,
        /// When it ends (wall clock, milliseconds).
        ends_at: u64,
    },
}

/// How a change ended.
pub type Answer = tokio::sync::oneshot::Receiver<Result<bool, StoreError>>;

/// How long a change may wait before it is begun.
pub const WITHIN: Duration = Duration::from_millis(250);

/// What becomes of the keys there are.
pub type Decide<'a> = dyn FnMut(&[KeyRecord]) -> Result<Rotation, Invalid> + 'a;

/// Why a store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such token.
    #[error("there is no token '{0}'; `keygate token list` shows what there is")]
    NotFound(String),
    /// The token's digest is taken.
    #[error("this token exists already; choose another")]
    Exists,
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// A durable store. Calls block; none is made on the request path.
pub trait TokenStore: Send + Sync {
    /// Adds a record, durably.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Failed`].
    fn create(&self, record: &Record) -> Result<(), StoreError>;
    /// Every record, by creation.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn all(&self) -> Result<Vec<Record>, StoreError>;
    /// One record, by id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Failed`].
    fn get(&self, id: &str) -> Result<Record, StoreError>;
    /// Changes a record, durably, and gives it as it is then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Failed`].
    fn update(&self, id: &str, change: &Change) -> Result<Record, StoreError>;
    /// Removes a record, durably.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Failed`].
    fn delete(&self, id: &str) -> Result<(), StoreError>;
    /// A number that differs after any process changed any record (not after
    /// [`Self::touch`]). Cheap: asked several times a second.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn version(&self) -> Result<i64, StoreError>;
    /// The key of upload tickets: drawn by whoever asks first, the same for everybody after.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn ticket_key(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, StoreError>;
    /// Notes when tokens were last used.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn touch(&self, uses: &[(String, u64)]) -> Result<(), StoreError>;
}
