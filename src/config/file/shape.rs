//! Shapes that serde and YAML do not give by themselves: what must not be null, maps that refuse a
//! key they have seen, and the few places that take a word or a map.
//!
//! serde_yaml reads a key with nothing behind it as an empty list, an empty map or the text `~`,
//! depending on the type that asks. Every key of the file goes through here, so that
//! `default_policy:` with all its entries commented out can't come to mean "unrestricted".

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// The message for a key with nothing behind it.
pub(super) const NULL: &str = "nothing is there: give a value, or leave the key out";

/// A value that was written.
struct NotNull<T>(T);

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for NotNull<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Only `Option` makes serde_yaml look for null before it asks the type.
        match Option::<T>::deserialize(deserializer)? {
            Some(value) => Ok(Self(value)),
            None => Err(de::Error::custom(NULL)),
        }
    }
}

/// A key that must be there.
pub(super) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: de::Deserialize<'de>,
{
    de::Deserialize::deserialize(deserializer).map(|NotNull(value)| value)
}

/// A key that may be left out, but not be empty.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: de::Deserialize<'de>,
{
    required(deserializer).map(Some)
}

/// A list that may be left out; neither it nor one of its entries may be null.
pub(super) fn optional_list<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: de::Deserialize<'de>,
{
    let list: Vec<NotNull<T>> = required(deserializer)?;
    Ok(Some(list.into_iter().map(|NotNull(value)| value).collect()))
}

/// Named entries in the order of the file. serde's own maps keep the last of two equal keys.
#[derive(Debug)]
pub(crate) struct Map<V>(pub(crate) Vec<(String, V)>);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: de::Deserialize<'de>> de::Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

struct MapVisitor<V>(PhantomData<V>);

impl<'de, V: de::Deserialize<'de>> Visitor<'de> for MapVisitor<V> {
    type Value = Map<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(NewKey(&mut seen))? {
            let NotNull(value) = map.next_value()?;
            entries.push((key, value));
        }
        Ok(Map(entries))
    }
}

/// Refuses a key where it stands, so that the error has the line of the second one.
struct NewKey<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.0.insert(key.to_owned()) {
            Ok(key.to_owned())
        } else {
            Err(E::custom("the key is there twice: keep one"))
        }
    }
}

/// A word (`bearer`) or a map of one entry (`{ header: X-Key }`).
#[derive(Debug)]
pub(crate) enum Choice {
    /// A word.
    Word(String),
    /// A key and its text.
    Entry(String, String),
}

impl<'de> de::Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a map of one entry")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Choice, E> {
                Ok(Choice::Word(word.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                let mut entries = MapVisitor::<String>(PhantomData).visit_map(map)?.0;
                match (entries.pop(), entries.is_empty()) {
                    (Some((key, text)), true) => Ok(Choice::Entry(key, text)),
                    _ => Err(de::Error::custom("choose one: exactly one entry belongs here")),
                }
            }
        }
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

/// The word `any`, or a list.
#[derive(Debug)]
pub(crate) enum AnyOr {
    /// `any`
    Any,
    /// What was listed.
    List(Vec<String>),
}

impl<'de> de::Deserialize<'de> for AnyOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOrVisitor;
        impl<'de> Visitor<'de> for AnyOrVisitor {
            type Value = AnyOr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the word any or a list")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<AnyOr, E> {
                if word == "any" {
                    Ok(AnyOr::Any)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(word), &self))
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyOr, A::Error> {
                let mut list = Vec::new();
                while let Some(NotNull(text)) = seq.next_element()? {
                    list.push(text);
                }
                Ok(AnyOr::List(list))
            }
        }
        deserializer.deserialize_any(AnyOrVisitor)
    }
}
