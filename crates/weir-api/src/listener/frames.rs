//! HTTP/2 frames as they come in: which of them cost work without being any.
//!
//! A frame of nine bytes makes the server think: a PING and a SETTINGS are answered, a
//! WINDOW_UPDATE and a PRIORITY are looked up, a frame of an unknown kind is read and thrown
//! away. hyper and the h2 crate bound those that pile up (resets of streams not accepted yet,
//! CONTINUATIONs, empty DATA) but not those that are dealt with at once: a few clients that
//! send nothing else take the time of everybody.
//!
//! So such frames are paid for. Requests and the bytes of bodies, in either direction, earn
//! what their own upkeep needs several times over; a little comes with time. Who has nothing
//! left is told to calm down and let go. Other servers bound the same thing otherwise: Envoy
//! by kind (1,000 answers waiting to be taken, 10 WINDOW_UPDATEs a DATA frame sent, 100
//! PRIORITYs a stream), nginx by bytes (frames eight times as large as what they carry, and
//! 1 MiB), HAProxy by "glitches". One budget is less to explain, and knows clients that do
//! much with much reason to.

use tokio::time::Instant;

const HEAD_BYTES: usize = 9;

// Kinds and flags (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const ENHANCE_YOUR_CALM: u8 = 11;

/// What a frame costs that is neither request nor body.
const CONTROL: u32 = 100;
/// A SETTINGS costs more: it walks over all streams, and is answered.
const CHANGE: u32 = 16 * CONTROL;
/// A crumb of a body costs a tenth. Bodies written token by token are real, at some hundred
/// frames a second; the h2 crate bounds some 2,000 crumbs too, but only while nobody reads them.
const CRUMB: u32 = 10;
/// What a new connection may spend. Browsers begin with some ten frames, gRPC with three.
const BURST: u32 = 256 * CONTROL;
/// What may be saved: all of [`MAX_STREAMS`](super::MAX_STREAMS) with their upkeep.
const MOST: u32 = 4_096 * CONTROL;
/// Earned by a request. It may come with two WINDOW_UPDATEs, a PRIORITY, a PING and a reset.
const EARNED_BY_REQUEST: u32 = 8 * CONTROL;
/// A request body's bytes that earn one control frame, and less of which in one frame is a
/// crumb. gRPC's clients ping for each read at worst, and a message of a stream has some 60
/// bytes at least.
const RECEIVED_BYTES: usize = 32;
/// An answer's bytes that earn one control frame: clients send two or three for 16 KiB. PINGs
/// are answered too, in 17 bytes: they do not earn their keep.
const SENT_BYTES: usize = 1 << 10;
/// Earned in a second. A connection without requests may ping that often; none does.
const EARNED_BY_SECOND: u32 = 100 * CONTROL;

/// Where in the sequence of frames a byte stream is.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    head: [u8; HEAD_BYTES],
    /// Bytes of `head` that there are.
    length: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
}

impl Cursor {
    /// Moves over `bytes`, showing each frame's head to `each`.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8; HEAD_BYTES])) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let part = bytes.len().min(HEAD_BYTES - self.length);
            self.head[self.length..self.length + part].copy_from_slice(&bytes[..part]);
            self.length += part;
            bytes = &bytes[part..];
            if self.length == HEAD_BYTES {
                self.length = 0;
                self.left = payload_bytes(&self.head);
                each(&self.head);
            }
        }
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.length == 0 && self.left == 0
    }
}

