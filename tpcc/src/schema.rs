//! The nine tables of clause 1.3, with the indexes that the transactions need.

/// The tables, parents before children, and the columns of each.
pub(crate) const TABLES: [(&str, &str); 9] = [
    (
        "warehouse",
        "w_id integer PRIMARY KEY, w_name varchar(10) NOT NULL, w_street_1 varchar(20) NOT NULL, \
         w_street_2 varchar(20) NOT NULL, w_city varchar(20) NOT NULL, w_state char(2) NOT NULL, \
         w_zip char(9) NOT NULL, w_tax numeric(4,4) NOT NULL, w_ytd numeric(12,2) NOT NULL",
    ),
    (
        "district",
        "d_id integer, d_w_id integer, d_name varchar(10) NOT NULL, \
         d_street_1 varchar(20) NOT NULL, d_street_2 varchar(20) NOT NULL, \
         d_city varchar(20) NOT NULL, d_state char(2) NOT NULL, d_zip char(9) NOT NULL, \
         d_tax numeric(4,4) NOT NULL, d_ytd numeric(12,2) NOT NULL, d_next_o_id integer NOT NULL, \
         PRIMARY KEY (d_w_id, d_id)",
    ),
    (
        "customer",
        "c_id integer, c_d_id integer, c_w_id integer, c_first varchar(16) NOT NULL, \
         c_middle char(2) NOT NULL, c_last varchar(16) NOT NULL, c_street_1 varchar(20) NOT NULL, \
         c_street_2 varchar(20) NOT NULL, c_city varchar(20) NOT NULL, c_state char(2) NOT NULL, \
         c_zip char(9) NOT NULL, c_phone char(16) NOT NULL, c_since timestamptz NOT NULL, \
         c_credit char(2) NOT NULL, c_credit_lim numeric(12,2) NOT NULL, \
         c_discount numeric(4,4) NOT NULL, c_balance numeric(12,2) NOT NULL, \
         c_ytd_payment numeric(12,2) NOT NULL, c_payment_cnt integer NOT NULL, \
         c_delivery_cnt integer NOT NULL, c_data varchar(500) NOT NULL, \
         PRIMARY KEY (c_w_id, c_d_id, c_id)",
    ),
    (
        "history",
        "h_c_id integer NOT NULL, h_c_d_id integer NOT NULL, h_c_w_id integer NOT NULL, \
         h_d_id integer NOT NULL, h_w_id integer NOT NULL, h_date timestamptz NOT NULL, \
         h_amount numeric(6,2) NOT NULL, h_data varchar(24) NOT NULL",
    ),
    (
        "orders",
        "o_id integer, o_d_id integer, o_w_id integer, o_c_id integer NOT NULL, \
         o_entry_d timestamptz NOT NULL, o_carrier_id integer, o_ol_cnt integer NOT NULL, \
         o_all_local integer NOT NULL, PRIMARY KEY (o_w_id, o_d_id, o_id)",
    ),
    (
        "new_order",
        "no_o_id integer, no_d_id integer, no_w_id integer, \
         PRIMARY KEY (no_w_id, no_d_id, no_o_id)",
    ),
    (
        "item",
        "i_id integer PRIMARY KEY, i_im_id integer NOT NULL, i_name varchar(24) NOT NULL, \
         i_price numeric(5,2) NOT NULL, i_data varchar(50) NOT NULL",
    ),
    (
        "stock",
        "s_i_id integer, s_w_id integer, s_quantity integer NOT NULL, s_dist_01 char(24) NOT NULL, \
         s_dist_02 char(24) NOT NULL, s_dist_03 char(24) NOT NULL, s_dist_04 char(24) NOT NULL, \
         s_dist_05 char(24) NOT NULL, s_dist_06 char(24) NOT NULL, s_dist_07 char(24) NOT NULL, \
         s_dist_08 char(24) NOT NULL, s_dist_09 char(24) NOT NULL, s_dist_10 char(24) NOT NULL, \
         s_ytd integer NOT NULL, s_order_cnt integer NOT NULL, s_remote_cnt integer NOT NULL, \
         s_data varchar(50) NOT NULL, PRIMARY KEY (s_w_id, s_i_id)",
    ),
    (
        "order_line",
        "ol_o_id integer, ol_d_id integer, ol_w_id integer, ol_number integer, \
         ol_i_id integer NOT NULL, ol_supply_w_id integer NOT NULL, ol_delivery_d timestamptz, \
         ol_quantity integer NOT NULL, ol_amount numeric(6,2) NOT NULL, \
         ol_dist_info char(24) NOT NULL, PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number)",
    ),
];

/// Made when the rows are there.
pub(crate) const INDEXES: [&str; 2] = [
    "CREATE INDEX customer_name ON customer (c_w_id, c_d_id, c_last, c_first)",
    "CREATE INDEX orders_customer ON orders (o_w_id, o_d_id, o_c_id, o_id)",
];

/// Table, its columns, and the table whose primary key they hold; made when the rows are there.
const FOREIGN_KEYS: [(&str, &str, &str); 10] = [
    ("district", "d_w_id", "warehouse"),
    ("customer", "c_w_id, c_d_id", "district"),
    ("history", "h_c_w_id, h_c_d_id, h_c_id", "customer"),
    ("history", "h_w_id, h_d_id", "district"),
    ("orders", "o_w_id, o_d_id, o_c_id", "customer"),
    ("new_order", "no_w_id, no_d_id, no_o_id", "orders"),
    ("stock", "s_w_id", "warehouse"),
    ("stock", "s_i_id", "item"),
    ("order_line", "ol_w_id, ol_d_id, ol_o_id", "orders"),
    ("order_line", "ol_supply_w_id, ol_i_id", "stock"),
];

/// The foreign keys as statements.
pub(crate) fn foreign_keys() -> impl Iterator<Item = String> {
    FOREIGN_KEYS.iter().map(|(table, columns, parent)| {
        format!("ALTER TABLE {table} ADD FOREIGN KEY ({columns}) REFERENCES {parent}")
    })
}
