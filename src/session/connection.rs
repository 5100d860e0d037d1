//! What keygate knows of one downstream connection, shared between its stream and its requests.

use super::connections::Place;
use super::head::Oddity;
use crate::policy::{Code, Denial};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::*};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// A deadline that nobody has waited for yet.
const UNSET: u64 = u64::MAX;
/// How much of a connection's state says why it was cut.
const CUT_BITS: u32 = 8;

/// One downstream connection.
#[derive(Debug)]
pub struct Connection {
    peer: Option<SocketAddr>,
    carrier: Carrier,
    opened: Instant,
    header_timeout_ms: u64,
    phase: AtomicU8,
    /// Milliseconds after `opened` by which the headers must be there; 0: no deadline; [`UNSET`]:
    /// counts from when it is first waited for.
    deadline_ms: AtomicU64,
    /// What is then allowed.
    allowed_ms: AtomicU64,
    /// Why it was cut, in the lowest byte; above it a number that changes whenever a request
    /// begins or ends, so that a cut can name its request.
    state: AtomicU64,
    wakers: Mutex<Wakers>,
    /// What is wrong with a head that came; it is the connection's last.
    oddity: AtomicU8,
    /// Whether what arrives is read in small pieces.
    sparing: AtomicBool,
    /// Given back when the connection ends.
    _place: Option<Place>,
}

/// Those who wait for this connection.
#[derive(Debug, Default)]
struct Wakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

/// What the connection is doing, as far as deadlines care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Request headers are arriving, or must arrive (a fresh connection).
    Headers,
    /// A request is being served.
    Serving,
    /// Between two requests.
    Idle,
}

/// What lies between the socket and HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// HTTP/1 on the bare socket.
    Plain,
    /// HTTP/1 in TLS.
    Tls,
    /// HTTP/2 in TLS: many requests at a time.
    Http2,
}

/// Why a connection, and what is open on it, is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Its token was disabled, deleted, or no longer reaches that far.
    Revoked = 1,
    /// The process stops.
    ShuttingDown,
    /// Nothing moved for too long, or no first byte came.
    TimedOut,
    /// A WebSocket message over the limit.
    MessageTooBig,
    /// It has lasted as long as it may, or its token has expired.
    SessionExpired,
    /// What it sent on its socket may not pass; the request's own refusal says more.
    Refused,
    /// Its body arrives too slowly.
    SlowBody,
}

impl Cut {
    /// The code that the caller sees.
    pub fn code(self) -> Code {
        match self {
            Self::Revoked => Code::TokenRevoked,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::TimedOut => Code::UpstreamTimeout,
            Self::MessageTooBig => Code::MessageTooBig,
            Self::SessionExpired => Code::SessionExpired,
            Self::Refused | Self::SlowBody => Code::InvalidBody,
        }
    }

    /// What the caller is told.
    pub fn denial(self) -> Denial {
        match self {
            Self::SlowBody => {
                Denial::new(Code::InvalidBody, "the body arrives too slowly; send 32 KiB a minute")
            }
            _ => self.code().into(),
        }
    }

    /// The reverse of `as u8`; 0 is none.
    pub(super) fn of(number: u8) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::Revoked),
            2 => Some(Self::ShuttingDown),
            3 => Some(Self::TimedOut),
            4 => Some(Self::MessageTooBig),
            5 => Some(Self::SessionExpired),
            6 => Some(Self::Refused),
            _ => Some(Self::SlowBody),
        }
    }

    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowBody => "slow_body",
            _ => self.code().as_str(),
        }
    }
}

impl Connection {
    /// A fresh connection without TLS: its first headers are due `header_timeout` from now.
    pub fn plain(peer: Option<SocketAddr>, header_timeout: Duration, place: Option<Place>) -> Self {
        Self::since(Instant::now(), Carrier::Plain, peer, header_timeout, place)
    }

    /// A connection that was accepted at `opened`: its first headers are due `header_timeout`
    /// from then, handshake included.
    pub fn since(
        opened: Instant,
        carrier: Carrier,
        peer: Option<SocketAddr>,
        header_timeout: Duration,
        place: Option<Place>,
    ) -> Self {
        let header_timeout_ms = u64::try_from(header_timeout.as_millis()).unwrap_or(u64::MAX);
        Self {
            peer,
            carrier,
            opened,
            header_timeout_ms,
            phase: AtomicU8::new(Phase::Headers as u8),
            deadline_ms: AtomicU64::new(header_timeout_ms),
            allowed_ms: AtomicU64::new(header_timeout_ms),
            state: AtomicU64::new(0),
            wakers: Mutex::default(),
            oddity: AtomicU8::new(0),
            sparing: AtomicBool::new(false),
            _place: place,
        }
    }