fn payload_bytes(head: &[u8; HEAD_BYTES]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// Reads along behind the preface.
#[derive(Debug)]
pub(crate) struct Frames {
    cursor: Cursor,
    account: Account,
}

/// What was earned and spent, and what the frames say besides.
#[derive(Debug)]
struct Account {
    credit: u32,
    /// When time was paid for the last time.
    paid: Instant,
    /// Bytes sent that have not earned yet.
    unearned: usize,
    /// Frames that began; a header block is one, or it could be trickled for ever.
    count: u64,
    kind: u8,
    /// A header block began and has not ended.
    in_block: bool,
    last_stream: [u8; 4],
    flooded: bool,
}

impl Frames {
    /// Watches a connection that begins now.
    pub(crate) fn new() -> Self {
        let account = Account {
            credit: BURST,
            paid: Instant::now(),
            unearned: 0,
            count: 0,
            kind: DATA,
            in_block: false,
            last_stream: [0; 4],
            flooded: false,
        };
        Self { cursor: Cursor::default(), account }
    }

    /// Takes note of `bytes`, the next ones of the connection.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        let account = &mut self.account;
        self.cursor.pass(bytes, |head| account.frame(head));
    }

    /// Takes note of `bytes` sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        let bytes = self.account.unearned + bytes;
        self.account.unearned = bytes % SENT_BYTES;
        self.account.earn(bytes / SENT_BYTES * CONTROL as usize);
    }

    /// Frames that began so far, a header block as one.
    pub(crate) fn count(&self) -> u64 {
        self.account.count
    }

    /// Whether more came than was earned.
    pub(crate) fn is_flood(&self) -> bool {
        self.account.flooded
    }

    /// Whether the client must send more before anything else can happen: its first SETTINGS,
    /// the rest of a frame, the rest of a header block. The body of a DATA frame may take its
    /// time, which those who read it watch.
    pub(crate) fn is_unfinished(&self) -> bool {
        let account = &self.account;
        account.count == 0
            || account.in_block
            || (account.kind != DATA && !self.cursor.is_between())
            || self.cursor.length > 0
    }

    /// The frame that tells the client why it is let go (RFC 9113 section 6.8). gRPC's clients
    /// know the first of the two texts, and ping less from then on.
    pub(crate) fn farewell(&self) -> Vec<u8> {
        let text: &[u8] =
            if self.account.kind == PING { b"too_many_pings" } else { b"too_many_control_frames" };
        let mut frame = vec![0, 0, 8 + text.len() as u8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.account.last_stream);
        frame.extend_from_slice(&[0, 0, 0, ENHANCE_YOUR_CALM]);
        frame.extend_from_slice(text);
        frame
    }
}

impl Account {
    fn frame(&mut self, head: &[u8; HEAD_BYTES]) {
        let [_, _, _, kind, flags, stream @ ..] = *head;
        self.kind = kind;
        self.count += u64::from(kind != CONTINUATION);
        match kind {
            HEADERS => {
                // Without the reserved bit.
                self.last_stream = [stream[0] & 0x7f, stream[1], stream[2], stream[3]];
                self.in_block = flags & END_HEADERS == 0;
                self.earn(EARNED_BY_REQUEST as usize);
            }
            DATA => self.data(payload_bytes(head), flags),
            SETTINGS if flags & ACK == 0 => self.spend(CHANGE),
            CONTINUATION => {
                self.in_block &= flags & END_HEADERS == 0;
                self.spend(CONTROL);
            }
            _ => self.spend(CONTROL),
        }
    }

    fn data(&mut self, bytes: usize, flags: u8) {
        let last = flags & END_STREAM != 0;
        match bytes {
            // What is padded may be nothing but padding.
            _ if flags & PADDED != 0 => self.spend(CONTROL),
            0 if !last => self.spend(CONTROL),
            1..RECEIVED_BYTES if !last => self.spend(CRUMB),
            _ => self.earn(bytes * CONTROL as usize / RECEIVED_BYTES),
        }
    }

    fn earn(&mut self, earned: usize) {
        self.credit = self.credit.saturating_add(earned.min(MOST as usize) as u32).min(MOST);
    }

    fn spend(&mut self, cost: u32) {
        if self.credit < cost {
            self.pay_time();
        }
        match self.credit.checked_sub(cost) {
            Some(rest) => self.credit = rest,
            None => self.flooded = true,
        }
    }

