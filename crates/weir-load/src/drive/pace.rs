//! Waiting for a moment, closer than a runtime's timers do.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Shortest wait. Requests that fall due within it are sent together; latency counts from when
/// they were due all the same.
pub(crate) const QUANTUM: Duration = Duration::from_micros(50);

/// How the dispatcher waits.
pub(crate) enum Pace {
    /// tokio's timers, a millisecond coarse. They obey a paused clock.
    Coarse,
    /// A timer of the kernel, some tens of microseconds fine.
    #[cfg(target_os = "linux")]
    Fine(fine::Timer),
}

impl Pace {
    /// The finest there is on this machine. Inside a runtime.
    pub(crate) fn finest() -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = fine::Timer::new() {
            return Self::Fine(timer);
        }
        Self::Coarse
    }

    /// Waits until `moment`, or a little longer.
    pub(crate) async fn until(&mut self, moment: Instant) {
        match self {
            Self::Coarse => sleep_until(moment).await,
            #[cfg(target_os = "linux")]
            Self::Fine(timer) => {
                let wait = moment.saturating_duration_since(Instant::now()).max(QUANTUM);
                if timer.wait(wait).await.is_err() {
                    sleep_until(moment).await;
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod fine {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    /// A timerfd: tokio rounds its own timers to milliseconds, which would be the larger part of
    /// the latency of a model that answers in tens of microseconds. Spinning would do as well
    /// and take a core for it.
    pub(crate) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: an OwnedFd is one open descriptor, always the same, for as long as it lives,
            // and it is dropped with the AsyncFd.
            #[allow(unsafe_code)] // tokio cannot know that of every descriptor; of this type it holds
            let registered = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
            Ok(Self(registered?))
        }

        pub(super) async fn wait(&mut self, wait: Duration) -> io::Result<()> {
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: wait.subsec_nanos().into(),
                },
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.0.readable().await?;
                let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0u8; 8])?));
                match read {
                    Ok(done) => return done.map(drop),
                    Err(_would_block) => {}
                }
            }
        }
    }
}