    /// Who connected.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What carries its requests.
    pub fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// A request's headers are complete: no deadline of ours until it has been served. Gives the
    /// number by which [`Connection::cut`] knows it.
    pub fn serve(&self) -> u64 {
        self.deadline_ms.store(0, Release);
        self.phase.store(Phase::Serving as u8, Release);
        self.turn()
    }

    /// Whether it rests between two requests.
    pub(super) fn rests(&self) -> bool {
        self.phase.load(Acquire) == Phase::Idle as u8
    }

    /// Most headers come in one piece, and the clock need not be read for them.
    fn due_in(&self, ms: u64) {
        self.allowed_ms.store(ms, Release);
        self.deadline_ms.store(UNSET, Release);
    }

    /// The request has been served; the next one's headers are due from its first byte, which may
    /// take `idle`. Where requests overlap, bytes that arrive need not begin one, and nothing is
    /// due.
    pub fn rest(&self, idle: Duration) {
        if self.carrier != Carrier::Http2 {
            self.due_in(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
            self.phase.store(Phase::Idle as u8, Release);
            self.turn();
        }
    }

    /// The next number. A connection that was cut stays so.
    fn turn(&self) -> u64 {
        let before = self.state.fetch_add(1 << CUT_BITS, AcqRel);
        (before >> CUT_BITS).wrapping_add(1) & (u64::MAX >> CUT_BITS)
    }

    /// Ends the request `serving`, if it is still served, and the connection with it: reads see
    /// end-of-file, a write that would wait fails. The first reason stays.
    pub fn cut(&self, serving: u64, why: Cut) -> bool {
        let state = serving << CUT_BITS;
        if self.state.compare_exchange(state, state | why as u64, AcqRel, Acquire).is_err() {
            return false;
        }
        let mut wakers = self.wakers.lock();
        for waker in [wakers.read.take(), wakers.write.take()].into_iter().flatten() {
            waker.wake();
        }
        true
    }

    /// Why it was cut, if it was.
    pub fn was_cut(&self) -> Option<Cut> {
        let [why, ..] = self.state.load(Acquire).to_le_bytes();
        Cut::of(why)
    }

    /// Bytes arrived: if they begin a request on a resting connection, its deadline begins. Gives
    /// whether they do.
    pub(super) fn arrived(&self) -> bool {
        let begins = self.rests();
        if begins {
            self.due_in(self.header_timeout_ms);
            self.phase.store(Phase::Headers as u8, Release);
        }
        begins
    }

    /// Whether a head is arriving.
    pub(super) fn awaits_head(&self) -> bool {
        self.phase.load(Acquire) == Phase::Headers as u8
    }

    /// Whether what arrives from here on is read in small pieces, for memory's sake.
    pub fn read_sparingly(&self, sparingly: bool) {
        self.sparing.store(sparingly, Relaxed);
    }

    pub(super) fn is_read_sparingly(&self) -> bool {
        self.sparing.load(Relaxed)
    }

    /// Something is wrong with the head that is arriving.
    pub(super) fn note(&self, oddity: Oddity) {
        self.oddity.store(oddity as u8, Release);
    }

    /// What is wrong with the head that has arrived, if anything is. It stays so: such a connection
    /// is closed.
    pub fn oddity(&self) -> Option<Oddity> {
        Oddity::of(self.oddity.load(Acquire))
    }

    /// By when the headers must be there, or their first byte, if they are due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.deadline_ms.load(Acquire) {
            0 => None,
            UNSET => {
                let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
                let ms = now.saturating_add(self.allowed_ms.load(Acquire)).clamp(1, UNSET - 1);
                self.deadline_ms.store(ms, Release);
                self.opened.checked_add(Duration::from_millis(ms))
            }
            ms => self.opened.checked_add(Duration::from_millis(ms)),
        }
    }

    /// Notes who waits for bytes. The cut must be looked at again afterwards.
    pub(super) fn wait_read(&self, waker: &Waker) {
        note(&mut self.wakers.lock().read, waker);
    }

    /// Notes who waits to write. The cut must be looked at again afterwards.
    pub(super) fn wait_write(&self, waker: &Waker) {
        note(&mut self.wakers.lock().write, waker);
    }
}

fn note(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(noted) if noted.will_wake(waker) => {}
        _ => *place = Some(waker.clone()),
    }
}
