//! The headers of forms: the boundary that separates their parts, and what a part says of itself
//! (RFC 7578, RFC 2046 section 5.1.1). Strict: what parsers read differently is refused.

use std::borrow::Cow;

/// What a part says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The field.
    pub(super) name: String,
    /// It is a file.
    file: bool,
    /// Its type, without parameters but a harmless charset.
    media: Option<String>,
}

impl Part {
    /// Whether it is a value to be read as it stands; `json` says that it may call itself JSON.
    pub(super) fn is_plain(&self, json: bool) -> bool {
        let fits = |media: &str| media == "text/plain" || (json && media == "application/json");
        !self.file && self.media.as_deref().is_none_or(fits)
    }
}

/// The boundary that a `Content-Type` of `multipart/form-data` names.
///
/// # Errors
/// There is none, there are two, or it is none by RFC 2046.
pub fn boundary(content_type: &str) -> Result<String, &'static str> {
    let (_, parameters) = content_type.split_once(';').ok_or("the boundary is missing")?;
    let mut found = None;
    for (name, value) in self::parameters(parameters)? {
        if name.starts_with("boundary") && (name != "boundary" || found.is_some()) {
            return Err("the boundary is named twice");
        }
        if name == "boundary" {
            found = Some(value);
        }
    }
    let boundary = found.ok_or("the boundary is missing")?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&c);
    let good = (1..=70).contains(&boundary.len()) && boundary.bytes().all(fits);
    if good && !boundary.ends_with(' ') { Ok(boundary) } else { Err("the boundary is no boundary") }
}

/// Reads a part's header, the empty line behind it included.
pub(super) fn read(header: &[u8]) -> Result<Part, &'static str> {
    let text = std::str::from_utf8(header).map_err(|_| "a part's header is not UTF-8")?;
    let lines = text.strip_suffix("\r\n\r\n").ok_or("a part has no header")?;
    let (mut disposition, mut media) = (None, None);
    for line in lines.split("\r\n") {
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err("a part's header holds control characters");
        }
        let (name, value) = line.split_once(':').ok_or("a part's header is no header")?;
        // A line that begins as boundaries do may be one to whoever splits before it reads.
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(is_token) {
            return Err("a part's header is no header");
        }
        let value = value.trim_matches([' ', '\t']);
        let twice = match name.to_ascii_lowercase().as_str() {
            "content-disposition" => disposition.replace(value).is_some(),
            "content-type" => media.replace(value).is_some(),
            "content-transfer-encoding" => {
                let as_is =
                    ["7bit", "8bit", "binary"].iter().any(|e| e.eq_ignore_ascii_case(value));
                if !as_is {
                    return Err("a part is encoded");
                }
                false
            }
            _ => false,
        };
        if twice {
            return Err("a part has a header twice");
        }
    }
    part(disposition.ok_or("a part has no Content-Disposition")?, media)
}

fn part(disposition: &str, media: Option<&str>) -> Result<Part, &'static str> {
    let (kind, rest) = disposition.split_once(';').unwrap_or((disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err("a part is no form-data");
    }
    let (mut field, mut file) = (None, false);
    for (name, value) in parameters(rest)? {
        match name.as_str() {
            "name" if field.is_some() => return Err("a part has two names"),
            "name" => field = Some(value),
            "filename" | "filename*" => file = true,
            _ if name.starts_with("name") => return Err("a part's name is encoded"),
            _ => {}
        }
    }
    let name = field.ok_or("a part has no name")?;
    // Some servers decode these, and others don't.
    let blank = name.is_empty() || name.trim() != name;
    let encoded =
        blank || name.contains(['%', '\\']) && !name.contains("%22") || name.contains("=?");
    if encoded || name == "_charset_" {
        return Err("a part's name is encoded");
    }
    Ok(Part { name, file, media: media.map(essence).transpose()? })
}

/// The type, where it has no parameters that change what a text says.
fn essence(media: &str) -> Result<String, &'static str> {
    let (essence, rest) = media.split_once(';').unwrap_or((media, ""));
    let essence = essence.trim().to_ascii_lowercase();
    if essence.starts_with("multipart/") {
        return Err("a part holds parts");
    }
    let odd = parameters(rest).map_or(true, |all| {
        all.iter().any(|(name, value)| {
            let plain = ["utf-8", "us-ascii"].iter().any(|c| value.eq_ignore_ascii_case(c));
            name.starts_with("charset") && !(name == "charset" && plain)
        })
    });
    Ok(if odd { format!("{essence}; odd") } else { essence })
}

