//! A stream's policy either is one canonical text, which reads back as itself, or is refused; two of them
//! leave no more than either allows.
#![no_main]

use keygate::stream::decision::{Standing, decide};
use keygate::stream::{Page, Policy, Source, Verdict};
use libfuzzer_sys::fuzz_target;

const OWN: &str = "https://gate.example";

fn allows(policy: &Policy, origin: &[u8]) -> bool {
    let standing = Standing { current: Some(policy.clone()), pending: None };
    let page = Page { source: Source::Site(origin.into()), own: Some(OWN.into()) };
    matches!(decide(&standing, &page), Verdict::Allowed(_))
}

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (one, other, origin) = input;
    let Ok(one) = Policy::parse(one) else { return };
    let text = one.as_str();
    assert!(text.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{text:?} fits no header");
    assert_eq!(Policy::parse(text.as_bytes()).as_ref(), Ok(&one), "{text:?} reads as another");
    assert_eq!(Policy::stored(text), one, "{text:?} is stored as another");
    if text != "*" && text != "same-origin" {
        let listed = text.split(", ").any(|listed| listed.as_bytes() == origin);
        assert_eq!(allows(&one, origin), listed, "{text:?} and {origin:?}");
        assert!(text.split(", ").count() <= 20, "{text:?} is too long");
    }
    let Ok(other) = Policy::parse(other) else { return };
    let both = one.narrower(&other);
    assert_eq!(other.narrower(&one), both, "the order does not matter");
    let origins = text.split(", ").chain(other.as_str().split(", ")).map(str::as_bytes);
    for origin in origins.chain([origin, OWN.as_bytes()]) {
        let each = allows(&one, origin) && allows(&other, origin);
        assert!(!allows(&both, origin) || each, "{both:?} is wider than {one:?} and {other:?}");
    }
});
