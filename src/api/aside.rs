//! What a connection waits for beside its requests, for as little as can be: the deadline of a request head, and the end of
//! the service. A timer of the runtime for each head, and a look at each poll whether the service ends, cost a tenth of a hot
//! answer; here both are looked at when they have something to say.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// No head is waited for.
const NONE: u64 = u64::MAX;

/// The head that is waited for has not come in time.
const LATE: u64 = 0;

/// The deadline of the head that a connection waits for. hyper takes it for its timer; [`Heads::watch`] is the only real one,
/// and goes off about as often as the limit passes, not with each request.
#[derive(Debug, Clone)]
pub struct Heads {
    limit: Duration,
    began: Instant,
    /// [`NONE`], [`LATE`], or nanoseconds since `began`.
    due: Arc<AtomicU64>,
}

impl Heads {
    /// Of a connection that begins now; hyper is told the same `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, began: TokioTimer::new().now(), due: Arc::new(AtomicU64::new(NONE)) }
    }

    /// Never ends. It has to be polled before the connection is: hyper sees then that the head is late, and gives it up.
    pub async fn watch(&self) {
        let timer = TokioTimer::new();
        loop {
            let now = timer.now();
            let next = match self.due.load(Ordering::Relaxed) {
                NONE | LATE => now + self.limit,
                due if self.began + Duration::from_nanos(due) <= now => {
                    self.due.store(LATE, Ordering::Relaxed);
                    now + self.limit
                }
                due => self.began + Duration::from_nanos(due),
            };
            timer.sleep_until(next).await;
        }
    }

    fn set(&self, deadline: Instant) {
        let nanoseconds = u64::try_from(deadline.saturating_duration_since(self.began).as_nanos()).unwrap_or(NONE);
        self.due.store(nanoseconds.clamp(LATE + 1, NONE - 1), Ordering::Relaxed);
    }
}

impl Timer for Heads {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.set(deadline);
        Box::pin(Head { due: Arc::clone(&self.due) })
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        self.set(new_deadline);
    }
}

/// A head that is waited for.
struct Head {
    due: Arc<AtomicU64>,
}

impl Sleep for Head {}

impl Future for Head {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // The watch wakes the connection, which has both of them.
        if self.due.load(Ordering::Relaxed) == LATE { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.due.store(NONE, Ordering::Relaxed);
    }
}

/// A future that is polled only after it has woken its task, not whenever anything else has. Not to be polled after its end.
pub struct Aside<F> {
    inner: Pin<Box<F>>,
    woken: Arc<Woken>,
    /// Wakes through `woken`.
    waker: Waker,
    /// Whom `woken` wakes.
    task: Option<Waker>,
}

struct Woken {
    yes: AtomicBool,
    /// Kept when it was used: what stands aside wakes more than once.
    task: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.yes.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl<F: Future> Aside<F> {
    /// Polled for the first time with the first poll.
    pub fn of(inner: F) -> Self {
        let woken = Arc::new(Woken { yes: AtomicBool::new(true), task: Mutex::default() });
        Self { inner: Box::pin(inner), waker: Waker::from(Arc::clone(&woken)), woken, task: None }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            this.task = Some(context.waker().clone());
            *this.woken.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        }
        if !this.woken.yes.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.woken.yes.store(false, Ordering::Release);
        this.inner.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn what_stands_aside_is_polled_when_it_wakes_and_not_before() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let polls = AtomicU64::new(0);
        let mut told = Box::pin(told);
        let counted = std::future::poll_fn(|context| {
            polls.fetch_add(1, Ordering::Relaxed);
            told.poll_unpin(context)
        });
        let mut aside = Aside::of(counted);
        for _ in 0..5 {
            assert!(std::future::poll_fn(|context| Poll::Ready(aside.poll_unpin(context))).await.is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        tell.send(7).unwrap();
        assert_eq!(aside.await, Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_stands_aside_wakes_its_task_more_than_once() {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let three = async move {
            let mut sum = 0;
            for _ in 0..3 {
                sum += told.recv().await.unwrap();
            }
            sum
        };
        // A task of its own: it is polled for nothing but that it was woken.
        let waits = tokio::spawn(Aside::of(three));
        for number in [1, 2, 4] {
            tell.send(number).await.unwrap();
            // The channel has room for one: until this one is heard, or nobody listens any more.
            let _ = tell.reserve().await;
        }
        assert_eq!(waits.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_head_is_late_when_its_time_has_passed_and_none_is_once_it_is_read() {
        let heads = Heads::new(Duration::from_millis(20));
        let timer = TokioTimer::new();
        let mut read = heads.sleep(Duration::from_millis(20));
        assert!(read.as_mut().now_or_never().is_none());
        drop(read);
        let mut late = heads.sleep(Duration::from_millis(40));
        let mut watch = Box::pin(heads.watch());
        let waited = std::future::poll_fn(|context| {
            assert!(watch.poll_unpin(context).is_pending());
            late.as_mut().poll(context)
        });
        let began = timer.now();
        waited.await;
        assert!(timer.now() - began >= Duration::from_millis(40));
    }
}
