//! The look at a request's head: pieces of any size come to the same, and what it passes is a head by
//! RFC 9112 as far as it is looked at.
#![no_main]

use keygate::session::head::{Oddity, Scan};
use libfuzzer_sys::fuzz_target;

/// What is noted, and where a cut fell, if one did.
fn scan(head: &[u8], pieces: impl Fn(usize) -> usize) -> (Option<Oddity>, bool, Option<usize>) {
    let (mut scan, mut at, mut n) = (Scan::default(), 0, 0);
    while at < head.len() && !scan.is_done() {
        let size = pieces(n).clamp(1, head.len() - at);
        if let Some(cut) = scan.feed(&head[at..at + size]) {
            assert!(cut.keep <= size, "a cut lies in the piece");
            assert!(scan.is_done() && scan.odd().is_some(), "what is cut is refused");
            return (scan.odd(), true, Some(at + cut.keep));
        }
        at += size;
        n += 1;
    }
    (scan.odd(), scan.is_done(), None)
}

/// The same by splitting: slow, and plain to see.
fn plainly(head: &[u8]) -> Option<Option<Oddity>> {
    let mut odd = None;
    let mut first = true;
    let mut lines = head.split_inclusive(|b| *b == b'\n');
    loop {
        let line = lines.next()?;
        let line = line.strip_suffix(b"\n")?;
        let text = match line.strip_suffix(b"\r") {
            Some(text) => text,
            None => {
                odd = odd.or(Some(Oddity::BareLineFeed));
                line
            }
        };
        match (text.is_empty(), first) {
            (true, true) => {}
            (true, false) => return Some(odd),
            (false, true) => {
                first = false;
                let parts: Vec<_> = text.split(|b| *b == b' ').collect();
                let plain = text.iter().all(|b| (b' '..0x7F).contains(b) && *b != b'#');
                if parts.len() != 3 || !plain {
                    odd = odd.or(Some(Oddity::RequestLine));
                }
            }
            (false, false) => {}
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, head) = input;
    let whole = scan(head, |_| head.len());
    let pieces = scan(head, |n| usize::from(size) % 13 + n % 3);
    if whole.2.is_none() && pieces.2.is_none() {
        assert_eq!(whole, pieces, "in pieces");
        match plainly(head) {
            // Which of two is noted first depends on the pieces; that one is, does not.
            Some(odd) => assert_eq!((whole.0.is_some(), whole.1), (odd.is_some(), true)),
            None => assert!(!whole.1, "there is no end in it"),
        }
    }
});
