//! An error answer that was kept back: searched for keys, also where they are split over chunks
//! or compressed, and only then sent.

use super::ctx::{Ctx, Held, Stage};
use super::gateway::Gateway;
use super::{reject, response};
use crate::policy::{Code, Denial};
use crate::provider::key_error;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::io::Read;

/// What is searched of an error body, compressed and decompressed.
const MOST: usize = 256 << 10;

/// Takes a chunk of the kept answer. At its end gives the error with which Pingora hands the
/// request back to us.
pub(super) fn take(
    gateway: &Gateway,
    body: &mut Option<Bytes>,
    end: bool,
    ctx: &mut Ctx,
) -> Result<()> {
    let kind = ctx.provider().map(|p| p.kind);
    let Some(held) = ctx.flight().and_then(|f| f.held.as_mut()) else { return Ok(()) };
    if let Some(chunk) = body.take() {
        if held.body.len() + chunk.len() > MOST {
            held.overflow = true;
        } else {
            held.body.extend_from_slice(&chunk);
        }
    }
    if !end && !held.overflow {
        return Ok(());
    }
    held.complete = true;
    let status = held.header.status.as_u16();
    if let (Some(kind), Some(text)) = (kind, plain(held))
        && key_error::by_body(kind, status, &text)
    {
        return response::key_rejected(gateway, ctx);
    }
    Error::e_explain(ErrorType::HTTPStatus(status), "held")
}

/// Sends the kept answer, or one of ours where it can't be searched.
pub(super) async fn release(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
    let Some(mut held) = ctx.flight().and_then(|f| f.held.take()) else { return Ok(()) };
    if !held.complete {
        let denial = Denial::new(Code::UpstreamUnreachable, "the provider's answer broke off");
        return reject::answer(gateway, session, ctx, denial).await.map(|_| ());
    }
    let text = if held.overflow { None } else { plain(&held) };
    let redactor = ctx.snapshot.redactor.clone();
    let body = match text {
        None => {
            held.header.remove_header(&CONTENT_ENCODING);
            held.header.insert_header(http::header::CONTENT_TYPE, "application/json")?;
            Bytes::from_static(
                br#"{"error":{"code":"unreadable_error","message":"the provider's error can't be searched for secrets, and is not shown"}}"#,
            )
        }
        Some(text) if redactor.contains(&text) => {
            gateway.metrics.redacted_responses.inc();
            held.header.remove_header(&CONTENT_ENCODING);
            Bytes::from(redactor.clean(&text).into_owned())
        }
        Some(_) => held.body.split().freeze(),
    };
    let mut header = held.header;
    response::dress(gateway, session, &mut header, ctx)?;
    header.remove_header(&TRANSFER_ENCODING);
    header.remove_header(&CONTENT_LENGTH);
    session.set_keepalive(None);
    reject::write(session, ctx, *header, body).await?;
    ctx.stage = Stage::Refused;
    Ok(())
}

/// The decoded body; `None` where its coding can't be read or it grows beyond what is searched.
fn plain(held: &Held) -> Option<Vec<u8>> {
    let codings = held.header.headers.get_all(CONTENT_ENCODING);
    let mut text = held.body.to_vec();
    let mut codings: Vec<&str> = codings
        .iter()
        .map(|v| v.to_str().ok())
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    // The last coding was applied last (RFC 9110 section 8.4).
    codings.reverse();
    for coding in codings {
        text = match coding.to_ascii_lowercase().as_str() {
            "identity" | "" => text,
            "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&*text))?,
            "deflate" => read(flate2::read::ZlibDecoder::new(&*text))
                .or_else(|| read(flate2::read::DeflateDecoder::new(&*text)))?,
            "br" => read(brotli::Decompressor::new(&*text, 4096))?,
            "zstd" => {
                let mut decoder = zstd::Decoder::new(&*text).ok()?;
                // RFC 8878 section 3.1.1.1.2: 8 MiB, or a header of a few bytes takes 128.
                decoder.window_log_max(23).ok()?;
                read(decoder)?
            }
            _ => return None,
        };
    }
    Some(text)
}

fn read(decoder: impl Read) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    decoder.take(MOST as u64 + 1).read_to_end(&mut text).ok()?;
    (text.len() <= MOST).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use pingora::http::ResponseHeader;
    use std::io::Write;

    fn held(coding: &str, body: &[u8]) -> Held {
        let mut header = ResponseHeader::build(500, None).unwrap();
        header.insert_header(CONTENT_ENCODING, coding).unwrap();
        Held {
            header: Box::new(header),
            body: BytesMut::from(body),
            complete: true,
            overflow: false,
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_coding_is_read_and_stacked_ones_too() {
        assert_eq!(plain(&held("gzip", &gzip(b"text"))).as_deref(), Some(&b"text"[..]));
        assert_eq!(
            plain(&held("zstd", &zstd::encode_all(&b"text"[..], 1).unwrap())).as_deref(),
            Some(&b"text"[..])
        );
        assert_eq!(
            plain(&held("gzip, gzip", &gzip(&gzip(b"text")))).as_deref(),
            Some(&b"text"[..])
        );
        let mut br = Vec::new();
        brotli::CompressorWriter::new(&mut br, 4096, 5, 22).write_all(b"text").unwrap();
        assert_eq!(plain(&held("br", &br)).as_deref(), Some(&b"text"[..]));
        assert_eq!(plain(&held("compress", b"x")), None, "an unknown coding can't be searched");
        assert_eq!(plain(&held("gzip", b"not gzip")), None);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        assert_eq!(plain(&held("gzip", &gzip(&vec![0; 10 << 20]))), None, "10 MiB of zeros");
    }
}
