//! What a durable store of tokens has to offer. Implemented in `crate::store`.

use super::ticket::KEY_BYTES;
use crate::values::grant::GrantText;
use crate::values::ids::TokenDigest;
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
    /// New policy, or `Some(None)` to remove it.
    pub policy: Option<Option<String>>,
    /// New inline grant, or `Some(None)` to remove it.
    pub grant: Option<Option<GrantText>>,
}

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
