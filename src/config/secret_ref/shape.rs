//! How references are written. Nothing that is refused here is repeated in the message.

use super::SecretRef;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

const LITERAL: &str = "a literal key in the file is an error: write { env: NAME }, { file: PATH } \
                       or { credential: NAME }";
const ONE: &str = "write exactly one of env, file and credential";

/// An entry of `keys:`, a reference with an optional weight.
#[derive(Debug)]
pub(crate) struct KeyRef {
    pub(crate) secret: SecretRef,
    pub(crate) weight: Option<u32>,
}

/// `keys:`
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Vec<KeyRef>);

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entry = deserializer.deserialize_any(Reference { weight: false })?;
        Ok(entry.secret)
    }
}

impl<'de> Deserialize<'de> for KeyRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference { weight: true })
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(List)
    }
}

/// Everything that is no reference counts as a literal key.
macro_rules! refuse_scalars {
    ($($method:ident: $type:ty),+) => {
        $(fn $method<E: de::Error>(self, _value: $type) -> Result<Self::Value, E> {
            Err(E::custom(LITERAL))
        })+
    };
}

struct Reference {
    weight: bool,
}

impl<'de> Visitor<'de> for Reference {
    type Value = KeyRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env: NAME }, { file: PATH } or { credential: NAME }")
    }

    refuse_scalars!(
        visit_str: &str, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128,
        visit_u128: u128, visit_f64: f64
    );

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyRef, A::Error> {
        let (mut secret, mut weight) = (None, None);
        while let Some(key) = map.next_key()? {
            let reference = match key {
                Key::Env => SecretRef::Env(text(&mut map)?),
                Key::File => SecretRef::File(text(&mut map)?.into()),
                Key::Credential => SecretRef::Credential(text(&mut map)?),
                Key::Weight if self.weight && weight.is_none() => {
                    weight = Some(map.next_value::<u32>()?);
                    continue;
                }
                Key::Weight if self.weight => {
                    return Err(de::Error::custom("the weight is there twice: keep one"));
                }
                Key::Weight => return Err(de::Error::custom("only entries of keys have a weight")),
                Key::Other => return Err(de::Error::custom(ONE)),
            };
            if secret.replace(reference).is_some() {
                return Err(de::Error::custom(ONE));
            }
        }
        let secret = secret.ok_or_else(|| de::Error::custom(ONE))?;
        Ok(KeyRef { secret, weight })
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    match map.next_value::<Option<String>>()? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(de::Error::custom("the name of the secret is missing")),
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    refuse_scalars!(
        visit_str: &str, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128,
        visit_u128: u128, visit_f64: f64
    );

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = seq.next_element()? {
            keys.push(key);
        }
        Ok(Keys(keys))
    }
}

/// A key of a reference. Reading it never fails, so that no path in a message can end in it.
enum Key {
    Env,
    File,
    Credential,
    Weight,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("env, file or credential")
            }
            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "env" => Key::Env,
                    "file" => Key::File,
                    "credential" => Key::Credential,
                    "weight" => Key::Weight,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
