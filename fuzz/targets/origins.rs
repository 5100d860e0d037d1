//! A configured origin either is one site, written as browsers write it, or is refused.
#![no_main]

use keygate::values::origin::Origin;
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|text: &str| {
    let Ok(origin) = Origin::parse(text) else { return };
    let written = origin.as_str();
    let again = Origin::parse(written);
    assert_eq!(
        again.as_ref().ok(),
        Some(&origin),
        "{text:?} becomes {written:?}, which is another"
    );
    assert!(origin.equals(written.as_bytes()), "{written:?} is not itself");
    assert!(
        written.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()),
        "{written:?} is nothing that a header could hold"
    );
    let rest = written.split_once("://").map_or("", |(_, rest)| rest);
    assert!(!rest.contains(['/', '?', '#', '@', '*', '\\']), "{written:?} is more than a site");
    // Browsers serialise so for every scheme that has origins (WHATWG URL, section 4.7).
    let read = Url::parse(text).expect("it was read as a URL once");
    if read.origin().is_tuple() {
        assert_eq!(read.origin().ascii_serialization(), written, "{text:?} in a browser");
    }
    for other in [format!("{written}."), format!("{written}:1"), written.to_ascii_uppercase()] {
        assert!(!origin.equals(other.as_bytes()), "{other:?} is another site than {written:?}");
    }
});
