//! Garbage collection inside fjall's compactions.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use crate::engine::Keyspace;
use crate::gc::{Fate, GcHandle, GcThresholds};

type Assigner = Arc<dyn Fn(&str) -> Option<Arc<dyn Factory>> + Send + Sync>;

/// Gives `cur` and `hist` a filter that asks `gc`.
pub(crate) fn assigner(gc: &GcHandle) -> Assigner {
    let gc = gc.clone();
    Arc::new(move |name| {
        let keyspace = [Keyspace::Cur, Keyspace::Hist].into_iter().find(|k| k.name() == name)?;
        let factory: Arc<dyn Factory> =
            Arc::new(FilterFactory { gc: AssertUnwindSafe(gc.clone()), keyspace });
        Some(factory)
    })
}

struct FilterFactory {
    // The handle swaps whole values, so a panic elsewhere cannot leave it half written.
    gc: AssertUnwindSafe<GcHandle>,
    keyspace: Keyspace,
}

impl Factory for FilterFactory {
    fn name(&self) -> &str {
        "meridian-gc"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter { thresholds: self.gc.load(), keyspace: self.keyspace })
    }
}

/// The thresholds stay the same during one compaction; they only rise, so an old one keeps more.
struct Filter {
    thresholds: Arc<GcThresholds>,
    keyspace: Keyspace,
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let value = item.value()?;
        Ok(match self.thresholds.fate(self.keyspace, item.key(), &value) {
            Fate::Keep => Verdict::Keep,
            Fate::Remove => Verdict::Remove,
            Fate::Destroy => Verdict::Destroy,
        })
    }
}
