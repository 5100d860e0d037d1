//! Where in the text a YAML path is.
//!
//! serde_yaml knows lines and columns only while it reads. To find the place of a path, the text is
//! read once more along it, and refused on arrival: the refusal carries the place.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::Segment;
use std::fmt;

/// Line and column, from 1, of the `occurrence`th key or entry that `path` leads to (2 for the
/// second of two equal keys). `None` if it leads nowhere.
pub(super) fn find(text: &str, path: &[Segment], occurrence: usize) -> Option<(usize, usize)> {
    let reader = serde_yaml::Deserializer::from_str(text);
    let error = Follow { path, occurrence }.deserialize(reader).err()?;
    // Where the text itself is broken before the place is reached, that is the place.
    error.location().map(|at| (at.line(), at.column()))
}

#[derive(Clone, Copy)]
struct Follow<'a> {
    path: &'a [Segment],
    occurrence: usize,
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Segment::Seq { index }, rest)) = self.path.split_first() else {
            return Err(de::Error::custom("here"));
        };
        for _ in 0..*index {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Follow { path: rest, ..self }).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Map { key }, rest)) = self.path.split_first() else {
            return Err(de::Error::custom("here"));
        };
        let mut left = if rest.is_empty() { self.occurrence } else { usize::MAX };
        while let Some(found) = map.next_key_seed(Key { key, left: &mut left })? {
            if found && !rest.is_empty() {
                map.next_value_seed(Follow { path: rest, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Says whether a key is the wanted one; refuses it when it has been met often enough.
struct Key<'a> {
    key: &'a str,
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        if key != self.key {
            return Ok(false);
        }
        *self.left -= 1;
        if *self.left == 0 { Err(E::custom("here")) } else { Ok(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  - x: 1\n  - x: 2\n    y:\n    x: 3\n";

    fn key(key: &str) -> Segment {
        Segment::Map { key: key.to_owned() }
    }

    #[test]
    fn a_path_leads_to_its_key() {
        let path = [key("b"), Segment::Seq { index: 1 }, key("y")];
        assert_eq!(find(TEXT, &path, 1), Some((5, 5)));
        let path = [key("b"), Segment::Seq { index: 1 }, key("x")];
        assert_eq!(find(TEXT, &path, 2), Some((6, 5)), "the second of two equal keys");
        assert_eq!(find(TEXT, &[key("c")], 1), None, "a path that leads nowhere has no place");
    }
}
