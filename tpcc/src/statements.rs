//! All statements of the five transactions, prepared once on each connection.
//!
//! Where a row is read and then changed, one `UPDATE … RETURNING` does both. The statements that read
//! `s_dist_xx` are ten, one for each district.

/// Places in [`CATALOG`].
pub(crate) mod id {
    pub(crate) const BEGIN: usize = 0;
    pub(crate) const BEGIN_READ: usize = 1;
    pub(crate) const COMMIT: usize = 2;
    pub(crate) const ROLLBACK: usize = 3;
    pub(crate) const NO_WAREHOUSE: usize = 4;
    pub(crate) const NO_DISTRICT: usize = 5;
    pub(crate) const NO_CUSTOMER: usize = 6;
    pub(crate) const NO_ITEM: usize = 7;
    pub(crate) const NO_ORDER: usize = 8;
    pub(crate) const NO_NEW_ORDER: usize = 9;
    pub(crate) const NO_LINE: usize = 10;
    pub(crate) const P_WAREHOUSE: usize = 11;
    pub(crate) const P_DISTRICT: usize = 12;
    pub(crate) const P_CUSTOMER: usize = 13;
    pub(crate) const P_HISTORY: usize = 14;
    pub(crate) const C_BY_NAME: usize = 15;
    pub(crate) const OS_CUSTOMER: usize = 16;
    pub(crate) const OS_ORDER: usize = 17;
    pub(crate) const OS_LINES: usize = 18;
    pub(crate) const D_OLDEST: usize = 19;
    pub(crate) const D_DELETE: usize = 20;
    pub(crate) const D_ORDER: usize = 21;
    pub(crate) const D_LINES: usize = 22;
    pub(crate) const D_AMOUNT: usize = 23;
    pub(crate) const D_CUSTOMER: usize = 24;
    pub(crate) const SL_DISTRICT: usize = 25;
    pub(crate) const SL_STOCK: usize = 26;
    /// For district 1; the other nine follow.
    pub(crate) const NO_STOCK: usize = 27;
}

macro_rules! stock {
    ($district:literal) => {
        (
            "new_order.stock",
            concat!(
                "UPDATE stock SET s_quantity = CASE WHEN s_quantity >= $3 + 10 THEN s_quantity - $3 \
                 ELSE s_quantity - $3 + 91 END, s_ytd = s_ytd + $3, s_order_cnt = s_order_cnt + 1, \
                 s_remote_cnt = s_remote_cnt + $4 WHERE s_w_id = $1 AND s_i_id = $2 \
                 RETURNING s_quantity, s_data, s_dist_",
                $district
            ),
        )
    };
}

