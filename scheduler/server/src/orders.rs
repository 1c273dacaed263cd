//! The queue of what the engine is to decide.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::input::{Input, Refusal, Reply};
use muster_store::HistoryRow;
use tokio::sync::{mpsc, oneshot};

/// Orders that are taken together at most.
const BATCH_MAX: usize = 1024;
/// Fewer orders than these may be the first of many. With more, the cost of a turn is shared by enough of them, and whoever brings the others is not
/// waited for, who may have lost the processor.
const FEW: usize = 64;
/// Orders that may be queued before those who bring more have to wait.
const QUEUE_MAX: usize = 4096;

/// Why an input has no reply.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The engine refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be stored, so that it has not happened.
    #[error("the controller cannot store anything at present, and nothing was changed: {reason}")]
    NotStored {
        /// Why.
        reason: String,
    },
    /// The controller is stopping.
    #[error("the controller is stopping; nothing was changed")]
    Stopping,
    /// Another controller leads, or may lead by now. The next leader may have found what was asked for, or not.
    #[error("this controller leads no longer: ask the one that does, which knows what became of the request")]
    Deposed,
}

pub(crate) type ReplySender = oneshot::Sender<Result<Reply, InputError>>;

/// What is queued for the engine.
pub(crate) enum Order {
    /// To be decided.
    Input {
        /// What it is.
        input: Input,
        /// Who waits for what it brings about.
        reply: Option<ReplySender>,
    },
    /// Rows of the accounting that follow from no record.
    Rows(Vec<HistoryRow>),
    /// To stop after what was queued before.
    Stop,
}

/// Brings inputs to the engine.
#[derive(Clone)]
pub struct EngineHandle {
    orders: mpsc::Sender<Order>,
    /// Held by whoever brings several inputs while they go into the queue: the first one wakes the engine, which else would be off with it.
    together: Arc<Mutex<()>>,
}

impl EngineHandle {
    /// Brings an input and waits until what it brought about is durable.
    ///
    /// # Errors
    /// [`InputError`].
    pub async fn ask(&self, input: Input) -> Result<Reply, InputError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Input { input, reply: Some(reply) };
        self.orders.send(order).await.map_err(|_| InputError::Stopping)?;
        answer.await.map_err(|_| InputError::Stopping)?
    }

    /// Brings an input that nobody waits for. It is lost if it cannot be stored: for what is said again.
    pub async fn tell(&self, input: Input) {
        self.tell_all(vec![input]).await;
    }

    /// Brings inputs, each as [`Self::tell`] does: once there is room for all of them, so that they are
    /// decided and stored together as far as that goes.
    pub async fn tell_all(&self, inputs: Vec<Input>) {
        let mut inputs = inputs.into_iter();
        while inputs.len() > 0 {
            let Ok(places) = self.orders.reserve_many(inputs.len().min(QUEUE_MAX)).await else { return };
            let _together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
            places
                .zip(inputs.by_ref())
                .for_each(|(place, input)| place.send(Order::Input { input, reply: None }));
        }
    }

    /// Brings rows of the accounting that a node has told of. What cannot be stored closes the sessions, and is said again.
    pub async fn account(&self, rows: Vec<HistoryRow>) {
        let _ = self.orders.send(Order::Rows(rows)).await;
    }

    /// Makes the engine stop after what is queued, with a snapshot.
    pub async fn stop(&self) {
        let _ = self.orders.send(Order::Stop).await;
    }
}

/// Where the engine finds what was brought.
pub(crate) struct Inbox {
    orders: mpsc::Receiver<Order>,
    together: Arc<Mutex<()>>,
}

/// An empty queue.
pub(crate) fn queue() -> (EngineHandle, Inbox) {
    let (sender, orders) = mpsc::channel(QUEUE_MAX);
    let together = Arc::<Mutex<()>>::default();
    (EngineHandle { orders: sender, together: Arc::clone(&together) }, Inbox { orders, together })
}

impl Inbox {
    /// Takes what is queued, and what is just being brought with it. Waits for the first of it, at most for so long. Says whether nobody
    /// can bring anything any more.
    pub async fn take(&mut self, at_most: Option<Duration>, orders: &mut Vec<Order>) -> bool {
        let receive = self.orders.recv_many(orders, BATCH_MAX);
        let received = match at_most {
            None => receive.await,
            Some(at_most) => match tokio::time::timeout(at_most, receive).await {
                Ok(received) => received,
                Err(_) => return false,
            },
        };
        if orders.len() < FEW {
            drop(self.together.lock().unwrap_or_else(PoisonError::into_inner));
            while orders.len() < BATCH_MAX
                && let Ok(order) = self.orders.try_recv()
            {
                orders.push(order);
            }
        }
        received == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_brought_together_is_taken_together() {
        // Of more, those who come last may be left for the next time.
        const INPUTS: usize = FEW;
        let (handle, mut inbox) = queue();
        let (next, mut turn) = mpsc::channel(1);
        let bring = tokio::spawn(async move {
            while turn.recv().await.is_some() {
                handle.tell_all(vec![Input::Tick; INPUTS]).await;
            }
        });
        let mut orders = Vec::new();
        for _ in 0..1000 {
            next.send(()).await.unwrap();
            assert!(!inbox.take(None, &mut orders).await);
            assert_eq!(orders.drain(..).count(), INPUTS);
        }
        drop(next);
        bring.await.unwrap();
        assert!(inbox.take(None, &mut orders).await, "nobody is left");
    }

    #[tokio::test]
    async fn no_more_is_taken_at_once_than_may_be_decided_together() {
        let (handle, mut inbox) = queue();
        handle.tell_all(vec![Input::Tick; BATCH_MAX + 1]).await;
        let mut orders = Vec::new();
        for taken in [BATCH_MAX, 1] {
            assert!(!inbox.take(None, &mut orders).await);
            assert_eq!(orders.drain(..).count(), taken);
        }
        assert!(!inbox.take(Some(Duration::from_millis(1)), &mut orders).await);
        assert!(orders.is_empty(), "nothing came");
    }
}
