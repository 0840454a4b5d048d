//! The loader: the initial population of clause 4.3.3, by COPY.
//!
//! The work is cut into parts that need nothing of each other (the items; of each warehouse its own row
//! with its districts, its stock, its customers and its orders), and connections take parts until none
//! is left. Indexes and foreign keys come last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use meridian_base::clock::Instant;
use meridian_base::rng::Rng;
use meridian_bench::{Cluster, CopyRows, LoadOptions, Target, load_bar, micros_since, print};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::decimal::Decimal;
use crate::random::{
    CUSTOMERS, Constants, DISTRICTS, ITEMS, a_string, integer, last_name, letters, n_string,
    original_data, permutation, zip,
};
use crate::schema;

/// `tpcc load`
#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: LoadOptions,
    /// Warehouses
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    warehouses: i32,
    /// Declare the foreign keys of the specification
    #[arg(long)]
    foreign_keys: bool,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Orders of each district that are not delivered yet.
const NEW_ORDERS: i32 = 900;
/// Rows of a warehouse, its order lines left out: 5 to 15 for each order, 10 in the middle.
const ROWS: u64 = 1 + 10 + 100_000 + 30_000 * 3 + 9000;
const ORDER_LINES: u64 = 300_000;

#[derive(Clone, Copy)]
enum Part {
    Items,
    Warehouse(i32),
    Stock(i32),
    Customers(i32),
    Orders(i32),
}

/// Makes the tables and fills them.
pub(crate) async fn load(load: Load) -> Result<()> {
    let started = Instant::now();
    let cluster = Arc::new(Cluster::new(&load.target, "tpcc")?);
    let client = cluster.connect(0).await?;
    create_tables(&client, load.options.drop).await?;

    let mut parts = VecDeque::from([Part::Items]);
    for w in 1..=load.warehouses {
        parts.extend([Part::Warehouse(w), Part::Stock(w), Part::Customers(w), Part::Orders(w)]);
    }
    let bar = load_bar(100_000 + (ROWS + ORDER_LINES) * load.warehouses as u64);
    let parts = Arc::new(Mutex::new(parts));
    let mut loaders = JoinSet::new();
    for number in 0..load.options.connections.max(1) {
        let loader = Loader {
            client: cluster.connect(number).await?,
            rng: Rng::seeded(load.seed),
            seed: load.seed,
            bar: bar.clone(),
        };
        loaders.spawn(loader.work(Arc::clone(&parts)));
    }
    while let Some(result) = loaders.join_next().await {
        result??;
    }
    bar.finish_and_clear();
    let copied = seconds_since(started);
    finish(&client, load.foreign_keys).await?;
    print(&format!(
        "{} rows copied in {copied:.1} s; with indexes{} {:.1} s\n",
        bar.position(),
        if load.foreign_keys { " and foreign keys" } else { "" },
        seconds_since(started)
    ));
    Ok(())
}

fn seconds_since(started: Instant) -> f64 {
    micros_since(started) as f64 / 1e6
}

