//! Writes how attempts ended. What ends while a write is under way goes into the next one together: one end waits for nobody,
//! a thousand at one instant are a few transactions. What is due goes first: until it is claimed and has begun, ends wait.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use crate::store::{Finish, Store};

/// Ends that may wait for the writer; a run whose end finds no room waits with it.
const WAITING: usize = 4_096;

/// The most ends of one transaction.
const AT_ONCE: usize = 1_000;

/// Whether the end was this attempt's to write, or why it could not be written.
type Answer = Result<bool, String>;

/// Whoever has it goes before what is to be ended: the planner until it has claimed what is due, and each run of that until its body
/// begins.
pub(super) type Turn = Arc<OwnedMutexGuard<()>>;

/// The writer of one process.
#[derive(Debug, Clone)]
pub(super) struct Finisher {
    ends: mpsc::Sender<(Finish, oneshot::Sender<Answer>)>,
    turn: Arc<Mutex<()>>,
}

impl Finisher {
    /// Starts the writer; it ends with the last handle to it.
    pub(super) fn start(store: Store) -> Self {
        let (sender, mut ends) = mpsc::channel(WAITING);
        let turn = Arc::new(Mutex::new(()));
        let writers = Arc::clone(&turn);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while ends.recv_many(&mut batch, AT_ONCE).await > 0 {
                let _turn = writers.lock().await;
                write(&store, std::mem::take(&mut batch)).await;
            }
        });
        Self { ends: sender, turn }
    }

    /// Until the last of these is dropped no end is written: what is due is not to wait for what is done.
    pub(super) async fn hold(&self) -> Turn {
        Arc::new(Arc::clone(&self.turn).lock_owned().await)
    }

    /// Writes one end. `false`: the run is no longer this attempt's to end, and nothing was changed.
    ///
    /// # Errors
    /// Why it could not be written.
    pub(super) async fn finish(&self, end: Finish) -> Answer {
        let (answer, written) = oneshot::channel();
        let gone = || "the process is ending".to_owned();
        self.ends.send((end, answer)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

async fn write(store: &Store, batch: Vec<(Finish, oneshot::Sender<Answer>)>) {
    let (ends, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let written = store.finish_runs(&ends).await.map_err(|fault| fault.to_string());
    for (end, answer) in ends.iter().zip(answers) {
        // Who no longer waits for the answer was cut off.
        let _ = answer.send(written.as_ref().map(|written| written.contains(&end.run)).map_err(Clone::clone));
    }
}
