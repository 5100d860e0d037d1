//! The client's side of HTTP/1.1: the head of an answer, and chunks as they arrive.

use std::io::{self, BufRead, Read};

/// Reads up to the empty line; anything but the expected status is an error that shows the head.
pub fn read_head(stream: &mut impl BufRead, status: &str) -> io::Result<()> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err(io::Error::other(format!("the connection ended in the headers: {head}")));
        }
        if head.get(before..).is_some_and(|line| line.trim_end().is_empty()) {
            break;
        }
    }
    match head.split(' ').nth(1) {
        Some(got) if got == status => Ok(()),
        _ => Err(io::Error::other(format!("status {status} was expected: {head}"))),
    }
}

/// Appends the next chunk's bytes to `into`; `false`: that was the last one.
pub fn read_chunk(stream: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let size = u64::from_str_radix(line.trim_end(), 16)
        .map_err(|_| io::Error::other(format!("not a chunk's size: {line:?}")))?;
    stream.take(size).read_to_end(into)?;
    line.clear();
    stream.read_line(&mut line)?;
    Ok(size > 0)
}