/// Name and text of each statement.
pub(crate) static CATALOG: [(&str, &str); 37] = [
    ("begin", "BEGIN"),
    ("begin", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
    ("commit", "COMMIT"),
    ("rollback", "ROLLBACK"),
    ("new_order.warehouse", "SELECT w_tax FROM warehouse WHERE w_id = $1"),
    (
        "new_order.district",
        "UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = $1 AND d_id = $2 \
         RETURNING d_tax, d_next_o_id - 1",
    ),
    (
        "new_order.customer",
        "SELECT c_discount, c_last, c_credit FROM customer \
         WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
    ),
    ("new_order.item", "SELECT i_price, i_name, i_data FROM item WHERE i_id = $1"),
    (
        "new_order.order",
        "INSERT INTO orders (o_id, o_d_id, o_w_id, o_c_id, o_entry_d, o_ol_cnt, o_all_local) \
         VALUES ($1, $2, $3, $4, now(), $5, $6)",
    ),
    (
        "new_order.new_order",
        "INSERT INTO new_order (no_o_id, no_d_id, no_w_id) VALUES ($1, $2, $3)",
    ),
    (
        "new_order.line",
        "INSERT INTO order_line (ol_o_id, ol_d_id, ol_w_id, ol_number, ol_i_id, ol_supply_w_id, \
         ol_quantity, ol_amount, ol_dist_info) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    ),
    (
        "payment.warehouse",
        "UPDATE warehouse SET w_ytd = w_ytd + $2 WHERE w_id = $1 \
         RETURNING w_name, w_street_1, w_street_2, w_city, w_state, w_zip",
    ),
    (
        "payment.district",
        "UPDATE district SET d_ytd = d_ytd + $3 WHERE d_w_id = $1 AND d_id = $2 \
         RETURNING d_name, d_street_1, d_street_2, d_city, d_state, d_zip",
    ),
    (
        "payment.customer",
        "UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, \
         c_payment_cnt = c_payment_cnt + 1, c_data = CASE WHEN c_credit = 'BC' \
         THEN left($5 || c_data, 500) ELSE c_data END \
         WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 \
         RETURNING c_first, c_middle, c_last, c_street_1, c_street_2, c_city, c_state, c_zip, \
         c_phone, c_since::text, c_credit, c_credit_lim, c_discount, c_balance, \
         CASE WHEN c_credit = 'BC' THEN left(c_data, 200) END",
    ),
    (
        "payment.history",
        "INSERT INTO history (h_c_id, h_c_d_id, h_c_w_id, h_d_id, h_w_id, h_date, h_amount, h_data) \
         VALUES ($1, $2, $3, $4, $5, now(), $6, $7)",
    ),
    (
        "customer_by_name",
        "SELECT c_id FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_last = $3 \
         ORDER BY c_first",
    ),
    (
        "order_status.customer",
        "SELECT c_balance, c_first, c_middle, c_last FROM customer \
         WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
    ),
    (
        "order_status.order",
        "SELECT o_id, o_entry_d::text, o_carrier_id FROM orders \
         WHERE o_w_id = $1 AND o_d_id = $2 AND o_c_id = $3 ORDER BY o_id DESC LIMIT 1",
    ),
    (
        "order_status.lines",
        "SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivery_d::text \
         FROM order_line WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
    ),
    (
        "delivery.oldest",
        "SELECT no_o_id FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 \
         ORDER BY no_o_id LIMIT 1 FOR UPDATE",
    ),
    (
        "delivery.new_order",
        "DELETE FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 AND no_o_id = $3",
    ),
    (
        "delivery.order",
        "UPDATE orders SET o_carrier_id = $4 WHERE o_w_id = $1 AND o_d_id = $2 AND o_id = $3 \
         RETURNING o_c_id",
    ),
    (
        "delivery.lines",
        "UPDATE order_line SET ol_delivery_d = now() \
         WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
    ),
    (
        "delivery.amount",
        "SELECT sum(ol_amount) FROM order_line WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3",
    ),
    (
        "delivery.customer",
        "UPDATE customer SET c_balance = c_balance + $4, c_delivery_cnt = c_delivery_cnt + 1 \
         WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3",
    ),
    ("stock_level.district", "SELECT d_next_o_id FROM district WHERE d_w_id = $1 AND d_id = $2"),
    (
        "stock_level.stock",
        "SELECT count(DISTINCT s_i_id) FROM order_line JOIN stock \
         ON s_w_id = ol_w_id AND s_i_id = ol_i_id WHERE ol_w_id = $1 AND ol_d_id = $2 \
         AND ol_o_id >= $3 - 20 AND ol_o_id < $3 AND s_quantity < $4",
    ),
    stock!("01"),
    stock!("02"),
    stock!("03"),
    stock!("04"),
    stock!("05"),
    stock!("06"),
    stock!("07"),
    stock!("08"),
    stock!("09"),
    stock!("10"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_agree() {
        assert_eq!(CATALOG[id::ROLLBACK].1, "ROLLBACK");
        assert_eq!(CATALOG[id::NO_LINE].0, "new_order.line");
        assert_eq!(CATALOG[id::C_BY_NAME].0, "customer_by_name");
        assert_eq!(CATALOG[id::D_CUSTOMER].0, "delivery.customer");
        assert_eq!(CATALOG[id::SL_STOCK].0, "stock_level.stock");
        assert!(CATALOG[id::NO_STOCK].1.ends_with("s_dist_01"));
        assert!(CATALOG[id::NO_STOCK + 9].1.ends_with("s_dist_10"));
    }
}
