//! Compresses a body chunk by chunk, so that each can be read as soon as it has arrived.

use std::io::Write;

/// A content coding.
#[derive(Debug, Clone, Copy)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

/// The compressed form of each chunk; together they are one whole.
pub(super) fn compress(coding: Coding, chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let mut gzip =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let mut pieces = flush_each(&mut gzip, chunks, |e| std::mem::take(e.get_mut()));
            end(&mut pieces, gzip.finish().expect("a Vec takes everything"));
            pieces
        }
        Coding::Brotli => {
            let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
            let mut pieces = flush_each(&mut brotli, chunks, |e| std::mem::take(e.get_mut()));
            end(&mut pieces, brotli.into_inner());
            pieces
        }
        Coding::Zstd => {
            let mut zstd = zstd::Encoder::new(Vec::new(), 3).expect("level 3 exists");
            let mut pieces = flush_each(&mut zstd, chunks, |e| std::mem::take(e.get_mut()));
            end(&mut pieces, zstd.finish().expect("a Vec takes everything"));
            pieces
        }
    }
}

fn flush_each<W: Write>(
    encoder: &mut W,
    chunks: &[Vec<u8>],
    taken: impl Fn(&mut W) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let piece = |chunk: &Vec<u8>| {
        encoder.write_all(chunk).and_then(|()| encoder.flush()).expect("a Vec takes everything");
        taken(encoder)
    };
    chunks.iter().map(piece).collect()
}

/// The coding's own end belongs to the last chunk.
fn end(pieces: &mut Vec<Vec<u8>>, tail: Vec<u8>) {
    match pieces.last_mut() {
        Some(last) => last.extend(tail),
        None => pieces.push(tail),
    }
}
