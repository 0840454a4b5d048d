//! `meridian recover`: one node goes on when a majority is gone for good.

use std::fmt::Write;
use std::path::Path;

use meridian_base::NodeId;
use meridian_cluster::recover::{go_on_alone, replicas_in};

use crate::{Failure, failed, member};

/// What there is, and what was done or would be.
pub(crate) fn recover(data: &Path, accepted: bool) -> Result<String, Failure> {
    let cannot = || failed(format!("cannot recover {}", data.display()));
    let Some(node) = member::node_of(data)? else {
        return Err(Failure(format!("{} belongs to no node of a cluster", data.display())));
    };
    let found = replicas_in(data).map_err(cannot())?;
    let mut text = format!("Node {node} has replicas of {} range(s):\n", found.len());
    for survivor in &found {
        let voters: Vec<String> = survivor.voters.iter().map(NodeId::to_string).collect();
        let (term, last) = survivor.last;
        let _ = writeln!(
            text,
            "  range {}: last entry {last} of term {term}, voters {}",
            survivor.range,
            voters.join(", ")
        );
    }
    if !accepted {
        text.push_str(
            "\nNothing has been changed. With --accept-data-loss this node becomes the only voter of these\n\
             ranges, in a cluster of its own. Do that only if a majority of the voters is gone for good, on the\n\
             node with the largest last entries (compare the term first), and on no other:\n\
             - writes that only the lost nodes had are gone, though their clients were told that they are kept;\n\
             - a transaction over several ranges may be kept in part, if its ranges are left at different points;\n\
             - ranges of which this node has no replica are lost;\n\
             - no other node of the old cluster may ever be started again on its old directory.",
        );
        return Ok(text);
    }
    // The name first: from then on no other node of the old cluster talks to this one.
    member::leave_cluster(data)?;
    go_on_alone(data, NodeId(node)).map_err(cannot())?;
    let _ = write!(
        text,
        "\nNode {node} is their only voter now. Start it with `meridian start`, have the lost nodes leave by\n\
         `meridian node decommission`, and let new nodes join, on empty directories."
    );
    Ok(text)
}