async fn create_tables(client: &Client, drop: bool) -> Result<()> {
    if drop {
        for (table, _) in schema::TABLES.iter().rev() {
            client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
    }
    for (table, columns) in schema::TABLES {
        let create = format!("CREATE TABLE {table} ({columns})");
        client.batch_execute(&create).await.with_context(|| format!("cannot create {table}"))?;
    }
    Ok(())
}

async fn finish(client: &Client, foreign_keys: bool) -> Result<()> {
    let mut statements: Vec<_> = schema::INDEXES.map(str::to_owned).into();
    if foreign_keys {
        statements.extend(schema::foreign_keys());
    }
    statements.extend(schema::TABLES.iter().map(|(table, _)| format!("ANALYZE {table}")));
    for statement in statements {
        client.batch_execute(&statement).await.with_context(|| statement)?;
    }
    Ok(())
}

struct Loader {
    client: Client,
    rng: Rng,
    seed: u64,
    bar: ProgressBar,
}

impl Loader {
    async fn work(mut self, parts: Arc<Mutex<VecDeque<Part>>>) -> Result<()> {
        let next = || parts.lock().expect("no one panics with the lock").pop_front();
        while let Some(part) = next() {
            // By part and not by connection, so that a seed always gives the same data.
            let (kind, warehouse) = match part {
                Part::Items => (0, 0),
                Part::Warehouse(w) => (1, w),
                Part::Stock(w) => (2, w),
                Part::Customers(w) => (3, w),
                Part::Orders(w) => (4, w),
            };
            self.rng = Rng::seeded(self.seed ^ (warehouse as u64 * 8 + kind).rotate_left(32));
            match part {
                Part::Items => self.items().await?,
                Part::Warehouse(w) => self.warehouse(w).await?,
                Part::Stock(w) => self.stock(w).await?,
                Part::Customers(w) => self.customers(w).await?,
                Part::Orders(w) => self.orders(w).await?,
            }
        }
        Ok(())
    }

    async fn copy(&self, table: &str) -> Result<CopyRows> {
        CopyRows::begin(&self.client, table, &self.bar).await
    }

    async fn items(&mut self) -> Result<()> {
        let mut copy = self.copy("item").await?;
        let rng = &mut self.rng;
        for id in 1..=ITEMS {
            let price = Decimal::cents(integer(rng, 100, 10_000) as u64);
            let (image, name) = (integer(rng, 1, 10_000), a_string(rng, 14, 24));
            copy.row(&[&id, &image, &name, &price, &original_data(rng)]).await?;
        }
        copy.finish().await.map(drop)
    }

    async fn warehouse(&mut self, w: i32) -> Result<()> {
        let mut copy = self.copy("warehouse").await?;
        let (name, tax) = (a_string(&mut self.rng, 6, 10), self.rate(2000));
        let [street_1, street_2, city, state, zip] = address(&mut self.rng);
        let ytd = Decimal::cents(30_000_000);
        copy.row(&[&w, &name, &street_1, &street_2, &city, &state, &zip, &tax, &ytd]).await?;
        copy.finish().await?;

        let mut copy = self.copy("district").await?;
        for d in 1..=DISTRICTS {
            let (name, tax) = (a_string(&mut self.rng, 6, 10), self.rate(2000));
            let [street_1, street_2, city, state, zip] = address(&mut self.rng);
            let (ytd, next) = (Decimal::cents(3_000_000), CUSTOMERS + 1);
            copy.row(&[
                &d, &w, &name, &street_1, &street_2, &city, &state, &zip, &tax, &ytd, &next,
            ])
            .await?;
        }
        copy.finish().await.map(drop)
    }

    async fn stock(&mut self, w: i32) -> Result<()> {
        let mut copy = self.copy("stock").await?;
        let rng = &mut self.rng;
        for item in 1..=ITEMS {
            let quantity = integer(rng, 10, 100);
            let d: [String; 10] = std::array::from_fn(|_| letters(rng, 24));
            let data = original_data(rng);
            copy.row(&[
                &item, &w, &quantity, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5], &d[6], &d[7],
                &d[8], &d[9], &0, &0, &0, &data,
            ])
            .await?;
        }
        copy.finish().await.map(drop)
    }

    /// The customers of a warehouse, and one payment of each.
    async fn customers(&mut self, w: i32) -> Result<()> {
        let mut copy = self.copy("customer").await?;
        for d in 1..=DISTRICTS {
            for c in 1..=CUSTOMERS {
                self.customer(&mut copy, w, d, c).await?;
            }
        }
        copy.finish().await?;

        let mut copy = self.copy("history").await?;
        let amount = Decimal::cents(1000);
        for d in 1..=DISTRICTS {
            for c in 1..=CUSTOMERS {
                let data = a_string(&mut self.rng, 12, 24);
                copy.row(&[&c, &d, &w, &d, &w, &"now", &amount, &data]).await?;
            }
        }
        copy.finish().await.map(drop)
    }

    async fn customer(&mut self, copy: &mut CopyRows, w: i32, d: i32, c: i32) -> Result<()> {
        let discount = self.rate(5000);
        let rng = &mut self.rng;
        // Each name is there at least once: the first thousand have them in turn.
        let number = if c <= 1000 { c as usize - 1 } else { Constants::LOAD.last_name(rng) };
        let (first, last) = (a_string(rng, 8, 16), last_name(number));
        let [street_1, street_2, city, state, zip] = address(rng);
        let (phone, data) = (n_string(rng, 16), a_string(rng, 300, 500));
        let credit = if rng.chance(0.1) { "BC" } else { "GC" };
        let (limit, paid) = (Decimal::cents(5_000_000), Decimal::cents(1000));
        copy.row(&[
            &c, &d, &w, &first, &"OE", &last, &street_1, &street_2, &city, &state, &zip, &phone,
            &"now", &credit, &limit, &discount, &"-10.00", &paid, &1, &0, &data,
        ])
        .await
    }

    /// The orders of a warehouse, their lines, and those that wait for delivery.
    async fn orders(&mut self, w: i32) -> Result<()> {
        let mut counts = Vec::new();
        let delivered = |o: i32| o <= CUSTOMERS - NEW_ORDERS;
        let mut copy = self.copy("orders").await?;
        for d in 1..=DISTRICTS {
            for (c, o) in permutation(&mut self.rng, CUSTOMERS).into_iter().zip(1..) {
                let lines = integer(&mut self.rng, 5, 15);
                let carrier = integer(&mut self.rng, 1, 10).to_string();
                let carrier = if delivered(o) { carrier.as_str() } else { "\\N" };
                copy.row(&[&o, &d, &w, &c, &"now", &carrier, &lines, &1]).await?;
                counts.push((d, o, lines));
            }
        }
        copy.finish().await?;

        let mut copy = self.copy("order_line").await?;
        for (d, o, lines) in counts {
            for line in 1..=lines {
                let item = integer(&mut self.rng, 1, ITEMS);
                let (date, cents) = match delivered(o) {
                    true => ("now", 0),
                    false => ("\\N", integer(&mut self.rng, 1, 999_999) as u64),
                };
                let (amount, info) = (Decimal::cents(cents), letters(&mut self.rng, 24));
                copy.row(&[&o, &d, &w, &line, &item, &w, &date, &5, &amount, &info]).await?;
            }
        }
        copy.finish().await?;

        let mut copy = self.copy("new_order").await?;
        for d in 1..=DISTRICTS {
            for o in CUSTOMERS - NEW_ORDERS + 1..=CUSTOMERS {
                copy.row(&[&o, &d, &w]).await?;
            }
        }
        copy.finish().await.map(drop)
    }

    /// A rate from 0 to `highest` ten-thousandths.
    fn rate(&mut self, highest: i32) -> Decimal {
        Decimal::ten_thousandths(integer(&mut self.rng, 0, highest) as u64)
    }
}

/// Two streets, city, state, zip code.
fn address(rng: &mut Rng) -> [String; 5] {
    let (street_1, street_2) = (a_string(rng, 10, 20), a_string(rng, 10, 20));
    [street_1, street_2, a_string(rng, 10, 20), letters(rng, 2), zip(rng)]
}
