//! Holds on their way: made by who prepares, ended by who ends, looked after by leaseholders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use meridian_base::Instant;
use meridian_kv::api::{KvError, Strength, WaitPolicy};
use meridian_kv::commit::{Answer, Message};
use meridian_kv::locks::LockMode;
use meridian_kv::range::{Header, Outcome as Decided, PrepareRequest, Refused, Verify};
use meridian_kv::txn::LockedKey;

use super::rows::id_key;
use crate::commit::Locks;
use crate::coordinator::{Coordinators, Given, send};
use crate::core::Core;
use crate::locking::Acquired;
use crate::parts::owner_of;
use crate::parts::{Holder, Reply};
use crate::range::Range;
use crate::{Locked, Txn, TxnOptions};

/// As for the parts of a commit: half of it shows clients slow elections.
const PATIENCE: Duration = Duration::from_secs(15);
/// Whoever ends a hold waits no longer for it to be gone; the leaseholder will find it.
const END_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What came of making the holds.
pub(crate) enum Made {
    All,
    /// A range has split: they are to be planned anew.
    Split,
}

/// Gives the locks of a new hold, at the leaseholder, to an owner without a session: those that the session
/// holds here never come free; others, which were lost with a lease, are taken if nobody has them, and then
/// the row must be as it was seen.
pub(crate) fn take_over(
    core: &Core,
    request: &mut PrepareRequest,
    holder: Option<&dyn Holder>,
) -> Result<Locks, KvError> {
    let to = owner_of(request.header.txn);
    let (mut rows, runs) = (BTreeMap::new(), Vec::new());
    for locked in &mut request.verify {
        let from = holder.filter(|holder| holder.holds(&locked.key)).map(|holder| holder.owner());
        let strength = locked.strength;
        if from.is_some_and(|from| core.locks.hand_over_row(&locked.key, from, to, strength)) {
            locked.seen = Verify::HELD;
        } else {
            match core.locks.try_row(&locked.key, to, strength, WaitPolicy::NoWait) {
                Ok(Acquired::Granted { .. } | Acquired::Reentrant) => {}
                Ok(Acquired::Unavailable) | Err(_) => {
                    Locks { rows, runs }.release(core, to);
                    return Err(KvError::CONCURRENT_UPDATE);
                }
            }
        }
        let held = LockedKey { modes: strength.bit(), newest: meridian_kv::api::Timestamp::MIN };
        rows.insert(locked.key.clone(), held);
    }
    Ok(Locks { rows, runs })
}

/// Makes the holds of all parts durable. On an error some may have been made.
pub(crate) async fn make_holds(
    core: &Arc<Core>,
    requests: Vec<PrepareRequest>,
    given: &Given,
) -> Result<Made, KvError> {
    let made = requests.into_iter().map(|request| make_hold(core, request, given));
    let made = try_join_all(made).await?;
    Ok(if made.iter().all(|made| *made) { Made::All } else { Made::Split })
}

/// Makes one; false when its range has split.
async fn make_hold(
    core: &Arc<Core>,
    request: PrepareRequest,
    given: &Given,
) -> Result<bool, KvError> {
    let (header, own) = (request.header.clone(), request.own);
    let request = Arc::new(request);
    let (started, mut pause) = (Instant::now(), PAUSE_MIN);
    while started.elapsed() < PATIENCE {
        let message = Message::Prepare(Arc::clone(&request));
        match send(core, &header, own, message, Some(given)).await {
            Reply::Answer(Answer::Prepared(ts)) => {
                core.hlc.raise(ts);
                return Ok(true);
            }
            Reply::Split => return Ok(false),
            Reply::Answer(Answer::Refused(
                refused @ (Refused::Error(_) | Refused::Decided(_) | Refused::Expired),
            )) => return Err(refused.into()),
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Err(KvError::Unavailable { reason: "a range has no leaseholder".into() })
}

/// Ends the holds of a transaction that is prepared no longer, or never was, and with them its row locks.
pub(crate) async fn end_hold(core: &Arc<Core>, header: &Header) {
    join_all((0..header.participants.len()).map(|own| end_part(core, header, own))).await;
}

async fn end_part(core: &Arc<Core>, header: &Header, own: usize) {
    let (started, mut pause) = (Instant::now(), PAUSE_MIN);
    while started.elapsed() < END_PATIENCE {
        match send(core, header, own, Message::Resolve(Decided::Aborted), None).await {
            Reply::Answer(Answer::Resolved) => return,
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    tracing::debug!(txn = %header.txn, "a hold is left to its leaseholder");
}

/// Looks for holds of a range that have no prepared transaction any more, or never got one.
pub(crate) fn sweep(core: &Arc<Core>, range: &Range) {
    for header in range.pipeline.holds() {
        let core = Arc::clone(core);
        tokio::spawn(async move {
            if let Err(error) = end_orphan(&core, &header).await {
                tracing::debug!(txn = %header.txn, %error, "a hold could not be looked after");
            }
        });
    }
}

/// Ends a hold if it belongs to nothing.
async fn end_orphan(core: &Arc<Core>, header: &Header) -> Result<(), KvError> {
    // Not while it is being prepared or swept here.
    let Some(_running) = Coordinators::enter(core, header.txn) else { return Ok(()) };
    let key = id_key(header.txn);
    let mut txn = Txn::begin(Arc::clone(core), TxnOptions::default());
    txn.begin_statement();
    if txn.get(&key).await?.is_some_and(|gid| !gid.is_empty()) {
        return Ok(());
    }
    // It may still be on its way: so that it fails, something has to be there before it.
    txn.begin_statement();
    match txn.lock(&key, Strength::Update, WaitPolicy::NoWait).await? {
        Locked::Held { newest: Some((_, gid)), .. } if !gid.is_empty() => return Ok(()),
        Locked::Held { newest: None, .. } => {
            txn.put(key.clone(), bytes::Bytes::new());
            txn.commit().await?;
        }
        Locked::Held { .. } => txn.rollback(),
        Locked::Skipped => return Ok(()),
    }
    end_hold(core, header).await;
    let mut txn = Txn::begin(Arc::clone(core), TxnOptions::default());
    txn.delete(key);
    txn.commit().await?;
    Ok(())
}
