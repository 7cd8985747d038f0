//! One call: whom it is from, until when it is of use, and how its messages are coded.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use hyper::body::Incoming;
use prost::Message;
use weir_serving::{CacheControl, Sender};
use weir_types::{Access, Credentials, Deadline, Error, ErrorCode, Grant, Principal, trace::Scope};

use super::{
    Noted,
    frame::{self, Messages},
    reply::Reply,
    timeout,
};
use crate::{
    body::BodyLimits,
    coding::Coding,
    exchange::Origin,
    head,
    metrics::InFlight,
    metrics::RouteMetrics,
    server::Shared,
    state::idempotency::{self, Once},
};

/// Largest message of a method that takes names only.
const MAX_SMALL_BYTES: u64 = 64 << 10;

/// What is known of a call before its messages.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    peer: IpAddr,
    /// Its place in a trace.
    pub(super) trace: Option<Scope>,
    head: Parts,
    /// When it came.
    pub(super) received: Instant,
    /// When a call that is not a stream stops being of use.
    pub(super) deadline: Deadline,
    /// When a stream does, if the caller says so.
    pub(super) stream_deadline: Option<Deadline>,
    request: Option<Coding>,
    /// How its answers are coded.
    pub(super) answers: Option<Coding>,
    noted: Arc<Noted>,
    /// Counts it, for as long as it lives.
    _in_flight: InFlight,
}

impl Call {
    /// Reads the head.
    ///
    /// # Errors
    /// `InvalidArgument` for timeouts that are none, `Unsupported` for a coding that we do
    /// not undo.
    pub(super) fn new(
        shared: Arc<Shared>,
        (peer, trace): (IpAddr, Option<Scope>),
        head: Parts,
        in_flight: InFlight,
        received: Instant,
    ) -> Result<Self, Error> {
        let own = timeout::of(&head.headers)?;
        let limit = head::timeout(&head.headers, shared.request_timeout()).map_err(Error::invalid)?;
        let request = Coding::of_request(&head.headers)?;
        Ok(Self {
            deadline: Deadline::after(received, own.map_or(limit, |own| own.min(limit))),
            stream_deadline: own.map(|own| Deadline::after(received, own)),
            answers: Coding::of_answers(&head.headers, request),
            noted: Arc::default(),
            head,
            shared,
            peer,
            trace,
            received,
            request,
            _in_flight: in_flight,
        })
    }

    /// Tells `noted` what the call came to.
    pub(super) fn noted(self, noted: &Arc<Noted>) -> Self {
        Self { noted: noted.clone(), ..self }
    }

    /// From now on the call counts for a model.
    pub(super) fn counts_for(&self, metrics: &Arc<RouteMetrics>) {
        // A call that is not a stream asks one model.
        let _ = self.noted.metrics.set(metrics.clone());
    }

    /// What is told in the metadata of the answer, be it an error.
    pub(super) fn tells(&self, metadata: HeaderMap) {
        // A call that is not a stream has one answer.
        let _ = self.noted.metadata.set(metadata);
    }

    /// Whether it is to run once.
    pub(super) fn is_keyed(&self) -> bool {
        idempotency::is_keyed(&self.head.headers)
    }

    /// What it is to run once under, `body` being its message.
    ///
    /// # Errors
    /// As [`Once::of`].
    pub(super) fn once(&self, principal: &Principal, body: &Bytes) -> Result<Option<Once>, Error> {
        Once::of(&self.shared, &self.head, principal, body, self.deadline)
    }

    /// What the caller wants of the model's cache.
    pub(super) fn cache_control(&self) -> CacheControl {
        head::cache_control(&self.head.headers)
    }

    /// Asks for access.
    ///
    /// # Errors
    /// What the authorizer says.
    pub(super) fn authorize(&self, access: Access<'_>) -> Result<Grant, Error> {
        let authorization = self.head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        self.shared.authorizer.authorize(Credentials { authorization }, access)
    }

    /// Whom an admitted request is from, which is at `trace` in its trace.
    ///
    /// # Errors
    /// What the authorizer says.
    pub(super) fn sender(&self, access: Access<'_>, trace: Option<&Scope>) -> Result<Sender, Error> {
        Ok(Origin { peer: self.peer, trace }.sender(self.authorize(access)?))
    }

    /// Reads the only message; `deadline` applies.
    ///
    /// # Errors
    /// As [`Messages::only`].
    pub(super) fn messages(
        &self,
        body: Incoming,
        limits: BodyLimits,
        deadline: Option<Deadline>,
    ) -> Messages {
        Messages::new(body, self.request, limits, deadline.map(|d| d.instant().into()))
    }

    /// The bounds of messages that hold names only.
    pub(super) fn small_limits(&self) -> BodyLimits {
        let limits = self.shared.body_limits();
        BodyLimits { max_bytes: limits.max_bytes.min(MAX_SMALL_BYTES), ..limits }
    }

    /// Reads the only message of a method that takes names only.
    ///
    /// # Errors
    /// What stands in the way of reading it.
    pub(super) async fn read_small<Q: Message + Default>(&self, body: Incoming) -> Result<Q, Error> {
        if self.deadline.is_past(self.shared.predictor.clock().now()) {
            return Err(late());
        }
        let mut room = self.shared.predictor.room();
        let messages = self.messages(body, self.small_limits(), Some(self.deadline));
        frame::decode(messages.only(&mut room).await?)
    }

    /// Answers a method that takes names only and reads what there is.
    ///
    /// # Errors
    /// Access, reading, and what `answer` says.
    pub(super) async fn small<Q, A>(
        self,
        body: Incoming,
        answer: fn(&Shared, Q) -> Result<A, Error>,
    ) -> Result<Reply, Error>
    where
        Q: Message + Default,
        A: Message,
    {
        self.authorize(Access::Read)?;
        let question = self.read_small(body).await?;
        self.reply(&answer(&self.shared, question)?)
    }

    /// An answer of one message.
    ///
    /// # Errors
    /// `TooLarge` beyond what a message can be.
    pub(super) fn reply(&self, message: &impl Message) -> Result<Reply, Error> {
        Ok(Reply::Unary(Some(frame::encode(message, self.answers)?)))
    }
}

/// The error for a call whose time is over.
pub(super) fn late() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the answer was there")
}