/// `; name=value; name="value"`, names in lower case.
fn parameters(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    const ODD: &str = "a header's parameters can be read in two ways";
    let mut found = Vec::new();
    let mut rest = text.trim_matches([' ', '\t', ';']);
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or(ODD)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(ODD);
        }
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, behind) = quoted.split_once('"').ok_or(ODD)?;
                // Whether a backslash takes the quote with it is read in two ways.
                if value.ends_with('\\') {
                    return Err(ODD);
                }
                (value, behind)
            }
            None => {
                let end = behind.find([';', ' ', '\t']).unwrap_or(behind.len());
                let (value, behind) = behind.split_at_checked(end).ok_or(ODD)?;
                if value.is_empty() || value.contains('"') {
                    return Err(ODD);
                }
                (value, behind)
            }
        };
        found.push((name.to_ascii_lowercase(), value.to_owned()));
        let behind = behind.trim_start_matches([' ', '\t']);
        rest = match behind.strip_prefix(';') {
            Some(next) => next.trim_start_matches([' ', '\t']),
            None if behind.is_empty() => behind,
            None => return Err(ODD),
        };
    }
    Ok(found)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The way that a field's name leads: `tools[0][model]` is `tools`, `[]`, `model`.
pub(super) fn steps(name: &str) -> Vec<Cow<'_, str>> {
    let mut steps = Vec::new();
    for (n, step) in name.split('[').enumerate() {
        let step = step.strip_suffix(']').unwrap_or(step);
        let index = n > 0 && step.bytes().all(|b| b.is_ascii_digit());
        steps.push(if index { Cow::Borrowed("[]") } else { Cow::Borrowed(step) });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_named_once_and_plainly() {
        for (good, expected) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("multipart/form-data;boundary=\"a b=c\" ; charset=utf-8", "a b=c"),
            (
                "multipart/form-data; BOUNDARY=----WebKitFormBoundary7MA4",
                "----WebKitFormBoundary7MA4",
            ),
        ] {
            assert_eq!(boundary(good).as_deref(), Ok(expected), "{good}");
        }
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=a; boundary=a",
            "multipart/form-data; boundary*=utf-8''a",
            "multipart/form-data; boundary*0=a; boundary*1=b",
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=\"a\\\"b\"",
            "multipart/form-data; boundary=\"a \"",
            "multipart/form-data; boundary=a{b}",
            "multipart/form-data; boundary=a b",
            "multipart/form-data; x; boundary=a",
            &format!("multipart/form-data; boundary={}", "a".repeat(71)),
        ] {
            assert!(boundary(bad).is_err(), "{bad}");
        }
    }

    fn of(header: &str) -> Result<Part, &'static str> {
        read(format!("{header}\r\n\r\n").as_bytes())
    }

    #[test]
    fn a_part_says_what_it_is() {
        let model = of("Content-Disposition: form-data; name=\"model\"").unwrap();
        assert!(model.name == "model" && model.is_plain(false));
        let bare = of(
            "content-disposition:form-data;name=model\r\nContent-Type: text/plain; charset=UTF-8",
        );
        assert!(bare.is_ok_and(|part| part.name == "model" && part.is_plain(false)));
        let json =
            of("Content-Disposition: form-data; name=session\r\nContent-Type: application/json");
        assert!(json.is_ok_and(|part| part.is_plain(true) && !part.is_plain(false)));
        for file in [
            "Content-Disposition: form-data; name=\"a\"; filename=\"C:\\x y.wav\"",
            "Content-Disposition: form-data; name=a; filename*=utf-8''x",
            "Content-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset=utf-16",
            "Content-Disposition: form-data; name=a\r\nContent-Type: audio/wav",
        ] {
            assert!(of(file).is_ok_and(|part| !part.is_plain(true)), "{file}");
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "Content-Type: text/plain",
            "Content-Disposition: form-data",
            "Content-Disposition: attachment; name=a",
            "Content-Disposition: form-data; name=a; name=b",
            "Content-Disposition: form-data; name=a; NAME=b",
            "Content-Disposition: form-data; name*=utf-8''model",
            "Content-Disposition: form-data; name=a; name*=utf-8''model",
            "Content-Disposition: form-data; name*0=mo; name*1=del",
            "Content-Disposition: form-data; name=\"%6dodel\"",
            "Content-Disposition: form-data; name=\"mo\\del\"",
            "Content-Disposition: form-data; name=\"=?utf-8?q?model?=\"",
            "Content-Disposition: form-data; name=\" model\"",
            "Content-Disposition: form-data; name=\"\"",
            "Content-Disposition: form-data; name=\"_charset_\"",
            "Content-Disposition: form-data; name=\"a\"; filename=\"x\\\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"a",
            "Content-Disposition: form-data; name=\"a\"x",
            "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=model",
            "Content-Disposition: form-data;\r\n name=model",
            "Content-Disposition : form-data; name=a",
            "Content-Disposition: form-data; name=a\r\n--b--X: y",
            "Content-Disposition: form-data; name=a\nX: y",
            "Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64",
            "Content-Disposition: form-data; name=a\r\nContent-Type: multipart/mixed; boundary=b",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn brackets_lead_into_a_field() {
        let of = |name| steps(name).join("/");
        assert_eq!(of("model"), "model");
        assert_eq!(of("session[model]"), "session/model");
        assert_eq!(of("tools[0][model]"), "tools/[]/model");
        assert_eq!(of("tools[][model]"), "tools/[]/model");
    }
}
