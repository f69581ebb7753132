//! Work that makes way: a cycle reckons for tens of milliseconds, which no reader is to wait for.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::Instrument;

/// How much less a thread that makes way counts for the kernel than one that serves: a third. On a host that readers keep busy a
/// cycle takes longer by as much, not for ever.
const NICE: i32 = 5;

/// Runs `work` on a thread that gives way to those that serve; its waiting is done by the runtime as ever. When the returned future
/// is dropped, so is the work, once it waits for something. A runtime that is taken down waits for that.
///
/// # Panics
/// As `work` does.
pub async fn make_way<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (mut tell, told) = oneshot::channel();
    let runtime = Handle::current();
    let work = AssertUnwindSafe(work.in_current_span()).catch_unwind();
    tokio::task::spawn_blocking(move || {
        // It stays so for what the thread does next, if that comes soon: after ten seconds without work it ends.
        count_less();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = tell.closed() => {}
                ended = work => {
                    let _ = tell.send(ended);
                }
            }
        });
    });
    match told.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The runtime is being taken down: nothing is done any more.
        Err(_) => std::future::pending().await,
    }
}

/// On Linux a priority is that of a thread, and dies with it. Where it cannot be set the work is as important as any other.
#[cfg(target_os = "linux")]
fn count_less() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn count_less() {
    let _ = NICE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_runs_elsewhere_counts_less_and_its_panic_comes_back() {
        let here = std::thread::current().id();
        let (there, nice) = make_way(async {
            tokio::task::yield_now().await;
            (std::thread::current().id(), rustix::process::getpriority_process(None).unwrap())
        })
        .await;
        assert_ne!(here, there);
        assert!(nice >= NICE, "{nice}");
        let mine = rustix::process::getpriority_process(None).unwrap();
        assert!(mine < nice, "who waits for it counts as before: {mine}");
        let panicked = AssertUnwindSafe(make_way(async { panic!("as told") })).catch_unwind().await;
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"as told"));
    }

    #[tokio::test]
    async fn who_does_not_wait_for_it_ends_it() {
        let (held, dropped) = oneshot::channel::<()>();
        let work = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        assert!(tokio::time::timeout(std::time::Duration::ZERO, make_way(work)).await.is_err());
        assert!(dropped.await.is_err());
    }
}
