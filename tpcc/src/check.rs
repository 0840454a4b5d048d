//! The twelve consistency conditions of clause 3.3.2, each as one query that counts what violates it.
//!
//! The eleventh is stated by the specification for the initial population only: orders less new orders
//! are 2100 in each district. A delivery takes one new order away and is counted by its customer, so the
//! query adds what was delivered since, and is the specification's condition when nothing was.

use anyhow::{Result, bail};
use clap::Args;
use meridian_base::clock::Instant;
use meridian_bench::{Cluster, Target, micros_since, print};

/// `tpcc check`
#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    target: Target,
}

/// Condition and query.
const CONDITIONS: [(&str, &str); 12] = [
    (
        "W_YTD = sum(D_YTD)",
        "SELECT count(*) FROM warehouse FULL JOIN (SELECT d_w_id, sum(d_ytd) AS ytd FROM district \
         GROUP BY d_w_id) AS d ON d_w_id = w_id WHERE w_ytd IS DISTINCT FROM ytd",
    ),
    (
        "D_NEXT_O_ID - 1 = max(O_ID) = max(NO_O_ID)",
        "SELECT count(*) FROM district \
         LEFT JOIN (SELECT o_w_id, o_d_id, max(o_id) AS o FROM orders GROUP BY o_w_id, o_d_id) AS o \
         ON o_w_id = d_w_id AND o_d_id = d_id \
         LEFT JOIN (SELECT no_w_id, no_d_id, max(no_o_id) AS no FROM new_order \
         GROUP BY no_w_id, no_d_id) AS n ON no_w_id = d_w_id AND no_d_id = d_id \
         WHERE o IS DISTINCT FROM d_next_o_id - 1 OR no <> d_next_o_id - 1",
    ),
    (
        "max(NO_O_ID) - min(NO_O_ID) + 1 = rows of NEW-ORDER",
        "SELECT count(*) FROM (SELECT 1 FROM new_order GROUP BY no_w_id, no_d_id \
         HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)) AS bad",
    ),
    (
        "sum(O_OL_CNT) = rows of ORDER-LINE",
        "SELECT count(*) FROM (SELECT o_w_id, o_d_id, sum(o_ol_cnt) AS due FROM orders \
         GROUP BY o_w_id, o_d_id) AS o FULL JOIN (SELECT ol_w_id, ol_d_id, count(*) AS lines \
         FROM order_line GROUP BY ol_w_id, ol_d_id) AS l ON ol_w_id = o_w_id AND ol_d_id = o_d_id \
         WHERE due IS DISTINCT FROM lines",
    ),
    (
        "O_CARRIER_ID is null just where NEW-ORDER has a row",
        "SELECT count(*) FROM orders FULL JOIN new_order \
         ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id \
         WHERE o_id IS NULL OR (o_carrier_id IS NULL) <> (no_o_id IS NOT NULL)",
    ),
    (
        "O_OL_CNT = rows of ORDER-LINE for each order",
        "SELECT count(*) FROM orders FULL JOIN (SELECT ol_w_id, ol_d_id, ol_o_id, \
         count(*) AS lines FROM order_line GROUP BY ol_w_id, ol_d_id, ol_o_id) AS l \
         ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id \
         WHERE o_ol_cnt IS DISTINCT FROM lines",
    ),
    (
        "OL_DELIVERY_D is null just where O_CARRIER_ID is",
        "SELECT count(*) FROM order_line LEFT JOIN orders \
         ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id \
         WHERE (ol_delivery_d IS NULL) <> (o_carrier_id IS NULL)",
    ),
    (
        "W_YTD = sum(H_AMOUNT)",
        "SELECT count(*) FROM warehouse FULL JOIN (SELECT h_w_id, sum(h_amount) AS paid \
         FROM history GROUP BY h_w_id) AS h ON h_w_id = w_id WHERE w_ytd IS DISTINCT FROM paid",
    ),
    (
        "D_YTD = sum(H_AMOUNT)",
        "SELECT count(*) FROM district FULL JOIN (SELECT h_w_id, h_d_id, sum(h_amount) AS paid \
         FROM history GROUP BY h_w_id, h_d_id) AS h ON h_w_id = d_w_id AND h_d_id = d_id \
         WHERE d_ytd IS DISTINCT FROM paid",
    ),
    (
        "C_BALANCE = sum(delivered OL_AMOUNT) - sum(H_AMOUNT)",
        "SELECT count(*) FROM customer \
         LEFT JOIN (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS owed FROM orders \
         JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id \
         WHERE ol_delivery_d IS NOT NULL GROUP BY o_w_id, o_d_id, o_c_id) AS o \
         ON o_w_id = c_w_id AND o_d_id = c_d_id AND o_c_id = c_id \
         LEFT JOIN (SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount) AS paid FROM history \
         GROUP BY h_c_w_id, h_c_d_id, h_c_id) AS h \
         ON h_c_w_id = c_w_id AND h_c_d_id = c_d_id AND h_c_id = c_id \
         WHERE c_balance <> coalesce(owed, 0) - coalesce(paid, 0)",
    ),
    (
        "rows of ORDER - rows of NEW-ORDER = 2100 + delivered since the load",
        "SELECT count(*) FROM (SELECT c_w_id, c_d_id, sum(c_delivery_cnt) AS delivered \
         FROM customer GROUP BY c_w_id, c_d_id) AS c \
         LEFT JOIN (SELECT o_w_id, o_d_id, count(*) AS orders FROM orders \
         GROUP BY o_w_id, o_d_id) AS o ON o_w_id = c_w_id AND o_d_id = c_d_id \
         LEFT JOIN (SELECT no_w_id, no_d_id, count(*) AS waiting FROM new_order \
         GROUP BY no_w_id, no_d_id) AS n ON no_w_id = c_w_id AND no_d_id = c_d_id \
         WHERE coalesce(orders, 0) - coalesce(waiting, 0) <> 2100 + delivered",
    ),
    (
        "C_BALANCE + C_YTD_PAYMENT = sum(delivered OL_AMOUNT)",
        "SELECT count(*) FROM customer \
         LEFT JOIN (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS owed FROM orders \
         JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id \
         WHERE ol_delivery_d IS NOT NULL GROUP BY o_w_id, o_d_id, o_c_id) AS o \
         ON o_w_id = c_w_id AND o_d_id = c_d_id AND o_c_id = c_id \
         WHERE c_balance + c_ytd_payment <> coalesce(owed, 0)",
    ),
];

/// Checks all conditions at one snapshot; an error when one does not hold.
pub(crate) async fn check(check: Check) -> Result<()> {
    let cluster = Cluster::new(&check.target, "tpcc")?;
    let client = cluster.connect(0).await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut violated = 0;
    for (number, (condition, query)) in (1..).zip(CONDITIONS) {
        let started = Instant::now();
        let bad: i64 = client.query_one(query, &[]).await?.get(0);
        let seconds = micros_since(started) as f64 / 1e6;
        let verdict = if bad == 0 { "ok".to_owned() } else { format!("VIOLATED by {bad}") };
        print(&format!("{number:2}  {verdict:14} {condition}  ({seconds:.2} s)\n"));
        violated += u32::from(bad != 0);
    }
    client.batch_execute("COMMIT").await?;
    if violated > 0 {
        bail!("{violated} of {} conditions are violated", CONDITIONS.len());
    }
    Ok(())
}