    /// Paid only when nothing else is left: reading a clock for each frame costs more than the
    /// rest of this.
    fn pay_time(&mut self) {
        let earned = self.paid.elapsed().as_secs_f64() * f64::from(EARNED_BY_SECOND);
        self.paid = Instant::now();
        // Time is not saved up: a connection that was silent for an hour has a burst.
        self.earn(earned.min(f64::from(BURST)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Control frames that a new connection may send.
    const FREE: usize = (BURST / CONTROL) as usize;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    fn ping() -> Vec<u8> {
        frame(PING, 0, &[0; 8])
    }

    /// How many times `bytes` can be sent, up to 100,000.
    fn endured(bytes: &[u8]) -> usize {
        let mut frames = Frames::new();
        (0..100_000)
            .take_while(|_| {
                frames.see(bytes);
                !frames.is_flood()
            })
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_no_work_are_a_flood() {
        const WINDOW_UPDATE: u8 = 8;
        const PRIORITY: u8 = 2;
        const RESET: u8 = 3;
        for (kind, flags, bytes) in [
            (PING, 0, 8),
            (PING, ACK, 8),
            (WINDOW_UPDATE, 0, 4),
            (PRIORITY, 0, 5),
            (RESET, 0, 4),
            (0x55, 0, 0),
            (DATA, 0, 0),
            (DATA, PADDED, 200),
            (SETTINGS, ACK, 0),
        ] {
            assert_eq!(endured(&frame(kind, flags, &vec![0; bytes])), FREE, "{kind} {flags}");
        }
        assert_eq!(endured(&frame(SETTINGS, 0, &[])), (BURST / CHANGE) as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn what_clients_do_beside_their_requests_is_none() {
        let head = frame(HEADERS, END_HEADERS, &[0x82]);
        let unary = [head.clone(), frame(DATA, END_STREAM, &[0; 5])].concat();
        let upkeep = [ping(), ping(), frame(8, 0, &[0; 4]), frame(8, 0, &[0; 4]), frame(3, 0, &[0; 4])];
        assert_eq!(endured(&[unary, upkeep.concat()].concat()), 100_000, "unary");
        assert_eq!(endured(&[frame(DATA, 0, &[0; 60]), ping()].concat()), 100_000, "a stream of messages");
        assert_eq!(endured(&frame(DATA, 0, &[0; RECEIVED_BYTES])), 100_000, "a body in small pieces");
        assert_eq!(
            endured(&frame(DATA, 0, b"1.5,")),
            (BURST / CRUMB) as usize,
            "a body in tokens, all at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_earn_their_window_updates() {
        let mut frames = Frames::new();
        for _ in 0..10_000 {
            frames.sent(16 << 10);
            [frame(8, 0, &[0; 4]), frame(8, 0, &[0; 4]), ping()].iter().for_each(|f| frames.see(f));
        }
        assert!(!frames.is_flood());
        for _ in 0..MOST / CONTROL + 1_000 {
            frames.see(&ping());
            frames.sent(17);
        }
        assert!(frames.is_flood(), "answers to pings are no answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_pings_now_and_then_may_do_so_for_ever() {
        let mut frames = Frames::new();
        for _ in 0..10_000 {
            frames.see(&ping());
            tokio::time::advance(Duration::from_millis(11)).await;
        }
        assert!(!frames.is_flood());
        (0..2 * FREE + 1).for_each(|_| frames.see(&ping()));
        assert!(frames.is_flood(), "time is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unfinished_is_known_at_each_byte() {
        let settings = frame(SETTINGS, 0, &[0; 6]);
        let (head, rest) = (frame(HEADERS, 0, &[0x82]), frame(CONTINUATION, END_HEADERS, &[0x86]));
        let data = frame(DATA, 0, b"hello");
        let bytes = [settings.clone(), head.clone(), rest.clone(), data.clone(), ping()].concat();
        let finished_at = |at: usize| {
            let mut ends = vec![settings.len()];
            let block = settings.len() + head.len() + rest.len();
            ends.extend(block..=block);
            // DATA is finished, for this purpose, as soon as its head is there.
            ends.extend(block + HEAD_BYTES..=block + data.len());
            ends.push(bytes.len());
            ends.contains(&at)
        };
        let mut frames = Frames::new();
        assert!(frames.is_unfinished(), "the first SETTINGS is owed");
        for (at, byte) in bytes.iter().enumerate() {
            frames.see(&[*byte]);
            assert_eq!(frames.is_unfinished(), !finished_at(at + 1), "after byte {at}");
        }
        assert_eq!(frames.count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_farewell_is_a_goaway_that_names_the_last_stream() {
        let mut frames = Frames::new();
        frames.see(&frame(HEADERS, END_HEADERS, &[0x82]));
        frames.see(&ping());
        let goaway = frames.farewell();
        assert_eq!(goaway[..HEAD_BYTES], [0, 0, 22, GOAWAY, 0, 0, 0, 0, 0]);
        assert_eq!(goaway[HEAD_BYTES..17], [0, 0, 0, 1, 0, 0, 0, ENHANCE_YOUR_CALM]);
        assert_eq!(&goaway[17..], b"too_many_pings");
    }
}
