//! Streams from straight asynchronous code.
//!
//! [`generate`] runs a future that hands batches to a [`Yielder`]; each poll of the stream drives
//! the future until it has handed one over. No channel and no task: a slot shared by the two.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use meridian_sql::walk::with_stack;
use meridian_types::PgError;
use parking_lot::Mutex;

/// A stream of batches.
pub(crate) type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch, PgError>> + Send>>;

type Slot = Arc<Mutex<Option<RecordBatch>>>;

/// Takes the batches of a generator.
pub(crate) struct Yielder(Slot);

impl Yielder {
    /// Gives a batch to the reader and waits until it has been taken; empty ones are left out.
    pub(crate) async fn send(&mut self, batch: RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        *self.0.lock() = Some(batch);
        let slot = &self.0;
        std::future::poll_fn(
            |_| {
                if slot.lock().is_none() { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    }
}

struct Generator<F> {
    future: Option<Pin<Box<F>>>,
    slot: Slot,
}

impl<F: Future<Output = Result<(), PgError>>> Stream for Generator<F> {
    type Item = Result<RecordBatch, PgError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        match future.as_mut().poll(cx) {
            Poll::Pending => match self.slot.lock().take() {
                Some(batch) => Poll::Ready(Some(Ok(batch))),
                None => Poll::Pending,
            },
            Poll::Ready(result) => {
                self.future = None;
                Poll::Ready(result.err().map(Err))
            }
        }
    }
}

/// The stream of the batches that this code gives.
pub(crate) fn generate<F, G>(code: G) -> Batches
where
    G: FnOnce(Yielder) -> F,
    F: Future<Output = Result<(), PgError>> + Send + 'static,
{
    let slot: Slot = Arc::default();
    let future = code(Yielder(slot.clone()));
    Box::pin(Generator { future: Some(Box::pin(future)), slot })
}

/// A stream that gives way to other tasks: each batch costs a unit of tokio's budget, and the next
/// one is not asked for before the unit was had.
///
/// The unit is paid after a batch, not before each poll as DataFusion's cooperative streams do it:
/// under more operators than the budget has units, those would use it up on the way down and never
/// reach the bottom.
pub(crate) struct Yielding<S> {
    inner: S,
    owes: bool,
}

impl<S> Yielding<S> {
    pub(crate) fn new(inner: S) -> Yielding<S> {
        Yielding { inner, owes: false }
    }
}

impl<S: Stream + Unpin> Stream for Yielding<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.owes {
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            self.owes = false;
        }
        let next = ready!(with_stack(|| self.inner.poll_next_unpin(cx)));
        self.owes = true;
        Poll::Ready(next)
    }
}
